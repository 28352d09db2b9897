"""A worker process: takes requests from a connection, runs each in a thread, sends back what is said and what came.

It keeps the models that it has loaded, and the interpreter's lock of the process that orders the work (and starts
Prefect meanwhile) is not in its way. It ends when its connection ends, hence also when its parent was killed; while it
imports, between two modules.
"""

from __future__ import annotations

import contextlib
import contextvars
import ctypes
import gc
import importlib
import logging
import logging.handlers
import os
import pickle
import signal
import socket
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from faceline.errors import FacelineError
from faceline.residents import Residents
from faceline.threads import share_cores
from tasks.importing import spare_pandas, without_collecting, without_pandas

log = logging.getLogger(__name__)

PACKAGES = ("faceline", "tasks", "flows")
MOST_MODELS = 12
"""Loaded models kept: twice the six networks of a run, since two stages may use one network at the same time."""

REST_S = 20.0
"""How long a loaded model may rest: longer than it does between short footages of an archive, but not for as long as
the trials of an hour last, which need the memory and no network."""

REPORT_S = 0.2
"""Least time between two reports of a stage's progress."""


class Interrupted(BaseException):
    """Raised inside a stage whose run was interrupted. Not an `Exception`: no stage catches it."""


_call: contextvars.ContextVar[int | None] = contextvars.ContextVar("call", default=None)


class _Line:
    """The connection, for many threads."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, call: int | None, kind: str, *content: Any) -> None:
        with self._lock:
            self._connection.send((call, kind, *content))


class _Records(logging.handlers.QueueHandler):
    """Sends log records to the process that keeps the log."""

    def __init__(self, line: _Line) -> None:
        super().__init__(line)  # type: ignore[arg-type]

    def enqueue(self, record: logging.LogRecord) -> None:
        self.queue.send(_call.get(), "log", vars(record))  # type: ignore[attr-defined]


def send_orders(connection: Connection, modules: Sequence[str], twins: Sequence[Connection]) -> None:
    """What a worker waits for before all else: modules to import, and connections of workers to fork from it."""
    connection.send((tuple(modules), len(twins)))
    if twins:
        with socket.fromfd(connection.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as same:
            socket.send_fds(same, [b"."], [twin.fileno() for twin in twins])


def _orders(connection: Connection) -> tuple[Sequence[str], list[Connection]]:
    modules, count = connection.recv()
    if not count:
        return modules, []
    with socket.fromfd(connection.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as same:
        _, handles, _, _ = socket.recv_fds(same, 1, count)
    for handle in handles:
        os.set_inheritable(handle, False)
    return modules, [Connection(handle) for handle in handles]


def _has_ended(connection: Connection) -> bool:
    """Whether nobody is at the other end any more."""
    with socket.fromfd(connection.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as same:
        try:
            return not same.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False


def serve(connection: Connection) -> None:
    """Run requests until the connection ends; first of all, do as `send_orders` says."""
    # Ctrl-C reaches all processes of a terminal; what is to stop is said by the one that orders.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    share_cores()
    # Arrow brings two allocators along; the one that it does not use would have a thread.
    os.environ.setdefault("JE_ARROW_MALLOC_CONF", "background_thread:false")
    # Before there are threads: two that have Arrow convert its first values at the same time can crash the process.
    importlib.import_module("pyarrow")
    spare_pandas()
    # Whatever comes, this is needed.
    import_ahead(("tasks.runner", "faceline.stages"))
    _read_code()
    forked: list[int] = []
    try:
        modules, twins = _orders(connection)
        if twins:
            for module in modules:
                if _has_ended(connection):
                    os._exit(1)
                _import_without_pandas([module])
            connection, forked = _fork(connection, twins)
        else:
            threading.Thread(target=_import_without_pandas, args=(modules,), name="import-ahead", daemon=True).start()
    except (EOFError, OSError):
        os._exit(1)
    line = _Line(connection)
    handler = _Records(line)
    for name in PACKAGES:
        logging.getLogger(name).setLevel(logging.INFO)
        logging.getLogger(name).addHandler(handler)
    residents = Residents(MOST_MODELS, REST_S)
    stops: dict[int, threading.Event] = {}
    try:
        line.send(None, "here", os.getpid())
        for pid in forked:
            threading.Thread(target=_tell_end, args=(line, pid), name="twin", daemon=True).start()
        while True:
            if not connection.poll(REST_S):
                residents.tidy()
                continue
            kind, *content = connection.recv()
            if kind == "run":
                call, request = content
                stops[call] = threading.Event()
                threading.Thread(
                    target=_run, args=(line, call, request, residents, stops[call]), name="stage", daemon=True
                ).start()
            elif kind == "stop":
                if content[0] in stops:
                    stops[content[0]].set()
            elif kind == "end":
                residents.close()
                # Everything is sent; to tear down the libraries would take a second, which the run would wait for.
                logging.shutdown()
                os._exit(0)
    except (EOFError, OSError):
        # Nobody is left to hear of the stages under way; their drafts are swept up by the next run.
        os._exit(1)


def _read_code() -> None:
    """Read the code of all stages, which every stage's key needs, once for all twins."""
    from faceline.fingerprint import code_digests
    from faceline.stages import STAGES

    # What is amiss is met again, and told, by the stage that needs it.
    with contextlib.suppress(FacelineError, OSError, SyntaxError):
        for stage in STAGES:
            code_digests(stage)


