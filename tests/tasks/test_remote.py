"""Stages on their way through a cluster whose workers have gone, or never come."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks import remote
from tasks.remote import Cluster, ClusterError, RemoteCall
from tasks.remote_worker import Address
from tasks.runner import StageOutcome, StageRequest
from tests.tasks.worker_stages import WORK, WorkParams

NONE_LEFT = ClusterError("nobody is there", where="fake://1", cure="start some")


class Fake(Cluster):
    """A cluster that does nothing; ``lacking`` is what it says of its workers."""

    name = "Fake"
    lacking: ClusterError | None = None

    def __init__(self, worker_wait_s: float) -> None:
        self.killed: list[RemoteCall] = []
        super().__init__(1, worker_wait_s)

    def task_runner(self) -> Any:
        raise NotImplementedError

    def address(self) -> Address:
        return SimpleNamespace()  # type: ignore[return-value]

    def submitting(self, retries: int) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext()

    def stop(self, call: RemoteCall, error: BaseException) -> None:
        raise NotImplementedError

    def kill(self, call: RemoteCall) -> None:
        self.killed.append(call)

    def lacks(self) -> ClusterError | None:
        return self.lacking

    def forget(self, call: RemoteCall) -> None:
        pass

    def epitaph(self, error: BaseException) -> BaseException:
        return error

    def shut_down(self) -> None:
        pass


class Sent:
    """A stage that was sent, and how it ended."""

    def __init__(self, cluster: Fake, folder: Path) -> None:
        self.outcome: Callable[[], StageOutcome] | None = None
        self.crashed: list[str] = []
        self.call = cluster.send(StageRequest(WORK, WorkParams(), str(folder)))
        future = SimpleNamespace(add_done_callback=lambda done: None, task_run_id="a run")
        cluster.watch(self.call, future, self._ended, lambda run, why: self.crashed.append(why))

    def _ended(self, outcome: Callable[[], StageOutcome]) -> None:
        self.outcome = outcome


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that clusters see; nothing is done by itself."""
    now = [1000.0]
    monkeypatch.setattr(remote, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(remote, "TICK_S", 3600.0)
    return now


@pytest.fixture
def cluster(clock: list[float]) -> Iterator[Fake]:
    made = Fake(worker_wait_s=100.0)
    yield made
    made.close()


def pass_time(cluster: Fake, clock: list[float], seconds: int, *sent: Sent) -> None:
    for _ in range(seconds):
        clock[0] += 1
        cluster._look_for_workers([one.call for one in sent if one.outcome is None])


def test_without_workers_a_run_is_warned_and_ends_in_one_line(
    cluster: Fake, clock: list[float], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sent = [Sent(cluster, tmp_path), Sent(cluster, tmp_path)]
    # One of them had begun, on a worker that is no more.
    cluster.hear(sent[0].call.sent.call, "begun", {"worker": "host:1", "place": "fake://2"})
    cluster.lacking = NONE_LEFT
    with caplog.at_level(logging.WARNING):
        pass_time(cluster, clock, 25, *sent)
        assert not caplog.messages
        pass_time(cluster, clock, 60, *sent)
    assert caplog.messages == [
        "fake://1: nobody is there; start some; stages wait up to 100 s for one (runner.worker_wait_s)"
    ]
    assert [one.outcome for one in sent] == [None, None]
    pass_time(cluster, clock, 30, *sent)
    for one in sent:
        assert one.outcome is not None
        with pytest.raises(ClusterError) as caught:
            one.outcome()
        line = "no worker for a stage within 100 s (runner.worker_wait_s): nobody is there"
        assert str(caught.value) == f"fake://1: {line}; start some"
        assert one.crashed == [str(caught.value)], "Prefect is told"
    assert cluster.killed == [one.call for one in sent], "no worker that comes later begins with it"
    assert sent[0].call.place is None, "there is nothing to restart"


def test_a_worker_that_comes_in_time_is_waited_for(
    cluster: Fake, clock: list[float], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sent = Sent(cluster, tmp_path)
    for _ in range(3):
        cluster.lacking = NONE_LEFT
        pass_time(cluster, clock, 80, sent)
        cluster.lacking = None
        pass_time(cluster, clock, 10, sent)
    assert sent.outcome is None
    assert caplog.messages.count("Fake has a worker again") == 3


def test_stages_that_wait_behind_others_wait_as_long_as_it_takes(
    cluster: Fake, clock: list[float], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sent = Sent(cluster, tmp_path)
    pass_time(cluster, clock, 5000, sent)
    assert sent.outcome is None
    # Nobody waits: that a cluster has shrunk to nothing meanwhile costs no time later.
    cluster.lacking = NONE_LEFT
    pass_time(cluster, clock, 5000)
    pass_time(cluster, clock, 20, sent)
    assert sent.outcome is None
    assert not caplog.messages


def test_what_dask_lacks() -> None:
    module = pytest.importorskip("tasks.remote_dask")
    known: dict[str, Any] = {"workers": {}}
    dask = object.__new__(module.DaskCluster)
    dask._scheduler = "tcp://s:1"
    dask._client = SimpleNamespace(scheduler_info=lambda n_workers: known)
    assert "tcp://s:1 has no workers; start some" in str(dask.lacks())
    known["workers"] = {"tcp://w:1": {"status": "paused"}}
    assert dask.lacks() is None


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([], "no node has a CPU for stages; start one"),
        ([(True, {"memory": 2**40})], "no node has a CPU for stages"),
        (
            [(True, {"CPU": 4.0, "memory": 2**30}), (False, {"CPU": 4.0, "memory": 2**40})],
            "2048 MiB.*largest has 1024;",
        ),
        ([(True, {"CPU": 4.0, "memory": 2**31}), (True, {})], ""),
    ],
)
def test_what_ray_lacks(nodes: list[tuple[bool, dict[str, float]]], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    from tasks import remote_ray

    told = [{"Alive": alive, "Resources": resources} for alive, resources in nodes]
    monkeypatch.setattr(remote_ray, "ray", SimpleNamespace(nodes=lambda: told))
    ray = object.__new__(remote_ray.RayCluster)
    ray._address, ray._memory_mib = "ray://h:1", 2048
    lacking = ray.lacks()
    if not said:
        assert lacking is None
    else:
        with pytest.raises(ClusterError, match=said):
            raise lacking
