"""Foreign files are opened in a process that can be lost: it has a time limit, an address-space limit, and is replaced.

FFmpeg reads files that anybody may have written, in C: it may crash, loop, or ask for all memory there is. A night
over an archive must survive that with one line about one file. This is a guard against accidents of decoders and no
sandbox: the process may do whatever its user may.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import multiprocessing
import os
import resource
import signal
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from faceline.errors import FacelineError, FootageError
from faceline.limits import Limits
from faceline.threads import share_cores
from faceline.video import Footage, open_footage

START_S = 300.0
"""How long the process may take to start and import; it takes about a second on an idle machine."""

END_S = 2.0
"""How long it is given to end by itself."""

_GRACE_S = 5
_MIB = 2**20

Cause = Literal["time", "memory", "crash", "error"]


class GuardError(FacelineError):
    """A guarded call came to no end of its own.

    Attributes:
        cause: ``time`` (killed), ``memory`` (refused more), ``crash`` (ended by a signal or an exit), ``error``
            (an exception that is no `FacelineError`; its traceback is a note).
    """

    cause: Cause = "error"


class Guard:
    """Calls one function in a process of its own, which is killed and started anew when a call goes wrong.

    Calls from several threads wait for each other.

    Args:
        function: importable by name; what it takes and gives is pickled.
        limit_s: seconds of wall time for a call.
        memory_bytes: address space that may be taken beyond what the process has once it is ready.
        modules: imported before that is measured.
    """

    def __init__(
        self, function: Callable[..., Any], limit_s: float, memory_bytes: int, modules: Sequence[str] = ()
    ) -> None:
        if not limit_s > 0 or memory_bytes <= 0:
            raise ValueError(f"limits must be positive, got {limit_s} s and {memory_bytes} bytes")
        self._function, self._limit_s, self._memory_bytes = function, limit_s, memory_bytes
        self._modules = tuple(modules)
        self._lock = threading.Lock()
        self._child: _Child | None = None
        self._closed = False
        self.started = 0

    def __enter__(self) -> Guard:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process; waits for a call under way."""
        with self._lock:
            self._closed = True
            if self._child is not None:
                self._child.end()
                self._child = None

    def call(self, *arguments: Any, limit_s: float | None = None) -> Any:
        """Call the function.

        Args:
            arguments: what it is given.
            limit_s: seconds of wall time for this call; None for the usual limit.

        Raises:
            FacelineError: what the function raised.
            GuardError: it took too long or too much memory, crashed, or raised something else.
        """
        limit_s = limit_s or self._limit_s
        with self._lock:
            if self._closed:
                raise RuntimeError("the guard is closed")
            if self._child is None or not self._child.is_alive:
                self._child = _Child(self._function, self._memory_bytes, self._modules)
                self.started += 1
            keep = False
            try:
                kind, content = self._child.call(arguments, limit_s)
                # After a refusal of memory, libraries may be in any state.
                keep = kind in ("done", "failed")
            finally:
                # Also when this thread is interrupted: the answer would be taken for that of the next call.
                if not keep:
                    self._child.kill()
                    self._child = None
        if kind == "done":
            return content
        if kind == "failed":
            raise content
        raise _error(kind, *content) if kind == "error" else _error(kind, content)


def _error(cause: Cause, what: str, note: str = "") -> GuardError:
    error = GuardError(what)
    error.cause = cause
    if note:
        error.add_note(f"in a guarded process:\n{note}")
    return error


