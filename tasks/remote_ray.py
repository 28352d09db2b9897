"""Stages on a Ray cluster: one that is there (``runner.address``), or one of this machine.

Imports Ray; to be imported only where it is wanted, and after `tasks.ray_settings.set_ray_up`. Progress, log records
and requests to stop pass through an actor that lives as long as the run.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import ray

from tasks.descendants import processes_that_name, see_off
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

STORE_BYTES = 80 * 2**20
"""Object store of a cluster of one's own; Ray's least. Requests and outcomes are small, and /dev/shm may be."""

START_S = 300.0
ASK_S = 1.0
"""How often a stage asks whether it is still wanted."""

ANSWER_S = 30.0
TAKE_S = 0.5
ENDING_S = 10.0
MOST_LETTERS = 200
LONGEST_FOLDER = 24
"""Ray puts sockets below its folder, and their paths may have 107 bytes."""


class Board:
    """The actor: takes what workers say until the run asks for it, and keeps who is to stop."""

    def __init__(self) -> None:
        self._said: list[tuple[str, str, dict[str, Any]]] = []
        self._stops: dict[str, BaseException] = {}

    async def tell(self, call: str, kind: str, content: dict[str, Any]) -> None:
        self._said.append((call, kind, content))

    async def take(self) -> list[tuple[str, str, dict[str, Any]]]:
        import asyncio

        for _ in range(int(TAKE_S / 0.05)):
            if self._said:
                break
            await asyncio.sleep(0.05)
        said, self._said = self._said, []
        return said

    async def stop(self, call: str, error: BaseException) -> None:
        self._stops[call] = error

    async def stopped(self, call: str) -> BaseException | None:
        return self._stops.get(call)


class RayLine:
    """The worker's end."""

    def __init__(self, board: Any) -> None:
        self._board = board
        self._asked_s = time.monotonic()
        self._answer: BaseException | None = None

    def tell(self, call: str, kind: str, content: Mapping[str, Any]) -> None:
        with contextlib.suppress(Exception):
            self._board.tell.remote(call, kind, dict(content))

    def stopped(self, call: str) -> BaseException | None:
        now_s = time.monotonic()
        if self._answer is None and now_s - self._asked_s >= ASK_S:
            self._asked_s = now_s
            try:
                self._answer = ray.get(self._board.stopped.remote(call), timeout=ANSWER_S)
            except ray.exceptions.GetTimeoutError:
                pass
            except ray.exceptions.RayError:
                # The actor lives as long as the run.
                self._answer = Interrupted()
        return self._answer


@dataclass(frozen=True)
class RayAddress:
    """The actor that a run listens to."""

    board: Any

    def open(self) -> RayLine:
        return RayLine(self.board)


