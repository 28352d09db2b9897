import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceline.anomaly.baseline import robust_z
from faceline.anomaly.events import EventParams, accepted, cut_events, prominent_peaks, suppress

PARAMS = EventParams(false_per_person=0.2)


def naive_peaks(score, threshold, valley):
    """Peaks by their definition: on the way to anything higher, the score must fall to `valley` × the peak."""
    peaks = []
    for i in range(len(score)):
        if score[i] < threshold:
            continue
        stands_out = True
        for step in (-1, 1):
            lowest, j = score[i], i + step
            while 0 <= j < len(score):
                lowest = min(lowest, score[j])
                if score[j] > score[i] or (score[j] == score[i] and j < i):
                    stands_out &= lowest <= valley * score[i]
                    break
                j += step
        if stands_out:
            peaks.append(i)
    return peaks


def naive_suppress(peaks, score, time_s, min_gap_s):
    kept = []
    left = list(peaks)
    while left:
        best = min(left, key=lambda p: (-score[p], p))
        kept.append(best)
        left = [p for p in left if p != best and abs(time_s[p] - time_s[best]) >= min_gap_s - 1e-6]
    return sorted(kept)


@st.composite
def footage(draw):
    """score, time_s, stretch of one person: noise, bursts, masked rows, gaps, cuts."""
    rng = np.random.default_rng(draw(st.integers(0, 100_000)))
    n = draw(st.integers(150, 500))
    time_s = np.cumsum(rng.choice([0.1, 0.1, 0.1, 0.1, 0.2], n)) + draw(st.sampled_from([0.0, 7.25]))
    stretch = np.zeros(n, dtype=np.int64)
    for _ in range(draw(st.integers(0, 2))):
        at = int(rng.integers(1, n))
        time_s[at:] += rng.choice([0.0, 5.0])
        stretch[at:] += 1
    score = np.convolve(rng.standard_normal(n + 4), np.ones(5) / 5, mode="valid")
    for _ in range(draw(st.integers(0, 5))):
        at = int(rng.integers(n))
        score[at : at + int(rng.integers(1, 12))] += rng.uniform(2, 6)
    score = robust_z(score)
    for _ in range(draw(st.integers(0, 4))):
        at = int(rng.integers(n))
        score[at : at + int(rng.integers(1, 20))] = np.nan
    return score, time_s, stretch


@settings(deadline=None, max_examples=300)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(1, 6), st.sampled_from([0.0, 0.5, 0.7, 0.99]))
def test_peaks_equal_the_obvious_search(values, threshold, valley):
    score = np.array(values, dtype=float)
    assert prominent_peaks(score, threshold, valley) == naive_peaks(score, threshold, valley)


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.3, 1.0]))
def test_suppression_equals_the_obvious_one(seed, min_gap_s):
    rng = np.random.default_rng(seed)
    time_s, score = np.cumsum(rng.choice([0.1, 0.4], 40)), rng.integers(0, 5, 40).astype(float)
    peaks = sorted(rng.choice(40, 12, replace=False).tolist())
    assert suppress(peaks, score, time_s, min_gap_s) == naive_suppress(peaks, score, time_s, min_gap_s)


@settings(deadline=None, max_examples=80)
@given(footage())
def test_events_are_well_formed(data):
    score, time_s, stretch = data
    cutting = cut_events(score, time_s, stretch, 0.1, PARAMS)
    events = cutting.events
    assert cutting.judged_s == pytest.approx(np.isfinite(score).sum() * 0.1)
    if np.isfinite(cutting.threshold):
        assert cutting.threshold >= PARAMS.min_score
        assert cutting.expected <= accepted(cutting.judged_s, PARAMS) * 1.001
    for event in events:
        assert 0 <= event.start <= event.peak <= event.end < len(score)
        rows = score[event.start : event.end + 1]
        assert np.isfinite([score[event.start], score[event.peak], score[event.end]]).all()
        assert event.score == score[event.peak] == np.nanmax(rows)
        assert event.score >= cutting.threshold
        assert 0 <= event.p_value <= event.expected <= cutting.expected + 1e-6
        assert stretch[event.start] == stretch[event.end]
        assert np.nanmin(rows) >= PARAMS.extent * event.score
        missing = np.diff(time_s[event.start : event.end + 1][np.isfinite(rows)])
        assert (missing <= PARAMS.min_gap_s + 1e-6).all()
    for one, two in itertools.pairwise(events):
        assert one.end < two.start
        assert time_s[two.peak] - time_s[one.peak] >= PARAMS.min_gap_s - 1e-6 or stretch[one.peak] != stretch[two.peak]


@settings(deadline=None, max_examples=30)
@given(footage(), st.floats(-1e4, 1e4))
def test_when_the_footage_starts_does_not_matter(data, shift_s):
    score, time_s, stretch = data
    here = cut_events(score, time_s, stretch, 0.1, PARAMS)
    there = cut_events(score, time_s + shift_s, stretch, 0.1, PARAMS)
    assert [(e.start, e.peak, e.end) for e in here.events] == [(e.start, e.peak, e.end) for e in there.events]


