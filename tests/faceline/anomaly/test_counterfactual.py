import numpy as np
import pytest

from faceline.anomaly.counterfactual import Rescorer
from faceline.anomaly.events import Event
from faceline.anomaly.features import build_blocks
from faceline.anomaly.rows import MaskParams, people_rows
from faceline.anomaly.trial import TrialParams

DEVIATION = TrialParams(model={"name": "deviation"})
EVENT = Event(296, 300, 304, 8.0, 0.001, 0.001)  # the mouth opens at 30 s


@pytest.fixture(scope="module")
def person(make_scene):
    inputs = make_scene().inputs
    rows = people_rows(inputs, MaskParams())[0]

    def blocks_of(trial):
        return build_blocks(inputs, rows, trial.features)

    return rows, blocks_of


@pytest.mark.parametrize(
    "trials",
    [
        [DEVIATION],
        [TrialParams(model={"name": "knn"}, window_s=0.5)],
        [DEVIATION, TrialParams(model={"name": "iforest", "n_estimators": 60}), TrialParams(model={"name": "lof"})],
    ],
)
def test_the_column_that_makes_the_event_loses_most_and_a_still_one_next_to_nothing(person, trials):
    rows, blocks_of = person
    columns = ["mouth_opening", "mouth_width", "jaw_drop", "surprise", "happy"]
    lost = Rescorer(trials, rows, blocks_of).score_lost(EVENT, columns)
    assert list(lost) == columns and all(0 <= share <= 1 for share in lost.values())
    assert max(lost, key=lost.get) == "mouth_opening" and lost["mouth_opening"] > 0.1
    assert lost["mouth_width"] < 0.1 and lost["jaw_drop"] < 0.1


def test_a_column_that_no_model_looks_at_is_unknown(person):
    lost = Rescorer([DEVIATION], *person).score_lost(EVENT, ["mouth_opening", "comp_1", "nose"])
    assert lost["mouth_opening"] > 0 and np.isnan([lost["comp_1"], lost["nose"]]).all()


def test_usual_rows_beside_the_event_are_left_as_they_were(person):
    """Only the event is rescored, and nothing of the person's blocks is changed by asking."""
    rows, blocks_of = person
    blocks = blocks_of(DEVIATION)
    before = [block.x.copy() for block in blocks]
    rescorer = Rescorer([DEVIATION], rows, lambda trial: blocks)
    one = rescorer.score_lost(EVENT, ["mouth_opening"])
    assert rescorer.score_lost(EVENT, ["mouth_opening"]) == one
    for block, x in zip(blocks, before, strict=True):
        np.testing.assert_array_equal(block.x, x)


def test_models_of_courses_and_trials_without_blocks_leave_it_unknown(person):
    rows, blocks_of = person
    courses = TrialParams(model={"name": "kmeansad"})
    for trials, blocks in (([courses], blocks_of), ([DEVIATION], lambda trial: []), ([], blocks_of)):
        assert np.isnan(Rescorer(trials, rows, blocks).score_lost(EVENT, ["mouth_opening"])["mouth_opening"])


def test_too_short_a_moment_in_masked_rows_is_unknown(make_scene):
    inputs = make_scene(hidden_s=[(29.0, 31.0)]).inputs
    rows = people_rows(inputs, MaskParams())[0]
    rescorer = Rescorer([DEVIATION], rows, lambda trial: build_blocks(inputs, rows, trial.features))
    assert np.isnan(rescorer.score_lost(EVENT, ["mouth_opening"])["mouth_opening"])