def _fork(connection: Connection, twins: Sequence[Connection]) -> tuple[Connection, list[int]]:
    """Fork a process for each twin: in a twin its connection, in this process its own, and the twins' process IDs.

    Nothing is forked where there are other threads already: what they hold would never be let go of in a twin. Nor is
    it where the system has no room for another process: whoever waits for it is told by the end of its connection.
    """
    forked: list[int] = []
    with contextlib.suppress(OSError):
        is_alone = len(os.listdir("/proc/self/task")) == 1  # noqa: PTH208 (names alone are wanted)
        # What is there stays; to look at it when collecting garbage would copy its pages.
        gc.freeze()
        for twin in twins if is_alone else ():
            pid = os.fork()
            if pid == 0:
                # Whose ends were open here as well would never be known to have ended.
                for other in (connection, *twins):
                    if other is not twin:
                        other.close()
                return twin, []
            forked.append(pid)
    for twin in twins:
        twin.close()
    return connection, forked


def _tell_end(line: _Line, pid: int) -> None:
    """Tell how a twin ended: it is no child of the process that orders, which cannot ask."""
    with contextlib.suppress(OSError):
        _, status = os.waitpid(pid, 0)
        line.send(None, "ended", pid, os.waitstatus_to_exitcode(status))


def _run(line: _Line, call: int, request: Any, residents: Residents, stop: threading.Event) -> None:
    from tasks.runner import run_stage

    _call.set(call)
    told_s = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal told_s
        if stop.is_set():
            raise Interrupted
        now_s = time.monotonic()
        if now_s - told_s >= REPORT_S or done >= total:
            told_s = now_s
            line.send(call, "progress", done, total)

    try:
        runtime = replace(request.runtime, progress=progress, residents=residents)
        outcome = run_stage(replace(request, runtime=runtime))
    except BaseException as error:
        try:
            _send_error(line, call, error)
        except OSError:
            os._exit(1)
        return
    finally:
        residents.tidy()
    line.send(call, "done", outcome)
    give_back_memory()


def give_back_memory() -> None:
    """Hand what a stage has freed back to the system: glibc keeps it, and the next stage needs other sizes."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _send_error(line: _Line, call: int, error: BaseException) -> None:
    line.send(call, "failed", travelling(error))


def travelling(error: BaseException) -> BaseException:
    """The error, with its traceback as a note, in a form that can be sent to another process."""
    error.add_note("in a worker process:\n" + "".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 (our own bytes: does it travel?)
    except Exception:
        stand_in = RuntimeError(f"{type(error).__name__}: {error}")
        stand_in.add_note("\n".join(getattr(error, "__notes__", [])))
        return stand_in
    return error


def _import_without_pandas(modules: Sequence[str]) -> None:
    """The same in a process that is faceline's alone: elsewhere somebody may want pandas."""
    with without_pandas():
        import_ahead(modules)


def import_ahead(modules: Sequence[str]) -> None:
    """Import what stages will need; what cannot be imported is left for the stage to complain about."""
    # Stages may be under way meanwhile: what they hold is not to stay for good.
    with without_collecting(freeze=False):
        for module in modules:
            try:
                importlib.import_module(module)
            except Exception as error:
                log.debug("%s cannot be imported ahead: %s", module, error)
