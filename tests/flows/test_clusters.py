"""Stages on clusters as an operator uses them: a Dask cluster started apart, and those of a run on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import faceline.fingerprint
from faceline.errors import TimeLimitError
from flows.analyze import analyze
from flows.cli import main
from flows.config import load_config
from flows.console import Silent
from flows.execution import execution
from flows.job import prepare
from tasks.remote import ClusterError, remote
from tests.flows.conftest import Line
from tests.flows.test_flow import last_flow_run, task_runs
from tests.flows.travelling import ASKS, TRAVELLING

pytestmark = [pytest.mark.prefect, pytest.mark.long]

ROOT = Path(__file__).resolve().parents[2]
STARTED_S = 90.0


@pytest.fixture(scope="module")
def asks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder in which stages find what they are asked for; known to every process started from here."""
    folder = tmp_path_factory.mktemp("asks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ASKS, str(folder))
        yield folder


@pytest.fixture(scope="module")
def dask_address(asks: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A scheduler and two workers, each a process of its own, started as an operator would."""
    folder = tmp_path_factory.mktemp("dask")
    note = folder / "scheduler.json"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DASK_TEMPORARY_DIRECTORY": str(folder)}
    commands = [
        ["scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(note)],
        [
            *("worker", "--scheduler-file", str(note), "--nworkers", "2", "--nthreads", "1", "--memory-limit", "0"),
            *("--no-dashboard", "--host", "127.0.0.1", "--local-directory", str(folder)),
        ],
    ]
    with (folder / "log").open("wb") as log:
        processes = []
        try:
            for command in commands:
                process = subprocess.Popen(
                    [sys.executable, "-m", "dask", *command],
                    *(-1, None, None, log, log),
                    env=environment,
                    cwd=folder,
                    start_new_session=True,
                )
                processes.append(process)
                wait_for(note.exists, "the scheduler")
            yield str(json.loads(note.read_text())["address"])
        finally:
            for process in processes:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def wait_for(condition: Callable[[], bool], what: str) -> None:
    until_s = time.monotonic() + STARTED_S
    while not condition():
        assert time.monotonic() < until_s, f"waited in vain for {what}"
        time.sleep(0.05)


@pytest.fixture
def far_line(prefect_line: Line, asks: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    """The line with stages that travel."""
    from flows import analyze as verb
    from flows import archive, archive_plan, flow, flow_many, night, plan

    for module in (verb, archive, archive_plan, flow, flow_many, night, plan):
        monkeypatch.setattr(module, "STAGES", TRAVELLING)
    for where in ("tasks.runner", "faceline.nightly.recipe"):
        monkeypatch.setattr(f"{where}.code_digests", faceline.fingerprint.code_digests)
    monkeypatch.setenv(ASKS, str(asks))
    yield prefect_line
    for path in asks.iterdir():
        path.unlink()


def arguments(line: Line, *overrides: str, runner: str = "dask") -> list[str]:
    own = [argument for argument in line.arguments() if not argument.startswith("runner=")]
    return [*own, f"runner={runner}", "runner.retries=1", *overrides]


def computed(asks: Path) -> list[str]:
    path = asks / "computed"
    return [text.split()[0] for text in path.read_text().splitlines()] if path.exists() else []


def test_states_names_reasons_and_logs_are_those_of_any_run(
    far_line: Line, dask_address: str, asks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (asks / "detect.speak").touch()
    given = arguments(far_line, "sample.segment_s=10", f"runner.address={dask_address}")
    assert analyze(given) == 0
    run = last_flow_run("analyze")
    assert run.state.message == "1 events, 1 persons; 16 stages run, 0 cached"
    tasks = task_runs(run.id, 16)
    assert {task.state.name for task in tasks.values()} == {"Completed"}
    assert tasks["cluster"].state.message.startswith("first run")
    assert not tasks["cluster"].tags, "Prefect waits where tasks have some"
    before = {entry.id for entry in tasks["cluster"].task_inputs["wait_for"]}
    assert before == {tasks[f"{name} · segment {i}"].id for name in ("align", "embed") for i in (0, 1)}
    processes = {text.split()[1] for text in (asks / "computed").read_text().splitlines()}
    assert len(processes) == 2
    assert str(os.getpid()) not in processes
    logs = [path.read_text() for path in (far_line.folder / "artifacts" / "_logs").glob("*.log")]
    assert any("detect speaks" in text for text in logs)

    # One parameter further: what stays is shown as cached, with the reason.
    assert analyze([*given, "cluster.neighbours=9"]) == 0
    run = last_flow_run("analyze")
    tasks = task_runs(run.id, 16)
    assert tasks["detect · segment 1"].state.name == "Cached"
    assert tasks["cluster"].state.name == "Completed"
    assert "neighbours" in tasks["cluster"].state.message
    assert "runner" not in capsys.readouterr().err


def test_a_killed_worker_costs_the_stage_and_no_more(far_line: Line, dask_address: str, asks: Path) -> None:
    (asks / "align.die").touch()
    assert analyze(arguments(far_line, f"runner.address={dask_address}")) == 0
    assert computed(asks).count("align") == 2
    assert computed(asks).count("detect") == 1
    tasks = task_runs(last_flow_run("analyze").id, 11)
    assert {task.state.name for task in tasks.values()} == {"Completed"}


def test_what_can_pass_is_tried_again_and_what_cannot_is_one_line(
    far_line: Line, dask_address: str, asks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (asks / "sample.stumble").touch()
    (asks / "cluster.fail").touch()
    assert main(["analyze", *arguments(far_line, f"runner.address={dask_address}")]) == 1
    assert "faceline: cluster: the mesh is torn; mend it\n" in capsys.readouterr().err
    assert computed(asks).count("sample") == 2
    assert computed(asks).count("cluster") == 1
    run = last_flow_run("analyze")
    assert run.state.is_failed()
    (asks / "cluster.fail").unlink()
    assert analyze(arguments(far_line, f"runner.address={dask_address}")) == 0
    assert computed(asks).count("detect") == 1


def test_a_stage_of_other_code_is_refused_in_one_line(
    far_line: Line, dask_address: str, asks: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = {"tests.flows.travelling": "edited meanwhile"}
    monkeypatch.setattr("tasks.runner.code_digests", lambda stage: code)
    assert main(["analyze", *arguments(far_line, f"runner.address={dask_address}")]) == 1
    said = capsys.readouterr().err
    assert "its code of stage sample is not that of" in said
    assert "install the same faceline on all machines" in said
    assert computed(asks) == []


@pytest.mark.parametrize("manner", ["wait", "deaf"])
def test_time_that_has_run_out_ends_a_stage_whether_it_listens_or_not(
    far_line: Line, dask_address: str, asks: Path, manner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.flow import Ready, run_in_prefect
    from flows.walk import Walk

    (asks / f"detect.{manner}").touch()
    # The clock is set by the stage: how long a worker takes to get there is nothing to rely on.
    monkeypatch.setattr(Walk, "_is_late", property(lambda walk: "detect" in computed(asks)))
    config = load_config(arguments(far_line, f"runner.address={dask_address}"), TRAVELLING)
    job = replace(prepare(config, TRAVELLING), limit_s=5000.0)
    with execution(job), pytest.raises(TimeLimitError, match="it took longer than 5000 s"):
        run_in_prefect(Ready(job, Silent(), time.perf_counter()))
    task = task_runs(last_flow_run("analyze").id, 2)["detect · segment 0"]
    assert task.state.name == ("Failed" if manner == "wait" else "Crashed")
    assert "it took longer than 5000 s" in task.state.message


def test_an_interrupted_run_takes_its_stages_back(far_line: Line, dask_address: str, asks: Path) -> None:
    from flows.flow import Ready, run_in_prefect
    from flows.walk import Stopped

    ask = asks / "detect.wait"
    ask.touch()
    config = load_config(arguments(far_line, f"runner.address={dask_address}"), TRAVELLING)
    job = prepare(config, TRAVELLING)
    stopping = threading.Event()

    def stop() -> None:
        wait_for(lambda: "detect" in computed(asks), "detect")
        stopping.set()

    threading.Thread(target=stop, daemon=True).start()
    with execution(job), pytest.raises(Stopped):
        run_in_prefect(Ready(job, Silent(), time.perf_counter(), stopping=stopping))
    assert ask.exists(), "it was ended, it did not end by itself"
    task = task_runs(last_flow_run("analyze").id, 2)["detect · segment 0"]
    assert task.state.name == "Cancelled"
    assert remote.get() is None
    ask.unlink()
    assert analyze(arguments(far_line, f"runner.address={dask_address}")) == 0
    assert computed(asks).count("sample") == 1


def test_nobody_at_the_address_is_one_line_soon(far_line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began_s = time.monotonic()
    for runner, address in (("dask", f"tcp://127.0.0.1:{port}"), ("ray", f"ray://127.0.0.1:{port}")):
        given = arguments(far_line, f"runner.address={address}", "runner.wait_s=2", runner=runner)
        assert main(["analyze", *given]) == 1
        said = capsys.readouterr().err
        assert f"answers at {address} within 2 s" in said
        assert len(said.strip().splitlines()) == 1
    assert main(["analyze", *arguments(far_line, "runner.address=auto")]) == 1
    assert "set DASK_SCHEDULER_ADDRESS" in capsys.readouterr().err
    assert time.monotonic() - began_s < 60


def test_a_missing_extra_is_named(far_line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    job = prepare(load_config(arguments(far_line, runner="dask"), TRAVELLING), TRAVELLING)
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "tasks.remote_dask", raising=False)
    with pytest.raises(ClusterError, match=r"pip install 'faceline\[dask\]'"), execution(job):
        pass


def test_ray_on_this_machine(line: Line, asks: Path) -> None:
    """In a process of its own: Ray reads its settings when it is imported, once."""
    (asks / "detect.speak").touch()
    (asks / "align.die").touch()
    (asks / "embed.stumble").touch()
    given = arguments(line, "runtime.workers=2", "sample.segment_s=10", runner="ray")
    said = far(line, given)
    assert "16 stages run, 0 cached" in said
    assert "warning: detect speaks" in said
    # A worker was killed, and the one stage that it had was given to another.
    assert computed(asks).count("align") == 3
    assert computed(asks).count("embed") == 3
    assert computed(asks).count("detect") == 2
    processes = {int(text.split()[1]) for text in (asks / "computed").read_text().splitlines()}
    assert not [process for process in processes if Path(f"/proc/{process}").exists()]
    assert "16 stages run" not in far(line, given), "all of it is cached, and needs no cluster"


def far(line: Line, given: list[str]) -> str:
    """Run ``analyze`` with travelling stages in another process; what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("PREFECT_API_URL", None)
    ended = subprocess.run(
        [sys.executable, "-m", "tests.flows.travelling", *given],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    return ended.stdout