@settings(deadline=None, max_examples=30)
@given(footage(), st.floats(0.1, 1000.0))
def test_a_longer_break_between_stretches_does_not_matter(data, longer_s):
    score, time_s, stretch = data
    later = time_s + np.where(stretch > 0, longer_s, 0.0)
    here = cut_events(score, time_s, stretch, 0.1, PARAMS)
    there = cut_events(score, later, stretch, 0.1, PARAMS)
    assert [(e.start, e.peak, e.end) for e in here.events] == [(e.start, e.peak, e.end) for e in there.events]


def steps(n=900, seed=0):
    """A minute and a half of short-memory noise at 10 Hz."""
    rng = np.random.default_rng(seed)
    return np.convolve(rng.standard_normal(n + 4), np.ones(5) / np.sqrt(5), mode="valid"), np.arange(n) / 10


def cut(score, time_s, **params):
    return cut_events(score, time_s, np.zeros(len(score), dtype=np.int64), 0.1, EventParams(**params))


def test_finds_a_burst_where_it_is():
    score, time_s = steps()
    score[400:415] = 16 * np.sin(np.linspace(0.3, np.pi - 0.3, 15))
    (event,) = cut(score, time_s).events
    assert 400 <= event.start <= 404 <= event.peak <= 410 <= event.end <= 414
    assert event.p_value < 0.01


def test_one_spike_of_a_masked_face_is_no_event():
    score, time_s = steps()
    score[400] = np.nan
    assert cut(score, time_s).events == ()


def test_two_bursts_with_a_dip_are_two_and_without_are_one():
    score, time_s = steps()
    score[400:440] = 12.0
    score[405], score[435] = 14.0, 13.0
    assert len(cut(score, time_s).events) == 1
    score[418:422] = 5.0
    assert len(cut(score, time_s).events) == 2


def test_a_long_moment_that_wavers_about_the_threshold_is_one_event():
    score, time_s = steps()
    score[400:500] = 20.0 + 0.6 * np.sin(np.arange(100))
    found = cut(score, time_s, min_score=20.0)
    assert found.threshold == 20.0
    ((start, end),) = [(e.start, e.end) for e in found.events]
    assert start <= 400 and end >= 499


def test_short_events_are_dropped():
    score, time_s = steps()
    score[400] = 20.0
    assert len(cut(score, time_s, min_duration_s=0.1).events) == 1
    assert cut(score, time_s, min_duration_s=0.2).events == ()


def test_an_event_ends_at_a_cut():
    score, time_s = steps()
    score[395:410] = 12.0
    stretch = (np.arange(len(score)) >= 400).astype(np.int64)
    events = cut_events(score, time_s, stretch, 0.1, EventParams()).events
    assert all(e.end < 400 or e.start >= 400 for e in events) and len(events) >= 1


@pytest.mark.parametrize("score", [np.zeros(900), np.full(900, np.nan), np.zeros(0)])
def test_nothing_to_see_gives_nothing(score):
    cutting = cut(score, np.arange(len(score)) / 10)
    assert cutting.events == () and np.isnan(cutting.threshold) and np.isnan(cutting.expected)


def test_too_little_footage_says_so():
    score, time_s = steps(30)
    score[15] = 50.0
    cutting = cut(score, time_s)
    assert cutting.events == () and np.isnan(cutting.threshold)
    assert cutting.judged_s == pytest.approx(3.0)


def test_what_is_accepted_grows_with_the_footage_from_a_least_number():
    params = EventParams(false_per_hour=3.0, false_per_person=0.1)
    assert accepted(3600.0, params) == pytest.approx(3.0)
    assert accepted(7200.0, params) == pytest.approx(6.0)
    assert accepted(60.0, params) == accepted(120.0, params) == 0.1
    assert accepted(0.0, params) == 0.1


def test_only_judged_time_counts_for_what_is_accepted():
    score, time_s = steps(3600)
    whole = cut(score, time_s, false_per_hour=60.0, min_score=0.0)
    score[1800:] = np.nan
    half = cut(score, time_s, false_per_hour=60.0, min_score=0.0)
    assert (whole.judged_s, half.judged_s) == pytest.approx((360.0, 180.0))
    assert (whole.expected, half.expected) == pytest.approx((6.0, 3.0), rel=1e-3)


def test_who_accepts_more_false_events_gets_a_lower_threshold():
    score, time_s = steps()
    cuttings = [cut(score, time_s, false_per_person=number, min_score=0.0) for number in (0.1, 0.5, 2.0)]
    assert cuttings[0].threshold > cuttings[1].threshold > cuttings[2].threshold
    assert [c.expected for c in cuttings] == pytest.approx([0.1, 0.5, 2.0], rel=1e-3)


def test_a_least_score_above_the_threshold_leaves_fewer_false_events_than_accepted():
    score, time_s = steps()
    cutting = cut(score, time_s, false_per_person=2.0, min_score=20.0)
    assert cutting.threshold == 20.0 and 0 < cutting.expected < 0.01
