"""How well reported events, or scores of rows, agree with the truth. Pure NumPy.

An *event* counts as found when a report's peak lies inside it, widened by a tolerance at both ends; every true event
counts once, and a second report on it is a false alarm (the rule of event-based evaluation in sound event detection:
Mesaros, Heittola & Virtanen, "Metrics for Polyphonic Sound Event Detection", Applied Sciences 6(6), 2016). Which
report is taken for which event is decided by maximum matching, so that no count depends on an order of assignment: the
hits at a threshold are the largest number of reports at or above it that can be given different events.

Equal scores are never put into an order: curves have one point per distinct score.

Point-adjusted F1 is left out on purpose: it rewards random scores (Kim et al., "Towards a Rigorous Evaluation of
Time-Series Anomaly Detection", AAAI 2022).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

TOLERANCE_S = 0.5
"""A peak this far outside a true event still counts: scores are smoothed over windows of about that length."""

FALSE_ALARMS_PER_HOUR = 6.0
"""One per ten minutes."""

T = TypeVar("T")


@dataclass(frozen=True)
class Reports:
    """What was reported on one recording of one person, and what is true of it.

    Attributes:
        true_s: float64 [m, 2], start and end of each true event in seconds; m may be 0 (a control).
        peak_s: float64 [n], peak of each reported event in seconds.
        score: float64 [n], finite, higher = more unusual; comparable among recordings that are judged together.
        duration_s: length of the recording, over which false alarms are counted.
    """

    true_s: np.ndarray
    peak_s: np.ndarray
    score: np.ndarray
    duration_s: float
    _hits: dict[float, np.ndarray] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        true_s = np.asarray(self.true_s, dtype=np.float64).reshape(-1, 2)
        peak_s = np.asarray(self.peak_s, dtype=np.float64).ravel()
        score = np.asarray(self.score, dtype=np.float64).ravel()
        if len(peak_s) != len(score) or not np.isfinite(score).all() or not np.isfinite(peak_s).all():
            raise ValueError("every report needs one finite peak and one finite score")
        if (true_s[:, 1] < true_s[:, 0]).any() or not np.isfinite(true_s).all():
            raise ValueError("a true event needs a finite start and an end that is not before it")
        if not self.duration_s > 0:
            raise ValueError(f"a recording lasts some seconds, got {self.duration_s}")
        for name, value in (("true_s", true_s), ("peak_s", peak_s), ("score", score)):
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class Curve:
    """Counts at each distinct score, from the highest down.

    Attributes:
        threshold: float64 [k], descending.
        reports: int64 [k], reports with at least this score.
        hits: int64 [k], true events found by them.
        events: true events in all.
        hours: length of all recordings.
    """

    threshold: np.ndarray
    reports: np.ndarray
    hits: np.ndarray
    events: int
    hours: float

    @property
    def precision(self) -> np.ndarray:
        """float64 [k]: hits per report."""
        return self.hits / self.reports

    @property
    def recall(self) -> np.ndarray:
        """float64 [k]: hits per true event; NaN when there is none."""
        return self.hits / self.events if self.events else np.full(len(self.hits), np.nan)

    @property
    def false_alarms_per_hour(self) -> np.ndarray:
        """float64 [k]."""
        return (self.reports - self.hits) / self.hours


def matching(true_s: np.ndarray, peak_s: np.ndarray, score: np.ndarray, tolerance_s: float = TOLERANCE_S) -> np.ndarray:
    """The event that each report finds, int64 [n]; −1 where it finds none. No two reports find the same one.

    Reports are added from the highest score down, among equal ones the earlier peak first, and each that can be given
    an event of its own is, if need be by giving earlier ones others. Among the events a report may be given, nearer
    ones are tried first; no number of hits depends on that.

    Args:
        true_s: float64 [m, 2], start and end of each true event.
        peak_s: float64 [n], peak of each report.
        score: float64 [n].
        tolerance_s: how far outside of an event a peak may lie.
    """
    order = np.lexsort((peak_s, -score))
    start, end = true_s[:, 0], true_s[:, 1]
    owner = np.full(len(start), -1)

    def place(report: int, tried: set[int]) -> bool:
        """Give the report an event, moving earlier reports to other events where that makes room (Kuhn 1955)."""
        peak = peak_s[report]
        apart = np.maximum(np.maximum(start - peak, peak - end), 0.0)
        near = np.flatnonzero((start - tolerance_s <= peak) & (peak <= end + tolerance_s))
        for event in near[np.argsort(apart[near], kind="stable")].tolist():
            if event in tried:
                continue
            tried.add(event)
            if owner[event] < 0 or place(int(owner[event]), tried):
                owner[event] = report
                return True
        return False

    for report in order.tolist():
        place(report, set())
    found = np.full(len(order), -1)
    found[owner[owner >= 0]] = np.flatnonzero(owner >= 0)
    return found


def new_hits(recording: Reports, tolerance_s: float = TOLERANCE_S) -> np.ndarray:
    """Which reports raise the number of found events when they are added from the highest score down, bool [n].

    Among equal scores the earlier peak is added first; their number of hits together does not depend on that.
    """
    # A bootstrap asks for the same recording thousands of times.
    if tolerance_s not in recording._hits:
        found = matching(recording.true_s, recording.peak_s, recording.score, tolerance_s)
        recording._hits[tolerance_s] = found >= 0
    return recording._hits[tolerance_s]


def curve(recordings: Sequence[Reports], tolerance_s: float = TOLERANCE_S) -> Curve:
    """Counts over all recordings together, by one common threshold."""
    if not recordings:
        raise ValueError("no recordings")
    score = np.concatenate([r.score for r in recordings])
    hit = np.concatenate([new_hits(r, tolerance_s) for r in recordings])
    order = np.argsort(-score, kind="stable")
    score, hit = score[order], hit[order]
    last = np.flatnonzero(np.append(np.diff(score) != 0, True)) if len(score) else np.zeros(0, dtype=np.int64)
    return Curve(
        threshold=score[last],
        reports=last + 1,
        hits=np.cumsum(hit)[last].astype(np.int64),
        events=sum(len(r.true_s) for r in recordings),
        hours=sum(r.duration_s for r in recordings) / 3600,
    )


def event_average_precision(recordings: Sequence[Reports], tolerance_s: float = TOLERANCE_S) -> float:
    """Area under the event precision-recall steps: Σ (R_k − R_{k−1}) P_k over falling thresholds, 0..1.

    The sum of scikit-learn's ``average_precision_score`` without interpolation, over events; events that no report
    reaches add nothing, so that 1 means: all found before the first false alarm. NaN when there is no true event.
    """
    c = curve(recordings, tolerance_s)
    if c.events == 0:
        return float("nan")
    return float(np.sum(np.diff(np.concatenate([[0.0], c.recall])) * c.precision))


def precision_at(recordings: Sequence[Reports], n: int, tolerance_s: float = TOLERANCE_S) -> float:
    """Event precision@N: hits among the `n` highest scores, per `n`, 0..1.

    Divided by `n` even when fewer were reported, as in trec_eval's P_k: what is not reported is not found. Where equal
    scores straddle the n-th place, their hits count in proportion (the mean over all orders of them).
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    c = curve(recordings, tolerance_s)
    reports = np.concatenate([[0], c.reports])
    return float(np.interp(n, reports, np.concatenate([[0], c.hits])) / n)


