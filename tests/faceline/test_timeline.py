"""Segments and timecodes."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceline.timeline import cut_into_segments, timecode

moments = st.fractions(min_value=-10, max_value=10_000, max_denominator=90_000)
lengths = st.fractions(min_value=Fraction(7), max_value=1000, max_denominator=1000)


@given(
    start_s=moments, duration_s=st.fractions(0, 3000, max_denominator=90_000), length_s=lengths, share=st.floats(0, 1)
)
def test_segments_tile_the_footage(start_s, duration_s, length_s, share):
    end_s = start_s + duration_s
    segments = cut_into_segments(start_s, end_s, length_s)
    assert [segment.index for segment in segments] == list(range(len(segments)))
    assert segments[0].start_s == start_s
    for before, after in pairwise(segments):
        assert before.end_s == after.start_s
    *others, last = segments
    assert end_s in last
    assert last.end_s - end_s <= Fraction(1, 1_000_000)
    assert {s.end_s - s.start_s for s in others} <= {end_s - last.start_s}, "all are equal"
    assert end_s - last.start_s <= length_s
    assert len(segments) == 1 or (len(segments) - 1) * length_s < duration_s, "fewer would do"
    moment = start_s + Fraction(share) * duration_s
    assert sum(moment in segment for segment in segments) == 1


def test_no_segment_is_a_sliver():
    thirds = cut_into_segments(Fraction(1), Fraction(611), Fraction(300))
    assert [s.start_s for s in thirds] == [1, 1 + Fraction(610, 3), 1 + Fraction(1220, 3)]
    assert len(cut_into_segments(Fraction(0), Fraction(600), Fraction(300))) == 2


def test_a_single_frame_is_a_segment():
    (only,) = cut_into_segments(Fraction(3, 2), Fraction(3, 2), Fraction(300))
    assert Fraction(3, 2) in only


@pytest.mark.parametrize(("start_s", "end_s", "length_s"), [(0, 10, 0), (0, 10, -1), (5, 4, 1)])
def test_nonsense_raises(start_s, end_s, length_s):
    with pytest.raises(ValueError, match=r"length_s|end_s"):
        cut_into_segments(Fraction(start_s), Fraction(end_s), Fraction(length_s))


@pytest.mark.parametrize(
    ("time_s", "text"),
    [
        (0, "00:00:00.000"),
        (83.4, "00:01:23.400"),
        (Fraction(1001, 30_000), "00:00:00.033"),
        (Fraction(1, 2000), "00:00:00.001"),
        (59.9996, "00:01:00.000"),
        (3599.9999, "01:00:00.000"),
        (360_000, "100:00:00.000"),
        (-1.5, "-00:00:01.500"),
        (-0.0001, "00:00:00.000"),
    ],
)
def test_timecode(time_s, text):
    assert timecode(time_s) == text


@given(ms=st.integers(0, 10**9))
def test_timecode_can_be_read_back(ms):
    hours, minutes, seconds = timecode(Fraction(ms, 1000)).split(":")
    assert (int(hours) * 3600 + int(minutes) * 60) * 1000 + int(seconds.replace(".", "")) == ms
