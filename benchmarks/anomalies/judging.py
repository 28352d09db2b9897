"""From scores and events to figures: per recording what was reported, per group of recordings what it is worth.

A recording may hold events of several difficulties. When one of them is judged, reports on events of the others are
taken out beforehand, neither hits nor false alarms; the time they lie in still counts as time of the recording.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.anomalies import metrics
from benchmarks.anomalies.baselines import TOP
from benchmarks.anomalies.methods import ANCESTOR, BEST_TRIAL, FACELINE, RANDOM_TRIAL, Picker, Series, pick
from benchmarks.anomalies.metrics import TOLERANCE_S, Interval, Reports
from benchmarks.anomalies.recordings import Truth

FIGURES: dict[str, str] = {
    "ap": "event AP",
    "ap_pooled": "pooled AP",
    "p_at_n": "P@N",
    "recall": "recall at 6 FA/h",
    "vus_pr": "VUS-PR",
    "control_fa": "control FA/h",
}
"""Figures of a method without a threshold of its own, and their headings:

ap: event average precision of each recording, mean over persons.
ap_pooled: the same over all recordings by one common threshold.
p_at_n: precision among the first N reports of a recording, N the number of its true events; mean over persons.
recall: largest event recall of a common threshold with at most one false alarm in ten minutes.
vus_pr: volume under the precision-recall surface of row scores; mean over persons.
control_fa: false alarms per hour on controls, at the highest common threshold that finds half of the true events.
"""


@dataclass(frozen=True)
class Judged:
    """One method on one recording at one difficulty: its reports, and figures of this recording alone."""

    reports: Reports
    vus_pr: float
    ap: float = field(init=False)
    p_at_n: float = field(init=False)

    def __post_init__(self) -> None:
        n = len(self.reports.true_s)
        object.__setattr__(self, "ap", metrics.event_average_precision([self.reports]))
        object.__setattr__(self, "p_at_n", metrics.precision_at([self.reports], n) if n else float("nan"))


def within(time_s: np.ndarray, spans_s: np.ndarray, margin_s: float) -> np.ndarray:
    """Which instants lie in any span [m, 2], widened at both ends; bool [n]."""
    time_s = np.asarray(time_s, dtype=np.float64)[:, None]
    inside = (time_s >= spans_s[:, 0] - margin_s) & (time_s <= spans_s[:, 1] + margin_s)
    return np.asarray(inside.any(axis=1))


def focus(reports: Reports, truth: Truth, difficulty: str, tolerance_s: float = TOLERANCE_S) -> Reports:
    """The reports as far as one difficulty is concerned: without those on events of other difficulties.

    A report that lies on an event of this difficulty too stays.
    """
    mine = truth.spans(difficulty)
    others = _others(truth, difficulty)
    off = within(reports.peak_s, others, tolerance_s) & ~within(reports.peak_s, mine, tolerance_s)
    return Reports(mine, reports.peak_s[~off], reports.score[~off], reports.duration_s)


def _others(truth: Truth, difficulty: str) -> np.ndarray:
    spans = [truth.spans(other) for other in truth.difficulties if other != difficulty]
    return np.concatenate([np.zeros((0, 2)), *spans])


def judge(
    time_s: np.ndarray, score: np.ndarray, peak_s: np.ndarray, height: np.ndarray, truth: Truth, difficulty: str,
    duration_s: float,
) -> Judged:  # fmt: skip
    """One method's picked reports and row scores at one difficulty; "" judges against nothing (a control)."""
    mine = truth.spans(difficulty)
    reports = focus(Reports(mine, peak_s, height, duration_s), truth, difficulty)
    apart = within(time_s, _others(truth, difficulty), TOLERANCE_S) & ~within(time_s, mine, TOLERANCE_S)
    volume = metrics.vus_pr(time_s[~apart], score[~apart], mine) if len(mine) else float("nan")
    return Judged(reports, volume)


def judge_series(
    series: Series, truth: Truth, duration_s: float, picker: Picker
) -> tuple[dict[str, dict[str, Judged]], dict[str, dict[str, Judged]]]:
    """All methods and all trials: difficulty → method (trial) → `Judged`. Without events the one difficulty is ""."""
    difficulties = truth.difficulties or ("",)
    found: tuple[dict[str, dict[str, Judged]], ...] = ({d: {} for d in difficulties}, {d: {} for d in difficulties})
    for scores, into in zip((series.methods, series.trials), found, strict=True):
        for name, score in scores.items():
            count = TOP if name == ANCESTOR else None
            peak_s, height = pick(series.time_s, series.stretch, score, picker=picker, count=count)
            for difficulty in difficulties:
                into[difficulty][name] = judge(series.time_s, score, peak_s, height, truth, difficulty, duration_s)
    return found[0], found[1]