def recall_at_false_alarms(
    recordings: Sequence[Reports], per_hour: float = FALSE_ALARMS_PER_HOUR, tolerance_s: float = TOLERANCE_S
) -> float:
    """Largest event recall of any threshold with at most `per_hour` false alarms, 0..1; NaN without true events."""
    c = curve(recordings, tolerance_s)
    if c.events == 0:
        return float("nan")
    allowed = c.false_alarms_per_hour <= per_hour + 1e-9
    return float(np.max(c.recall[allowed], initial=0.0))


def false_alarms_per_hour(
    recordings: Sequence[Reports], threshold: float = -np.inf, tolerance_s: float = TOLERANCE_S
) -> float:
    """Reports with at least `threshold` that found no further event, per hour of recording."""
    c = curve(recordings, tolerance_s)
    reached = c.threshold >= threshold
    return float(c.false_alarms_per_hour[reached][-1]) if reached.any() else 0.0


def event_recall(recordings: Sequence[Reports], threshold: float = -np.inf, tolerance_s: float = TOLERANCE_S) -> float:
    """Share of true events found by reports with at least `threshold`, 0..1; NaN without true events."""
    c = curve(recordings, tolerance_s)
    if c.events == 0:
        return float("nan")
    reached = c.threshold >= threshold
    return float(c.recall[reached][-1]) if reached.any() else 0.0


