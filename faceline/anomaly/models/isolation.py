"""Isolation Forest."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import Field

from faceline.anomaly.models.protocol import AnomalyModel, checked
from faceline.stage import StageParams


class IForestParams(StageParams):
    """Isolation Forest (Liu, Ting & Zhou 2008): how few random splits set a window apart."""

    name: Literal["iforest"] = "iforest"
    seeded: ClassVar[bool] = True
    n_estimators: int = Field(200, ge=10, le=2000, description="number of trees")
    max_samples: int = Field(256, ge=8, le=100_000, description="rows that each tree sees, at most")
    max_features: float = Field(1.0, gt=0, le=1, description="share of the features that each tree sees")

    def build(self, seed: int) -> AnomalyModel:
        """An unfitted model."""
        return _IForest(self, seed)


class _IForest:
    def __init__(self, params: IForestParams, seed: int) -> None:
        self._params, self._seed = params, seed

    def fit(self, x: np.ndarray) -> Self:
        from faceline.anomaly.iforest import Forest

        p = self._params
        self._forest = Forest.grow(
            checked(x), trees=p.n_estimators, max_samples=p.max_samples, max_features=p.max_features, seed=self._seed
        )
        return self

    def score(self, x: np.ndarray) -> np.ndarray:
        return self._forest.score(checked(x))
