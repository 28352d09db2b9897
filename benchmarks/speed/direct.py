"""A whole run without Prefect: ``python -m benchmarks.speed.direct footage=… output=… store.root=…``.

The same configuration, stages, store, worker processes and results folder as ``faceline analyze``; only that stages are
started by a plain pool of threads. With ``--clock`` first, stages run in these threads themselves and the last line is
one JSON object: what the store took.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING

from benchmarks.speed.storeclock import StoreClock

if TYPE_CHECKING:
    from flows.job import Job
    from tasks.runner import StageOutcome, StageRequest


def main(arguments: Sequence[str]) -> int:
    """Run the stages; with ``--clock``, print what the store took."""
    clocked = bool(arguments) and arguments[0] == "--clock"
    with ExitStack() as stack:
        clock = stack.enter_context(StoreClock().running()) if clocked else None
        _run(arguments[clocked:], stack, in_threads=clocked)
    if clock is not None:
        print(json.dumps({kind: asdict(spent) for kind, spent in clock.spent.items()}))
    return 0


def _run(arguments: Sequence[str], stack: ExitStack, *, in_threads: bool) -> None:
    from faceline.stages import STAGES
    from flows.config import load_config
    from flows.console import Lines
    from flows.job import prepare
    from flows.pipeline import Node
    from flows.results import finish
    from flows.walk import Done

    began = time.perf_counter()
    job = prepare(load_config(arguments, STAGES), STAGES)
    perform = _performing(job, stack, in_threads=in_threads)
    with ThreadPoolExecutor(max_workers=job.workers) as pool:

        def start(node: Node, request: StageRequest, done: Done) -> None:
            del node
            future = pool.submit(perform, request)
            future.add_done_callback(lambda ended: done(ended.result))

        walk = job.walk(start, Lines(), at_once=job.workers)
        records = walk.run()
    finish(job, walk.outcomes, records, time.perf_counter() - began)


def _performing(job: Job, stack: ExitStack, *, in_threads: bool) -> Callable[[StageRequest], StageOutcome]:
    from flows.execution import due
    from flows.preload import libraries
    from tasks.runner import run_stage
    from tasks.workers import open_workers

    if in_threads:
        return run_stage
    return stack.enter_context(open_workers(job.side_by_side, job.workers, libraries(due(job)))).run


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
