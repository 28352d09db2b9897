"""Workers forked from the first one: they share what it imported, and are told, lost and ended like any other."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from faceline.errors import TimeLimitError
from tasks import worker_births
from tasks.worker_births import Forked, Spawned
from tasks.workers import Call, WorkerLostError, Workers, open_workers
from tests.tasks.test_workers import ROOT, request, row

LIBRARIES = ("tests.tasks.worker_stages",)
SILENT: Callable[[int, int], None] = lambda done, total: None  # noqa: E731


@pytest.fixture
def pair() -> Iterator[Workers]:
    """Two processes, the second forked from the first."""
    with open_workers(2, 2, LIBRARIES) as made:
        yield made


def meet(workers: Workers, root: Path) -> list[dict[str, object]]:
    """What two stages say that ran at the same time, in the order of the workers."""
    (meeting := root / "meeting").mkdir()
    calls = [workers.submit(request(root, "together", number, meeting)) for number in range(2)]
    return [row(call.result(SILENT)) for call in calls]


def kept_busy(workers: Workers, root: Path) -> Call:
    """A stage that does not end, in the first process: what comes next is the second's."""
    return workers.submit(request(root, "endless", 99))


def test_the_second_is_forked_from_the_first(pair: Workers, tmp_path: Path) -> None:
    first, second = meet(pair, tmp_path)
    assert first["parent"] == os.getpid()
    assert second["parent"] == first["process"]
    assert [type(worker.process) for worker in pair._workers] == [Spawned, Forked]
    assert second["threads"] == "1"


@pytest.mark.parametrize(("do", "words"), [("die", "was ended by signal 9"), ("exit", "ended with exit code 7")])
def test_a_forked_one_that_is_lost_is_told_and_replaced(pair: Workers, tmp_path: Path, do: str, words: str) -> None:
    busy = kept_busy(pair, tmp_path)
    with pytest.raises(WorkerLostError, match=f"a worker process {words} in the middle of a stage"):
        pair.run(request(tmp_path, do))
    assert row(pair.run(request(tmp_path)))["parent"] == os.getpid(), "by one of its own"
    busy.kill()


def test_a_forked_one_outlives_the_first(pair: Workers, tmp_path: Path) -> None:
    (meeting := tmp_path / "meeting").mkdir()
    doomed = kept_busy(pair, tmp_path)
    call = pair.submit(request(tmp_path, "together", 0, meeting))
    until_s = time.monotonic() + 60
    while not list(meeting.iterdir()) and time.monotonic() < until_s:
        time.sleep(0.02)
    doomed.kill()
    with pytest.raises(WorkerLostError, match="signal 9"):
        doomed.result(SILENT)
    (meeting / "1").touch()
    assert call.result(SILENT).state == "run"
    with pytest.raises(WorkerLostError, match="a worker process ended in the middle of a stage"):
        # Nobody is left who could say how.
        _then_die(pair, tmp_path)


def _then_die(pair: Workers, root: Path) -> None:
    pair.run(request(root, "die", 5))


def test_a_forked_one_that_is_deaf_ends_when_its_time_is_up(
    pair: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.workers.END_S", 1.0)
    meet(pair, tmp_path)
    busy = kept_busy(pair, tmp_path)
    began_s = time.monotonic()
    with pytest.raises(TimeLimitError):
        pair.run(request(tmp_path, "deaf", until_s=began_s + 0.5))
    assert time.monotonic() - began_s < 20
    busy.kill()


def test_none_is_left_of_a_failing_block(tmp_path: Path) -> None:
    pids: list[int] = []
    with pytest.raises(ZeroDivisionError), open_workers(2, 2, LIBRARIES) as own:
        pids.extend(int(str(found["process"])) for found in meet(own, tmp_path))
        for number in range(2):
            own.submit(request(tmp_path, "endless", number))
        raise ZeroDivisionError
    assert len(set(pids)) == 2
    assert _all_end(pids, 10)


def test_both_end_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    code = f"""
        import time
        from pathlib import Path
        from tasks.workers import Workers
        from tests.tasks.test_worker_births import LIBRARIES, meet, request
        if __name__ == "__main__":
            own = Workers(2, 2, LIBRARIES)
            print(*(found["process"] for found in meet(own, Path({str(tmp_path)!r}))), flush=True)
            for number in range(2):
                own.submit(request(Path({str(tmp_path)!r}), "endless", number))
            time.sleep(60)
    """
    (tmp_path / "parent.py").write_text(textwrap.dedent(code))
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "parent.py")],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        parent.send_signal(signal.SIGKILL)
    assert len(pids) == 2
    assert _all_end(pids, 30)


