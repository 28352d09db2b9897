"""The runner, over outcomes made by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks.anomalies import recordings, run
from benchmarks.anomalies.judging import Judged
from benchmarks.anomalies.methods import FACELINE
from benchmarks.anomalies.metrics import Reports
from benchmarks.anomalies.recordings import NATURAL, Moment, Recording, Truth
from benchmarks.anomalies.reported import ReportedEvent, natural_moments
from benchmarks.anomalies.working import Outcome, Task

TRUTHS = {
    "made": Truth((Moment(10, 12, "smile", "strong"), Moment(30, 32, "frown", "strong")), ()),
    "spliced": Truth((Moment(10, 12, "wink", "strong"), Moment(30, 31, "frown", "subtle")), ()),
    "confounds": Truth((), (Moment(10, 12, "turn"),)),
    "quiet": Truth((), ()),
    "controls": Truth((), ()),
}


def outcome_of(task: Task) -> Outcome:
    """As if every first event had been found, with a false alarm behind it."""
    recording = task.recording
    truth = TRUTHS[recording.kind] if recording.kind in TRUTHS else recording.truth()
    peaks, scores = np.array([10.5, 50.0]), np.array([9.0, 4.0])
    methods = {
        d: {name: Judged(Reports(truth.spans(d), peaks, scores, 100.0), 0.5) for name in (FACELINE, "chance")}
        for d in truth.difficulties or ("",)
    }
    events = [
        ReportedEvent(1, 10, 10.5, 11, 9.0, 0.01, "head turned", False, ("mouth_width",)),
        ReportedEvent(2, 30, 30.5, 31, 8.0, 0.01, "head turned", True, ("gaze_up",)),
    ]
    counts = {n.name: (1, 90.0) for n in task.calibration} if recording.kind in ("quiet", "controls") else {}
    natural = natural_moments(recording.name, truth.events, events, peaks) if recording.kind == "natural" else []
    return Outcome(
        recording, truth, 100.0, (50, 20), methods, {d: {"t": methods[d][FACELINE]} for d in methods}, events, counts,
        natural, {"run": 3},
    )  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Task]:
    """All tasks that the run asks for."""
    tasks: list[Task] = []

    def work_all(some: Sequence[Task], processes: int) -> Iterator[tuple[Task, Outcome | Exception]]:
        tasks.extend(some)
        for task in reversed(some):  # they may end in any order
            broken = task.recording.name == "talker_blur_0"
            yield task, ValueError("no picture") if broken else outcome_of(task)

    monkeypatch.setattr(run, "work_all", work_all)
    for module in (run, recordings):
        monkeypatch.setattr(module, "clips_folder", lambda: tmp_path)
    return tasks


def last(capsys: pytest.CaptureFixture[str]) -> tuple[str, dict]:
    out = capsys.readouterr().out
    return out, json.loads(out.splitlines()[-1])


def test_everything_is_in_the_tables_and_in_the_last_line(
    asked: list[Task], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main(["--draws", "20", "--ablations", "all trials,small space", "--fps", "native"]) == 1
    out, found = last(capsys)
    assert found["failed"] == ["talker_blur_0"] * 3  # under both ablations too
    assert list(found["groups"]) == ["made strong", "spliced strong", "spliced subtle", "natural"]
    one = found["groups"]["made strong"]
    assert one["controls"] == 4 and one["persons"] == one["control_persons"] == 4
    assert "of 4 persons, 4 controls of 4 persons" in out
    legend = " ".join(run.LEGEND.split())
    assert run.LEGEND in out and "4 behaviours of 2 portraits" in legend
    assert "fewer than about ten persons are too narrow" in legend
    assert one["methods"][FACELINE]["ap"][0] == 0.5
    assert one["differences"]["chance"]["ap"][0] == 0
    # Per made recording one of two events at the first place; both thresholds find half.
    assert one["methods"][FACELINE]["control_fa"][0] == pytest.approx(36)
    assert found["reported"]["spliced strong"]["recall"][0] == 1
    assert found["reported"]["spliced subtle"]["recall"][0] == 0
    assert found["reported"]["all quiet"]["recall"] is None
    assert found["reported"]["all quiet"]["false_alarms_per_hour"][0] == pytest.approx(36)
    # The one that failed is not among them; all are called "turn" here.
    assert found["confounds"]["turn"]["recordings"] == 13
    assert found["confounds"]["turn"]["share_right"] == 1
    assert (found["confounds"]["turn"]["taken"], found["confounds"]["turn"]["elsewhere"]) == (13, 0)
    assert found["recordings"]["calm_quiet_0"]["reported"] == found["recordings"]["calm_quiet_0"]["explained"] == 1
    assert found["drivers"]["smile"]["right"] == found["drivers"]["all"]["found"] == 16
    assert [c["events"] for c in found["calibration"] if c["footage"] == "quiet"] == [4] * 6
    assert found["calibration"][0]["persons"] == 4
    assert found["calibration"][0]["events_per_hour"] == [40, 40, 40]  # all alike
    assert found["reported"]["all made"]["persons"] == 4
    assert found["calibration"][1]["expected"] == pytest.approx(6 * 4 * 90 / 3600)
    assert len(found["natural"]) == sum(map(len, NATURAL.values()))
    assert found["ablations"]["made strong"]["differences"]["all trials"]["ap"][0] == 0
    assert "reported, small space" in found["ablations"]
    assert out.count("event AP") == 1 + 2 * (4 + 4)  # legend; figures and differences of groups and ablations
    mine = [t for t in asked if t.recording.name == "calm_quiet_0"]
    assert [t.overrides for t in mine] == [
        ("sample.fps=native",),
        ("sample.fps=native", "gridsearch.select=all"),
        ("sample.fps=native", "gridsearch=small"),
    ]
    assert [t.others for t in mine] == [True, False, False]


def test_a_part_can_be_asked_for(asked: list[Task], capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--kinds", "made,quiet", "--only", "calm", "--draws", "5", "gridsearch=small"]) == 0
    _, found = last(capsys)
    assert set(found["recordings"]) == {f"calm_{d}_0" for d in ("strong", "short", "subtle", "long", "quiet")}
    assert asked[0].overrides == ("sample.fps=native", "gridsearch=small")
    assert asked[0].ancestor == "kept"
    assert found["confounds"] == {} and found["natural"] == []


def test_without_clips_it_says_so_and_goes_on(
    asked: list[Task], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in (run, recordings):
        monkeypatch.setattr(module, "clips_folder", lambda: None)
    assert run.main(["--kinds", "quiet,spliced", "--draws", "5"]) == 0
    out, found = last(capsys)
    assert "real clips are not here" in out
    assert len(found["recordings"]) == 4


@pytest.mark.parametrize("wrong", [["--kinds", "painted"], ["--ablations", "everything"], ["--split", "both"]])
def test_misspelt_choices_are_refused(wrong: list[str]) -> None:
    with pytest.raises(SystemExit):
        run.arguments(wrong)


def test_nothing_to_do_is_said(asked: list[Task]) -> None:
    assert run.main(["--only", "nobody"]) == 2


def test_every_ablation_is_composed(tmp_path: Path) -> None:
    from benchmarks.anomalies.ablations import ABLATIONS
    from benchmarks.anomalies.recordings import stages_until
    from benchmarks.anomalies.reported import CALIBRATION
    from flows.config import load_config

    stages = stages_until("gridsearch")
    plain = load_config([], stages)
    for overrides in [*ABLATIONS.values(), *(n.overrides for n in CALIBRATION)]:
        config = load_config(list(overrides), stages)
        changed = [t.params for t in config.trials] != [t.params for t in plain.trials]
        assert changed or config.params != plain.params, overrides


def test_axes_of_ablations_take_the_place_of_the_spaces_own() -> None:
    from benchmarks.anomalies.ablations import ABLATIONS
    from benchmarks.anomalies.recordings import stages_until
    from flows.config import load_config

    def trials(name: str) -> list:
        return [t.params for t in load_config(list(ABLATIONS[name]), stages_until("gridsearch")).trials]

    assert {p.window_s for p in trials("long windows")} == {1, 2, 4}
    assert {p.window_s for p in trials("short windows")} == {0.25}
    assert {p.features for p in trials("movements alone")} == {"dynamics"}
    assert {p.features for p in trials("embeddings alone")} == {"embeddings"}
    assert {p.confound_free for p in trials("pose and light left in")} == {False}
    assert len({type(p.model) for p in trials("three models")}) <= 3 < len({str(p.model) for p in trials("all trials")})


def test_recordings_are_worked_on_here_or_elsewhere_and_failures_are_told(tmp_path: Path) -> None:
    from benchmarks.anomalies.working import work_all

    gone = Recording("gone", "natural", "tuning", "x", tmp_path / "lp_d0.mp4")
    for processes in (1, 2):
        ((task, outcome),) = work_all([Task(gone, tmp_path)], processes)
        assert task.recording is gone or task.recording == gone
        assert isinstance(outcome, Exception)
