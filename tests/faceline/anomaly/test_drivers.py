import numpy as np
import pytest

from faceline.anomaly.drivers import departures, measure_words, top_features
from faceline.anomaly.events import Event
from faceline.anomaly.features import Block


def block(name, columns, x):
    return Block(name, columns, x, np.isfinite(x).all(axis=1), 0.1)


def measured(rows, event, *blocks):
    return departures(event, blocks, rows)


def test_measures_direction_and_size_near_the_peak(make_rows):
    rows = make_rows(np.arange(50) / 10)
    measures, emotions = np.zeros((50, 2)), np.zeros((50, 1))
    measures[20:30], emotions[20:30] = [5.2, -3.0], 3.1
    found = measured(
        rows,
        Event(20, 25, 29, 9.0, 0.001, 0.001),
        block("emotions", ("fear",), emotions),
        block("measures", ("mouth_opening", "jaw_drop"), measures),
    )
    assert found == pytest.approx({"fear": 3.1, "mouth_opening": 5.2, "jaw_drop": -3.0})


def test_looks_near_the_peak_only(make_rows):
    rows = make_rows(np.arange(100) / 10)
    x = np.zeros((100, 2))
    x[10:45, 0], x[45:60, 1] = 9.0, 4.0
    found = measured(rows, Event(10, 52, 59, 9.0, 0.001, 0.001), block("measures", ("early", "late"), x))
    assert found == {"early": 0.0, "late": 4.0}


def test_one_misread_face_explains_little(make_rows):
    rows = make_rows(np.arange(100) / 10)
    x = np.zeros((100, 2))
    x[50, 0], x[48:53, 1] = 9.0, 4.0
    found = measured(rows, Event(40, 50, 60, 9.0, 0.001, 0.001), block("measures", ("misread", "real"), x))
    assert found == pytest.approx({"misread": 3.0, "real": 4.0})


def test_a_short_flash_is_not_averaged_away(make_rows):
    rows = make_rows(np.arange(100) / 25)
    x = np.zeros((100, 1))
    x[49:52] = -8.0
    assert measured(rows, Event(30, 52, 70, 9.0, 0.001, 0.001), block("measures", ("a",), x)) == {"a": -8.0}


def test_masked_faces_explain_nothing(make_rows):
    rows = make_rows(np.arange(10) / 10)
    event = Event(2, 5, 8, 9.0, 0.001, 0.001)
    assert measured(rows, event, block("measures", ("a",), np.full((10, 1), np.nan))) == {}
    assert measured(rows, event) == {}


def test_tells_the_largest_in_words():
    found = {"fear": 3.1, "mouth_opening": 5.2, "jaw_drop": -4.0, "gaze_up": 0.2}
    words = {"mouth_opening": "mouth opening"}
    assert top_features(found, words) == "mouth opening +5.2, jaw drop -4.0, fear +3.1"
    assert top_features(found, words, count=9) == "mouth opening +5.2, jaw drop -4.0, fear +3.1"
    assert top_features({"gaze_up": 0.2, "fear": -0.1}, words) == "gaze up +0.2"
    assert top_features({}, words) == ""
    found = {"mouth_opening": 12.0, "jaw_drop": -12.0, "fear": -11.9}
    assert top_features(found, words) == "mouth opening ≥ +12, jaw drop ≤ -12, fear -11.9"


def test_every_measure_has_words():
    words = measure_words()
    assert words["mouth_opening"] == "mouth opening"
    assert len(set(words.values())) == len(words) and not any("," in w or "_" in w for w in words.values())
