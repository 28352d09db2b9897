"""Judging one trial on one person's footage, without labels: would it find planted anomalies, and is it stable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from faceline.anomaly.features import Block, window_table
from faceline.anomaly.injection import clear_rows, plan_anomalies, plant, planted_rows
from faceline.anomaly.models import AnomalyModel, AnyModelParams, RowTimes, SequenceModel, evenly
from faceline.anomaly.ranks import average_precision, spearman
from faceline.anomaly.rows import PersonRows

MAX_JUDGED = 4000
"""At most so many windows, evenly spaced beyond those in planted anomalies, are scored to judge a trial."""

TRIMMED = 0.05
"""Share of the highest untouched scores that count neither for nor against a trial: they may be real anomalies."""


MIN_HALVED = 20
"""Fewer windows than this, with every other face left out, say nothing."""


@dataclass(frozen=True)
class Planting:
    """What a trial scores in footage with planted anomalies: `row` int64 [m] positions in the person's rows, `truth`
    bool [m] whether something is planted there, `score` float64 [m]."""

    row: np.ndarray
    truth: np.ndarray
    score: np.ndarray

    def average_precision(self) -> float:
        """How far the planted ones stand above the untouched ones, the highest `TRIMMED` of which are left out."""
        low = np.sort(self.score[~self.truth])
        return average_precision(self.score[self.truth], low[: max(1, int(np.ceil(len(low) * (1 - TRIMMED))))])


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

    def windows(self, blocks: Sequence[Block], rows: PersonRows) -> np.ndarray:
        """Window features float64 [n, D] of other blocks and rows of the same columns, in the units of `x`."""
        return window_table(
            blocks, rows, window_s=self._window_s, min_coverage=self._min_coverage, baseline=self._usual
        )[0]

    def fit(self, x: np.ndarray, known: np.ndarray, other_seed: int = 0) -> AnomalyModel:
        """A model fitted on the rows `known` (bool [n]) of x, thinned to one per step of time.

        `other_seed` is added to the seed of what is random in the model.
        """
        rows = np.flatnonzero(known)
        rows = rows[thinned(self._rows.time_s[rows], self._step_s)]
        model = self._model.build(self._seed + other_seed)
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

    def reseeded(self) -> np.ndarray:
        """Scores float64 [n] of a model with another seed; NaN rows where there is no window."""
        known = np.isfinite(self.x).all(axis=1)
        score = np.full(len(known), np.nan)
        score[known] = self.score(self.fit(self.x, known, other_seed=1), self.x, np.flatnonzero(known))
        return score

    def halved(self) -> np.ndarray:
        """Scores float64 [n] as if every other face had not been sampled; NaN for those left out."""
        kept = np.arange(len(self._rows)) % 2 == 0
        blocks = [
            replace(block, present=block.present & kept, interval_s=max(block.interval_s, 2 * self._rows.interval_s))
            for block in self._blocks
        ]
        x = self.windows(blocks, self._rows)
        known = np.isfinite(x).all(axis=1) & kept
        score = np.full(len(known), np.nan)
        if known.sum() >= MIN_HALVED:
            score[known] = self.score(self.fit(x, known), x, np.flatnonzero(known))
        return score

    def injection(self) -> float:
        """Average precision on planted anomalies, of a model fitted on the footage that holds them; NaN when there is
        no room to plant any."""
        planted = self.planted()
        return planted.average_precision() if planted is not None else float("nan")

    def planted(self, other_seed: int = 0) -> Planting | None:
        """Scores of footage with anomalies planted into it; `None` when there is no room for any.

        `other_seed` plants others, at other moments: those that the choice among trials has not seen.
        """
        rows, seed = self._rows, self._seed + other_seed
        planned = plan_anomalies(rows, seed)
        altered = self.windows(plant(self._blocks, rows, planned, seed), rows)
        truth = planted_rows(rows, planned)
        known = np.isfinite(self.x).all(axis=1) & np.isfinite(altered).all(axis=1)
        usual = np.flatnonzero(clear_rows(rows, planned))
        usual = usual[evenly(len(usual), MAX_JUDGED)]
        positive, negative = np.flatnonzero(known & truth), usual[known[usual]]
        if len(positive) == 0 or len(negative) < 8:
            return None
        judged = np.concatenate([positive, negative])
        score = self.score(self.fit(altered, known), altered, judged)
        return Planting(judged, np.arange(len(judged)) < len(positive), score)

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
