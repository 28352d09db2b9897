"""How worker processes come to be: the first is spawned and imports what stages need, the others are forked from it.

Importing takes a process four CPU seconds and 400 MB. Those that are forked from one that has done it share both. It
forks before it does anything else, while it has a single thread: a lock that another thread held would be held for ever
in the copy. Where that is not so (libraries told by the environment to use more threads), nothing is forked, and what
is missing is spawned when it is needed.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from tasks.worker_process import send_orders, serve

MOST_FORKED = 32
"""Workers beyond these are spawned when they are needed. One message of the system carries 253 connections at most."""

CODE_S = 1.0
"""How long the exit code of a forked process is waited for, which comes by way of the one it was forked from."""


class Spawned:
    """A worker process that is a child of this one."""

    there = True

    def __init__(self, connection: Connection, process: BaseProcess) -> None:
        self.connection = connection
        self._process = process
        self._codes: dict[int, int] = {}
        self._changed = threading.Condition()
        self._is_gone = False

    def hear(self, kind: str, *content: Any) -> None:
        """What it says of processes: ``("ended", pid, exit code)`` of one that was forked from it."""
        if kind == "ended":
            with self._changed:
                self._codes.update([content])
                self._changed.notify_all()

    def code_of(self, pid: int, timeout_s: float) -> int | None:
        """Exit code of a process that was forked from this one; None if it does not say in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_gone or pid in self._codes, timeout_s)
            return self._codes.get(pid)

    def gone(self) -> None:
        """The connection has ended."""
        self._process.join()
        with self._changed:
            self._is_gone = True
            self._changed.notify_all()

    def exit_code(self) -> int | None:
        """How it ended; negative for a signal."""
        return self._process.exitcode

    def kill(self) -> None:
        """End it in the middle of whatever it does."""
        self._process.kill()

    def join(self, timeout_s: float) -> bool:
        """Wait for its end; whether it came."""
        # Not by `Process.join`, which waits for the end of a pipe that those forked from it hold as well.
        with self._changed:
            return self._changed.wait_for(lambda: self._is_gone, timeout_s)


class Forked:
    """A worker process that was forked from another, and so is no child of this one: its connection is what tells.

    Args:
        connection: to it.
        mother: what it is forked from, sooner or later.

    Attributes:
        there: whether it has been forked by now; it may never be.
    """

    def __init__(self, connection: Connection, mother: Spawned) -> None:
        self.connection = connection
        self._mother = mother
        self._pid: int | None = None
        self._gone = threading.Event()

    @property
    def there(self) -> bool:
        return self._pid is not None

    def hear(self, kind: str, *content: Any) -> None:
        """What it says of itself: ``("here", pid)``."""
        if kind == "here":
            (self._pid,) = content

    def gone(self) -> None:
        """The connection has ended, hence the process: nothing else holds the other end."""
        self._gone.set()

    def exit_code(self) -> int | None:
        """How it ended; negative for a signal; None where nobody can say."""
        return None if self._pid is None else self._mother.code_of(self._pid, CODE_S)

    def kill(self) -> None:
        """End it in the middle of whatever it does."""
        if self._pid is None:
            self._mother.kill()
        elif not self._gone.is_set():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)

    def join(self, timeout_s: float) -> bool:
        """Wait for its end; whether it came."""
        return self._gone.wait(timeout_s)


_lock = threading.Lock()
_expected: list[Spawned] = []


def expect() -> None:
    """Start the first worker process before it is known what for: what all of them need takes it a second.

    Where it cannot be started, that is left to be told when there is something for it to do.
    """
    with _lock, contextlib.suppress(OSError):
        if not _expected:
            _expected.append(_spawn())


def expect_none() -> None:
    """End a process that was expected to be needed, and is not."""
    with _lock:
        for process in _expected:
            process.kill()
            process.connection.close()
        _expected.clear()


def bear(count: int, modules: Sequence[str]) -> list[Spawned | Forked]:
    """Start worker processes that import these modules first; one of them may have been expected.

    Where there is nothing to import, or the system cannot fork as this needs it, fewer are started than asked for.
    """
    count = min(count, 1 + MOST_FORKED) if modules and sys.platform == "linux" else 1
    with _lock:
        mother = _expected.pop() if _expected else _spawn()
    pipes = [multiprocessing.Pipe() for _ in range(count - 1)]
    try:
        send_orders(mother.connection, modules, [theirs for _, theirs in pipes])
    except OSError:
        # It may have been killed by now; whatever it was, its listener notices that it is gone.
        mother.kill()
    for _, theirs in pipes:
        # Each end is open in one process alone, so that its end is noticed.
        theirs.close()
    return [mother, *(Forked(ours, mother) for ours, _ in pipes)]


def _spawn() -> Spawned:
    # Spawned, not forked: this process has threads, and libraries whose locks would be copied as they are.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs,), name="faceline-worker", daemon=True)
    # Ctrl-C reaches all processes of a terminal; until the new one can say that it does not mean it, it is held back.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()
    return Spawned(ours, process)
