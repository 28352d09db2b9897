import numpy as np
import pytest

from faceline.anomaly.blinks import blinks


def found(closed, *, share=0.3, n=100, fps=10.0, time_s=None, stretch=None, eyes=(0, 1)):
    """Rows of blinks when the given eyes are at `share` of their usual opening on rows `closed`."""
    openings = np.tile([0.3, 0.25], (n, 1)) + 0.005 * np.random.default_rng(0).standard_normal((n, 2))
    for eye in eyes:
        openings[closed, eye] = share * openings[closed, eye]
    time_s = np.arange(n) / fps if time_s is None else time_s
    stretch = np.zeros(n, dtype=np.int64) if stretch is None else stretch
    return list(np.flatnonzero(blinks(openings, time_s, stretch, 1 / fps)))


def test_open_eyes_do_not_blink():
    assert found([]) == []


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_both_eyes_closing_briefly_are_a_blink_with_the_lids_way(rows):
    assert found(range(50, 50 + rows)) == list(range(49, 50 + rows + 1))


@pytest.mark.parametrize("rows", [5, 30])
def test_eyes_shut_for_longer_are_no_blink(rows):
    assert found(range(50, 50 + rows)) == []


@pytest.mark.parametrize("eye", [0, 1])
def test_a_wink_is_no_blink(eye):
    assert found([50, 51], eyes=(eye,), share=0.0) == []


def test_narrowed_eyes_are_no_blink():
    assert found([50, 51], share=0.85) == []
    assert found([50, 51], share=0.6) == []


@pytest.mark.parametrize(("fps", "longest"), [(5.0, 2), (10.0, 4), (25.0, 10), (30.0, 12)])
def test_length_is_measured_in_time_not_in_rows(fps, longest):
    assert found(range(50, 50 + longest), fps=fps) != []
    assert found(range(50, 51 + longest), fps=fps) == []


def test_a_blink_ends_where_a_stretch_does():
    stretch = (np.arange(100) >= 50).astype(np.int64)
    assert found([49], stretch=stretch) == [48, 49]
    assert found([50], stretch=stretch) == [50, 51]
    # Eyes shut on both sides of a cut are two closings, each short enough.
    assert found(range(46, 54), stretch=stretch) == list(range(45, 55))
    assert found(range(46, 54)) == []


def test_a_gap_within_shut_eyes_makes_them_long():
    time_s = np.arange(100) / 10 + np.where(np.arange(100) >= 51, 0.6, 0.0)
    assert found([50, 51], time_s=time_s) == []


def test_unknown_eyes_do_not_blink():
    openings = np.full((100, 2), 0.3)
    openings[50], openings[70, 1] = np.nan, np.nan
    assert not blinks(openings, np.arange(100) / 10, np.zeros(100, dtype=np.int64), 0.1).any()
    assert not blinks(np.full((9, 2), np.nan), np.arange(9) / 10, np.zeros(9, dtype=np.int64), 0.1).any()
    assert len(blinks(np.zeros((0, 2)), np.zeros(0), np.zeros(0, dtype=np.int64), 0.1)) == 0


def test_a_wink_that_narrows_the_other_eye_is_no_blink_to_whom_shuts_both():
    openings = np.full((200, 2), 0.3)
    for row in (20, 60, 100, 140):
        openings[row] = 0.08, 0.07
    openings[180] = 0.05, 0.2  # the mean of both is below half, and so it is of a blink
    assert list(np.flatnonzero(blinks(openings, np.arange(200) / 10, np.zeros(200, dtype=np.int64), 0.1))) == [
        row + step for row in (20, 60, 100, 140) for step in (-1, 0, 1)
    ]
    # Whose blinks all look like that, by a turned head, blinks.
    openings[[20, 60, 100, 140]] = openings[180]
    found = blinks(openings, np.arange(200) / 10, np.zeros(200, dtype=np.int64), 0.1)
    assert list(np.flatnonzero(found)) == [row + step for row in (20, 60, 100, 140, 180) for step in (-1, 0, 1)]