class _Child:
    """The process, seen from here."""

    def __init__(self, function: Callable[..., Any], memory_bytes: int, modules: Sequence[str]) -> None:
        # Spawned, not forked: this process has threads, and libraries whose locks would be copied as they are.
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, function, memory_bytes, modules), name="faceline-guarded", daemon=True
        )
        self._process.start()
        theirs.close()
        try:
            if not self._connection.poll(START_S) or self._connection.recv() != "ready":
                raise EOFError
        except (EOFError, OSError) as error:
            self.kill()
            raise FacelineError(
                f"a guarded process did not start (exit code {self._process.exitcode})",
                cure="memory or processes may be short: close other programs, or lower runtime.workers",
            ) from error
        except BaseException:
            self.kill()
            raise

    @property
    def is_alive(self) -> bool:
        return self._process.is_alive()

    def call(self, arguments: tuple[Any, ...], limit_s: float) -> tuple[Any, Any]:
        until_s = time.monotonic() + limit_s
        try:
            self._connection.send((arguments, limit_s))
            if not self._connection.poll(max(0.0, until_s - time.monotonic())):
                return "time", f"took more than {limit_s:g} s"
            kind, content = self._connection.recv()
            return kind, content
        except (EOFError, OSError):
            self._process.join(END_S)
            code = self._process.exitcode
            if code is None:
                return "crash", "closed its connection"
            if code == -signal.SIGALRM:
                return "time", f"took more than {limit_s:g} s"
            how = f"was ended by signal {-code} ({_signal_name(-code)})" if code < 0 else f"ended with exit code {code}"
            return "crash", how

    def end(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.close()
        self._process.join(END_S)
        self.kill()

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self._connection.close()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def _serve(connection: Connection, function: Callable[..., Any], memory_bytes: int, modules: Sequence[str]) -> None:
    """Answer calls until the connection ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    share_cores()
    # A core file would be a copy of somebody's footage.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for module in modules:
        importlib.import_module(module)
    most = _address_space() + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    connection.send("ready")
    while True:
        try:
            arguments, limit_s = connection.recv()
        except (EOFError, OSError):
            os._exit(0)
        # Whoever asked may be gone by the time that a call hangs: then this ends it.
        signal.alarm(math.ceil(limit_s) + _GRACE_S)
        answer = _answer(function, arguments, memory_bytes)
        signal.alarm(0)
        try:
            connection.send(answer)
        except OSError:
            os._exit(0)


def _answer(function: Callable[..., Any], arguments: tuple[Any, ...], memory_bytes: int) -> tuple[str, Any]:
    try:
        return "done", function(*arguments)
    except FacelineError as error:
        if _is_memory(error):
            return "memory", f"took more than {memory_bytes // _MIB} MiB of memory"
        return "failed", error
    except MemoryError:
        return "memory", f"took more than {memory_bytes // _MIB} MiB of memory"
    except BaseException as error:
        return "error", (f"unexpected {type(error).__name__}: {error}", "".join(traceback.format_exception(error)))


def _is_memory(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _address_space() -> int:
    """Bytes of address space that this process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


class GuardedOpener:
    """`faceline.video.open_footage` behind a `Guard`; for files of which nothing is known.

    Threads may share one: their files are opened one after the other. To be closed, or used with ``with``. The process
    starts with the first file.

    Args:
        limits: what footage may ask for. Looking through a file ends by itself after `Limits.open_s`, which takes a
            decoder that listens; the process is killed when that much time has passed twice.
        memory_bytes: address space that opening one may take; some 400 MiB are needed for ordinary files.
    """

    def __init__(self, limits: Limits, memory_bytes: int) -> None:
        self._limits = limits
        self._guard = Guard(open_footage, limits.open_s, memory_bytes, ("av", "numpy", "faceline.reading"))

    def __enter__(self) -> GuardedOpener:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._guard.close()

    def open(self, path: str | Path) -> Footage:
        """Open a file as `open_footage` does.

        Raises:
            FootageError: as `open_footage`, or opening took too long or too much memory, or crashed.
        """
        try:
            footage: Footage = self._guard.call(path, self._limits, limit_s=self._limit_s(Path(path)))
        except GuardError as error:
            what = error.what if error.cause == "error" else f"opening it {error.what}"
            cure = "" if error.cause == "error" else "the file is damaged, or made to do this: leave it out"
            refused = FootageError(what, where=str(path), cure=cure)
            for note in getattr(error, "__notes__", ()):
                refused.add_note(note)
            raise refused from error
        return footage

    def _limit_s(self, path: Path) -> float:
        try:
            size_bytes = path.stat().st_size
        except OSError:
            size_bytes = 0  # What is wrong with it is said when it is opened.
        return 2 * self._limits.seconds_for(size_bytes)
