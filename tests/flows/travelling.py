"""Stand-ins for all stages that other processes can import, and that do what files in a folder ask of them.

The folder is named by ``FACELINE_TEST_ASKS``; a file ``<stage>.<what>`` asks for: ``die`` (its process is killed,
once), ``stumble`` (an error that can pass, once), ``fail`` (a known error), ``wait`` (on, with progress, until the
file is gone), ``deaf`` (on, without a word), ``speak`` (a log record).

Run as a program, it is ``faceline analyze`` with these stages.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from faceline.errors import FacelineError
from faceline.stage import Chunk, Inputs, Runtime, Stage
from faceline.stages import STAGES
from tests.flows.fakes import OUT, SCHEMA

ASKS = "FACELINE_TEST_ASKS"
LONG_S = 120.0

log = logging.getLogger("faceline.travelling")


def no_roles(params: Any) -> tuple[str, ...]:
    return ()


def _compute(stage: Stage) -> Callable[[Any, Inputs, Runtime], Iterator[Chunk]]:
    def compute(params: Any, inputs: Inputs, runtime: Runtime) -> Iterator[Chunk]:
        folder = Path(os.environ[ASKS])
        with (folder / "computed").open("a") as file:
            file.write(f"{stage.name} {os.getpid()}\n")
        _do(folder, stage.name, runtime)
        seen = {"params": params.model_dump(mode="json")}
        yield {"out": pa.table({"stage": [stage.name], "seen": [json.dumps(seen)]}, schema=SCHEMA)}
        runtime.progress(1, 1)

    return compute


def _do(folder: Path, stage: str, runtime: Runtime) -> None:
    asked = {path.suffix[1:]: path for path in folder.glob(f"{stage}.*")}
    if "die" in asked:
        asked["die"].unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    if "stumble" in asked:
        asked["stumble"].unlink()
        raise OSError(errno.EIO, "the drive stumbled")
    if "fail" in asked:
        raise FacelineError("the mesh is torn", where=stage, cure="mend it")
    if "speak" in asked:
        log.warning("%s speaks", stage)
    until_s = time.monotonic() + LONG_S
    while "wait" in asked and asked["wait"].exists() and time.monotonic() < until_s:
        runtime.progress(1, 4)
        time.sleep(0.05)
    if "deaf" in asked:
        time.sleep(LONG_S)
        raise AssertionError("nobody ended it")


TRAVELLING: tuple[Stage, ...] = tuple(
    replace(stage, outputs=(OUT,), compute=_compute(stage), roles=no_roles) for stage in STAGES
)

# A process finds a stage by the name of a constant.
globals().update({f"TRAVELLING_{stage.name.upper()}": stage for stage in TRAVELLING})


def main(given: list[str]) -> int:
    """``faceline analyze`` with the stand-ins; exit code."""
    # By its own name: as the program's main module, its stages could not be found elsewhere.
    import faceline.video
    import flows.results
    from flows import analyze
    from tests.flows.fakes import fake_finish, open_fake
    from tests.flows.travelling import TRAVELLING as STAGES_HERE

    analyze.STAGES = STAGES_HERE  # type: ignore[attr-defined]
    analyze.finish = fake_finish  # type: ignore[attr-defined]
    faceline.video.open_footage = open_fake  # type: ignore[assignment]
    # The flow imports its own name of it, once Prefect is there.
    flows.results.finish = fake_finish
    return analyze.analyze(given)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
