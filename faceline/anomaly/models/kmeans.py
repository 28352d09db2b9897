"""k-means over subsequences."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from faceline.anomaly.models.sequences import SequenceModel
from faceline.stage import StageParams


class KMeansADParams(StageParams):
    """k-means over subsequences (Yairi et al. 2001): how far from all usual courses what a face does here is."""

    name: Literal["kmeansad"] = "kmeansad"
    seeded: ClassVar[bool] = True
    n_clusters: int = Field(8, ge=1, le=200, description="number of usual courses")
    length: int = Field(
        4, ge=1, le=32, description="windows that make a course, spaced as those that the model is fitted on"
    )
    min_share: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="a cluster of a smaller share of all courses is nothing usual and is left out (as in CBLOF, He, Xu"
        " & Deng 2003), or a rare course would be the centre of its own cluster",
    )
    max_rows: int = Field(3000, ge=50, le=5000, description="courses that the clusters are taken from, evenly spaced")

    def build(self, seed: int) -> SequenceModel:
        """An unfitted model."""
        return _KMeansAD(self, seed)


class _KMeansAD(SequenceModel):
    """Euclidean distance to the nearest centre, for every row of the subsequence alike.

    The features come in robust units, so nothing is scaled again.
    """

    def __init__(self, params: KMeansADParams, seed: int) -> None:
        super().__init__(params.length, params.max_rows)
        self._params, self._seed = params, seed

    def _learn(self, x: np.ndarray, index: np.ndarray) -> None:
        from sklearn.cluster import KMeans
        from threadpoolctl import threadpool_limits

        flat = x[index].reshape(len(index), -1)
        distinct = len(np.unique(flat, axis=0))
        model = KMeans(min(self._params.n_clusters, distinct), n_init=3, random_state=self._seed)
        # On several threads sums are added up in no fixed order, and the last digits differ from run to run.
        with threadpool_limits(1, user_api="openmp"):
            model.fit(flat)
        size = np.bincount(model.labels_, minlength=len(model.cluster_centers_))
        usual = size >= min(self._params.min_share * len(flat), int(size.max()))
        self._centres = np.asarray(model.cluster_centers_, dtype=np.float64)[usual]

    def _errors(self, x: np.ndarray, index: np.ndarray) -> np.ndarray:
        flat = x[index].reshape(len(index), -1)
        # Differences rather than |a|² − 2ab + |b|²: a still picture has distance 0, not rounding.
        nearest = np.full(len(flat), np.inf)
        for centre in self._centres:
            difference = flat - centre
            nearest = np.minimum(nearest, np.einsum("ij,ij->i", difference, difference))
        return np.repeat(np.sqrt(nearest)[:, None], index.shape[1], axis=1)
