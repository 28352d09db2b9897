"""Worker processes: what is said and what comes of it arrives; whatever ends them is told and survived."""

from __future__ import annotations

import contextvars
import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from faceline.errors import FacelineError, TimeLimitError
from faceline.stage import Runtime
from faceline.store import Store
from tasks import workers as module
from tasks.runner import StageOutcome, StageRequest
from tasks.states import can_pass
from tasks.workers import WorkerLostError, Workers, open_workers
from tests.tasks.worker_stages import WORK, WorkParams

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    """One process for two stages at a time; starting it costs a second."""
    with open_workers(1, 2) as made:
        yield made


def request(root: Path, do: str = "nothing", number: int = 0, path: Path | str = "", **runtime: Any) -> StageRequest:
    return StageRequest(WORK, WorkParams(do=do, number=number, path=str(path)), str(root), runtime=Runtime(**runtime))


def row(outcome: StageOutcome) -> dict[str, Any]:
    found: dict[str, Any] = Store(outcome.ref.root).read(outcome.ref).table("out").to_pylist()[0]
    return found


def test_a_stage_runs_elsewhere_and_is_found_here(workers: Workers, tmp_path: Path) -> None:
    outcome = workers.run(request(tmp_path))
    assert (outcome.state, outcome.reason) == ("run", "first run")
    assert row(outcome)["process"] != os.getpid()
    assert row(outcome)["threads"] == "1", "libraries that thread on their own are kept from it before they are loaded"
    assert row(outcome)["prefect"] is False, "a worker needs no Prefect"
    assert workers.run(request(tmp_path)).state == "cached"


def test_models_stay_loaded_from_stage_to_stage(workers: Workers, tmp_path: Path) -> None:
    rows = [row(workers.run(request(tmp_path, "borrow", number))) for number in range(3)]
    assert len({(found["process"], found["model"]) for found in rows}) == 1


def test_progress_arrives_in_the_calling_thread(workers: Workers, tmp_path: Path) -> None:
    told: list[tuple[int, int, int]] = []
    runtime = {"progress": lambda done, total: told.append((threading.get_ident(), done, total))}
    workers.run(request(tmp_path, "progress", **runtime))
    assert {thread for thread, _, _ in told} == {threading.get_ident()}
    assert [done for _, done, _ in told] == [0, 1, 2, 3, 4]
    assert {total for _, _, total in told} == {4}


