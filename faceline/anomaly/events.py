"""From a score series to events: onset, peak, offset, and how surprising each is.

The series is one person's: irregular in time, with gaps, and without a score wherever the face cannot be relied on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import Field

from faceline.anomaly.tail import Tail, block_maxima, fit_tail, memory_s
from faceline.stage import StageParams

ENOUGH_BLOCKS = 15
"""Blocks are made shorter than asked for where the footage would give fewer of them."""

SHORTEST_BLOCK_S = 0.5


class EventParams(StageParams):
    """How scores become events."""

    false_per_hour: float = Field(
        3.0,
        gt=0,
        description="false events that are accepted per hour in which a person's face can be judged: how many moments"
        " of usual footage may be reported",
    )
    false_per_person: float = Field(
        0.1,
        gt=0,
        description="the same for each person, where that is more: short footage would otherwise have to show the near"
        " impossible",
    )
    min_score: float = Field(
        3.5,
        ge=0,
        description="least robust z of a peak, however quiet the rest is (3.5: Iglewicz & Hoaglin 1993)",
    )
    max_events: int = Field(
        50,
        ge=0,
        description="at most so many events per person, the most unusual ones; as many that another cause explains"
        " stand beside them, and how many more there were is said",
    )
    min_duration_s: float = Field(0.1, ge=0, description="shorter events are dropped")
    min_gap_s: float = Field(
        1.0, ge=0, description="of two peaks closer than this the higher remains; scores missing no longer are bridged"
    )
    extent: float = Field(
        0.5, ge=0, le=1, description="an event reaches as far as the score stays above this share of its peak"
    )
    valley: float = Field(
        0.7, ge=0, lt=1, description="two peaks are two events when the score falls below this share of the lower one"
    )
    block_s: float = Field(
        1.5,
        gt=0,
        description="block length of the null distribution; raised to the memory of the score, less in short footage",
    )
    keep: float = Field(0.7, gt=0.1, le=1, description="share of the quietest blocks that define the null distribution")
    least_scale: float = Field(
        1.2,
        ge=0,
        description="least scale of the null distribution, in robust z: a person's quiet blocks can look calmer than"
        " the rest of the usual footage turns out to be (1.2: about the mean over persons)",
    )


@dataclass(frozen=True)
class Event:
    """One event, as positions in the series it was cut from: `start` ≤ `peak` ≤ `end`, all of scored rows.

    `expected` is the expected number of moments of the person's usual footage that score as high, `p_value` the
    probability of at least one (see `faceline.anomaly.tail`).
    """

    start: int
    peak: int
    end: int
    score: float
    p_value: float
    expected: float


@dataclass(frozen=True)
class Cutting:
    """Events in order of time.

    Attributes:
        events: the events.
        threshold: score that a peak had to reach; NaN when there is too little footage for one.
        expected: expected number of usual moments that reach the threshold: of false events. NaN as before.
        judged_s: seconds of footage with a score.
    """

    events: tuple[Event, ...]
    threshold: float
    expected: float
    judged_s: float


def cut_events(
    score: np.ndarray, time_s: np.ndarray, stretch: np.ndarray, interval_s: float, params: EventParams
) -> Cutting:
    """Cut one person's series into events.

    Args:
        score: float64 [n], NaN where there is none; a robust z, so that 0 is usual.
        time_s: float64 [n], ascending.
        stretch: int64 [n], ascending; no event reaches from one stretch into another.
        interval_s: sampling interval.
        params: see `EventParams`.

    Peaks at or above the threshold (the score whose expected number is `accepted`) that stand out from higher ones by
    a valley become events; each reaches to both sides while the score stays above `extent` of its peak, no further
    than the valley towards the next event. `max_events` is not applied here: which of them count is not known yet.
    """
    judged_s = float(np.isfinite(score).sum()) * interval_s
    number = accepted(judged_s, params)
    tail = null_distribution(score, time_s, stretch, interval_s, params, number)
    if tail is None:
        return Cutting((), float("nan"), float("nan"), judged_s)
    threshold = max(tail.level(number), params.min_score, 1e-9)
    known = np.flatnonzero(np.isfinite(score))
    bridge_s = max(params.min_gap_s, 2.5 * interval_s)
    spans: list[tuple[int, int, int]] = []
    for piece in _pieces(known, time_s, stretch, bridge_s):
        spans += _spans(score[piece], time_s[piece], threshold, params, piece)
    spans = [s for s in spans if time_s[s[2]] - time_s[s[0]] + interval_s >= params.min_duration_s - 1e-6]
    heights = score[[peak for _, peak, _ in spans]] if spans else np.zeros(0)
    events = [
        Event(a, b, c, float(height), float(p), float(number))
        for (a, b, c), height, p, number in zip(
            spans, heights, tail.p_value(heights), tail.expected(heights), strict=True
        )
    ]
    ordered = tuple(sorted(events, key=lambda e: e.peak))
    return Cutting(ordered, float(threshold), float(tail.expected(threshold)[0]), judged_s)


def accepted(judged_s: float, params: EventParams) -> float:
    """Expected number of false events that is accepted in so many seconds of judged footage."""
    return max(params.false_per_hour * judged_s / 3600.0, params.false_per_person)


def null_distribution(
    score: np.ndarray,
    time_s: np.ndarray,
    stretch: np.ndarray,
    interval_s: float,
    params: EventParams,
    number: float,
) -> Tail | None:
    """The person's null distribution; `None` when there are too few blocks or the series is flat."""
    known = np.isfinite(score)
    if not known.any() or np.ptp(score[known]) <= 1e-9:
        return None
    block_s = max(params.block_s, memory_s(score, time_s, interval_s))
    # Short footage: rather dependent blocks than none. On autocorrelated noise of 8 to 30 s this stays conservative.
    block_s = max(min(block_s, known.sum() * interval_s / ENOUGH_BLOCKS), SHORTEST_BLOCK_S)
    return fit_tail(
        block_maxima(score, time_s, stretch, block_s), keep=params.keep, number=number, least_scale=params.least_scale
    )


