"""Stages on a Dask cluster: one that is there (``runner.address``), or one of this machine's processes.

Imports Dask; to be imported only where it is wanted. Progress and log records travel as Dask events, a request to stop
as a call on the workers: both use the connections that the cluster has anyway.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import signal
import tempfile
import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dask
import distributed
from distributed.client import FutureCancelledError
from distributed.scheduler import KilledWorker

from tasks.remote import (
    INTRODUCE_S,
    Cluster,
    ClusterError,
    RemoteCall,
    WorkerLostError,
    bounded,
    check_server_is_reachable,
)
from tasks.remote_worker import check_introductions, introduce
from tasks.worker_process import Interrupted

log = logging.getLogger(__name__)

RESTART_S = 30.0

_stops: dict[str, BaseException] = {}
"""On a worker: calls that are to end, and with what."""


async def end_call(call: str, error: BaseException) -> None:
    """On a worker: have a call end at the next step that it reports."""
    # A coroutine, since Dask waits for any other function.
    _stops[call] = error


class DaskLine:
    """The worker's end; opened in the thread that Dask runs the task in."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._worker = distributed.get_worker()

    def tell(self, call: str, kind: str, content: Mapping[str, Any]) -> None:
        values = dict(content)
        if kind == "begun":
            values["place"] = self._worker.address
            _stops.pop(call, None)
        # A worker that is closing has nobody to tell.
        with contextlib.suppress(Exception):
            self._worker.log_event(self._topic, {"call": call, "kind": kind, "content": values})

    def stopped(self, call: str) -> BaseException | None:
        return _stops.get(call)


@dataclass(frozen=True)
class DaskAddress:
    """Topic of the events that a run listens to."""

    topic: str

    def open(self) -> DaskLine:
        return DaskLine(self.topic)


class Preparation(distributed.WorkerPlugin):
    """For workers that this command starts, each time one starts: imports libraries early, and leaves Ctrl-C, which
    reaches all processes of a terminal, to whoever orders."""

    def __init__(self, modules: Sequence[str]) -> None:
        self.modules = tuple(modules)

    def setup(self, worker: Any) -> None:
        del worker
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        introduce(self.modules)


