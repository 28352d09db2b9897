"""Panels, scales and ticks of the plots."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from faceline.report.panels import LEFT_IN, RIGHT_IN, Panel, stacked, ticks_at, time_scale, value_scale

PANEL = Panel(2.0, 10.0, 1.0, 3.0, (0.0, 4.0), (1.0, -1.0))


def test_values_come_to_their_place_and_no_farther_than_the_edge() -> None:
    assert PANEL.x_in([0, 1, 4, 9]).tolist() == [2, 4, 10, 10]
    assert PANEL.y_in([1, 0, -1, 2]).tolist() == [1, 2, 3, 1]
    assert np.isnan(PANEL.y_in(np.nan))


@pytest.mark.parametrize("count", [1, 2, 8])
def test_panels_fill_the_paper_from_the_top_without_touching(count: int) -> None:
    panels = stacked(6.0, (0.0, 1.0), [(0.0, float(n + 1)) for n in range(count)])
    assert panels[0].top_in == pytest.approx(5.5) and panels[-1].bottom_in == pytest.approx(0.52)
    assert [panel.y[1] for panel in panels] == list(range(1, count + 1))
    assert all((panel.left_in, panel.right_in) == (LEFT_IN, RIGHT_IN) for panel in panels)
    for upper, lower in itertools.pairwise(panels):
        assert upper.bottom_in - lower.top_in == pytest.approx(0.3 * (upper.top_in - upper.bottom_in))


def test_a_scale_holds_its_values_and_has_two_labels_that_differ() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        values = rng.normal(rng.normal(0, 50), 10 ** rng.uniform(-9, 12), rng.integers(1, 9))
        (low, high), ticks = value_scale(values, most=4)
        assert low < values.min() and values.max() < high
        assert 2 <= len(ticks) <= 6 and all(low <= tick.at <= high for tick in ticks)
        assert len({tick.words for tick in ticks}) == len(ticks)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([-2.5, 0.0, 2.5], ["−2.5", "0.0", "2.5"]),
        ([0.0, 10.0], ["0", "10"]),
        ([0.1, 0.15], ["0.10", "0.15"]),
        ([0.0, 5e9], ["0", "5e+09"]),
        ([], []),
    ],
)
def test_labels_are_short_alike_and_have_a_true_minus(values: list[float], words: list[str]) -> None:
    assert [tick.words for tick in ticks_at(values)] == words


def test_time_has_room_at_both_ends_also_where_it_has_no_length() -> None:
    (low, high), ticks = time_scale((0.0, 60.0))
    assert low < 0 and high > 60
    assert ticks[0].words == "00:00" and ticks[-1].words == "01:00"
    (low, high), _ = time_scale((5.0, 5.0))
    assert low < 5 < high