class RayCluster(Cluster):
    """A Ray cluster and this command's connection to it.

    Args:
        address: ``ray://host:10001``, ``host:6379`` or ``auto``; None for a cluster of this machine, which only who
            has its token can use.
        processes: of a cluster of one's own.
        memory_mib: asked for each stage; None for no limit.
        retries: how often a stage is given to another worker when its process was lost.
        wait_s: how long to wait for an existing one.
        worker_wait_s: how long stages wait where none of its nodes could take them.
        modules: what workers shall import at once.
        api_url: of the Prefect server.

    Raises:
        ClusterError: it does not answer, or has workers that cannot be used; in one line.
    """

    name = "Ray"

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
        del retries
        self._address, self._memory_mib = address, memory_mib
        self._folder: str | None = None
        self._board: Any = None
        if ray.is_initialized():
            raise ClusterError("this process is connected to a Ray cluster already", where="runner=ray")
        try:
            if address is None:
                self._begin(processes)
                # No other node will ever come.
                if (lacking := self.lacks()) is not None:
                    raise lacking
            else:
                self._connect(address, wait_s)
            self._introduce(modules, api_url)
            self._board = ray.remote(Board).options(num_cpus=0, max_concurrency=1000).remote()
            slots = max(1, int(ray.cluster_resources().get("CPU", 1)))
        except BaseException:
            self._disconnect()
            raise
        self._left = threading.Event()
        self._listener = threading.Thread(target=self._listen, name="ray-listener", daemon=True)
        self._listener.start()
        super().__init__(slots, worker_wait_s)

    def _begin(self, processes: int) -> None:
        base = tempfile.gettempdir()
        self._folder = tempfile.mkdtemp(prefix="fl-", dir=base if len(base) < LONGEST_FOLDER else "/tmp")
        with _quiet():
            try:
                ray.init(
                    address="local",
                    num_cpus=processes,
                    include_dashboard=False,
                    object_store_memory=STORE_BYTES,
                    log_to_driver=False,
                    configure_logging=False,
                    namespace="faceline",
                    _node_ip_address="127.0.0.1",
                    _temp_dir=self._folder,
                )
            except Exception as error:
                raise ClusterError(
                    f"Ray did not start ({_brief(error)})",
                    where="runner=ray",
                    cure="runner=processes needs no Ray",
                ) from error

    def _connect(self, address: str, wait_s: float) -> None:
        unreachable = ClusterError(
            f"no Ray cluster answers at {address} within {wait_s:g} s",
            where="runner.address",
            cure="start it, or correct the address; runner=processes needs none",
        )
        if address != "auto":
            # Ray's own client ends the process when it finds nobody.
            place = urlsplit(address if "://" in address else f"//{address}")
            try:
                with socket.create_connection((place.hostname or "", place.port or 10001), timeout=wait_s):
                    pass
            except (OSError, ValueError) as error:
                raise unreachable from error
        # Over ray://, all other arguments are the cluster's own business.
        options: dict[str, Any] = {"namespace": "faceline"}
        if not address.startswith("ray://"):
            options |= {"log_to_driver": False, "configure_logging": False}
        try:
            with _quiet():
                bounded(lambda: ray.init(address, **options), wait_s + ANSWER_S, unreachable)
        except (ConnectionError, OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
            raise unreachable from error

    def _introduce(self, modules: Sequence[str], api_url: str | None) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        ask = ray.remote(introduce)
        nodes = [node["NodeID"] for node in ray.nodes() if node.get("Alive") and node["Resources"].get("CPU")]
        asked = [
            ask.options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
                modules
            )
            for node in nodes
        ]
        try:
            answers = ray.get(asked, timeout=INTRODUCE_S)
        except Exception as error:
            raise self._unusable(error) from error
        if self._address is not None:
            check_introductions(answers)
            check_server_is_reachable([answer["host"] for answer in answers], api_url)

    def _unusable(self, error: BaseException) -> ClusterError:
        return ClusterError(
            f"a worker cannot run stages ({_brief(getattr(error, 'cause', None) or error)})",
            where=f"Ray at {self._address or 'this machine'}",
            cure="install this faceline, with its extra ray, on every machine of the cluster",
        )

    def task_runner(self) -> Any:
        from prefect_ray import RayTaskRunner

        # It finds this process connected, and leaves the connection alone.
        return RayTaskRunner(address=self._address)

    def address(self) -> RayAddress:
        return RayAddress(self._board)

    def submitting(self, retries: int) -> contextlib.AbstractContextManager[Any]:
        from prefect_ray.context import remote_options

        options: dict[str, Any] = {"max_retries": retries, "num_cpus": 1}
        if self._memory_mib is not None:
            options["memory"] = self._memory_mib * 2**20
        return remote_options(**options)

    def stop(self, call: RemoteCall, error: BaseException) -> None:
        told = error if isinstance(error, Exception) else Interrupted()
        self._board.stop.remote(call.sent.call, told)

    def kill(self, call: RemoteCall) -> None:
        ray.cancel(call.future.wrapped_future, force=True)

    def lacks(self) -> ClusterError | None:
        nodes = [node["Resources"] for node in ray.nodes() if node.get("Alive")]
        memories = [node.get("memory", 0) for node in nodes if node.get("CPU", 0) >= 1]
        place = f"Ray at {self._address or 'this machine'}"
        most = max(memories, default=0) / 2**20
        if not memories:
            return ClusterError("no node has a CPU for stages", where=place, cure="start one: ray start --address=…")
        if self._memory_mib is not None and most < self._memory_mib:
            return ClusterError(
                f"no node has {self._memory_mib} MiB of memory for a stage; the largest has {most:.0f}",
                where=place,
                cure="lower runner.memory_mib, or start a larger node",
            )
        return None

    def forget(self, call: RemoteCall) -> None:
        # Outcomes this small are kept by this process itself.
        pass

    def epitaph(self, error: BaseException) -> BaseException:
        lost = (
            *(ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError),
            *(ray.exceptions.ObjectLostError, ray.exceptions.LocalRayletDiedError, ray.exceptions.TaskCancelledError),
        )
        if isinstance(error, lost):
            return WorkerLostError(
                f"Ray workers ended in the middle of a stage ({type(error).__name__})",
                cure="see their log; if memory is short, lower runtime.workers or runtime.batch_size",
            )
        if isinstance(error, ray.exceptions.RayTaskError | ray.exceptions.RuntimeEnvSetupError):
            return self._unusable(error)
        return error

    def _listen(self) -> None:
        while not self._left.is_set():
            try:
                said = ray.get(self._board.take.remote(), timeout=ANSWER_S)
            except ray.exceptions.GetTimeoutError:
                continue
            except Exception as error:
                if not self._left.is_set():
                    log.warning("what Ray's workers say is no longer heard: %s", type(error).__name__)
                return
            for call, kind, content in said:
                self.hear(call, kind, content)

    def shut_down(self) -> None:
        self._left.set()
        self._listener.join(ANSWER_S)
        self._disconnect()

    def _disconnect(self) -> None:
        own = [] if self._folder is None else processes_that_name(self._folder)
        with contextlib.suppress(Exception):
            ray.shutdown()
        # Ray waits for some of its processes only; workers go when they notice that they are alone.
        see_off(own, ENDING_S)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def _brief(error: BaseException) -> str:
    """An error of Ray's on one line: it likes to add pages of advice."""
    text = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {text}"[:MOST_LETTERS]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The console is the run's: what Ray prints goes to the log."""
    import io

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        yield
    for line in said.getvalue().splitlines():
        log.info("Ray: %s", line)
