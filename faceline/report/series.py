"""Time series for drawing: gaps, thinning that keeps extremes, robust scaling, ticks. Pure NumPy."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

GAP_STEPS = 2.5
"""Neighbouring samples farther apart than this many sampling steps are not joined by a line."""

BLINK_S = 0.5
"""Absences no longer than this do not interrupt a person's presence."""

_TIME_STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800)


def run_numbers(time_s: np.ndarray, ordinal: np.ndarray, step_s: float) -> np.ndarray:
    """Number the unbroken runs of a series: int64 [n], raised by one after each gap.

    A gap is a sampled frame without a value, or a hole in the footage itself.

    Args:
        time_s: float64 [n], ascending.
        ordinal: int64 [n], position of the point's frame among the sampled frames.
        step_s: the usual distance of sampled frames in seconds; 0 when it is not known.
    """
    if len(time_s) == 0:
        return np.zeros(0, dtype=np.int64)
    gap = np.diff(ordinal) > 1
    if step_s > 0:
        gap |= np.diff(time_s) > GAP_STEPS * step_s
    return np.concatenate([[0], np.cumsum(gap)]).astype(np.int64)


def thin(time_s: np.ndarray, values: np.ndarray, runs: np.ndarray, bins: int) -> np.ndarray:
    """Indices that draw the same picture with at most two points per bin and run: its lowest and its highest.

    Short series come back whole. The first and the last point of every run are kept, so that gaps keep their width.

    Args:
        time_s: float64 [n], ascending.
        values: float64 [n], finite.
        runs: int64 [n] from `run_numbers`.
        bins: number of equal stretches of time, usually the width in pixels.

    Returns:
        int64 indices, ascending.
    """
    count = len(time_s)
    if count <= 2 * bins:
        return np.arange(count)
    span_s = float(time_s[-1] - time_s[0]) or 1.0
    slot = np.minimum(((time_s - time_s[0]) / span_s * bins).astype(np.int64), bins - 1)
    # Rows are in time order, so that runs and slots both ascend and a group is a change in either of them.
    group = np.concatenate([[0], np.cumsum((np.diff(slot) != 0) | (np.diff(runs) != 0))])
    order = np.lexsort((values, group))
    first = np.flatnonzero(np.concatenate([[True], np.diff(group) != 0]))
    last = np.concatenate([first[1:], [count]]) - 1
    run_edge = np.flatnonzero(np.diff(runs) != 0)
    return np.unique(np.concatenate([order[first], order[last], run_edge, run_edge + 1, [0, count - 1]]))


def lines(
    time_s: np.ndarray, values: np.ndarray, ordinal: np.ndarray, step_s: float, bins: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The unbroken, thinned pieces of a series with missing values, as (time_s, value) pairs of arrays.

    A piece of one point has no neighbours: it must be drawn as a dot. Arguments as for `run_numbers`; ``bins`` as
    for `thin`. Of a series that is thinned, gaps narrower than a bin are closed: they could not be seen.
    """
    known = np.isfinite(values)
    time_s, values = time_s[known], values[known]
    runs = run_numbers(time_s, ordinal[known], step_s)
    if len(time_s) > 2 * bins:
        visible = np.diff(time_s) >= (time_s[-1] - time_s[0]) / bins
        runs = np.concatenate([[0], np.cumsum((np.diff(runs) != 0) & visible)])
    kept = thin(time_s, values, runs, bins)
    time_s, values, runs = time_s[kept], values[kept], runs[kept]
    edges = np.flatnonzero(np.diff(runs) != 0) + 1
    if len(time_s):
        yield from zip(np.split(time_s, edges), np.split(values, edges), strict=True)


def presence(time_s: np.ndarray, ordinal: np.ndarray, step_s: float) -> list[tuple[float, float]]:
    """Stretches (start_s, end_s) in which a person is seen; each sampled face stands for one sampling step.

    Absences up to `BLINK_S` are left out: a bar says who was there, not in which sample the face was missed.
    """
    if len(time_s) == 0:
        return []
    runs = run_numbers(time_s, ordinal, step_s)
    edges = np.flatnonzero((np.diff(runs) != 0) & (np.diff(time_s) > max(BLINK_S, step_s))) + 1
    return [(float(piece[0]) - step_s / 2, float(piece[-1]) + step_s / 2) for piece in np.split(time_s, edges)]


def robust_z(values: np.ndarray) -> np.ndarray:
    """Distance from the median in units of 1.4826 MAD (the standard deviation of a normal law); NaN stays NaN.

    A series that is constant for more than half of its points has no MAD: all NaN, since no scale can be stated.
    """
    known = values[np.isfinite(values)]
    if len(known) == 0:
        return np.full(len(values), np.nan)
    middle = np.median(known)
    scale = 1.4826 * np.median(np.abs(known - middle))
    if not scale > 0:
        return np.full(len(values), np.nan)
    return (values - middle) / scale


def time_ticks(start_s: float, end_s: float, most: int) -> list[float]:
    """Round instants in ``[start_s, end_s]``, at most ``most`` of them."""
    span_s = end_s - start_s
    step_s = next((step for step in _TIME_STEPS_S if span_s / step <= most - 1), None)
    if step_s is None:
        step_s = 86400.0 * math.ceil(span_s / 86400.0 / max(most - 1, 1))
    first = math.ceil(start_s / step_s - 1e-9)
    return [i * step_s for i in range(first, math.floor(end_s / step_s + 1e-9) + 1)]


def tick_label(time_s: float, step_s: float) -> str:
    """``mm:ss``, with hours when there are some and tenths when ticks are closer than a second."""
    tenths = round(abs(time_s) * 10)
    seconds, tenth = divmod(tenths, 10)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes:02d}:{seconds:02d}"
    if step_s < 1:
        text += f".{tenth}"
    return f"-{text}" if time_s < 0 and tenths else text


def value_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round values in ``[low, high]``, at most ``most`` of them."""
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return []
    magnitude = 10.0 ** math.floor(math.log10(span / most))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10, 20) if span / (m * magnitude) <= most - 1)
    return [round(i * step, 10) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
