import numpy as np
import pyarrow as pa
import pytest

from faceline.anomaly.trial import PLANTED_SCHEMA, SCORES_SCHEMA
from faceline.anomaly.trialscores import TrialScores
from faceline.stage import MemoryInputs

# Four faces in two segments; faces are numbered anew in each segment, and the table is in no order.
SEGMENT, FACE = [1, 0, 1, 0], [0, 1, 1, 0]


def scored(trial, rows, values):
    return [
        {
            "trial": trial,
            "segment": SEGMENT[r],
            "face": FACE[r],
            "person": 1,
            "time_s": 0.0,
            "score": v,
            "score_reseeded": None if v is None else v + 10,
            "score_halved": None if v is None or r % 2 else v + 20,
        }
        for r, v in zip(rows, values, strict=True)
    ]


@pytest.fixture
def scores():
    table = scored("b", [3, 1, 0], [3.0, 1.0, 0.5]) + scored("a", [0, 1, 2], [7.0, None, 9.0])
    planted = [
        {"trial": "a", "person": person, "row": row, "planted": row == 4, "score": score}
        for person, row, score in [(1, 2, 1.0), (1, 4, 9.0), (1, 6, 2.0), (1, 7, 3.0), (2, 2, 5.0)]
    ]
    faces = pa.table({"segment": pa.array(SEGMENT, pa.int32()), "face": pa.array(FACE, pa.int64())})
    return TrialScores(
        MemoryInputs(
            {
                ("align", "faces"): faces,
                ("trial", "scores"): pa.Table.from_pylist(table, SCORES_SCHEMA),
                ("trial", "planted"): pa.Table.from_pylist(planted, PLANTED_SCHEMA),
            }
        )
    )


@pytest.fixture
def rows(make_rows):
    return make_rows(np.arange(4) / 10)


def test_scores_find_their_faces_whatever_the_order(scores, rows):
    nan = np.nan
    np.testing.assert_array_equal(scores.matrix(["a", "b"], rows), [[7, nan, 9, nan], [0.5, 1, nan, 3]])
    np.testing.assert_array_equal(scores.matrix(["b"], rows), [[0.5, 1, nan, 3]])


def test_variations_are_told_apart(scores, rows):
    nan = np.nan
    np.testing.assert_array_equal(scores.matrix(["a"], rows, "score_reseeded"), [[17, nan, 19, nan]])
    np.testing.assert_array_equal(scores.matrix(["b"], rows, "score_halved"), [[20.5, nan, nan, nan]])


def test_a_trial_that_was_not_run_has_no_scores(scores, rows):
    assert np.isnan(scores.matrix(["c"], rows)).all() and scores.planted("c", rows) is None
    assert scores.matrix([], rows).shape == (0, 4)


def test_planted_moments_are_the_persons_own_in_robust_units(scores, make_rows):
    found = scores.planted("a", make_rows(np.arange(4) / 10))
    assert list(found.row) == [2, 4, 6, 7] and list(found.truth) == [False, True, False, False]
    assert np.median(found.score) == pytest.approx(0) and np.argmax(found.score) == 1
    assert list(scores.planted("a", make_rows(np.arange(4) / 10, person=2)).row) == [2]
    assert scores.planted("a", make_rows(np.arange(4) / 10, person=3)) is None
    assert scores.planted("b", make_rows(np.arange(4) / 10)) is None
