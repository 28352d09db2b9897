"""Processes that a library of ours started, and whether they ended."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import psutil

KILLED_S = 5.0


def processes_that_name(text: str) -> list[psutil.Process]:
    """Children of this process with that text in an argument, such as a folder of theirs, and all their descendants."""
    named = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if any(text in argument for argument in child.cmdline()):
                named += [child, *child.children(recursive=True)]
    return named


def see_off(processes: Sequence[psutil.Process], within_s: float) -> None:
    """Wait until they have ended; those that have not after so many seconds are killed."""
    _, left = psutil.wait_procs(processes, within_s)
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, KILLED_S)