@dataclass(frozen=True)
class Item:
    """One recording at one difficulty in a group: whose, and every method's judgement."""

    unit: str
    methods: Mapping[str, Judged]
    trials: Mapping[str, Judged] = field(default_factory=dict)


@dataclass(frozen=True)
class Figure:
    """A figure, its interval, and the values of all draws, float64 [draws]."""

    interval: Interval
    draws: np.ndarray


def best_trial(item: Item) -> Judged:
    """The trial with the highest average precision on this recording: chosen with the truth at hand."""
    names = sorted(item.trials, key=lambda name: (-np.nan_to_num(item.trials[name].ap, nan=-1.0), name))
    return item.trials[names[0]]


def compare(
    items: Sequence[Item], controls: Sequence[Item], *, draws: int = 1000, seed: int = 0
) -> dict[str, dict[str, Figure]]:
    """Method → figure name → `Figure`, over one group of recordings and the controls that go with it.

    Persons are drawn with replacement, the same draws for every method; persons of the controls are drawn apart from
    them, since some have no other recordings. Methods are those that every recording has. One person alone gives no
    interval. Figures of a trial by chance are means over the trials for which they are known.
    """
    persons = len({i.unit for i in items})
    draws = draws if persons > 1 else 0
    chosen = list(metrics.resampled(persons, draws, seed))
    drawn_controls = list(metrics.resampled(max(len({i.unit for i in controls}), 1), draws, seed + 1))

    def figures(of: Callable[[Item], Judged], of_control: Callable[[Item], Judged] | None) -> dict[str, Figure]:
        quiet = controls if of_control is not None else ()
        return _figures(_grouped(items, of), _grouped(quiet, of_control) if of_control else [], chosen, drawn_controls)

    found: dict[str, dict[str, Figure]] = {}
    for name in _shared([i.methods for i in (*items, *controls)]):
        found[name] = figures(lambda i, n=name: i.methods[n], lambda i, n=name: i.methods[n])
    trials = _shared([i.trials for i in (*items, *controls)])
    if trials:
        every = [figures(lambda i, n=name: i.trials[n], lambda i, n=name: i.trials[n]) for name in trials]
        found[RANDOM_TRIAL] = {key: _mean_figure([one[key] for one in every]) for key in FIGURES}
        # No control has a best trial: nothing in it says which.
        found[BEST_TRIAL] = figures(best_trial, None)
    return found


def _shared(tables: Sequence[Mapping[str, object]]) -> list[str]:
    return [name for name in tables[0] if all(name in table for table in tables)] if tables else []


def _grouped(items: Sequence[Item], of: Callable[[Item], Judged]) -> list[list[Judged]]:
    """Judgements by person, in order of their names."""
    return [[of(i) for i in items if i.unit == unit] for unit in sorted({i.unit for i in items})]


def _figures(
    people: Sequence[Sequence[Judged]],
    controls: Sequence[Sequence[Judged]],
    chosen: Sequence[np.ndarray],
    drawn_controls: Sequence[np.ndarray],
) -> dict[str, Figure]:
    found = {}
    for key in ("ap", "p_at_n", "vus_pr"):
        means = np.array([_mean([getattr(j, key) for j in person]) for person in people])
        values = np.array([_mean(means[drawn]) for drawn in chosen])
        found[key] = Figure(metrics.interval_of(_mean(means), values), values)
    # The first row is everybody once, the others are the draws.
    pool = Pool([[j.reports for j in person] for person in people])
    quiet = Pool([[j.reports for j in person] for person in controls]) if controls else None
    pooled = pool.figures(_times(chosen, len(people)), quiet, _times(drawn_controls, len(controls)))
    for key, values in pooled.items():
        found[key] = Figure(metrics.interval_of(float(values[0]), values[1:]), values[1:])
    return found


def _times(draws: Sequence[np.ndarray], count: int) -> np.ndarray:
    """How often each of `count` persons is in the whole sample (once) and in each draw, float64 [1 + draws, count]."""
    drawn = [np.bincount(draw, minlength=count)[:count] for draw in draws]
    return np.array([np.ones(count), *drawn], dtype=np.float64).reshape(1 + len(drawn), count)


