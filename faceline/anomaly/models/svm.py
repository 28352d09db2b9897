"""One-class support vector machine."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import Field

from faceline.anomaly.models.protocol import AnomalyModel, checked, evenly
from faceline.stage import StageParams

FEW_ROWS = 8
"""Below so many rows the one-class SVM's solver has nothing to bound."""


class OcsvmParams(StageParams):
    """One-class SVM with an RBF kernel (Schölkopf et al. 2001): how far outside the usual region a window lies."""

    name: Literal["ocsvm"] = "ocsvm"
    seeded: ClassVar[bool] = False
    nu: float = Field(0.5, gt=0, le=1, description="upper bound on the share of windows outside the region")
    gamma: float = Field(
        0.2, gt=0, le=100, description="kernel width, times 1 / (features × variance) (scikit-learn's 'scale')"
    )
    max_rows: int = Field(
        2000,
        ge=50,
        le=20_000,
        description="windows used for fitting, evenly spaced: time grows with their square, and windows of neighbouring"
        " faces say nearly the same",
    )

    def build(self, seed: int) -> AnomalyModel:
        """An unfitted model."""
        del seed
        return _Ocsvm(self)


class _Ocsvm:
    """The decision value is a kernel sum that flattens out far from the data; its negative logarithm keeps the same
    order and grows with the squared distance, so that strong departures remain apart."""

    def __init__(self, params: OcsvmParams) -> None:
        self._params = params

    def fit(self, x: np.ndarray) -> Self:
        from sklearn.svm import OneClassSVM

        x = checked(x)
        x = x[evenly(len(x), self._params.max_rows)]
        variance = float(x.var())
        self._gamma = self._params.gamma / (x.shape[1] * variance if variance > 0 else 1.0)
        if len(x) < FEW_ROWS:
            # The limit nu = 1 is the plain kernel density, every row a support vector of the same weight.
            self._vectors, self._weights = x, np.full(len(x), 1.0)
            return self
        model = OneClassSVM(kernel="rbf", gamma=self._gamma, nu=max(self._params.nu, 2.0 / len(x))).fit(x)
        self._vectors = np.asarray(model.support_vectors_, dtype=np.float64)
        self._weights = np.asarray(model.dual_coef_[0], dtype=np.float64)
        return self

    def score(self, x: np.ndarray) -> np.ndarray:
        from scipy.special import logsumexp

        x = checked(x)
        out = np.empty(len(x))
        squares = (self._vectors**2).sum(axis=1)
        for i in range(0, len(x), 1024):
            part = x[i : i + 1024]
            distance = np.maximum((part**2).sum(axis=1)[:, None] - 2 * part @ self._vectors.T + squares, 0.0)
            out[i : i + 1024] = -logsumexp(-self._gamma * distance, b=self._weights, axis=1)
        return out