class DaskCluster(Cluster):
    """A Dask cluster and this command's connection to it.

    Args:
        address: of a scheduler; ``auto`` for the one that Dask's own configuration names (DASK_SCHEDULER_ADDRESS);
            None for processes of this machine that nobody else can connect to (TLS, certificates made for them).
        processes: of a cluster of one's own.
        memory_mib: of each of those; None for no limit.
        retries: how often a stage is given to another of those when its process was lost.
        wait_s: how long to wait for an existing one.
        worker_wait_s: how long stages wait where it has no workers any more.
        modules: what workers shall import at once.
        api_url: of the Prefect server.

    Raises:
        ClusterError: it does not answer, has no workers, or has workers that cannot be used; in one line.
    """

    name = "Dask"

    def __init__(
        self,
        address: str | None,
        *,
        processes: int,
        memory_mib: int | None,
        retries: int,
        wait_s: float,
        worker_wait_s: float,
        modules: Sequence[str] = (),
        api_url: str | None = None,
    ) -> None:
        self._own: Any = None
        self._folder: str | None = None
        self._security: Any = None
        if address is None:
            address = self._begin(processes, memory_mib, retries)
        elif address == "auto":
            address = dask.config.get("scheduler-address", None)
            if not address:
                raise ClusterError(
                    "Dask's configuration names no scheduler",
                    where="runner.address=auto",
                    cure="set DASK_SCHEDULER_ADDRESS, or runner.address=tcp://…",
                )
        self._scheduler = str(address)
        try:
            self._client = self._connect(wait_s)
            try:
                slots = self._look(wait_s, modules, api_url)
            except BaseException:
                self._client.close()
                raise
        except BaseException:
            self._end_own()
            raise
        self._topic = f"faceline-{uuid.uuid4().hex}"
        self._client.subscribe_topic(self._topic, self._on_event)
        super().__init__(slots, worker_wait_s)

    def _begin(self, processes: int, memory_mib: int | None, retries: int) -> str:
        self._folder = tempfile.mkdtemp(prefix="faceline-dask-")
        self._own = own = distributed.LocalCluster(
            n_workers=processes,
            threads_per_worker=1,
            processes=True,
            memory_limit=0 if memory_mib is None else memory_mib * 2**20,
            dashboard_address=None,
            local_directory=self._folder,
            silence_logs=logging.CRITICAL,
            # Anybody on this machine could otherwise have the workers run what they like.
            security=True,
            scheduler_kwargs={"allowed_failures": retries},
        )
        self._security = own.security
        return str(own.scheduler_address)

    def _connect(self, wait_s: float) -> Any:
        unreachable = ClusterError(
            f"no Dask scheduler answers at {self._scheduler} within {wait_s:g} s",
            where="runner.address",
            cure="start it, or correct the address; runner=processes needs none",
        )

        def connect() -> Any:
            return distributed.Client(self._scheduler, timeout=wait_s, set_as_default=False, **self._client_options())

        # Dask retries on its own, for longer than it was told where the name cannot be resolved.
        level = logging.getLogger("distributed").level
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        try:
            return bounded(connect, wait_s + 5.0, unreachable)
        except (OSError, ValueError, TypeError) as error:
            raise unreachable from error
        finally:
            logging.getLogger("distributed").setLevel(level)

    def _client_options(self) -> dict[str, Any]:
        return {} if self._security is None else {"security": self._security}

    def _look(self, wait_s: float, modules: Sequence[str], api_url: str | None) -> int:
        client, own = self._client, self._own is not None
        try:
            client.wait_for_workers(1, timeout=INTRODUCE_S if own else wait_s)
        except TimeoutError as error:
            raise self._no_workers() from error
        if own:
            client.register_plugin(Preparation(modules))
        else:
            try:
                answers = bounded(
                    lambda: client.run(introduce, modules, on_error="return"),
                    INTRODUCE_S,
                    ClusterError(f"the workers of {self._scheduler} do not answer", cure="restart them"),
                )
            except Exception as error:
                raise self._unusable(error) from error
            for place, answer in answers.items():
                if isinstance(answer, BaseException):
                    raise self._unusable(answer, place) from answer
            check_introductions(list(answers.values()))
            check_server_is_reachable([answer["host"] for answer in answers.values()], api_url)
        threads = [worker["nthreads"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()]
        return max(1, sum(threads))

    def _no_workers(self) -> ClusterError:
        return ClusterError(
            f"the Dask scheduler at {self._scheduler} has no workers", cure="start some: dask worker ADDRESS"
        )

    def _unusable(self, error: BaseException, place: str = "") -> BaseException:
        if isinstance(error, ClusterError):
            return error
        return ClusterError(
            f"the worker cannot run stages ({type(error).__name__}: {error})",
            where=place or self._scheduler,
            cure="install this faceline, with its extra dask, on every machine of the cluster",
        )

    def task_runner(self) -> Any:
        from prefect_dask import DaskTaskRunner

        return DaskTaskRunner(address=self._scheduler, client_kwargs=self._client_options())

    def address(self) -> DaskAddress:
        return DaskAddress(self._topic)

    def submitting(self, retries: int) -> contextlib.AbstractContextManager[Any]:
        # How often a task whose worker died is given to another one is the scheduler's own setting.
        return contextlib.nullcontext()

    def stop(self, call: RemoteCall, error: BaseException) -> None:
        told = error if isinstance(error, Exception) else Interrupted()
        # To all: which worker has it may not be known yet.
        self._client.run(end_call, call.sent.call, told, wait=False, on_error="ignore")

    def kill(self, call: RemoteCall) -> None:
        call.future.wrapped_future.cancel(force=True)
        if call.place:
            self._client.restart_workers([call.place], timeout=RESTART_S, raise_for_error=False)

    def is_alive(self) -> bool:
        return bool(self._client.status in ("running", "connecting"))

    def lacks(self) -> ClusterError | None:
        # Workers that are busy, or pause for want of memory, are there: stages wait for their turn.
        return None if self._client.scheduler_info(n_workers=-1)["workers"] else self._no_workers()

    def forget(self, call: RemoteCall) -> None:
        # What a client still holds is computed again when the worker that keeps it is lost.
        call.future.wrapped_future.release()

    def epitaph(self, error: BaseException) -> BaseException:
        if isinstance(error, KilledWorker):
            return WorkerLostError(
                "Dask workers ended in the middle of a stage, time and again",
                cure="see their log; if memory is short, lower runtime.workers or runtime.batch_size",
            )
        if isinstance(error, FutureCancelledError):
            return WorkerLostError("the Dask cluster dropped a stage", cure="see the scheduler's log, run again")
        if isinstance(error, ModuleNotFoundError):
            return self._unusable(error)
        return error

    def _on_event(self, event: tuple[float, Mapping[str, Any]]) -> None:
        _, said = event
        self.hear(said["call"], said["kind"], said["content"])

    def shut_down(self) -> None:
        with contextlib.suppress(Exception):
            self._client.unsubscribe_topic(self._topic)
        with contextlib.suppress(Exception):
            self._client.close()
        self._end_own()

    def _end_own(self) -> None:
        if self._own is not None:
            with contextlib.suppress(Exception):
                self._own.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


__all__ = ["DaskCluster"]
