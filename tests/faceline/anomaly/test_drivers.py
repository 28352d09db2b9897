import numpy as np

from faceline.anomaly.drivers import measure_words, top_features
from faceline.anomaly.events import Event
from faceline.anomaly.features import Block


def block(name, columns, x):
    return Block(name, columns, x, np.isfinite(x).all(axis=1), 0.1)


def test_names_what_departed_most_with_direction_and_size(make_rows):
    rows = make_rows(np.arange(50) / 10)
    measures, emotions = np.zeros((50, 3)), np.zeros((50, 2))
    measures[20:30] = [5.2, -0.4, -3.0]
    emotions[20:30] = [3.1, 0.9]
    blocks = [
        block("emotions", ("fear", "happy"), emotions),
        block("measures", ("mouth_opening", "gaze_up", "jaw_drop"), measures),
    ]
    words = {"mouth_opening": "mouth opening"}
    text = top_features(Event(20, 25, 29, 9.0, 0.001), blocks, rows, words, count=2)
    assert text == "mouth opening +5.2, fear +3.1"
    assert top_features(Event(20, 25, 29, 9.0, 0.001), blocks, rows, words, count=9).endswith("jaw drop -3.0")


def test_looks_near_the_peak_only(make_rows):
    rows = make_rows(np.arange(100) / 10)
    x = np.zeros((100, 2))
    x[10:45, 0], x[45:60, 1] = 9.0, 4.0
    text = top_features(Event(10, 52, 59, 9.0, 0.001), [block("measures", ("early", "late"), x)], rows, {})
    assert text == "late +4.0"


def test_masked_faces_explain_nothing(make_rows):
    rows = make_rows(np.arange(10) / 10)
    x = np.full((10, 1), np.nan)
    assert top_features(Event(2, 5, 8, 9.0, 0.001), [block("measures", ("a",), x)], rows, {}) == ""
    assert top_features(Event(2, 5, 8, 9.0, 0.001), [], rows, {}) == ""


def test_the_largest_is_named_however_small(make_rows):
    rows = make_rows(np.arange(10) / 10)
    x = np.tile([0.3, -0.2], (10, 1))
    assert top_features(Event(2, 5, 8, 9.0, 0.001), [block("measures", ("a", "b"), x)], rows, {}) == "a +0.3"


def test_every_measure_has_words():
    words = measure_words()
    assert words["mouth_opening"] == "mouth opening"
    assert len(set(words.values())) == len(words) and not any("," in w or "_" in w for w in words.values())
