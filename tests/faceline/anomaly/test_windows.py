import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceline.anomaly.windows import window_bounds, window_stats


def naive_stats(x, present, time_s, stretch, window_s, interval_s, min_coverage):
    """The same, one window and one feature at a time."""
    n, d = x.shape
    mean, deviation, speed = (np.full((n, d), np.nan) for _ in range(3))
    coverage = np.zeros(n)
    for i in range(n):
        rows = [
            j
            for j in range(n)
            if present[j] and stretch[j] == stretch[i] and abs(time_s[j] - time_s[i]) <= window_s / 2 + 1e-6
        ]
        coverage[i] = min(len(rows) * interval_s / window_s, 1.0)
        if not rows or coverage[i] < min_coverage - 1e-9:
            continue
        mean[i] = x[rows].mean(axis=0)
        deviation[i] = x[rows].std(axis=0)
        rates = [
            np.abs(x[b] - x[a]) / (time_s[b] - time_s[a])
            for a, b in itertools.pairwise(rows)
            if time_s[b] - time_s[a] > 1e-6
        ]
        speed[i] = np.mean(rates, axis=0) if rates else 0.0
    return mean, deviation, speed, coverage


@st.composite
def series(draw):
    n = draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    steps = rng.choice([0.04, 0.1, 0.1, 0.3, 2.0], n)
    time_s = np.cumsum(steps) + rng.uniform(0, 1000)
    stretch = np.cumsum(rng.random(n) < 0.1)
    present = rng.random(n) < draw(st.sampled_from([0.2, 0.8, 1.0]))
    x = rng.standard_normal((n, 3))
    x[~present] = np.nan
    return x, present, time_s, stretch


@settings(deadline=None, max_examples=60)
@given(series(), st.sampled_from([0.2, 0.5, 2.0, 8.0]), st.sampled_from([0.1, 0.4, 1.0]))
def test_equals_the_obvious_computation(data, window_s, min_coverage):
    x, present, time_s, stretch = data
    fast = window_stats(x, present, time_s, stretch, window_s=window_s, interval_s=0.1, min_coverage=min_coverage)
    slow = naive_stats(x, present, time_s, stretch, window_s, 0.1, min_coverage)
    for ours, theirs, tolerance in zip(
        (fast.mean, fast.deviation, fast.speed, fast.coverage), slow, (1e-9, 1e-6, 1e-9, 1e-12), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=tolerance)


@settings(deadline=None, max_examples=30)
@given(series(), st.floats(-1e5, 1e5))
def test_does_not_depend_on_when_the_footage_starts(data, shift_s):
    x, present, time_s, stretch = data
    options = {"window_s": 2.0, "interval_s": 0.1, "min_coverage": 0.1}
    here = window_stats(x, present, time_s, stretch, **options)
    there = window_stats(x, present, time_s + shift_s, stretch, **options)
    np.testing.assert_allclose(here.mean, there.mean, atol=1e-9)
    np.testing.assert_allclose(here.coverage, there.coverage)


def test_never_reaches_across_a_stretch():
    time_s = np.arange(10) / 10
    stretch = np.repeat([0, 1], 5)
    first, stop = window_bounds(time_s, stretch, 100.0)
    assert set(first[:5]) == {0} and set(stop[:5]) == {5}
    assert set(first[5:]) == {5} and set(stop[5:]) == {10}


def test_rows_on_the_edge_belong_to_the_window_whatever_the_rounding():
    time_s = 0.1 * np.arange(1000)  # 0.1 is not representable: differences of 1.0 come out on either side
    first, stop = window_bounds(time_s, np.zeros(1000, dtype=np.int64), 2.0)
    assert set((stop - first)[10:-10]) == {21}


def test_values_of_absent_rows_are_never_read():
    time_s, stretch = np.arange(20) / 10, np.zeros(20, dtype=np.int64)
    present = np.arange(20) % 2 == 0
    x = np.where(present[:, None], 1.0, 1e12)
    stats = window_stats(x, present, time_s, stretch, window_s=1.0, interval_s=0.2, min_coverage=0.4)
    np.testing.assert_allclose(stats.mean[np.isfinite(stats.mean)], 1.0)
    assert np.isfinite(stats.mean).any()


@pytest.mark.parametrize(("seen", "scored"), [(3, False), (4, True)])
def test_needs_its_share_of_the_window(seen, scored):
    time_s, stretch = np.arange(11) / 10, np.zeros(11, dtype=np.int64)
    present = np.arange(11) < seen  # the window of row 5 holds all eleven rows
    stats = window_stats(np.ones((11, 1)), present, time_s, stretch, window_s=1.0, interval_s=0.1, min_coverage=0.4)
    assert bool(np.isfinite(stats.mean[5, 0])) is scored
