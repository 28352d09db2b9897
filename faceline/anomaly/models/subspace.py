"""Principal components: what the usual directions cannot rebuild, and how far along them a window lies."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import Field

from faceline.anomaly.baseline import Baseline
from faceline.anomaly.models.protocol import AnomalyModel, checked, evenly
from faceline.stage import StageParams

FLOOR = 0.05
"""In robust units of the features: a component that moves less than this carries measuring noise."""

BATCH = 8192
"""Rows scored at once; memory is bounded by it."""


class PcaParams(StageParams):
    """Principal components (Shyu et al. 2003; Jolliffe 2002, 10.1): what a few usual directions cannot rebuild."""

    name: Literal["pca"] = "pca"
    seeded: ClassVar[bool] = False
    explained: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="share of the variance that the kept components explain (about half of it in Shyu et al.); at least"
        " one direction is left out",
    )
    measure: Literal["both", "error"] = Field(
        "both",
        description="what counts: the reconstruction error and the distance along the kept components, each in its"
        " usual size (both), or the reconstruction error alone, blind to a usual movement grown strong (error)",
    )
    max_rows: int = Field(
        10_000, ge=50, le=100_000, description="windows that the components are taken from, evenly spaced"
    )

    def build(self, seed: int) -> AnomalyModel:
        """An unfitted model."""
        del seed
        return _Pca(self)


class _Pca:
    """Features in robust units; directions from rows shortened to the median length at most, so that a few far rows
    cannot turn the components towards themselves (spherical components, Locantore et al. 1999).

    `both` is the root of Shyu's two sums over d features: squared robust z-scores along the kept components, and the
    squared error over the usual variance of a direction that was left out (the Mahalanobis distance under a
    probabilistic PCA, Tipping & Bishop 1999).
    """

    def __init__(self, params: PcaParams) -> None:
        self._params = params

    def fit(self, x: np.ndarray) -> Self:
        x = checked(x)
        x = x[evenly(len(x), self._params.max_rows)]
        self._usual = Baseline.of(x)
        z = self._usual.standardise(x)
        length = np.sqrt((z**2).sum(axis=1))
        moving = length > 0
        if moving.any():
            z = z * np.minimum(1.0, np.median(length[moving]) / np.where(moving, length, 1.0))[:, None]
        variance, direction = np.linalg.eigh(z.T @ z / len(z))
        variance, self._direction = np.maximum(variance[::-1], 0.0), direction[:, ::-1]
        share = np.cumsum(variance) / max(float(variance.sum()), 1e-300)
        self._kept = min(int(np.searchsorted(share, self._params.explained)) + 1, x.shape[1] - 1)
        along = Baseline.of(self._usual.standardise(x) @ self._direction, FLOOR)
        self._centre, scale = along.centre, along.scale
        scale[self._kept :] = np.sqrt((scale[self._kept :] ** 2).mean())
        self._scale = scale
        return self

    def score(self, x: np.ndarray) -> np.ndarray:
        x = checked(x)
        out = np.empty(len(x))
        for i in range(0, len(x), BATCH):
            y = self._usual.standardise(x[i : i + BATCH]) @ self._direction - self._centre
            y = y[:, self._kept :] if self._params.measure == "error" else y / self._scale
            out[i : i + BATCH] = np.sqrt((y**2).mean(axis=1))
        return out
