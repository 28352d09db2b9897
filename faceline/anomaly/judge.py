"""Judging one trial on one person's footage, without labels: would it find planted anomalies, and is it stable."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from faceline.anomaly.features import Block, window_table
from faceline.anomaly.injection import plan_anomalies, plant, planted_rows
from faceline.anomaly.models import AnomalyModel, AnyModelParams, RowTimes, SequenceModel, evenly
from faceline.anomaly.ranks import average_precision, spearman
from faceline.anomaly.rows import PersonRows
from faceline.anomaly.windows import window_bounds

MAX_JUDGED = 4000
"""At most so many windows, evenly spaced beyond those in planted anomalies, are scored to judge a trial."""

TRIMMED = 0.05
"""Share of the highest untouched scores that count neither for nor against a trial: they may be real anomalies."""


class Judge:
    """One trial on one person: the window features, how models are fitted on them, and the label-free parts.

    Args:
        model: parameters of the model.
        blocks: the person's feature blocks.
        rows: the person's rows.
        window_s: length of the window, seconds.
        min_coverage: least share of a window that must be covered.
        fit_per_window: how many windows per window length a model is fitted on.
        seed: of models and planted anomalies.

    Attributes:
        x: float64 [n, D], window features; NaN rows where there is no window.
    """

    def __init__(
        self,
        model: AnyModelParams,
        blocks: Sequence[Block],
        rows: PersonRows,
        window_s: float,
        min_coverage: float,
        fit_per_window: int,
        seed: int,
    ) -> None:
        self._model, self._blocks, self._rows, self._seed = model, blocks, rows, seed
        self._window_s, self._min_coverage = window_s, min_coverage
        self._step_s = window_s / fit_per_window
        self.x, self._usual = window_table(blocks, rows, window_s=window_s, min_coverage=min_coverage)

    def fit(self, x: np.ndarray, known: np.ndarray) -> AnomalyModel:
        """A model fitted on the rows `known` (bool [n]) of x, thinned to one per step of time."""
        rows = np.flatnonzero(known)
        rows = rows[thinned(self._rows.time_s[rows], self._step_s)]
        model = self._model.build(self._seed)
        return model.fit(x[rows], self._times(rows)) if isinstance(model, SequenceModel) else model.fit(x[rows])

    def score(self, model: AnomalyModel, x: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Scores float64 [len(rows)] of the rows at these positions of x [n, D], all without NaN.

        A model of subsequences sees every row of x that has no NaN, the others' neighbours among them.
        """
        if not isinstance(model, SequenceModel):
            return model.score(x[rows])
        known = np.flatnonzero(np.isfinite(x).all(axis=1))
        return model.score(x[known], self._times(known))[np.searchsorted(known, rows)]

    def _times(self, rows: np.ndarray) -> RowTimes:
        return RowTimes(self._rows.time_s[rows], self._rows.stretch[rows])

    def injection(self) -> float:
        """Average precision on planted anomalies, of a model fitted on the footage that holds them; NaN when there is
        no room to plant any."""
        rows = self._rows
        planted = plan_anomalies(rows, self._seed)
        altered, _ = window_table(
            plant(self._blocks, rows, planted, self._seed),
            rows,
            window_s=self._window_s,
            min_coverage=self._min_coverage,
            baseline=self._usual,
        )
        truth = planted_rows(rows, planted)
        known = np.isfinite(self.x).all(axis=1) & np.isfinite(altered).all(axis=1)
        first, stop = window_bounds(rows.time_s, rows.stretch, self._window_s)
        before = np.concatenate([[0], np.cumsum(truth)])
        near = (before[stop] - before[first] > 0) & ~truth  # windows that touch a planted anomaly are neither
        positive, negative = np.flatnonzero(known & truth), np.flatnonzero(known & ~truth & ~near)
        if len(positive) == 0 or len(negative) < 8:
            return float("nan")
        negative = negative[evenly(len(negative), MAX_JUDGED)]
        fitted = self.fit(altered, known)
        high, low = np.split(self.score(fitted, altered, np.concatenate([positive, negative])), [len(positive)])
        trimmed = np.sort(low)[: max(1, int(np.ceil(len(low) * (1 - TRIMMED))))]
        return average_precision(high, trimmed)

    def stability(self) -> float:
        """Spearman correlation between the scores of models fitted on even and on odd blocks of time; NaN when there
        are fewer than two blocks of each.

        A block is two windows long (at least 2 s), so that the halves share few samples.
        """
        known = np.isfinite(self.x).all(axis=1)
        time_s = self._rows.time_s
        block = np.floor((time_s - time_s[0]) / max(2.0 * self._window_s, 2.0)).astype(np.int64)
        halves = [known & (block % 2 == parity) for parity in (0, 1)]
        if any(len(np.unique(block[half])) < 2 or half.sum() < 8 for half in halves):
            return float("nan")
        judged = np.flatnonzero(known)
        judged = judged[evenly(len(judged), MAX_JUDGED)]
        one, two = (self.score(self.fit(self.x, half), self.x, judged) for half in halves)
        return spearman(one, two)


def thinned(time_s: np.ndarray, step_s: float) -> np.ndarray:
    """Positions int64 of the first row in each step of time; float64 [n] ascending times."""
    if len(time_s) == 0:
        return np.zeros(0, dtype=np.int64)
    step = np.floor((time_s - time_s[0]) / step_s + 1e-6).astype(np.int64)
    return np.flatnonzero(np.concatenate([[True], np.diff(step) > 0]))
