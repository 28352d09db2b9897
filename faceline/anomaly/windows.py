"""Statistics over windows of time, centred on each row, that never reach across a cut or a gap.

Windows are measured in seconds of presentation time, not in rows, so that variable frame rates and missing faces
change nothing but how well a window is covered. Nothing missing is filled in: the statistics are taken over what is
there, and a window that holds too little of it has none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

EDGE_S = 1e-6
"""A row this close beyond a window's edge belongs to it, so that rounding of times cannot move rows in and out."""


@dataclass(frozen=True)
class WindowStats:
    """`mean`, `deviation`, `speed` float64 [n, d] (NaN where uncovered), `coverage` float64 [n] in 0..1.

    `deviation` and `speed` are empty, [n, 0], where they were not asked for.
    """

    mean: np.ndarray
    deviation: np.ndarray
    speed: np.ndarray
    coverage: np.ndarray


def window_stats(
    x: np.ndarray,
    present: np.ndarray,
    time_s: np.ndarray,
    stretch: np.ndarray,
    *,
    window_s: float,
    interval_s: float,
    min_coverage: float,
    movement: bool = True,
) -> WindowStats:
    """Mean, standard deviation and speed of each feature in the window around each row.

    Args:
        x: float64 [n, d]; values of rows that are not `present` are never read.
        present: bool [n].
        time_s: float64 [n], ascending.
        stretch: int64 [n], ascending; a window stays within the stretch of its row.
        window_s: length of the window; half of it lies on either side of the row.
        interval_s: time that one present row stands for (the spacing of this feature set's samples).
        min_coverage: the least share of the window that present rows must cover.
        movement: whether deviation and speed are wanted, which take most of the time.

    The deviation of a single row is 0; the speed is the mean of |Δx| / Δt over neighbouring present rows of the
    window (units per second), 0 where there is no pair.
    """
    values = np.where(present[:, None], x, 0.0)
    first, stop = window_bounds(time_s, stretch, window_s)
    count = _over(present.astype(np.float64)[:, None], first, stop)[:, 0]
    coverage = np.minimum(count * interval_s / window_s, 1.0)
    covered = ((coverage >= min_coverage - 1e-9) & (count > 0))[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = _over(values, first, stop) / count[:, None]
    deviation = speed = np.empty((len(x), 0))
    if movement:
        with np.errstate(invalid="ignore", divide="ignore"):
            variance = _over(values**2, first, stop) / count[:, None] - mean**2
        deviation = np.where(covered, np.sqrt(np.maximum(variance, 0.0)), np.nan)
        speed = np.where(covered, _speed(values, present, time_s, stretch, first, stop), np.nan)
    return WindowStats(np.where(covered, mean, np.nan), deviation, speed, coverage)


def window_bounds(time_s: np.ndarray, stretch: np.ndarray, window_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Half-open row ranges int64 [n], [n] of the windows, clipped to each row's stretch."""
    half = window_s / 2 + EDGE_S
    start = np.searchsorted(stretch, stretch, side="left")
    end = np.searchsorted(stretch, stretch, side="right")
    return (
        np.maximum(np.searchsorted(time_s, time_s - half, side="left"), start),
        np.minimum(np.searchsorted(time_s, time_s + half, side="right"), end),
    )


def _over(values: np.ndarray, first: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """Sums of values [n, d] over the half-open row ranges, by differences of running sums."""
    sums = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    return sums[stop] - sums[first]


def _speed(
    values: np.ndarray,
    present: np.ndarray,
    time_s: np.ndarray,
    stretch: np.ndarray,
    first: np.ndarray,
    stop: np.ndarray,
) -> np.ndarray:
    rows = np.flatnonzero(present)
    if len(rows) < 2:
        return np.zeros_like(values)
    step = np.diff(time_s[rows])
    joined = (np.diff(stretch[rows]) == 0) & (step > EDGE_S)
    rate = np.abs(np.diff(values[rows], axis=0)) / np.where(joined, step, 1.0)[:, None]
    # Pair k joins present rows k and k + 1: it lies in a window when both of them do.
    pair_first = np.minimum(np.searchsorted(rows, first, side="left"), len(rate))
    pair_stop = np.maximum(np.searchsorted(rows, stop, side="left") - 1, pair_first)
    total = _over(np.where(joined[:, None], rate, 0.0), pair_first, pair_stop)
    pairs = _over(joined.astype(np.float64)[:, None], pair_first, pair_stop)
    return total / np.maximum(pairs, 1.0)