class Pool:
    """Reports of many persons in one falling order of score, to be counted under many draws of persons at once.

    What is counted is `metrics.curve`: a person drawn twice counts twice, with all reports, events and hours.
    """

    def __init__(self, people: Sequence[Sequence[Reports]]) -> None:
        recordings = [(k, r) for k, person in enumerate(people) for r in person]
        score = np.concatenate([np.zeros(0), *(r.score for _, r in recordings)])
        order = np.argsort(-score, kind="stable")
        hit = np.concatenate([np.zeros(0, dtype=bool), *(metrics.new_hits(r) for _, r in recordings)])
        owner = np.concatenate([np.zeros(0, dtype=np.int64), *(np.full(len(r.score), k) for k, r in recordings)])
        self._hit, self._owner, score = hit[order], owner[order].astype(np.int64), score[order]
        self._last = np.flatnonzero(np.append(np.diff(score) != 0, True)) if len(score) else np.zeros(0, np.int64)
        self.threshold = score[self._last]
        self._events = np.array([sum(len(r.true_s) for r in person) for person in people], dtype=np.float64)
        self._hours = np.array([sum(r.duration_s for r in person) for person in people]) / 3600

    def counts(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Reports and hits float64 [draws, thresholds], events and hours [draws], for `times` [draws, persons]."""
        weight = times[:, self._owner]
        reports = np.cumsum(weight, axis=1)[:, self._last]
        hits = np.cumsum(weight * self._hit, axis=1)[:, self._last]
        return reports, hits, times @ self._events, times @ self._hours

    def figures(self, times: np.ndarray, quiet: Pool | None, quiet_times: np.ndarray) -> dict[str, np.ndarray]:
        """`ap_pooled`, `recall` and `control_fa` of every draw, float64 [draws]; NaN where unknown."""
        reports, hits, events, hours = self.counts(times)
        with np.errstate(divide="ignore", invalid="ignore"):
            recall = hits / events[:, None]
            precision = np.where(reports > 0, hits / np.maximum(reports, 1), 0.0)
            steps = np.diff(recall, axis=1, prepend=0.0)
            allowed = (reports - hits) / hours[:, None] <= metrics.FALSE_ALARMS_PER_HOUR + 1e-9
        unknown = events == 0
        average = np.where(unknown, np.nan, (steps * precision).sum(axis=1))
        most = np.where(unknown, np.nan, np.where(allowed, recall, 0.0).max(axis=1, initial=0.0))
        alarms = np.full(len(times), np.nan)
        half = recall >= 0.5
        if quiet is not None and half.shape[1]:
            threshold = self.threshold[half.argmax(axis=1)]
            found, true, _, quiet_hours = quiet.counts(quiet_times)
            false = np.concatenate([np.zeros((len(times), 1)), found - true], axis=1)
            # Thresholds fall, so that the number of those at or above is a position.
            reached = np.searchsorted(-quiet.threshold, -threshold, side="right")
            alarms = np.where(half.any(axis=1), false[np.arange(len(times)), reached] / quiet_hours, np.nan)
        return {"ap_pooled": average, "recall": most, "control_fa": alarms}


def _mean_figure(figures: Sequence[Figure]) -> Figure:
    values = np.array([f.draws for f in figures])
    draws = np.array([_mean(column) for column in values.T]) if values.size else np.zeros(0)
    return Figure(metrics.interval_of(_mean([f.interval.value for f in figures]), draws), draws)


def _mean(values: Sequence[float] | np.ndarray) -> float:
    """Mean of what is known; NaN when nothing is."""
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    return float(known.mean()) if len(known) else float("nan")


def differences(found: Mapping[str, Mapping[str, Figure]], one: str = FACELINE) -> dict[str, dict[str, Interval]]:
    """Method → figure name → how much better `one` is, with the interval of the paired draws.

    Where fewer is better (`control_fa`), the difference is still `one` minus the other.
    """
    return {
        name: {key: paired(found[one][key], figure) for key, figure in row.items()}
        for name, row in found.items()
        if name != one and one in found
    }


def paired(one: Figure, other: Figure) -> Interval:
    """The difference of two figures of the same draws."""
    return metrics.interval_of(one.interval.value - other.interval.value, one.draws - other.draws)


def reported_figures(
    items: Sequence[tuple[str, Reports]],
    statistic: Callable[[Sequence[Reports]], float],
    *,
    draws: int = 1000,
    seed: int = 0,
) -> Figure:
    """A statistic over recordings given as (person, reports), with draws of persons where there are several."""
    units = sorted({unit for unit, _ in items})
    people = [[r for u, r in items if u == unit] for unit in units]
    draws = draws if len(units) > 1 else 0
    values = np.array(
        [statistic([r for i in drawn for r in people[i]]) for drawn in metrics.resampled(len(units), draws, seed)]
    )
    return Figure(metrics.interval_of(float(statistic([r for person in people for r in person])), values), values)