def test_nothing_is_forked_beside_other_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
    (tmp_path / "threaded_library.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    with open_workers(2, 2, ("threaded_library",)) as own:
        first, second = meet(own, tmp_path)
        assert first["process"] != second["process"]
        assert first["parent"] == second["parent"] == os.getpid()


@pytest.fixture
def nobody_expected() -> Iterator[None]:
    worker_births.expect_none()
    yield
    worker_births.expect_none()


def pid_expected() -> int:
    (process,) = worker_births._expected
    pid = process._process.pid
    assert pid is not None
    return pid


@pytest.mark.usefixtures("nobody_expected")
def test_an_expected_process_becomes_the_first_worker(tmp_path: Path) -> None:
    worker_births.expect()
    worker_births.expect()
    expected = pid_expected()
    with open_workers(2, 2, LIBRARIES) as own:
        first, second = meet(own, tmp_path)
        assert first["process"] == second["parent"] == expected


@pytest.mark.usefixtures("nobody_expected")
def test_an_expected_process_that_is_not_needed_ends(tmp_path: Path) -> None:
    worker_births.expect()
    expected = pid_expected()
    worker_births.expect_none()
    worker_births.expect_none()
    assert _all_end([expected], 10)
    with open_workers(1, 1, LIBRARIES) as own:
        assert row(own.run(request(tmp_path)))["process"] != expected


@pytest.mark.usefixtures("nobody_expected")
def test_an_expected_process_that_was_killed_meanwhile_is_replaced(tmp_path: Path) -> None:
    worker_births.expect()
    expected = pid_expected()
    os.kill(expected, signal.SIGKILL)
    with open_workers(2, 2, LIBRARIES) as own:
        with pytest.raises(WorkerLostError, match="signal 9"):
            own.run(request(tmp_path))
        assert row(own.run(request(tmp_path)))["process"] != expected


@pytest.mark.usefixtures("nobody_expected")
def test_what_cannot_be_started_ahead_is_told_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise BlockingIOError("no room for another process")

    monkeypatch.setattr(worker_births, "_spawn", full)
    worker_births.expect()
    with pytest.raises(BlockingIOError), open_workers(2, 2, LIBRARIES) as own:
        own.start()


def test_where_the_system_cannot_fork_the_second_is_spawned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import os\ndef full():\n    raise BlockingIOError(11, 'no room')\nos.fork = full\n"
    (tmp_path / "forkless_library.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    with open_workers(2, 2, ("forkless_library",)) as own:
        first, second = meet(own, tmp_path)
        assert first["parent"] == second["parent"] == os.getpid()


def test_more_workers_than_one_message_can_carry(tmp_path: Path) -> None:
    with open_workers(256, 256, LIBRARIES) as own:
        first, second = meet(own, tmp_path)
        assert second["parent"] == first["process"]


SLOW = "import time\ntime.sleep(3)\n"


@pytest.fixture
def slow_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Four modules, each of which takes three seconds to import."""
    names = tuple(f"slow_library_{number}" for number in range(4))
    for name in names:
        (tmp_path / f"{name}.py").write_text(SLOW)
    monkeypatch.syspath_prepend(str(tmp_path))
    return names


def test_a_worker_that_still_imports_ends_with_its_connection(slow_libraries: tuple[str, ...]) -> None:
    workers = Workers(2, 2, slow_libraries)
    workers.start()
    process = workers._workers[0].process
    time.sleep(1)
    for worker in workers._workers:
        with socket.fromfd(worker.process.connection.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as same:
            same.shutdown(socket.SHUT_RDWR)
    began_s = time.monotonic()
    assert isinstance(process, Spawned)
    process._process.join(30)
    assert process.exit_code() == 1
    assert time.monotonic() - began_s < 8, "after the module that it was at, not after all of them"


def test_time_runs_out_while_workers_still_import(slow_libraries: tuple[str, ...], tmp_path: Path) -> None:
    with open_workers(2, 2, slow_libraries) as own:
        doomed = own.submit(request(tmp_path, "nothing"))
        began_s = time.monotonic()
        with pytest.raises(TimeLimitError, match="before a worker had room for stage work"):
            own.run(request(tmp_path, "nothing", 1, until_s=began_s + 0.5))
        assert time.monotonic() - began_s < 3
        with pytest.raises(RuntimeError, match="wanted no more"):
            own.submit(request(tmp_path, "nothing", 2), wanted=lambda: False)
        assert doomed.result(SILENT).state == "run"


def test_an_interrupt_in_its_first_moment_is_not_meant_for_a_worker(tmp_path: Path) -> None:
    with open_workers(1, 1, LIBRARIES) as own:
        own.start()
        process = own._workers[0].process
        assert isinstance(process, Spawned)
        pid = process._process.pid
        assert pid is not None
        until_s = time.monotonic() + 0.5
        while time.monotonic() < until_s:
            os.kill(pid, signal.SIGINT)
            time.sleep(0.01)
        assert row(own.run(request(tmp_path)))["process"] == pid


def _all_end(pids: list[int], within_s: float) -> bool:
    """Whether all end soon: the system closes what a process has open a moment before it is gone."""
    until_s = time.monotonic() + within_s
    while any(map(_runs, pids)) and time.monotonic() < until_s:
        time.sleep(0.02)
    return not any(map(_runs, pids))


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
