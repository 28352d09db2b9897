"""Gaps, thinning, robust scaling and ticks of drawn series."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceline.report import series


def _naive_gaps(ordinal: list[int]) -> int:
    return sum(1 for a, b in pairwise(ordinal) if b - a > 1)


@settings(deadline=None)
@given(st.sets(st.integers(0, 60), min_size=1, max_size=60))
def test_a_line_breaks_at_every_sample_without_a_value(sampled: set[int]) -> None:
    ordinal = np.array(sorted(sampled))
    pieces = list(series.lines(ordinal * 0.1, np.ones(len(ordinal)), ordinal, 0.1, bins=1000))
    assert len(pieces) == _naive_gaps(list(ordinal)) + 1
    np.testing.assert_allclose(np.concatenate([p[0] for p in pieces]), ordinal * 0.1)


def test_a_hole_in_the_footage_breaks_the_line_though_no_sample_is_missing() -> None:
    time_s = np.array([0.0, 0.1, 0.2, 5.0, 5.1])
    runs = series.run_numbers(time_s, np.arange(5), 0.1)
    assert runs.tolist() == [0, 0, 0, 1, 1]


def test_jittered_sampling_is_no_gap() -> None:
    time_s = np.cumsum([0.08, 0.12, 0.08, 0.12, 0.16])
    assert series.run_numbers(time_s, np.arange(5), 0.08).max() == 0


def test_missing_values_break_the_line() -> None:
    values = np.array([1.0, 2.0, np.nan, 4.0, 5.0])
    pieces = list(series.lines(np.arange(5.0), values, np.arange(5), 1.0, bins=100))
    assert [piece[1].tolist() for piece in pieces] == [[1.0, 2.0], [4.0, 5.0]]


def test_nothing_known_gives_nothing() -> None:
    assert list(series.lines(np.arange(3.0), np.full(3, np.nan), np.arange(3), 1.0, bins=10)) == []
    assert list(series.lines(np.zeros(0), np.zeros(0), np.zeros(0, dtype=np.int64), 1.0, bins=10)) == []


@settings(deadline=None)
@given(st.integers(0, 2**31), st.integers(300, 3000), st.integers(5, 60))
def test_thinning_keeps_the_extremes_of_every_bin_and_stays_small(seed: int, count: int, bins: int) -> None:
    rng = np.random.default_rng(seed)
    time_s, values = np.arange(count) * 0.1, rng.normal(size=count)
    kept = series.thin(time_s, values, np.zeros(count, dtype=np.int64), bins)
    assert np.all(np.diff(kept) > 0)
    assert kept[0] == 0 and kept[-1] == count - 1
    if count > 2 * bins:
        assert len(kept) <= 2 * bins + 2
        edges = np.minimum((time_s / time_s[-1] * bins).astype(int), bins - 1)
        for slot in range(bins):
            inside = values[edges == slot]
            got = values[kept][edges[kept] == slot]
            assert got.max() == inside.max() and got.min() == inside.min()


def test_a_single_spike_survives_an_hour() -> None:
    values = np.zeros(36_000)
    values[17_123] = 9.0
    ordinal = np.arange(36_000)
    pieces = list(series.lines(ordinal * 0.1, values, ordinal, 0.1, bins=500))
    assert sum(len(piece[0]) for piece in pieces) <= 1002
    assert max(piece[1].max() for piece in pieces) == 9.0


def test_gaps_that_can_be_seen_survive_thinning_and_others_do_not_grow_the_drawing() -> None:
    ordinal = np.array([i for i in range(36_000) if i % 7 and not 10_000 <= i < 14_000])
    pieces = list(series.lines(ordinal * 0.1, np.ones(len(ordinal)), ordinal, 0.1, bins=400))
    assert len(pieces) == 2
    assert pieces[0][0][-1] == pytest.approx(999.9) and pieces[1][0][0] == pytest.approx(1400.1)


def test_presence_bridges_blinks_but_not_absences() -> None:
    ordinal = np.array([0, 1, 2, 5, 6, 20, 21])
    assert series.presence(ordinal * 0.1, ordinal, 0.1) == [
        (pytest.approx(-0.05), pytest.approx(0.65)),
        (pytest.approx(1.95), pytest.approx(2.15)),
    ]
    assert series.presence(np.zeros(0), np.zeros(0, dtype=np.int64), 0.1) == []


def test_robust_z_of_normal_values_has_unit_scale_and_keeps_missing() -> None:
    values = np.random.default_rng(0).normal(10, 3, 5001)
    values[7] = np.nan
    z = series.robust_z(values)
    assert np.isnan(z[7])
    assert np.nanmedian(z) == pytest.approx(0)
    assert np.nanstd(z) == pytest.approx(1, abs=0.05)


def test_robust_z_without_a_scale_is_missing() -> None:
    assert np.isnan(series.robust_z(np.array([1.0, 1.0, 1.0, 5.0]))).all()
    assert np.isnan(series.robust_z(np.full(3, np.nan))).all()


@settings(deadline=None)
@given(st.floats(-1e4, 1e5), st.floats(0.05, 2e5), st.integers(3, 15))
def test_time_ticks_are_few_and_inside(start_s: float, length_s: float, most: int) -> None:
    ticks = series.time_ticks(start_s, start_s + length_s, most)
    assert len(ticks) <= most
    assert all(start_s - 1e-3 <= tick <= start_s + length_s + 1e-3 for tick in ticks)


@pytest.mark.parametrize(
    ("time_s", "step_s", "label"),
    [
        (0, 10, "00:00"),
        (83, 1, "01:23"),
        (83.4, 0.2, "01:23.4"),
        (3600, 600, "1:00:00"),
        (-5, 1, "-00:05"),
        (0.0, 0.1, "00:00.0"),
    ],
)
def test_tick_labels(time_s: float, step_s: float, label: str) -> None:
    assert series.tick_label(time_s, step_s) == label


@settings(deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_value_ticks_are_few_round_and_inside(low: float, span: float) -> None:
    ticks = series.value_ticks(low, low + span)
    assert 1 <= len(ticks) <= 6
    assert all(low - 1e-6 * span <= tick <= low + span * (1 + 1e-6) for tick in ticks)


def test_value_ticks_of_nothing() -> None:
    assert series.value_ticks(1.0, 1.0) == []
    assert series.value_ticks(float("nan"), 1.0) == []
