"""A whole run without Prefect: ``python -m benchmarks.speed.direct footage=… output=… store.root=…``.

The same configuration, stages, store, parallelism and results folder as ``faceline analyze``; only that stages are
started by a plain pool of threads. The last line is one JSON object: what the store took.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

from benchmarks.speed.storeclock import StoreClock


def main(arguments: Sequence[str]) -> int:
    """Run the stages and print what the store took."""
    from faceline.stages import STAGES
    from flows.analyze import due
    from flows.config import load_config
    from flows.console import Lines
    from flows.job import prepare
    from flows.pipeline import Node
    from flows.preload import preload
    from flows.results import finish
    from flows.walk import Done
    from tasks.runner import StageOutcome, StageRequest, run_stage

    began = time.perf_counter()
    with StoreClock().running() as clock:
        config = load_config(arguments, STAGES)
        job = prepare(config, STAGES)
        preload(due(job))
        with ThreadPoolExecutor(max_workers=job.workers) as pool:

            def start(node: Node, request: StageRequest, done: Done) -> None:
                del node
                future = pool.submit(run_stage, request)

                def ended(_: object) -> None:
                    def outcome() -> StageOutcome:
                        return future.result()

                    done(outcome)

                future.add_done_callback(ended)

            walk = job.walk(start, Lines(), at_once=job.workers)
            records = walk.run()
        finish(job, walk.outcomes, records, time.perf_counter() - began)
    print(json.dumps({kind: asdict(spent) for kind, spent in clock.spent.items()}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
