"""Stages for tests of worker processes: a process finds them by name."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from faceline.errors import FacelineError
from faceline.stage import Inputs, Payload, Runtime, Stage, StageParams

log = logging.getLogger("faceline.worker_stages")


class WorkParams(StageParams):
    """What the stage shall do, and a number that makes its key its own."""

    do: str = "nothing"
    number: int = 0
    path: str = ""


class Unpicklable(Exception):
    """An error that does not travel."""

    def __init__(self, text: str, lock: Any) -> None:
        super().__init__(text)
        self.lock = lock


class Loaded:
    """A model that says who it is."""

    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


def compute(params: WorkParams, inputs: Inputs, runtime: Runtime) -> Iterator[dict[str, Any]]:
    model = 0
    if params.do == "log":
        log.warning("stage %d speaks", params.number)
        threading.Thread(target=log.warning, args=("its thread speaks",)).start()
    elif params.do == "progress":
        for i in range(4):
            runtime.progress(i, 4)
            time.sleep(0.25)
        runtime.progress(4, 4)
    elif params.do == "endless":
        for i in range(6000):
            time.sleep(0.01)
            runtime.progress(i, 6000)
        raise AssertionError("nobody ended it")
    elif params.do == "deaf":
        time.sleep(600)
        raise AssertionError("nobody ended it")
    elif params.do == "together":
        # Ends when so many files are there: as many stages are under way at the same time.
        (Path(params.path) / str(params.number)).touch()
        until_s = time.monotonic() + 60
        while len(list(Path(params.path).iterdir())) < 2 and time.monotonic() < until_s:
            time.sleep(0.02)
    elif params.do == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif params.do == "exit":
        os._exit(7)
    elif params.do == "known error":
        raise FacelineError("the mesh is torn", where="clip.mp4", cure="mend it")
    elif params.do == "strange error":
        raise Unpicklable("of all things", threading.Lock())
    elif params.do == "borrow":
        with runtime.residents.lend(("model",), Loaded) as borrowed:
            assert not borrowed.closed
            model = id(borrowed)
    yield {
        "out": pa.table(
            {
                "process": pa.array([os.getpid()], pa.int64()),
                "model": pa.array([model], pa.int64()),
                "threads": [os.environ.get("OPENBLAS_NUM_THREADS", "")],
                "prefect": ["prefect" in sys.modules],
                "parent": pa.array([os.getppid()], pa.int64()),
            }
        )
    }


WORK = Stage("work", 1, "footage", WorkParams, (), (Payload("out", "parquet"),), compute)
