"""Which recordings there are, and what is true of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.anomalies import made, recordings
from benchmarks.anomalies.recordings import KINDS, NATURAL, Moment, Recording, all_recordings


@pytest.fixture
def clips(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder that passes for the real clips."""
    monkeypatch.setattr(recordings, "clips_folder", lambda: tmp_path)
    return tmp_path


def test_without_clips_there_is_made_footage_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(recordings, "clips_folder", lambda: None)
    found = all_recordings(tmp_path, KINDS, "all")
    assert {r.kind for r in found} == {"made", "quiet", "confounds"}
    assert len(found) == len(made.all_scripts())


def test_each_recording_is_there_once_and_of_its_kind(clips: Path, tmp_path: Path) -> None:
    found = all_recordings(tmp_path, KINDS, "all")
    assert {r.kind for r in found} == set(KINDS)
    assert len({r.name for r in found}) == len({r.video for r in found}) == len(found)
    assert {r.kind for r in all_recordings(tmp_path, ("quiet", "natural"), "all")} == {"quiet", "natural"}
    assert len(all_recordings(tmp_path, ("quiet",), "all", (0, 1))) == 2 * len(made.PERSONS)


def test_splits_share_no_real_person(clips: Path, tmp_path: Path) -> None:
    real = ("spliced", "controls", "natural")
    sides = {split: all_recordings(tmp_path, real, split) for split in ("tuning", "reporting")}
    assert not {r.unit for r in sides["tuning"]} & {r.unit for r in sides["reporting"]}
    assert sum(map(len, sides.values())) == len(all_recordings(tmp_path, real, "all"))
    tuning = {r.name: r for r in sides["tuning"]}
    assert tuning["natural_lp_d3"].unit == "frowner"
    assert "statesman_control_0" not in tuning
    reporting = {r.name: r for r in sides["reporting"]}
    assert reporting["selfie_events_0"].unit == "pouter"  # perhaps the same person
    assert reporting["natural_lp_d0"].unit == "lp_d0"  # of nobody in the table
    assert [r.name for r in all_recordings(tmp_path, ("quiet",), "tuning")] == [
        r.name for r in all_recordings(tmp_path, ("quiet",), "reporting")
    ]


def test_a_control_who_may_be_somebody_else_stays_on_their_side() -> None:
    lamp = next(s for s in recordings.SOURCES if s.person == "lamp")
    assert recordings.side_of(replace(lamp, perhaps="")) == "reporting"
    assert recordings.side_of(replace(lamp, perhaps="webcam")) == "tuning"
    assert recordings.side_of(replace(lamp, perhaps="pouter")) == "reporting"


def test_truth_of_made_footage_has_its_scripts_difficulty(tmp_path: Path) -> None:
    script = made.burst_script("talker", "subtle")
    one = Recording(script.name, "made", "any", "talker", tmp_path / "x.mp4", script)
    burst = {"person": 1, "kind": "smile", "strength": 0.5, "start_s": 3.0, "apex_s": 3.5, "end_s": 4.0}
    (tmp_path / "x.truth.json").write_text(json.dumps({"bursts": [burst], "confounds": []}))
    assert one.truth().events == (Moment(3.0, 4.0, "smile", "subtle"),)
    assert one.truth().confounds == ()


def test_truth_of_spliced_footage_has_difficulties_of_its_own(tmp_path: Path) -> None:
    one = Recording("x", "spliced", "tuning", "frowner", tmp_path / "x.mp4")
    events = [
        {"start_s": 1.0, "end_s": 2.0, "kind": "wink", "difficulty": "short"},
        {"start_s": 8.0, "end_s": 9.5, "kind": "frown", "difficulty": "strong"},
    ]
    (tmp_path / "x.truth.json").write_text(json.dumps({"events": events}))
    truth = one.truth()
    assert truth.difficulties == ("short", "strong")
    assert truth.spans("strong").tolist() == [[8.0, 9.5]]
    assert truth.spans().tolist() == [[1.0, 2.0], [8.0, 9.5]]
    assert truth.spans("subtle").shape == (0, 2)


def test_natural_clips_have_the_noted_moments(tmp_path: Path) -> None:
    for clip, moments in NATURAL.items():
        truth = Recording(clip, "natural", "tuning", "x", tmp_path / clip).truth()
        assert truth.spans("natural").tolist() == [[m.start_s, m.end_s] for m in moments]
        assert (np.diff(truth.spans().ravel()) > 0).all()


def test_stages_before_one_and_options_of_the_others() -> None:
    stages = recordings.stages_until("embed")
    assert [s.name for s in stages] == ["sample", "detect", "align", "embed"]
    given = ["sample.fps=5", "gridsearch=small", "gridsearch.events.false_per_hour=6", "anomaly=lof", "embedder=dlib"]
    assert recordings.known_options(given, stages) == ["sample.fps=5", "embedder=dlib"]
    whole = recordings.stages_until("gridsearch")
    assert recordings.known_options(given, whole) == given
    assert "report" not in {s.name for s in whole}