def test_records_arrive_in_the_calling_context(
    workers: Workers, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = contextvars.ContextVar("run", default="none")
    seen: list[tuple[str, str]] = []

    class Notes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append((record.getMessage(), run.get()))

    notes = Notes()
    logging.getLogger("faceline").addHandler(notes)
    try:
        run.set("this one")
        workers.run(request(tmp_path, "log", 5))
    finally:
        logging.getLogger("faceline").removeHandler(notes)
    assert ("stage 5 speaks", "this one") in seen
    # A thread of the stage's own has no context; its record arrives all the same.
    until_s = time.monotonic() + 10
    while "its thread speaks" not in caplog.text and time.monotonic() < until_s:
        time.sleep(0.01)
    assert "its thread speaks" in caplog.text


def test_a_known_error_arrives_as_it_is(workers: Workers, tmp_path: Path) -> None:
    with pytest.raises(FacelineError, match=r"clip\.mp4: the mesh is torn; mend it") as caught:
        workers.run(request(tmp_path, "known error"))
    assert any("worker_stages.py" in note for note in caught.value.__notes__), "with where it came from"
    assert not can_pass(caught.value)


def test_an_error_that_cannot_travel_is_told_in_words(workers: Workers, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="Unpicklable: of all things") as caught:
        workers.run(request(tmp_path, "strange error"))
    assert any("worker_stages.py" in note for note in caught.value.__notes__)


def test_what_progress_raises_ends_the_stage(workers: Workers, tmp_path: Path) -> None:
    class Enough(BaseException):
        pass

    def progress(done: int, total: int) -> None:
        raise Enough

    began_s = time.monotonic()
    with pytest.raises(Enough):
        workers.run(request(tmp_path, "endless", progress=progress))
    assert time.monotonic() - began_s < 30
    assert not list((tmp_path / "work").glob("*/manifest.json")), "nothing is kept of it"
    # The process lives on.
    assert workers.run(request(tmp_path, "nothing", 9)).state == "run"


@pytest.mark.parametrize("do", ["endless", "deaf"])
def test_a_stage_ends_when_its_time_is_up_whether_it_listens_or_not(
    do: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.workers.END_S", 1.0)
    with open_workers(1, 1) as own:
        own.run(request(tmp_path))  # Started, and its libraries loaded.
        began_s = time.monotonic()
        with pytest.raises(TimeLimitError, match="the time limit passed in the middle of stage work") as caught:
            own.run(request(tmp_path, do, until_s=began_s + 0.5))
        assert 0.5 <= time.monotonic() - began_s < 20
        assert not can_pass(caught.value), "trying again would take as long"
        assert own.run(request(tmp_path, number=1)).state == "run", "there is a process for what comes next"


def test_two_stages_at_a_time_in_one_process(workers: Workers, tmp_path: Path) -> None:
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    calls = [workers.submit(request(tmp_path, "together", number, meeting)) for number in range(2)]
    rows = [row(call.result(lambda done, total: None)) for call in calls]
    assert len({found["process"] for found in rows}) == 1


@pytest.mark.parametrize(("do", "words"), [("die", "was ended by signal 9"), ("exit", "ended with exit code 7")])
def test_a_lost_process_is_told_and_replaced(tmp_path: Path, do: str, words: str) -> None:
    with open_workers(1, 1) as own:
        with pytest.raises(WorkerLostError, match=f"a worker process {words} in the middle of a stage") as caught:
            own.run(request(tmp_path, do))
        assert can_pass(caught.value), "it is tried again"
        assert own.run(request(tmp_path)).state == "run"


def test_stages_beyond_the_room_wait(tmp_path: Path) -> None:
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    with open_workers(2, 2) as own:
        calls = [own.submit(request(tmp_path, "together", number, meeting)) for number in range(2)]
        third: list[StageOutcome] = []
        thread = threading.Thread(target=lambda: third.append(own.run(request(tmp_path, "nothing"))))
        thread.start()
        rows = [row(call.result(lambda done, total: None)) for call in calls]
        assert len({found["process"] for found in rows}) == 2, "each in a process of its own"
        thread.join(60)
        assert row(third[0])["process"] in {found["process"] for found in rows}, "and no third process"


def test_a_failing_block_ends_its_workers_at_once(tmp_path: Path) -> None:
    before = set(psutil.Process().children())
    with pytest.raises(ZeroDivisionError), open_workers(1, 1) as own:
        call = own.submit(request(tmp_path, "endless"))
        raise ZeroDivisionError
    with pytest.raises(WorkerLostError):
        call.result(lambda done, total: None)
    assert not [p for p in set(psutil.Process().children()) - before if "resource_tracker" not in " ".join(p.cmdline())]


def test_closed_workers_take_nothing_more(tmp_path: Path) -> None:
    with open_workers(1, 1) as own:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        own.submit(request(tmp_path))


def test_workers_end_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    code = f"""
        import os, signal, sys, threading, time
        from pathlib import Path
        from tasks.workers import Workers
        from tests.tasks.test_workers import request
        if __name__ == "__main__":
            own = Workers(1, 1)
            call = own.submit(request(Path({str(tmp_path)!r}), "endless"))
            time.sleep(0.1)
            print(own._workers[0].process._process.pid, flush=True)
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
        worker = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    worker.wait(30)


def test_stages_run_in_their_own_thread_unless_told_otherwise() -> None:
    assert module.performing.get() is module.run_stage