def _pieces(known: np.ndarray, time_s: np.ndarray, stretch: np.ndarray, bridge_s: float) -> list[np.ndarray]:
    """Scored rows, split wherever the stretch changes or scores are missing for longer than `bridge_s`."""
    if len(known) == 0:
        return []
    breaks = (np.diff(stretch[known]) != 0) | (np.diff(time_s[known]) > bridge_s + 1e-6)
    return list(np.split(known, np.flatnonzero(breaks) + 1))


def _spans(
    score: np.ndarray, time_s: np.ndarray, threshold: float, params: EventParams, rows: np.ndarray
) -> list[tuple[int, int, int]]:
    """(start, peak, end) of the events of one piece, as rows of the whole series."""
    peaks = suppress(prominent_peaks(score, threshold, params.valley), score, time_s, params.min_gap_s)
    spans = []
    for i, peak in enumerate(peaks):
        lowest = 0 if i == 0 else _valley(score, peaks[i - 1], peak) + 1
        highest = len(score) - 1 if i == len(peaks) - 1 else _valley(score, peak, peaks[i + 1])
        least = params.extent * score[peak]
        start = end = peak
        while start > lowest and score[start - 1] >= least:
            start -= 1
        while end < highest and score[end + 1] >= least:
            end += 1
        spans.append((int(rows[start]), int(rows[peak]), int(rows[end])))
    return spans


def prominent_peaks(score: np.ndarray, threshold: float, valley: float) -> list[int]:
    """Peaks ≥ `threshold` > 0 that stand out, ascending positions.

    A peak stands out when, on the way to any higher score, the series falls to at most `valley` × the peak's height.
    Rows are raised one by one in falling order of score, as islands by a sinking sea; when two islands meet, the lower
    peak is dropped unless the strait was deep enough (peak persistence; of equal peaks the earlier counts as higher).
    """
    order = np.argsort(-score, kind="stable")
    # No valley that parts peaks above the threshold is higher than this: the sea has to sink so far, and no further.
    order = order[score[order] > valley * threshold]
    top: dict[int, int] = {}  # root of an island → its peak
    parent: dict[int, int] = {}
    peaks: set[int] = set()

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for row in order:
        i = int(row)
        parent[i], top[i] = i, i
        islands = [root(j) for j in (i - 1, i + 1) if j in parent]
        if not islands:
            peaks.add(i)
        for island in islands:
            mine, other = root(i), island
            if mine == other:
                continue
            if top[mine] == i:  # the row itself extends the island
                parent[mine] = other
                continue
            lower, higher = sorted((mine, other), key=lambda r: (score[top[r]], -top[r]))
            if score[i] > valley * score[top[lower]]:
                peaks.discard(top[lower])
            parent[lower] = higher
    return sorted(peak for peak in peaks if score[peak] >= threshold)


def suppress(peaks: list[int], score: np.ndarray, time_s: np.ndarray, min_gap_s: float) -> list[int]:
    """Non-maximum suppression: from the highest down, peaks closer than `min_gap_s` to a kept one are dropped."""
    kept: list[int] = []
    for peak in sorted(peaks, key=lambda p: (-score[p], p)):
        if all(abs(time_s[peak] - time_s[k]) >= min_gap_s - 1e-6 for k in kept):
            kept.append(peak)
    return sorted(kept)


def _valley(score: np.ndarray, left: int, right: int) -> int:
    """Position of the (first) lowest score between two peaks; it belongs to the left event."""
    return left + int(np.argmin(score[left : right + 1]))
