"""Runs that register themselves: who counts as alive, and who waits for whom."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from faceline import runs
from faceline.errors import FacelineError, StoreError
from faceline.folders import Folder, folder_at
from faceline.runs import LOST_S, RUNS, Run, cleaning, dead_runs, live_runs, running


@pytest.fixture(params=["local", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "local":
        yield str(tmp_path / "store")
        return
    import fsspec

    yield f"memory://{tmp_path.name}"
    fsspec.filesystem("memory").store.clear()


def write(folder: Folder, run: Run, age_s: float) -> None:
    """The registration of a run that nobody holds, with its last beat some time ago."""
    beat_s = time.time() - age_s
    folder.put(f"{RUNS}/{run.name}.json", json.dumps(asdict(replace(run, beat_s=beat_s))).encode())
    path = folder.local_path(f"{RUNS}/{run.name}.json")
    if path is not None:
        os.utime(path, (beat_s, beat_s))


OTHER = Run("x", "elsewhere", 1, 1, "analyze", "clip", 1.0, 1.0, locked=True, kernel="another")


def test_a_run_is_alive_within_its_block_and_no_longer(root: str) -> None:
    folder = folder_at(root)
    before_s = time.time()
    with running(root, "analyze", "clip"), running(root, "archive"):
        (run,) = live_runs(folder)
        assert (run.verb, run.what, run.pid) == ("analyze", "clip", os.getpid())
        assert before_s - 1 <= run.began_s <= time.time() + 1
        assert str(run).startswith(f"analyze of clip, process {os.getpid()} on ")
    assert live_runs(folder) == dead_runs(folder) == []
    with pytest.raises(ZeroDivisionError), running(root, "analyze"):
        _ = 1 / 0
    assert live_runs(folder) == []


def test_the_inner_of_two_blocks_may_outlast_the_outer(root: str) -> None:
    folder = folder_at(root)
    outer, inner = running(root, "archive"), running(root, "analyze")
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None, None, None)
    assert [run.verb for run in live_runs(folder)] == ["archive"]
    inner.__exit__(None, None, None)
    assert live_runs(folder) == []


def test_names_that_are_no_text_can_run(root: str) -> None:
    with running(root, "analyze", "clip\udcff\n"):
        assert [run.what for run in live_runs(folder_at(root))] == ["clip\\udcff\n"]


def test_a_run_elsewhere_lives_as_long_as_it_beats(root: str) -> None:
    folder = folder_at(root)
    write(folder, OTHER, LOST_S - 60)
    assert [run.host for run in live_runs(folder)] == ["elsewhere"]
    write(folder, OTHER, LOST_S + 60)
    assert live_runs(folder) == []
    assert dead_runs(folder) == [f"{RUNS}/x.json"]


def test_the_name_of_a_machine_vouches_for_no_lock(tmp_path: Path) -> None:
    folder = folder_at(tmp_path)
    with running(tmp_path, "analyze"):
        (mine,) = live_runs(folder)
    # The same name, but another machine, container host or boot: its lock is not known here.
    write(folder, replace(mine, name="y", kernel="another"), 60)
    assert [run.name for run in live_runs(folder)] == ["y"]
    write(folder, replace(mine, name="y"), 60)
    assert live_runs(folder) == []


def test_a_torn_registration_may_be_using_everything(root: str) -> None:
    folder = folder_at(root)
    folder.put(f"{RUNS}/torn.json", b'{"name": ')
    (run,) = live_runs(folder)
    assert run.began_s == 0.0


def test_a_run_that_was_taken_for_dead_registers_again(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "BEAT_S", 0.02)
    folder = folder_at(root)
    with running(root, "analyze"):
        (run,) = live_runs(folder)
        folder.remove(f"{RUNS}/{run.name}.json")
        until_s = time.monotonic() + 30
        while not live_runs(folder) and time.monotonic() < until_s:
            time.sleep(0.02)
        (again,) = live_runs(folder)
        assert (again.name, again.began_s) == (run.name, pytest.approx(run.began_s, abs=1))
    assert live_runs(folder) == []


def test_what_cannot_be_registered_does_not_run(tmp_path: Path) -> None:
    (tmp_path / "_runs").write_text("no folder")
    with pytest.raises(FacelineError, match="cannot be registered"), running(tmp_path, "analyze"):
        raise AssertionError
    # And the next one is not taken for its neighbour.
    (tmp_path / "_runs").unlink()
    with running(tmp_path, "analyze"):
        assert len(live_runs(folder_at(tmp_path))) == 1


def test_a_cleaner_that_died_holds_nobody_up_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "WAIT_S", 0.01)
    folder = folder_at(f"memory://{tmp_path.name}")
    # Its clock is an hour ahead, which says nothing.
    folder.put(f"{RUNS}/cleaner-x.json", json.dumps({"beat_s": time.time() + 3600}).encode())
    monkeypatch.setattr(runs, "CLEANER_LOST_S", 0.3)
    began_s = time.monotonic()
    with running(folder.url, "analyze"):
        assert time.monotonic() - began_s >= 0.3
        assert [name for name in folder.names(RUNS) if name.startswith("cleaner-")] == []
    with cleaning(folder) as may_remove:
        assert may_remove()


def test_a_cleaner_that_slept_for_too_long_removes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_at(f"memory://{tmp_path.name}")
    clock_s = 1000.0
    monkeypatch.setattr(runs, "_clock_s", lambda: clock_s)
    with cleaning(folder) as may_remove:
        assert may_remove()
        clock_s += 100.0
        assert not may_remove()
    assert folder.names(RUNS) == []


def test_a_run_ends_soon_and_a_cleaner_too_while_the_store_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = folder_at(f"memory://{tmp_path.name}")
    monkeypatch.setattr(runs, "BEAT_S", 0.01)
    monkeypatch.setattr(runs, "LEAVE_S", 0.1)
    out, beaten, put, remove = threading.Event(), threading.Event(), type(folder).put, type(folder).remove

    def waiting_put(self: Folder, name: str, data: bytes) -> None:
        beaten.set()
        out.wait(30)
        put(self, name, data)

    def waiting_remove(self: Folder, name: str) -> None:
        out.wait(30)
        remove(self, name)

    began_s = time.monotonic()
    with running(folder.url, "analyze"):
        monkeypatch.setattr(type(folder), "put", waiting_put)
        monkeypatch.setattr(type(folder), "remove", waiting_remove)
        assert beaten.wait(30), "a beat is under way"
    monkeypatch.setattr(type(folder), "put", put)
    with cleaning(folder):
        pass
    assert time.monotonic() - began_s < 10
    assert caplog.text.count("does not answer; not waited for") == 2
    # Another machine sees a run without beats; and this process tidies up as soon as the store answers.
    (left,) = live_runs(folder)
    monkeypatch.setattr(time, "time", lambda: left.beat_s + LOST_S + 1)
    assert live_runs(folder) == []
    assert len(dead_runs(folder)) == 2
    out.set()
    while folder.names(RUNS) and time.monotonic() - began_s < 30:
        time.sleep(0.01)
    assert folder.names(RUNS) == []


def test_what_cannot_be_taken_away_at_the_end_is_said_and_fails_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = folder_at(f"memory://{tmp_path.name}")

    def gone(*_: object) -> None:
        raise StoreError("out of reach")

    with monkeypatch.context() as patch, running(folder.url, "analyze"):
        patch.setattr(type(folder), "remove", gone)
    with monkeypatch.context() as patch, cleaning(folder):
        patch.setattr(type(folder), "remove", gone)
    assert caplog.text.count("grows old by itself: out of reach") == 2
