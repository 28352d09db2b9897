"""Runs on a real Prefect server: states, names, artifacts, failures, retries, sub-flows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from faceline.errors import FacelineError, FootageError
from flows.analyze import analyze
from flows.archive import archive
from flows.cli import main
from flows.sweep import sweep
from tasks.workers import performing
from tests.flows.conftest import Line

pytestmark = pytest.mark.prefect


def client() -> Any:
    from prefect.client.orchestration import get_client

    return get_client(sync_client=True)


def last_flow_run(name: str) -> Any:
    from prefect.client.schemas.filters import FlowFilter, FlowFilterName
    from prefect.client.schemas.sorting import FlowRunSort

    with client() as api:
        runs = api.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[name])), sort=FlowRunSort.START_TIME_DESC, limit=1
        )
    return runs[0]


def task_runs(flow_run_id: UUID, expected: int) -> dict[str, Any]:
    """Task runs by name. Their states travel as events, so the last ones are waited for."""
    import time

    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    for _ in range(300):
        with client() as api:
            runs = api.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id])))
        if len(runs) >= expected and all(run.state is not None and run.state.is_final() for run in runs):
            break
        time.sleep(0.1)
    return {run.name: run for run in runs}


def artifacts(flow_run_id: UUID) -> dict[str, Any]:
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

    with client() as api:
        found = api.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]))
        )
    # Keys end in the footage's name and eight digits of a hash.
    return {str(artifact.key).rsplit("-", 2)[0]: artifact for artifact in found}


def test_a_run_shows_states_names_and_artifacts(prefect_line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = prefect_line.arguments("sample.segment_s=10")
    assert analyze(arguments) == 0
    assert "Time of top 1 anomaly" in capsys.readouterr().out

    run = last_flow_run("analyze")
    assert run.name == "clip"
    assert run.state.is_completed()
    assert run.state.message == "1 events, 1 persons; 16 stages run, 0 cached"
    tasks = task_runs(run.id, 16)
    assert {"sample · segment 0", "emote · segment 1", "cluster", "gridsearch", "report"} <= set(tasks)
    assert {task.state.name for task in tasks.values()} == {"Completed"}
    assert tasks["cluster"].state.message.startswith("first run")
    assert not any(task.tags for task in tasks.values()), "each would cost a question for a place"
    assert set(last_flow_run("analyze").tags) == {"1 person", "moments"}

    published = artifacts(run.id)
    assert set(published) == {"progress", "top-events", "leaderboard", "summary"}, "and no pickled results among them"
    assert float(published["progress"].data) == 100
    assert json.loads(published["top-events"].data)[0]["peak"] == "00:00:01.500"
    assert "a lead for a human" in published["summary"].data
    assert "### Person 1" in published["leaderboard"].data

    # What is changed downstream reruns; what lies before it is shown as a hit, with the reason.
    assert analyze([*arguments, "report.top_events=3"]) == 0
    run = last_flow_run("analyze")
    tasks = task_runs(run.id, 16)
    assert tasks["report"].state.name == "Completed"
    assert tasks["report"].state.message.startswith("params.top_events 10 → 3")
    assert tasks["detect · segment 1"].state.name == "Cached"
    assert tasks["detect · segment 1"].state.message == "unchanged"
    assert artifacts(run.id)["top-events"].key == published["top-events"].key, "versions of one artifact group"


def test_the_graph_has_the_edges_of_the_pipeline(prefect_line: Line) -> None:
    assert analyze(prefect_line.arguments()) == 0
    tasks = task_runs(last_flow_run("analyze").id, 11)
    before = {source.id for inputs in tasks["cluster"].task_inputs.values() for source in inputs}
    assert before == {tasks["align · segment 0"].id, tasks["embed · segment 0"].id}


def test_a_failing_stage_fails_the_run_in_one_line(prefect_line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    prefect_line.calls.errors["align"] = [FacelineError("the mesh is torn", where="clip.mp4", cure="mend it")]
    assert main(["analyze", *prefect_line.arguments()]) == 1
    printed = capsys.readouterr()
    assert printed.err == "faceline: clip.mp4: the mesh is torn; mend it\n"
    run = last_flow_run("analyze")
    assert run.state.is_failed()
    assert run.state.message == "clip.mp4: the mesh is torn; mend it"
    assert not (prefect_line.folder / "results" / "run.json").exists()
    logs = list((prefect_line.folder / "artifacts" / "_logs").glob("*.log"))
    assert any("Traceback" in path.read_text() for path in logs), "the traceback is in the log, and only there"

    # The next run goes on from what was finished.
    prefect_line.calls.names()
    assert main(["analyze", *prefect_line.arguments()]) == 0
    assert "detect" not in prefect_line.calls.names()


def test_an_unexpected_error_is_one_line_too(prefect_line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    prefect_line.calls.errors["cluster"] = [ZeroDivisionError("of all things")]
    assert main(["analyze", *prefect_line.arguments()]) == 1
    error = capsys.readouterr().err
    assert error.startswith("faceline: unexpected ZeroDivisionError: of all things; the traceback is in ")
    assert error.count("\n") == 1
    assert set(artifacts(last_flow_run("analyze").id)) <= {"progress"}, "Prefect pickled the error"


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (FootageError("changed"), 1),
        (ValueError("a mistake in the code"), 1),
        (FileNotFoundError(2, "gone"), 1),
        (OSError(28, "No space left on device"), 1),
        (OSError(5, "Input/output error"), 2),
        (ConnectionResetError("by peer"), 2),
    ],
)
def test_only_what_can_pass_is_tried_again(prefect_line: Line, error: Exception, tries: int) -> None:
    prefect_line.calls.errors["detect"] = [error]
    code = main(["analyze", *prefect_line.arguments()])
    assert prefect_line.calls.computed.count("detect") == tries
    assert code == (0 if tries > 1 else 1)


def test_segments_run_side_by_side_within_the_workers(prefect_line: Line) -> None:
    import threading

    from flows import walk

    busy, most, lock = 0, 0, threading.Lock()
    run_stage = walk.run_stage

    def counting(request: Any) -> Any:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        try:
            return run_stage(request)
        finally:
            with lock:
                busy -= 1

    token = performing.set(counting)
    prefect_line.calls.pause_s = 0.2
    assert analyze(prefect_line.arguments("sample.segment_s=5", "runtime.workers=3")) == 0
    performing.reset(token)
    assert most == 3


def test_a_damaged_artifact_is_computed_anew_within_the_run(prefect_line: Line) -> None:
    assert analyze(prefect_line.arguments()) == 0
    store = prefect_line.folder / "artifacts"
    payload = next((store / "cluster").glob("*/out.parquet"))
    payload.chmod(0o600)
    content = bytearray(payload.read_bytes())
    content[len(content) // 2] ^= 0xFF
    payload.write_bytes(content)
    prefect_line.calls.names()
    # Nothing but reading shows it: the sizes are right.
    assert analyze(prefect_line.arguments("anomaly.window_s=3")) == 0
    assert "cluster" in prefect_line.calls.names()
    assert any((store / "_damaged").iterdir())


def test_an_archive_sets_broken_files_aside(prefect_line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    home = prefect_line.folder / "archive"
    prefect_line.footage("archive/a", "one")
    prefect_line.footage("archive/deep/b", "two")
    prefect_line.footage("archive/c", "broken beyond repair")
    prefect_line.footage("archive/d", "one")
    arguments = prefect_line.arguments(footage=home)
    assert archive(arguments) == 3
    out = capsys.readouterr().out
    assert "c.mp4" in out
    assert "is no video" in out
    results = prefect_line.folder / "results"
    table = {row["file"]: row for row in json.loads((results / "archive.json").read_text())["rows"]}
    assert {name: row["state"] for name, row in table.items()} == {
        "a.mp4": "done",
        "c.mp4": "quarantined",
        "d.mp4": "done",
        "deep/b.mp4": "done",
    }
    assert (results / "deep" / "b" / "run.json").is_file()
    # The same content is analysed once, and listed under both names.
    assert prefect_line.calls.computed.count("detect") == prefect_line.calls.computed.count("report") == 2
    assert table["d.mp4"]["same_as"] == "a.mp4"
    run = last_flow_run("archive")
    assert run.state.message == "3 done, 1 quarantined"

    # Another night with nothing new: no stage, no server.
    prefect_line.calls.names()
    prefect_line.servers = 0
    assert archive(arguments) == 3
    assert prefect_line.calls.names() == []
    assert prefect_line.servers == 0


def test_an_archive_survives_a_stage_that_fails(prefect_line: Line) -> None:
    home = prefect_line.folder / "archive"
    prefect_line.footage("archive/a", "one")
    prefect_line.footage("archive/b", "two")
    prefect_line.calls.errors["detect"] = [ValueError("a mistake in the code")]
    assert archive(prefect_line.arguments(footage=home)) == 3
    rows = json.loads((prefect_line.folder / "results" / "archive.json").read_text())["rows"]
    assert [row["state"] for row in rows] == ["failed", "done"]
    assert rows[0]["reason"] == "unexpected ValueError: a mistake in the code"


def test_an_archive_of_broken_files_fails(prefect_line: Line) -> None:
    prefect_line.footage("archive/a", "broken")
    assert archive(prefect_line.arguments(footage=prefect_line.folder / "archive")) == 1


def test_a_sweep_shares_what_comes_before_the_trials(prefect_line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_leaderboard(monkeypatch)
    calls = prefect_line.calls
    axes = ["anomaly=iforest,lof", "anomaly.window_s=0.5,2,8"]
    assert sweep(prefect_line.arguments(*axes)) == 0
    assert calls.computed.count("trial") == 6
    assert calls.computed.count("detect") == calls.computed.count("gridsearch") == 1
    assert "report" not in calls.computed
    table = (prefect_line.folder / "results" / "sweep.csv").read_text().splitlines()
    assert len(table) == 7
    assert "anomaly=lof anomaly.window_s=8" in "\n".join(table)

    # Continued with one more value: only its trials are new.
    calls.names()
    assert sweep(prefect_line.arguments("anomaly=iforest,lof", "anomaly.window_s=0.5,2,8,16")) == 0
    assert calls.computed.count("trial") == 2
    assert "detect" not in calls.computed

    # A sweep before the trials: a combination each, with sub-flows of one parent.
    calls.names()
    assert sweep(prefect_line.arguments("sample.fps=5,10", *axes)) == 0
    assert calls.computed.count("detect") == 1, "at 10 frames per second everything was there"
    assert calls.computed.count("trial") == 6
    assert last_flow_run("sweep").state.message.startswith("12 rows")


def fake_leaderboard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fake stages make no table of trials; one row per trial stands for it."""
    from flows import sweep as module

    def rows(job: Any, outcomes: Any) -> list[Any]:
        names = ("person", "rank", "objective", "model", "features", "window_s", "scored", "state")
        return [
            module.Row(" ".join(job.config.overrides), " ".join(trial.overrides), dict.fromkeys(names, 1))
            for trial in job.config.trials
        ]

    monkeypatch.setattr(module, "leaderboard", rows)


def test_a_flow_can_be_run_from_its_parameters_alone(prefect_line: Line) -> None:
    """As a deployment does, without a command line that made the run ready."""
    from flows.flow import analyze as flow

    _, *overrides = prefect_line.arguments()
    finished: Any = flow(footage=str(prefect_line.footage()), overrides=overrides)
    assert finished.run["counts"]["events"] == 1
    assert Path(prefect_line.folder / "results" / "run.json").is_file()
