"""How much of an event's score is gone when one measure is put back to usual: the other half of "why".

A departure says how far a measure went; it does not say that the models cared. Here the chosen models are fitted once
more, as in their trials, the measure is set to the person's usual during the event, the windows are taken anew, and
the event is scored again. Measures that move together stand in for each other: in a broad smile each single one may
lose little.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from faceline.anomaly.baseline import MAD_TO_SIGMA
from faceline.anomaly.events import Event
from faceline.anomaly.features import Block
from faceline.anomaly.judge import Judge
from faceline.anomaly.models import AnomalyModel, SequenceModel
from faceline.anomaly.rows import PersonRows
from faceline.anomaly.trial import TrialParams

MOST_TRIALS = 6
"""The best so many of the chosen trials are asked: each has to be fitted again."""


@dataclass(frozen=True)
class _Fitted:
    """A trial's model, with what turns its scores into a robust z."""

    judge: Judge
    blocks: Sequence[Block]
    model: AnomalyModel
    centre: float
    scale: float
    window_s: float


class Rescorer:
    """The chosen trials of one person, ready to score what did not happen.

    Args:
        trials: parameters of the chosen trials, best first.
        rows: the person's rows.
        blocks_of: blocks of a trial's features, as in the trial.
    """

    def __init__(
        self, trials: Sequence[TrialParams], rows: PersonRows, blocks_of: Callable[[TrialParams], Sequence[Block]]
    ) -> None:
        self._rows = rows
        self._fitted: list[_Fitted] = []
        for params in trials:
            blocks = blocks_of(params)
            if len(self._fitted) == MOST_TRIALS:
                break
            if not blocks:
                continue
            judge = Judge(
                params.model, blocks, rows, params.window_s, params.min_coverage, params.fit_per_window, params.seed
            )
            known = np.isfinite(judge.x).all(axis=1)
            model = judge.fit(judge.x, known) if known.sum() >= params.min_rows else None
            # A model of subsequences needs the whole footage at once; the others stand in for it.
            if model is None or isinstance(model, SequenceModel):
                continue
            score = judge.score(model, judge.x, np.flatnonzero(known))
            centre = float(np.median(score))
            scale = MAD_TO_SIGMA * float(np.median(np.abs(score - centre)))
            if scale > 0:
                self._fitted.append(_Fitted(judge, blocks, model, centre, scale, params.window_s))

    def score_lost(self, event: Event, columns: Sequence[str]) -> dict[str, float]:
        """Share 0..1 of the event's score that is gone without each column; NaN where no model looks at it.

        Each model's highest robust z during the event is compared with the one that is left, which may peak elsewhere;
        the share is the mean over the models. Scores are not limited here, as they are when they are combined: of an
        event far beyond the limit nothing could be seen to go.
        """
        rows = self._rows
        reach_s = max((f.window_s for f in self._fitted), default=0.0) + 1.0
        near = np.flatnonzero(
            (rows.stretch == rows.stretch[event.peak])
            & (rows.time_s >= rows.time_s[event.start] - reach_s)
            & (rows.time_s <= rows.time_s[event.end] + reach_s)
        )
        part = _part(rows, near)
        inside = (near >= event.start) & (near <= event.end)
        whole = self._heights(part, near, inside, None)
        asked = np.isfinite(whole) & (whole > 0)
        lost = {}
        for column in columns:
            seen = asked & np.array([any(column in b.columns for b in f.blocks) for f in self._fitted], dtype=bool)
            left = self._heights(part, near, inside, column) if seen.any() else whole
            seen &= np.isfinite(left)
            shares = np.clip(1.0 - left[seen] / whole[seen], 0.0, 1.0)
            lost[column] = float(shares.mean()) if len(shares) else float("nan")
        return lost

    def _heights(self, part: PersonRows, near: np.ndarray, inside: np.ndarray, column: str | None) -> np.ndarray:
        """Each model's highest robust z during the event, `column` put back to usual; float64 [models], NaN without."""
        heights = np.full(len(self._fitted), np.nan)
        for i, fitted in enumerate(self._fitted):
            x = fitted.judge.windows([_usual(block, near, column) for block in fitted.blocks], part)
            known = np.flatnonzero(np.isfinite(x).all(axis=1) & inside)
            if len(known):
                score = fitted.judge.score(fitted.model, x, known)
                heights[i] = (float(score.max()) - fitted.centre) / fitted.scale
        return heights


def _usual(block: Block, near: np.ndarray, column: str | None) -> Block:
    """The block's rows `near`, one column at the person's usual (0, in units of the baseline)."""
    x = block.x[near].copy()
    if column in block.columns:
        x[:, block.columns.index(column)] = 0.0
    return replace(block, x=x, present=block.present[near])


def _part(rows: PersonRows, near: np.ndarray) -> PersonRows:
    return replace(
        rows,
        index=rows.index[near],
        time_s=rows.time_s[near],
        stretch=rows.stretch[near],
        usable=rows.usable[near],
        confounds=rows.confounds[near],
        quality=rows.quality[near],
    )
