"""Stages on the workers of a cluster (Dask, Ray), seen from the run that orders them.

Prefect's task runners bring a task run to the cluster and its last state back. What happens between is kept here: how
far each stage is, what it logs, and how to end one whose run was interrupted, whose time has passed, or that hears
nothing. The connection itself is the cluster's own, so nothing else has to be reachable.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from faceline.errors import FacelineError
from faceline.store import Store
from tasks.remote_worker import Address, Sent
from tasks.runner import StageOutcome, StageRequest, key_parts
from tasks.workers import END_S, WorkerLostError, handle_record

log = logging.getLogger(__name__)

T = TypeVar("T")

TICK_S = 1.0
"""How often calls that say nothing are looked after."""

LEAVE_S = 60.0
"""How long a stage that is to be killed may take to be; then it is left to the cluster."""

SEEN_S = 10.0
"""How long an artifact that a worker has committed may take to be seen here: network drives remember what was not."""

LOOK_S = 5.0
"""How often a cluster is asked for its workers while stages are on their way."""

UNANSWERED_S = 60.0
"""The same, after a question that got no answer."""

WARN_S = 30.0
"""How long none of them may be able to take a stage before that is said."""

INTRODUCE_S = 120.0
"""How long workers are given to import faceline and say who they are."""


class ClusterError(FacelineError):
    """A cluster cannot be reached or used."""


Ended = Callable[[Callable[[], StageOutcome]], None]


class RemoteCall:
    """One request on its way through a cluster.

    Attributes:
        sent: what travels.
        worker: who works on it, once somebody does: ``host:pid``.
        place: the cluster's own name for that worker.
        future: what stands for it in the cluster, once it was submitted.
    """

    def __init__(self, sent: Sent, progress: Callable[[int, int], None], until_s: float | None) -> None:
        self.sent, self.progress, self.until_s = sent, progress, until_s
        self.worker: str | None = None
        self.place: str | None = None
        self.future: Any = None
        self.raised: BaseException | None = None
        self.killed = False
        self.end: Callable[[BaseException | None], None] = lambda error: None
        self.give_up_s: float | None = None
        self._last = (0, 1)
        self._lock = threading.Lock()

    def reported(self, done: int, total: int) -> None:
        """Pass progress on; what this raises is what the stage is to end with."""
        self._last = (done, total)
        self.look()

    def look(self) -> None:
        """Ask whether the stage is still wanted."""
        if self.raised is None:
            try:
                self.progress(*self._last)
            except BaseException as error:
                self.raised = error


class Cluster(ABC):
    """Where a run's stages are sent; one object per command.

    Args:
        slots: stages that it can work on at the same time.
        worker_wait_s: how long stages wait for a worker where there is none that could take them.
    """

    name: str

    def __init__(self, slots: int, worker_wait_s: float) -> None:
        self.slots = slots
        self._worker_wait_s = worker_wait_s
        self._next_look_s = 0.0
        self._lacks_since_s: float | None = None
        self._has_warned = False
        self._calls: dict[str, RemoteCall] = {}
        self._lock = threading.Lock()
        self._runner: Any = None
        self._closing = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="cluster-keeper", daemon=True)
        self._keeper.start()

    # ----------------------------------------------------------------------------------- what each cluster does itself

    @abstractmethod
    def task_runner(self) -> Any:
        """A Prefect task runner that submits to this cluster; imports Prefect."""

    @abstractmethod
    def address(self) -> Address:
        """Where workers report to."""

    @abstractmethod
    def submitting(self, retries: int) -> contextlib.AbstractContextManager[Any]:
        """Around `Task.submit`: what the cluster has to know of it."""

    @abstractmethod
    def stop(self, call: RemoteCall, error: BaseException) -> None:
        """Tell the worker to end the stage with this error; returns at once."""

    @abstractmethod
    def kill(self, call: RemoteCall) -> None:
        """Take the request back, and end the process that works on it."""

    def is_alive(self) -> bool:
        """Whether the connection to the cluster stands, or may stand again."""
        return True

    @abstractmethod
    def lacks(self) -> ClusterError | None:
        """What is missing where no worker could take a stage even if all were idle; None where one could.

        It may take its time, and raise: then nothing is known.
        """

    @abstractmethod
    def forget(self, call: RemoteCall) -> None:
        """The outcome has come: the cluster need not keep it."""

    @abstractmethod
    def epitaph(self, error: BaseException) -> BaseException:
        """What a task run ended with that the task itself did not raise, as one line; other errors as they are."""

    @abstractmethod
    def shut_down(self) -> None:
        """End what was begun for this command; a cluster that was there already stays."""

    # -------------------------------------------------------------------------------------------------- what all share

    @property
    def runner(self) -> Any:
        """The task runner, started; one for all flows of the command."""
        with self._lock:
            if self._runner is None:
                self._runner = self.task_runner().__enter__()
                # Dask's connects when it is first used, which several flows may do at the same time.
                getattr(self._runner, "client", None)
            return self._runner

    def send(self, request: StageRequest) -> RemoteCall:
        """Make a request ready to travel; `watch` has to be called once it was submitted."""
        sent = Sent(
            call=uuid.uuid4().hex,
            request=anywhere(request),
            key=key_parts(request).key,
            address=self.address(),
            sender=socket.gethostname(),
        )
        call = RemoteCall(sent, request.runtime.progress, request.runtime.until_s)
        with self._lock:
            self._calls[sent.call] = call
        return call

    def watch(self, call: RemoteCall, future: Any, ended: Ended, crashed: Callable[[Any, str], None]) -> None:
        """Have ``ended`` called once the submitted request has ended.

        Args:
            call: from `send`.
            future: Prefect's future.
            ended: as a walk's ``done``.
            crashed: told the task run's id and why, where the worker could not tell Prefect itself.
        """
        call.future = future

        def end(error: BaseException | None) -> None:
            with self._lock:
                if self._calls.pop(call.sent.call, None) is None:
                    return
            ended(lambda: self._outcome(call, crashed, error))

        call.end = end
        future.add_done_callback(lambda _: end(None))

    def _outcome(
        self, call: RemoteCall, crashed: Callable[[Any, str], None], lost: BaseException | None
    ) -> StageOutcome:
        try:
            if lost is not None:
                raise lost
            outcome: StageOutcome = call.future.result()
        except BaseException as error:
            known = self.epitaph(error)
            raised = call.raised or known
            if call.killed or isinstance(known, WorkerLostError):
                crashed(call.future.task_run_id, str(raised))
            raise raised from (None if raised is error else error)
        self.forget(call)
        if call.raised is not None:
            raise call.raised
        _check_is_here(call.sent.request, outcome, call.worker or "a worker")
        return outcome

    def hear(self, call_id: str, kind: str, content: Mapping[str, Any]) -> None:
        """Take what a worker says."""
        with self._lock:
            call = self._calls.get(call_id)
        if kind == "log":
            handle_record(dict(content))
        elif call is None:
            return
        elif kind == "begun":
            call.worker, call.place = str(content["worker"]), str(content.get("place", ""))
        elif kind == "progress":
            call.reported(int(content["done"]), int(content["total"]))

    def _keep(self) -> None:
        while not self._closing.wait(TICK_S):
            with self._lock:
                calls = [call for call in self._calls.values() if call.future is not None]
            alive = self.is_alive()
            if alive:
                try:
                    self._look_for_workers(calls)
                except Exception as error:
                    # Each question that is not answered leaves a thread behind.
                    self._next_look_s = time.monotonic() + UNANSWERED_S
                    log.debug("%s does not say what workers it has: %s", self.name, error)
            for call in calls:
                if not alive:
                    call.end(WorkerLostError(f"the {self.name} cluster is gone", cure="see its log, run again"))
                    continue
                try:
                    self._look_after(call)
                except Exception as error:
                    log.warning("a stage on %s could not be looked after: %s", self.name, error)

    def _look_for_workers(self, calls: Sequence[RemoteCall]) -> None:
        now_s = time.monotonic()
        if not calls:
            self._lacks_since_s = None
            return
        if now_s < self._next_look_s:
            return
        self._next_look_s = now_s + LOOK_S
        lacking = bounded(self.lacks, LOOK_S, ClusterError("no answer"))
        if lacking is None:
            if self._has_warned:
                log.warning("%s has a worker again", self.name)
            self._lacks_since_s, self._has_warned = None, False
            return
        if self._lacks_since_s is None:
            self._lacks_since_s = now_s
        waited_s = now_s - self._lacks_since_s
        if waited_s >= self._worker_wait_s:
            what = f"no worker for a stage within {self._worker_wait_s:g} s (runner.worker_wait_s): {lacking.what}"
            for call in calls:
                self._give_up(call, ClusterError(what, where=lacking.where, cure=lacking.cure))
        elif waited_s >= WARN_S and not self._has_warned:
            self._has_warned = True
            log.warning("%s; stages wait up to %g s for one (runner.worker_wait_s)", lacking, self._worker_wait_s)

    def _give_up(self, call: RemoteCall, error: ClusterError) -> None:
        """End a call that nobody can be working on, and take it back: a worker that comes later shall not begin."""
        call.killed, call.place = True, None
        call.end(error)
        try:
            self.kill(call)
        except Exception as failure:
            log.debug("a stage on %s could not be taken back: %s", self.name, failure)

    def _look_after(self, call: RemoteCall) -> None:
        call.look()
        now_s = time.monotonic()
        if call.raised is None:
            return
        if call.killed:
            # Whatever the cluster makes of it: nobody waits for it for ever.
            if call.give_up_s is not None and now_s >= call.give_up_s + LEAVE_S:
                call.end(WorkerLostError(f"{self.name} did not end a stage that it was told to", cure="see its log"))
            return
        if call.give_up_s is None:
            call.give_up_s = now_s + END_S
            self.stop(call, call.raised)
        # One that no worker has taken up yet is only taken back.
        if call.worker is None or now_s >= call.give_up_s:
            call.killed = True
            self.kill(call)

    def close(self) -> None:
        """End everything."""
        self._closing.set()
        self._keeper.join()
        if self._runner is not None:
            with contextlib.suppress(Exception):
                self._runner.__exit__(None, None, None)
        self.shut_down()


remote: ContextVar[Cluster | None] = ContextVar("remote", default=None)
"""The cluster that this run's stages are sent to; None where they run on this machine."""


