import numpy as np
import pytest

from faceline.anomaly.confounds import CONFOUNDS, confound_flags
from faceline.anomaly.events import Event

EVENT = Event(100, 105, 110, 8.0, 0.01)


def usual(n=300):
    rng = np.random.default_rng(0)
    level = {"luma_mean": 120.0, "sharpness": 0.03, "eye_distance_px": 90.0}
    spread = {"luma_mean": 2.0, "sharpness": 0.001, "eye_distance_px": 1.0}
    return {name: level.get(name, 0.0) + spread.get(name, 2.0) * rng.standard_normal(n) for name in CONFOUNDS}


def test_nothing_changed_nothing_flagged():
    assert confound_flags(EVENT, usual()) == ""


@pytest.mark.parametrize(
    ("column", "change", "words"),
    [
        ("luma_mean", -60.0, "light changed"),
        ("yaw_deg", 40.0, "head turned"),
        ("roll_deg", -40.0, "head tilted"),
        ("sharpness", -0.025, "sharpness changed"),
        ("eye_distance_px", 40.0, "face size changed"),
    ],
)
def test_flags_the_cause_and_only_it(column, change, words):
    columns = usual()
    columns[column][95:115] += change
    assert confound_flags(EVENT, columns) == words
    assert confound_flags(Event(200, 205, 210, 8.0, 0.01), columns) == ""


def test_unknown_values_flag_nothing():
    assert confound_flags(EVENT, {name: np.full(300, np.nan) for name in CONFOUNDS}) == ""
