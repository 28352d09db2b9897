"""Scores of all methods, and how they become reports."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.anomalies import methods
from benchmarks.anomalies.methods import kept, mean_of_ranks, pick
from faceline.anomaly.baseline import robust_z
from faceline.blendshapes import BLENDSHAPES, DEAD_BLENDSHAPES

NAN = np.nan


def test_prominent_peaks_leave_flanks_out_and_spaced_ones_do_not() -> None:
    time_s = np.arange(14) / 2
    one = np.array([0, 0, 5, 8, 9, 8, 7, 6, 0, 0, 4, 0, NAN, 3.0])
    stretch = np.zeros(14, dtype=int)
    at, height = pick(time_s, stretch, one)
    # 9 with its flanks is one report; 3 stands alone behind a gap but within 1.5 s of 4, which is allowed.
    assert at.tolist() == [2.0, 5.0, 6.5]
    assert height.tolist() == [9, 4, 3]
    at, height = pick(time_s, stretch, one, picker="spaced")
    assert height.tolist()[:3] == [9, 7, 5]
    assert (np.diff(np.sort(at)) >= 1).all()


def test_picking_keeps_to_distance_number_and_stretches() -> None:
    time_s = np.arange(8) / 4
    score = np.array([0, 6, 0, 5, 0, 0, 4, 0.0])
    whole = np.zeros(8, dtype=int)
    assert pick(time_s, whole, score)[0].tolist() == [0.25, 1.5]  # 5 is half a second from 6
    assert pick(time_s, whole, score, count=1)[0].tolist() == [0.25]
    assert pick(time_s, whole, score, spacing_s=0.5)[1].tolist() == [6, 5, 4]
    # Over a cut there is no flank: both sides of it are peaks, but too close to each other for two reports.
    rising = np.arange(8.0)
    cut = (np.arange(8) >= 2).astype(int)
    assert pick(time_s, cut, rising)[0].tolist() == [1.75, 0.25]
    # What never rises over the median is no report.
    assert len(pick(time_s, whole, -np.ones(8))[0]) == 0
    assert len(pick(time_s, whole, np.full(8, NAN))[0]) == 0


def test_mean_of_ranks_takes_those_that_are_there() -> None:
    a, b = np.array([1, 2, 3, NAN, NAN]), np.array([9, 5, NAN, 7, NAN])
    # Ranks of a: 0, ½, 1; of b: 1, 0, ½.
    assert mean_of_ranks([a, b]) == pytest.approx([0.5, 0.25, 1.0, 0.5, NAN], nan_ok=True)


def test_spaced_rows_are_the_highest_that_are_apart() -> None:
    time_s = np.arange(10) / 2
    score = np.array([1, 9, 8, 2, NAN, 3, 7, 7, 0, 5.0])
    at, height = pick(time_s, np.zeros(10, dtype=int), score, picker="spaced", count=3)
    assert at.tolist() == [0.5, 3.0, 4.5]  # of equal ones the earlier
    assert height.tolist() == [9, 7, 5]


def test_kept_scores_are_made_once_for_what_a_method_is_given(tmp_path: Path) -> None:
    made: list[str] = []

    def asked(name: str = "lof", *, time_s: np.ndarray, x: np.ndarray, stretch: np.ndarray) -> bool:
        """Whether it had to be made."""

        def make(time_s: np.ndarray, x: np.ndarray, stretch: np.ndarray) -> np.ndarray:
            made.append(name)
            return x.sum(axis=1)

        before = len(made)
        assert kept(tmp_path, name, make, (time_s, x, stretch)) == pytest.approx(x.sum(axis=1), nan_ok=True)
        return len(made) > before

    given = {"time_s": np.arange(3.0), "x": np.array([[1.0, 2], [NAN, 4], [5, 6]]), "stretch": np.array([0, 0, 1])}
    assert asked(**given)
    assert not asked(**given)
    assert not asked(**given | {"x": np.asfortranarray(given["x"])})  # the same numbers, however they lie
    assert asked("svm", **given)
    # Other features, masks or rows of the same artifacts: each is another input.
    assert asked(**given | {"x": given["x"] + 1e-9})
    assert asked(**given | {"x": np.where(np.arange(3)[:, None] == 2, NAN, given["x"])})
    assert asked(**given | {"x": given["x"][:, :1]})
    assert asked(**given | {"time_s": np.array([0, 1, 2.5])})
    assert asked(**given | {"stretch": np.array([0, 1, 1])})
    assert len(list(tmp_path.iterdir())) == 7


class Artifacts:
    """Tables by (stage, payload), as an analysis gives them."""

    def __init__(self, **tables: pa.Table | np.ndarray) -> None:
        self.tables = tables

    def table(self, stage: str, payload: str, columns: object = None) -> pa.Table:
        return self.tables[f"{stage}_{payload}"]

    def array(self, stage: str, payload: str) -> np.ndarray:
        return self.tables[f"{stage}_{payload}"]  # type: ignore[return-value]


def test_a_trials_scores_reach_the_rows_of_their_faces() -> None:
    n = 6
    align = pa.table({"segment": pa.array([0] * n, pa.int32()), "face": np.arange(n)})
    scores = pa.table(
        {
            "trial": ["a"] * 4 + ["b"] * 4 + ["a"],
            "person": [1] * 8 + [2],
            "segment": [0] * 9,
            "face": [4, 0, 2, 5, 0, 2, 4, 5, 1],
            "score": [9.0, 1.0, 2.0, 3.0, 1.0, None, 3.0, 4.0, 77.0],
        }
    )
    rows = SimpleNamespace(person=1, index=np.array([0, 2, 4, 5]), usable=np.array([True, True, True, False]))
    found = methods.trial_scores(Artifacts(align_faces=align, trial_scores=scores), rows)  # type: ignore[arg-type]
    assert found["a"] == pytest.approx(robust_z(np.array([1, 2, 9, NAN])), nan_ok=True)
    assert found["b"] == pytest.approx(robust_z(np.array([1, NAN, 3, NAN])), nan_ok=True)


def test_plain_methods_see_log_emotions_and_measures_of_usable_rows() -> None:
    n = 4
    emotions = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    table = pa.table(
        {
            "time_s": np.arange(n) / 10,
            **{name: pa.array([0.5, 0.0, 1.0, 0.25], pa.float32()) for name in emotions},
            "mouth_width": pa.array([1.0, 2.0, 3.0, 4.0], pa.float32()),
            "gaze_up": pa.array([None, None, 1.0, None], pa.float32()),
            "emotion_state": ["ok"] * n,
        }
    )
    rows = SimpleNamespace(index=np.arange(n), usable=np.array([True, True, True, False]))
    none = np.zeros((n, 0), np.float32)
    x = methods.expressions(Artifacts(emote_expressions=table, emote_blendshapes=none), rows)  # type: ignore[arg-type]
    assert x.shape == (4, 8)  # what most usable rows lack is out
    assert x[:3, 0] == pytest.approx(np.log([0.5, 0.01, 1.0]))
    assert x[:3, 7].tolist() == [1, 2, 3]
    assert np.isnan(x[3]).all()

    scores = np.tile(np.arange(len(BLENDSHAPES), dtype=np.float32), (n, 1))
    with_them = methods.expressions(Artifacts(emote_expressions=table, emote_blendshapes=scores), rows)  # type: ignore[arg-type]
    assert with_them.shape == (4, 8 + len(BLENDSHAPES) - len(DEAD_BLENDSHAPES))
    assert with_them[:3, :8].tolist() == x[:3].tolist()
    assert with_them[0, 8:].tolist() == [i for i, name in enumerate(BLENDSHAPES) if name not in DEAD_BLENDSHAPES]
    assert np.isnan(with_them[3]).all()
