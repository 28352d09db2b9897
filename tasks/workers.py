"""Worker processes for stages, within one command: started when needed, kept over segments and footage.

`concurrent.futures` has no way to hear how far a call is, to end it, or to run two calls in one process, which share
its loaded libraries and models there.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

from faceline.errors import FacelineError, TimeLimitError
from tasks.runner import StageOutcome, StageRequest, run_stage
from tasks.worker_births import Forked, Spawned, bear

END_S = 5.0
"""How long idle workers are given to end by themselves."""

Perform = Callable[[StageRequest], StageOutcome]

performing: ContextVar[Perform] = ContextVar("performing", default=run_stage)
"""How stage tasks run their requests: in the thread that they are called in, unless a run says otherwise."""


class WorkerLostError(FacelineError):
    """A worker process ended in the middle of a stage. Trying again may help."""


def handle_record(attributes: dict[str, Any]) -> None:
    """Log what a worker logged."""
    record = logging.makeLogRecord(attributes)
    logging.getLogger(record.name).handle(record)


class Patience:
    """How long to wait for something: until a time by `time.monotonic`, or for ever."""

    def __init__(self, until_s: float | None) -> None:
        self._until_s = until_s

    @property
    def left_s(self) -> float | None:
        """Seconds left, at least 0; None for ever."""
        return None if self._until_s is None else max(0.0, self._until_s - time.monotonic())


class Call:
    """One request on its way through a worker."""

    def __init__(self, number: int, request: StageRequest) -> None:
        self.number, self.request = number, request
        self._said: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._end: tuple[Any, ...] | None = None
        self._when_done: list[Callable[[], None]] = []
        self.stop: Callable[[], None] = lambda: None
        self.kill: Callable[[], None] = lambda: None

    def hear(self, message: tuple[Any, ...]) -> None:
        """Take what the worker says: ``("progress", done, total)``, ``("log", record)``, or how it ended."""
        if message[0] in ("done", "failed"):
            with self._lock:
                self._end, waiting = message, self._when_done
            self._said.put(message)
            for tell in waiting:
                tell()
        else:
            self._said.put(message)

    def when_done(self, tell: Callable[[], None]) -> None:
        """Have ``tell`` called once the call has ended; at once if it has."""
        with self._lock:
            if self._end is None:
                self._when_done.append(tell)
                return
        tell()

    def peek(self) -> StageOutcome:
        """The outcome of a call that has ended; what is said on the way is left for `result`."""
        assert self._end is not None
        kind, content = self._end
        if kind == "failed":
            raise content
        outcome: StageOutcome = content
        return outcome

    def result(self, progress: Callable[[int, int], None]) -> StageOutcome:
        """Wait for the outcome; progress and log records arrive in this thread, and so in its context.

        What ``progress`` raises ends the stage, and is raised here once it has ended. A stage that its runtime's time
        has run out for, and that does not end when it is told to (a decoder may be caught in a damaged file), is ended
        with its process; what else that process worked on is lost with it, and done again by the tasks' retries.

        Raises:
            TimeLimitError: the time has run out.
            BaseException: whatever the stage raises.
        """
        raised: BaseException | None = None
        patience = Patience(self.request.runtime.until_s)
        while True:
            try:
                kind, *content = self._said.get(timeout=patience.left_s)
            except queue.Empty:
                if raised is None:
                    raised = _time_is_up(self.request, "in the middle of")
                    self.stop()
                    patience = Patience(time.monotonic() + END_S)
                else:
                    self.kill()
                    patience = Patience(None)
                continue
            if kind == "log":
                handle_record(content[0])
            elif kind == "progress":
                try:
                    progress(*content)
                except BaseException as error:
                    raised = raised or error
                    self.stop()
                    patience = Patience(time.monotonic() + END_S)
            elif raised is not None:
                raise raised
            else:
                return self.peek()


def _time_is_up(request: StageRequest, when: str) -> TimeLimitError:
    return TimeLimitError(
        f"the time limit passed {when} stage {request.declaration.name}",
        where=str(getattr(request.footage, "path", "")),
        cure="raise archive.time_limit_s",
    )


class Workers:
    """Processes that run stages.

    Args:
        processes: at most so many.
        at_once: stages under way at the same time, over all processes.
        modules: imported by each process as soon as it starts.
    """

    def __init__(self, processes: int, at_once: int, modules: Sequence[str] = ()) -> None:
        self._most = max(1, processes)
        self._per_process = -(-at_once // self._most)
        self._modules = tuple(modules)
        self._numbers = itertools.count()
        self._lock = threading.Condition()
        self._workers: list[_Worker] = []
        self._closed = False

    def start(self) -> None:
        """Start processes now, so that they have their libraries when the first request comes."""
        with self._lock:
            if not self._workers:
                self._begin(self._most)

    def run(self, request: StageRequest) -> StageOutcome:
        """Run a request; its progress is reported by its own runtime.

        Raises:
            WorkerLostError: the process ended, killed or crashed.
            BaseException: whatever the stage raises.
        """
        return self.submit(request).result(request.runtime.progress)

    def submit(self, request: StageRequest, wanted: Callable[[], bool] = lambda: True) -> Call:
        """Begin a request as soon as there is room; `Call.result` has to be called by somebody in the end.

        Args:
            request: what to run.
            wanted: whether to go on waiting for room; asked again at every `nudge`.

        Raises:
            TimeLimitError: the request's time ran out while there was no room.
            RuntimeError: the workers are closed, or the request is wanted no more.
        """
        call = Call(next(self._numbers), request)
        patience = Patience(request.runtime.until_s)
        with self._lock:
            while True:
                if self._closed or not wanted():
                    raise RuntimeError("the workers are closed" if self._closed else "it is wanted no more")
                worker = self._roomy()
                if worker is not None:
                    break
                if patience.left_s == 0:
                    raise _time_is_up(request, "before a worker had room for")
                self._lock.wait(patience.left_s)
            worker.calls[call.number] = call
        call.stop = lambda: worker.send("stop", call.number)
        call.kill = worker.kill
        worker.send("run", call.number, request)
        return call

    def nudge(self) -> None:
        """Have those who wait in `submit` look whether they still want to."""
        with self._lock:
            self._lock.notify_all()

    def _roomy(self) -> _Worker | None:
        """The process with the fewest stages, a new one where all are busy; None where there is no room."""
        self._workers = [worker for worker in self._workers if not worker.lost]
        if not self._workers:
            self._begin(self._most)
        elif len(self._workers) < self._most and all(worker.calls for worker in self._workers):
            self._begin(1)
        there = [worker for worker in self._workers if worker.process.there]
        best = min(there, key=lambda worker: len(worker.calls), default=None)
        # What is still to be forked is worth waiting for: it will have nothing to do.
        full = best is None or len(best.calls) >= (self._per_process if len(there) == len(self._workers) else 1)
        return None if full else best

    def _begin(self, count: int) -> None:
        self._workers.extend(_Worker(born, self._lock) for born in bear(count, self._modules))

    def close(self, *, now: bool = False) -> None:
        """End all processes; with ``now`` in the middle of whatever they do."""
        with self._lock:
            self._closed = True
            workers, self._workers = self._workers, []
            self._lock.notify_all()
        for worker in workers:
            if now:
                worker.kill()
            else:
                worker.send("end")
        for worker in workers:
            worker.end()


@contextlib.contextmanager
def open_workers(processes: int, at_once: int, modules: Sequence[str] = ()) -> Iterator[Workers]:
    """`Workers` for the block; ended at once when it fails."""
    workers = Workers(processes, at_once, modules)
    try:
        yield workers
    except BaseException:
        workers.close(now=True)
        raise
    workers.close()


class _Worker:
    """One process, seen from here.

    Args:
        process: it.
        changed: guards ``calls`` and ``lost``, and is told of their changes.
    """

    def __init__(self, process: Spawned | Forked, changed: threading.Condition) -> None:
        self.calls: dict[int, Call] = {}
        self.lost = False
        self.process = process
        self._changed = changed
        self._sending = threading.Lock()
        threading.Thread(target=self._listen, name="worker-listener", daemon=True).start()

    def send(self, *message: Any) -> None:
        """Tell the process something; that it is gone is noticed by the listener."""
        with self._sending, contextlib.suppress(OSError):
            self.process.connection.send(message)

    def _listen(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                number, *message = self.process.connection.recv()
                call = self.calls.get(number)
                if call is not None:
                    self._tell(call, tuple(message))
                elif message[0] == "log":
                    handle_record(message[1])
                else:
                    with self._changed:
                        self.process.hear(*message)
                        self._changed.notify_all()
        self.process.gone()
        with self._changed:
            self.lost = True
            lost, self.calls = self.calls, {}
            self._changed.notify_all()
        code = self.process.exit_code() if lost else None
        for call in lost.values():
            call.hear(("failed", _epitaph(code)))

    def _tell(self, call: Call, message: tuple[Any, ...]) -> None:
        if message[0] in ("done", "failed"):
            with self._changed:
                del self.calls[call.number]
                self._changed.notify_all()
        call.hear(message)

    def kill(self) -> None:
        """End the process in the middle of whatever it does."""
        self.process.kill()

    def end(self) -> None:
        """Wait until the process has ended, as it was told to; end it if it does not."""
        if not self.process.join(END_S):
            self.process.kill()
            self.process.join(END_S)


def _epitaph(code: int | None) -> WorkerLostError:
    if code is None:
        how = "ended"
    else:
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return WorkerLostError(
        f"a worker process {how} in the middle of a stage",
        cure="if it happens again, lower runtime.workers or runtime.batch_size: memory may be short",
    )
