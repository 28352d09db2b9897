"""What a guarded process is asked to do in tests; found by name."""

from __future__ import annotations

import os
import resource
import signal
import time
from typing import Any

from faceline.errors import FootageError


def do(what: str) -> Any:
    """Do it, for better or worse."""
    if what == "hang":
        time.sleep(600)
    if what == "hang in C":
        # A loop that never gives the interpreter's lock back.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        sum(iter(lambda: 0, 1))
    if what == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "exit":
        os._exit(7)
    if what == "memory":
        return len(bytearray(4 * 2**30))
    if what == "refuse":
        raise FootageError("no such file", where="x.mp4", cure="check the path")
    if what == "fail":
        raise KeyError("surprise")
    if what == "core":
        return resource.getrlimit(resource.RLIMIT_CORE)
    return os.getpid()
