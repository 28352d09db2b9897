"""A stage on a worker of a cluster that somebody else runs (Dask, Ray): what travels there, and what is done with it.

The worker may be another machine. Before it computes, it makes sure that it has the same code, the same weights and the
same footage as whoever sent the request: a difference is an error in one line, never another result. What it has loaded
it keeps, what it logs and how far it is it tells over a `Line`, and it ends a stage when it is told to.
"""

from __future__ import annotations

import contextvars
import logging
import logging.handlers
import os
import platform
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import faceline
from faceline.devices import Device, find_device
from faceline.errors import FacelineError, FootageError, FootageUnreadableError, ModelError
from faceline.residents import Residents
from faceline.stage import Runtime
from faceline.threads import share_cores
from faceline.weights import ResolvedModel, resolve
from tasks.runner import StageOutcome, StageRequest, key_parts, run_stage
from tasks.worker_process import MOST_MODELS, PACKAGES, REST_S, Interrupted, give_back_memory, import_ahead, travelling

log = logging.getLogger(__name__)

REPORT_S = 0.5
"""Least time between two reports of a stage's progress: each passes through the cluster's scheduler."""

CPU_BATCH = 32


class Line(Protocol):
    """The worker's end of the connection to whoever sent a request. Its methods may be called in any thread."""

    def tell(self, call: str, kind: str, content: Mapping[str, Any]) -> None:
        """Send plain values; what cannot be sent is dropped."""
        ...

    def stopped(self, call: str) -> BaseException | None:
        """What the stage shall end with, once it is to end; cheap."""
        ...


class Address(Protocol):
    """What travels of a line."""

    def open(self) -> Line:
        """The line; called in the thread that the cluster runs the request in."""
        ...


class WorkerDiffersError(FacelineError):
    """A worker has not what the run was begun with: other code, other Python."""


_residents = Residents(MOST_MODELS, REST_S)
_open: dict[str, Line] = {}
_call: contextvars.ContextVar[str | None] = contextvars.ContextVar("remote_call", default=None)
_once = threading.Lock()


class Sent:
    """A request on its way to a worker of a cluster; all of it can be pickled.

    No dataclass: Prefect and Dask look through those, here down to the footage's keyframes, for futures.

    Args:
        call: names it, unlike any other.
        request: what to run; paths in it are absolute.
        key: key of the artifact, as made by the sender.
        address: where to report to.
        sender: name of the sender's machine.
    """

    def __init__(self, call: str, request: StageRequest, key: str, address: Address, sender: str) -> None:
        self.call, self.request, self.key, self.address, self.sender = call, request, key, address, sender

    def run(self) -> StageOutcome:
        """Run the request here.

        Raises:
            Interrupted: the run was interrupted.
            WorkerDiffersError, ModelError, FootageError: this machine has something else than the sender.
            Exception: whatever the stage raises, in a form that travels.
        """
        line = self.address.open()
        with _listening(self.call, line):
            line.tell(self.call, "begun", {"worker": worker_name()})
            try:
                request = at_home(self.request, self.sender)
                _check_key(request, self.key, self.sender)
                runtime = replace(request.runtime, progress=self._progress(line), residents=_residents)
                return run_stage(replace(request, runtime=runtime))
            except Exception as error:
                raised = travelling(error)
            finally:
                _residents.tidy()
                give_back_memory()
            # Out here: raised while another is handled, it would take that one along, which may not travel.
            raise raised

    def _progress(self, line: Line) -> Any:
        told_s = 0.0

        def progress(done: int, total: int) -> None:
            nonlocal told_s
            if (error := line.stopped(self.call)) is not None:
                raise error if isinstance(error, Exception) else Interrupted
            now_s = time.monotonic()
            if now_s - told_s >= REPORT_S or done >= total:
                told_s = now_s
                line.tell(self.call, "progress", {"done": int(done), "total": int(total)})

        return progress


@contextmanager
def _listening(call: str, line: Line) -> Iterator[None]:
    """Within the block, what faceline logs here goes over the line too."""
    with _once:
        share_cores()
        for name in PACKAGES:
            logger = logging.getLogger(name)
            if not any(isinstance(handler, _Records) for handler in logger.handlers):
                logger.setLevel(logging.INFO)
                logger.addHandler(_Records())
    token = _call.set(call)
    _open[call] = line
    try:
        yield
    finally:
        _open.pop(call, None)
        _call.reset(token)


class _Records(logging.handlers.QueueHandler):
    """Sends log records, as plain values, over the line of the stage that they come from."""

    def __init__(self) -> None:
        super().__init__(None)  # type: ignore[arg-type]

    def enqueue(self, record: logging.LogRecord) -> None:
        # A stage's own threads do not know whose they are; with one stage per worker it can only be that one.
        call = _call.get() or next(iter(_open), None)
        line = _open.get(call) if call is not None else None
        if call is None or line is None:
            return
        content = {
            "name": record.name,
            "levelno": record.levelno,
            "levelname": record.levelname,
            "msg": record.getMessage(),
            "created": record.created,
            "threadName": record.threadName or "",
            "processName": worker_name(),
            "exc_text": record.exc_text or "",
        }
        line.tell(call, "log", content)


