"""Models that look at each feature by itself and add up: robust z-scores, and empirical tail probabilities."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import Field

from faceline.anomaly.models.protocol import AnomalyModel, checked, evenly
from faceline.stage import StageParams


class DeviationParams(StageParams):
    """Root mean square of the robust z-scores: the plain yardstick that the others have to beat."""

    name: Literal["deviation"] = "deviation"
    seeded: ClassVar[bool] = False

    def build(self, seed: int) -> AnomalyModel:
        """An unfitted model."""
        del seed
        return _Deviation()


class EcodParams(StageParams):
    """Empirical tail probabilities (ECOD; Li et al. 2022): how far out in the tail of each feature a window lies."""

    name: Literal["ecod"] = "ecod"
    seeded: ClassVar[bool] = False
    max_rows: int = Field(
        10_000, ge=50, le=100_000, description="windows that the distributions are taken from, evenly spaced"
    )

    def build(self, seed: int) -> AnomalyModel:
        """An unfitted model."""
        del seed
        return _Ecod(self)


class _Deviation:
    """The windows come in robust units already, weighted so that each block counts alike: nothing is scaled again."""

    def fit(self, x: np.ndarray) -> Self:
        self._centre = np.median(checked(x), axis=0)
        return self

    def score(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(np.sqrt(((checked(x) - self._centre) ** 2).mean(axis=1)))


class _Ecod:
    """Sum over the features of −log of the smaller tail probability, each by its own empirical distribution.

    Per feature the smaller tail counts, as in the authors' PyOD; the paper's three sums over all features (left tails,
    right tails, by skewness) would lose half of an expression that raises some measures and lowers others. A row
    joins the references alone: of m references and itself, the share as low, or as high. So a row beyond all of them
    has probability 1 / (m + 1) and a finite score, and its score does not depend on what else is scored. That is
    PyOD's score of the row when it is asked about that row only (tested against values of PyOD 3.6.7).
    """

    def __init__(self, params: EcodParams) -> None:
        self._params = params

    def fit(self, x: np.ndarray) -> Self:
        x = checked(x)
        self._sorted = np.sort(x[evenly(len(x), self._params.max_rows)], axis=0)
        return self

    def score(self, x: np.ndarray) -> np.ndarray:
        x = checked(x)
        references = len(self._sorted)
        out = np.zeros(len(x))
        for column, usual in zip(x.T, self._sorted.T, strict=True):
            low = np.searchsorted(usual, column, side="right")
            high = references - np.searchsorted(usual, column, side="left")
            out -= np.log((np.minimum(low, high) + 1) / (references + 1))
        return out
