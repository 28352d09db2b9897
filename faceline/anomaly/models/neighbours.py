"""Models that ask how far a window's nearest neighbours are: Local Outlier Factor, and the distance itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import Field

from faceline.anomaly.models.protocol import AnomalyModel, checked, evenly
from faceline.stage import StageParams

BATCH = 8192
"""Rows whose neighbours are sought at once; memory is bounded by it, however many rows are scored."""


class LofParams(StageParams):
    """Local Outlier Factor (Breunig et al. 2000): how much sparser a window's surroundings are than its neighbours'."""

    name: Literal["lof"] = "lof"
    seeded: ClassVar[bool] = False
    n_neighbors: int = Field(30, ge=1, le=1000, description="neighbours that define the surroundings")
    max_rows: int = Field(
        3000, ge=50, le=50_000, description="windows among which neighbours are sought, evenly spaced"
    )

    def build(self, seed: int) -> AnomalyModel:
        """An unfitted model."""
        del seed  # nothing random in it
        return _Lof(self)


class KnnParams(StageParams):
    """Distance to the nearest neighbours (Ramaswamy, Rastogi & Shim 2000): how far the most similar windows are."""

    name: Literal["knn"] = "knn"
    seeded: ClassVar[bool] = False
    n_neighbors: int = Field(
        30,
        ge=1,
        le=1000,
        description="neighbours that are looked at; enough of them to reach beyond the windows of the same moment,"
        " which overlap and would vouch for each other",
    )
    distance: Literal["mean", "largest"] = Field(
        "largest",
        description="which distance counts: that of the farthest of the neighbours, as in the original, or their mean"
        " (Angiulli & Pizzuti 2002)",
    )
    max_rows: int = Field(
        3000, ge=50, le=50_000, description="windows among which neighbours are sought, evenly spaced"
    )

    def build(self, seed: int) -> AnomalyModel:
        """An unfitted model."""
        del seed  # nothing random in it
        return _Knn(self)


class _References:
    """Rows among which neighbours are sought: at most `max_rows` of x float64 [n, d], evenly spaced.

    A row that is itself a reference is not its own neighbour.

    Attributes:
        x: float64 [m, d], the references, centred, so that differences of large numbers keep their digits.
        k: number of neighbours, at most m − 1.
    """

    def __init__(self, x: np.ndarray, max_rows: int, k: int) -> None:
        from sklearn.neighbors import NearestNeighbors

        x = x[evenly(len(x), max_rows)]
        self._centre = x.mean(axis=0)
        self.x = x - self._centre
        self.k = min(k, len(x) - 1)
        if self.k:
            algorithm = "kd_tree" if x.shape[1] <= 8 else "brute"
            self._index = NearestNeighbors(n_neighbors=self.k + 1, algorithm=algorithm).fit(self.x)

    def centred(self, x: np.ndarray) -> np.ndarray:
        """Other rows [n, d], shifted as the references are."""
        return np.asarray(x - self._centre)

    def nearest(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distances and positions [n, k] of the nearest references of centred rows, without the row itself."""
        distance, neighbour = self._index.kneighbors(x)
        # The brute-force distance of a row to itself is rounding, not 0.
        itself = distance[:, 0] <= 1e-6 * (1.0 + np.sqrt((x**2).sum(axis=1)))
        columns = np.arange(self.k) + itself[:, None]
        return np.take_along_axis(distance, columns, axis=1), np.take_along_axis(neighbour, columns, axis=1)


def _batches(n: int) -> Iterator[slice]:
    return (slice(i, i + BATCH) for i in range(0, n, BATCH))


class _Lof:
    """LOF with reference rows and a floor under distances, so that duplicates (a still picture) do not divide by zero.

    The score is the logarithm of the factor: 0 = as dense as its neighbours. With all rows as references and no
    duplicates it equals scikit-learn's to rounding (tested).
    """

    def __init__(self, params: LofParams) -> None:
        self._params = params

    def fit(self, x: np.ndarray) -> Self:
        self._references = references = _References(checked(x), self._params.max_rows, self._params.n_neighbors)
        if not references.k:
            return self
        distance, neighbour = references.nearest(references.x)
        reach = distance[:, -1]
        self._floor = 1e-3 * float(np.median(reach[reach > 0])) if (reach > 0).any() else 1.0
        self._reach = np.maximum(reach, self._floor)
        self._density = 1.0 / np.maximum(distance, self._reach[neighbour]).mean(axis=1)
        return self

    def score(self, x: np.ndarray) -> np.ndarray:
        x = self._references.centred(checked(x))
        out = np.zeros(len(x))
        if not self._references.k:
            return out
        for part in _batches(len(x)):
            distance, neighbour = self._references.nearest(x[part])
            density = 1.0 / np.maximum(distance, self._reach[neighbour]).mean(axis=1)
            out[part] = np.log(self._density[neighbour].mean(axis=1) / density)
        return out


class _Knn:
    """With a single reference, the distance to it."""

    def __init__(self, params: KnnParams) -> None:
        self._params = params

    def fit(self, x: np.ndarray) -> Self:
        self._references = _References(checked(x), self._params.max_rows, self._params.n_neighbors)
        return self

    def score(self, x: np.ndarray) -> np.ndarray:
        x = self._references.centred(checked(x))
        if not self._references.k:
            return np.sqrt(((x - self._references.x) ** 2).sum(axis=1))
        out = np.empty(len(x))
        for part in _batches(len(x)):
            distance, _ = self._references.nearest(x[part])
            out[part] = distance.mean(axis=1) if self._params.distance == "mean" else distance[:, -1]
        return out