def worker_name() -> str:
    """``host:pid`` of this process."""
    return f"{socket.gethostname()}:{os.getpid()}"


def _check_key(request: StageRequest, key: str, sender: str) -> None:
    if key_parts(request).key != key:
        raise WorkerDiffersError(
            f"its code of stage {request.declaration.name} is not that of {sender} "
            f"(faceline {faceline.__version__} here)",
            where=f"worker {worker_name()}",
            cure="install the same faceline on all machines, and restart the workers",
        )


def at_home(request: StageRequest, sender: str) -> StageRequest:
    """The request with this machine's own paths of the same weights, and its own view of the same footage.

    Raises:
        ModelError: weights are missing here, or are others than the sender's.
        FootageUnreadableError: the footage is not here, or is another.
    """
    stage = request.declaration
    roles = stage.roles(request.params)
    models = {role: _weights_here(model, sender) if role in roles else model for role, model in request.models.items()}
    footage = _footage_here(request.footage, sender) if stage.reads_footage else request.footage
    return replace(request, models=models, footage=footage, runtime=_runtime_here(request.runtime))


def _weights_here(model: ResolvedModel, sender: str) -> ResolvedModel:
    if not isinstance(model, ResolvedModel) or model.absent:
        return model
    try:
        model.check_unchanged()
        return model
    except ModelError:
        pass
    here = f"worker {worker_name()}"
    try:
        found = resolve(model.role, model.name)
    except ModelError as error:
        raise ModelError(f"the weights of {model.name} are not on this machine", where=here, cure=error.cure) from error
    if found.sha256 != model.sha256:
        raise ModelError(
            f"its weights of {model.name} ({found.sha256[:12]}…) are not those of {sender} ({model.sha256[:12]}…)",
            where=here,
            cure="copy the same files to all machines (FACELINE_MODELS), or the same versions of the packages",
        )
    return replace(model, path=found.path)


_seen: dict[tuple[str, Path], tuple[int, int, int]] = {}


def _footage_here(footage: Any, sender: str) -> Any:
    """The footage as this machine sees it; times of another machine's copy would have it hashed at every stage."""
    path = getattr(footage, "path", None)
    if path is None or not hasattr(footage, "changed_ns"):
        return footage
    here = f"worker {worker_name()}"
    try:
        state = Path(path).stat()
        now = (state.st_size, state.st_mtime_ns, state.st_ctime_ns)
        local = replace(footage, size_bytes=now[0], mtime_ns=now[1], changed_ns=now[2])
        if now == (footage.size_bytes, footage.mtime_ns, footage.changed_ns):
            return footage
        if _seen.get((footage.sha256, path)) != now:
            footage.check_unchanged()
            _seen[footage.sha256, path] = now
        return local
    except OSError as error:
        raise FootageUnreadableError(
            f"{path} cannot be read there ({error.strerror})",
            where=here,
            cure="the footage has to lie at the same path on every machine of the cluster",
        ) from error
    except FootageError as error:
        # Of that machine, too: nothing of this is the footage's fault, and mended it can be tried again.
        raise FootageUnreadableError(
            f"{path} is not there the footage that {sender} opened",
            where=here,
            cure="the same footage has to lie at the same path on every machine of the cluster",
        ) from error


_devices: dict[str, Device] = {}


def _runtime_here(runtime: Runtime) -> Runtime:
    if runtime.device == "cpu":
        return runtime
    if runtime.device not in _devices:
        _devices[runtime.device] = find_device(runtime.device)
        if missing := _devices[runtime.device].missing:
            log.warning("worker %s has no usable GPU (%s); its networks run on the CPU", worker_name(), missing)
    if _devices[runtime.device].kind == runtime.device:
        return runtime
    return replace(runtime, device="cpu", batch_size=min(runtime.batch_size, CPU_BATCH))


def introduce(modules: Sequence[str] = ()) -> dict[str, str]:
    """What a worker is, for whoever is about to send it work; imports ``modules`` meanwhile."""
    share_cores()
    threading.Thread(target=import_ahead, args=(tuple(modules),), name="import-ahead", daemon=True).start()
    return {
        "worker": worker_name(),
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "faceline": faceline.__version__,
    }


def check_introductions(introductions: Sequence[Mapping[str, str]]) -> None:
    """Refuse workers that what is sent cannot be read by.

    Raises:
        WorkerDiffersError: another Python or another faceline, in one line.
    """
    own = introduce()
    for other in introductions:
        for name, mine in (("python", own["python"].rsplit(".", 1)[0]), ("faceline", own["faceline"])):
            theirs = other[name].rsplit(".", 1)[0] if name == "python" else other[name]
            if theirs != mine:
                raise WorkerDiffersError(
                    f"it runs {name} {other[name]}, and this machine {own[name]}",
                    where=f"worker {other['worker']}",
                    cure="install the same versions on all machines",
                )