def anywhere(request: StageRequest) -> StageRequest:
    """The request with absolute paths: a worker has a working folder of its own."""
    store = request.store if "://" in request.store else str(Path(request.store).expanduser().absolute())
    footage = request.footage
    if getattr(footage, "path", None) is not None and not Path(footage.path).is_absolute():
        footage = replace(footage, path=Path(footage.path).absolute())
    return replace(request, store=store, footage=footage)


def _check_is_here(request: StageRequest, outcome: StageOutcome, worker: str) -> None:
    store, until_s = Store(request.store), time.monotonic() + SEEN_S
    while True:
        finding = store.inspect(outcome.ref.stage, outcome.ref.key)
        if finding.state == "ok":
            return
        if time.monotonic() >= until_s:
            raise ClusterError(
                f"{worker} says that {outcome.ref.stage} is done, but its artifact is {finding.state} here",
                where=request.store,
                cure="all machines of the cluster need the same store: a folder at the same path, or s3://…",
            )
        time.sleep(0.2)


def bounded(work: Callable[[], T], seconds: float, otherwise: FacelineError) -> T:
    """What ``work`` gives, or ``otherwise`` raised where it has not come back after so many seconds."""
    got: list[T] = []
    failed: list[BaseException] = []

    def go() -> None:
        try:
            got.append(work())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=go, name="cluster-bounded", daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not got:
        raise otherwise
    return got[0]


def missing_extra(kind: str, error: ImportError) -> ClusterError:
    """The one line for a cluster whose libraries are not installed."""
    return ClusterError(
        f"{error.name or kind} is not installed", where=f"runner={kind}", cure=f"pip install 'faceline[{kind}]'"
    )


def check_server_is_reachable(hosts: Sequence[str], api_url: str | None) -> None:
    """Refuse a Prefect server on loopback where workers are on other machines.

    Raises:
        ClusterError: in one line.
    """
    away = sorted({host for host in hosts if host != socket.gethostname()})
    if away and api_url and any(f"//{name}" in api_url for name in ("127.", "localhost", "[::1]")):
        raise ClusterError(
            f"worker machine {away[0]} cannot reach this run's Prefect server, which listens on this machine alone",
            cure="start a Prefect server that all machines reach, and set PREFECT_API_URL to it",
        )


@contextlib.contextmanager
def sent_to(cluster: Cluster) -> Iterator[Cluster]:
    """Within the block, stages are sent to the cluster; it is closed at the end."""
    token = remote.set(cluster)
    try:
        yield cluster
    finally:
        remote.reset(token)
        cluster.close()