def vus_pr(time_s: np.ndarray, score: np.ndarray, true_s: np.ndarray, buffer_s: float = 1.0, steps: int = 11) -> float:
    """Volume under the precision-recall surface of row scores, for buffers from 0 to `buffer_s`, 0..1.

    Paparrizos et al., "Volume Under the Surface: A New Accuracy Evaluation Measure for Time-Series Anomaly Detection",
    PVLDB 15(11), 2022. For each of `steps` evenly spaced buffers ℓ the rows get soft labels: 1 inside a true event,
    √(1 − d/ℓ) at a distance d ≤ ℓ/2 from it, sums limited to 1. With S the rows at or above a threshold, TP = Σ labels
    over S, precision = TP / |S|, and recall = min(TP / P_ℓ, 1) × (share of buffered events that S touches), where P_ℓ
    is the mean of the sums of hard and soft labels. R-AUC-PR is Σ (R_k − R_{k−1}) P_k; its mean over the buffers is
    the volume.

    This variant differs from the authors' code in four points, none of which matters on evenly sampled series without
    gaps: distances are seconds, not rows; every distinct score is a threshold, not 250 quantiles; P_ℓ is the paper's
    and does not depend on the threshold; buffered events that overlap stay separate events. The largest buffer is a
    fixed 1 s rather than the series' period, which a face does not have.

    Args:
        time_s: float64 [n], ascending.
        score: float64 [n], higher = more unusual; NaN where there is none: such a row is never reported, but counts
            in P_ℓ, so that leaving hard rows out does not pay.
        true_s: float64 [m, 2], start and end of each true event.
        buffer_s: the largest buffer.
        steps: number of buffers; 1 means the largest alone.

    Returns:
        NaN when no row lies in a true event or no row is scored.
    """
    time_s, score = np.asarray(time_s, dtype=np.float64), np.asarray(score, dtype=np.float64)
    true_s = np.asarray(true_s, dtype=np.float64).reshape(-1, 2)
    apart = np.maximum(np.maximum(true_s[:, :1] - time_s, time_s - true_s[:, 1:]), 0.0)  # [m, n]
    true_s, apart = true_s[(apart == 0).any(axis=1)], apart[(apart == 0).any(axis=1)]
    known = np.flatnonzero(np.isfinite(score))
    if len(true_s) == 0 or len(known) == 0:
        return float("nan")
    order = known[np.argsort(-score[known], kind="stable")]
    last = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    buffers = np.linspace(0.0, buffer_s, steps) if steps > 1 else np.array([buffer_s])
    hard = (apart == 0).any(axis=0)
    areas = []
    for buffer in buffers:
        near = apart <= buffer / 2 + 1e-9
        soft = np.where(near, np.sqrt(np.maximum(1 - apart / max(buffer, 1e-12), 0.0)), 0.0)
        label = np.where(hard, 1.0, np.minimum(soft.sum(axis=0), 1.0))
        found = np.cumsum(label[order])[last]
        touched = np.maximum.accumulate(near[:, order], axis=1)[:, last].mean(axis=0)
        recall = np.minimum(found / ((hard.sum() + label.sum()) / 2), 1.0) * touched
        areas.append(np.sum(np.diff(np.concatenate([[0.0], recall])) * found / (last + 1)))
    return float(np.mean(areas))


@dataclass(frozen=True)
class Interval:
    """A figure with its confidence interval: `value`, `low`, `high`, and on how many usable draws it rests."""

    value: float
    low: float
    high: float
    draws: int


def bootstrap_interval(
    by_person: Mapping[str, Sequence[T]],
    statistic: Callable[[Sequence[T]], float],
    *,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap over persons (Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13).

    Persons are drawn with replacement, each with all of his recordings: recordings of one person are not independent.
    With few persons such intervals are too narrow rather than too wide.

    Args:
        by_person: person → whatever the statistic takes, one item per recording. For the difference of two methods an
            item is a pair, so that both are judged on the same draw.
        statistic: all items of a draw → a figure. Draws for which it is NaN are left out.
        level: coverage of the interval.
        draws: number of resamples.
        seed: of the draws.
    """
    if not by_person:
        raise ValueError("no persons")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    groups = [by_person[person] for person in sorted(by_person)]
    figures = [statistic([item for i in drawn for item in groups[i]]) for drawn in resampled(len(groups), draws, seed)]
    return interval_of(float(statistic([item for group in groups for item in group])), np.array(figures), level)


def resampled(count: int, draws: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Positions of `count` persons drawn with replacement, int64 [count], so many times; the same for all methods."""
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        yield rng.integers(0, count, count)


def interval_of(value: float, figures: np.ndarray, level: float = 0.95) -> Interval:
    """The percentile interval of a figure over draws float64 [draws]; those that are NaN are left out."""
    figures = figures[np.isfinite(figures)]
    if len(figures) == 0:
        return Interval(value, float("nan"), float("nan"), 0)
    low, high = np.quantile(figures, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), len(figures))
