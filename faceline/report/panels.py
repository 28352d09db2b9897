"""Where things lie on the paper of a plot: panels, their scales and ticks. Pure; `canvas` draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from faceline.report import series

WIDTH_IN = 11.0
"""Width of the paper."""

LEFT_IN, RIGHT_IN = 1.75, WIDTH_IN - 0.75
"""Where panels begin and end."""

TOP_MARGIN_IN, BOTTOM_MARGIN_IN = 0.5, 0.52

_GAP = 0.3
"""Between panels, in heights of a panel."""

_LEAST_RANGE = 1e-6
"""Values closer together than this share of their size are drawn as one: their labels would all be the same."""

_LARGE = 1e6
_MOST_DECIMALS = 6
"""Beyond these labels may have an exponent: there is no room for more digits."""


@dataclass(frozen=True)
class Tick:
    """A mark on a scale: at which value, with which words."""

    at: float
    words: str


@dataclass(frozen=True)
class Panel:
    """A rectangle of the paper with a scale along its width and one along its height.

    Attributes:
        left_in, right_in, bottom_in, top_in: its edges in inches, from the lower left corner of the paper.
        x: values at the left and the right edge.
        y: values at the bottom and the top edge; the first may be the larger.
    """

    left_in: float
    right_in: float
    bottom_in: float
    top_in: float
    x: tuple[float, float]
    y: tuple[float, float]

    @property
    def middle_in(self) -> float:
        """The height of its middle."""
        return (self.bottom_in + self.top_in) / 2

    def x_in(self, values: Any) -> Any:
        """Where values of the horizontal scale lie, in inches; what lies beyond the panel comes to its edge."""
        return np.clip(_along(values, self.x, self.left_in, self.right_in), self.left_in, self.right_in)

    def y_in(self, values: Any) -> Any:
        """Where values of the vertical scale lie, likewise."""
        return np.clip(_along(values, self.y, self.bottom_in, self.top_in), self.bottom_in, self.top_in)


def stacked(
    height_in: float, x: tuple[float, float], ys: Sequence[tuple[float, float]], bottom_in: float = BOTTOM_MARGIN_IN
) -> list[Panel]:
    """Panels one below the other that share their horizontal scale.

    Args:
        height_in: height of the paper.
        x: values at the left and the right edge of all panels.
        ys: values at the bottom and the top edge of each, from the top of the paper.
        bottom_in: what stays free below them.
    """
    each_in = (height_in - TOP_MARGIN_IN - bottom_in) / (len(ys) + _GAP * (len(ys) - 1))
    tops = [height_in - TOP_MARGIN_IN - row * each_in * (1 + _GAP) for row in range(len(ys))]
    return [Panel(LEFT_IN, RIGHT_IN, top - each_in, top, x, y) for top, y in zip(tops, ys, strict=True)]


def time_scale(span: tuple[float, float]) -> tuple[tuple[float, float], list[Tick]]:
    """A scale of time in the footage, with a little room at both ends, and its ticks."""
    start_s, end_s = span
    instants = series.time_ticks(start_s, end_s, most=12)
    step_s = instants[1] - instants[0] if len(instants) > 1 else math.inf
    pad_s = max((end_s - start_s) * 0.005, 1e-3)
    ticks = [Tick(instant, series.tick_label(instant, step_s)) for instant in instants]
    return (start_s - pad_s, end_s + pad_s), ticks


def value_scale(values: np.ndarray, most: int) -> tuple[tuple[float, float], list[Tick]]:
    """A scale that holds all values, with a little room at both ends, and its ticks.

    Args:
        values: finite, at least one.
        most: ticks that there is room for, at least 4; more only where these would be less than two.
    """
    low, high = float(values.min()), float(values.max())
    size = max(abs(low), abs(high), 1.0)
    pad = 0.05 * (high - low if high - low > _LEAST_RANGE * size else size)
    scale = (low - pad, high + pad)
    ticks = series.value_ticks(*scale, most)
    # One tick alone would tell no scale; with five steps there always are two.
    return scale, ticks_at(ticks if len(ticks) > 1 else series.value_ticks(*scale, most=6))


def ticks_at(values: Sequence[float]) -> list[Tick]:
    """Ticks that are labelled with their values, all with as many decimals as one of them needs."""
    # Compared with the steps between them: of large values the tenth digit is rounding.
    least = 1e-6 * min(np.diff(np.sort(values)), default=1.0)
    decimals = next((d for d in range(_MOST_DECIMALS) if all(abs(round(v, d) - v) <= least for v in values)), None)
    form = ".8g" if decimals is None or max(map(abs, values), default=0) >= _LARGE else f".{decimals}f"
    return [Tick(value, f"{value:{form}}".replace("-", "−")) for value in values]


def _along(values: Any, scale: tuple[float, float], first_in: float, last_in: float) -> Any:
    first, last = scale
    return first_in + (np.asarray(values, dtype=np.float64) - first) / (last - first) * (last_in - first_in)
