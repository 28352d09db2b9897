"""Anomaly models behind one protocol: fit on a person's own windows, score the same or others, higher = more unusual.

Scikit-learn's scores fall with abnormality; the sign is turned here, once, and a test holds it for every model. A
further model is a parameter class beside the ones below, named in `AnyModelParams`; nothing else knows them by name.
Models see complete rows only: a NaN is refused, never filled in.
"""

from __future__ import annotations

from typing import Annotated, Literal, Protocol, Self, get_args

import numpy as np
from pydantic import Field

from faceline.anomaly.baseline import Baseline
from faceline.stage import StageParams


class AnomalyModel(Protocol):
    """A model of what is usual."""

    def fit(self, x: np.ndarray) -> Self:
        """Learn from x, float64 [n ≥ 1, d], finite."""
        ...

    def score(self, x: np.ndarray) -> np.ndarray:
        """float64 [n], finite, higher = more unusual; comparable only within one fitted model."""
        ...


class IForestParams(StageParams):
    """Isolation Forest (Liu, Ting & Zhou 2008): how few random splits set a window apart."""

    name: Literal["iforest"] = "iforest"
    n_estimators: int = Field(200, ge=10, le=2000, description="number of trees")
    max_samples: int = Field(256, ge=8, le=100_000, description="rows that each tree sees, at most")
    max_features: float = Field(1.0, gt=0, le=1, description="share of the features that each tree sees")

    def build(self, seed: int) -> AnomalyModel:
        """An unfitted model."""
        return _IForest(self, seed)


class OcsvmParams(StageParams):
    """One-class SVM with an RBF kernel (Schölkopf et al. 2001): how far outside the usual region a window lies."""

    name: Literal["ocsvm"] = "ocsvm"
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
        del seed  # the solver is deterministic
        return _Ocsvm(self)


class LofParams(StageParams):
    """Local Outlier Factor (Breunig et al. 2000): how much sparser a window's surroundings are than its neighbours'."""

    name: Literal["lof"] = "lof"
    n_neighbors: int = Field(30, ge=1, le=1000, description="neighbours that define the surroundings")
    max_rows: int = Field(
        3000, ge=50, le=50_000, description="windows among which neighbours are sought, evenly spaced"
    )

    def build(self, seed: int) -> AnomalyModel:
        """An unfitted model."""
        del seed  # nothing random in it
        return _Lof(self)


class DeviationParams(StageParams):
    """Root mean square of the robust z-scores: the plain yardstick that the others have to beat."""

    name: Literal["deviation"] = "deviation"

    def build(self, seed: int) -> AnomalyModel:
        """An unfitted model."""
        del seed
        return _Deviation()


AnyModelParams = Annotated[IForestParams | OcsvmParams | LofParams | DeviationParams, Field(discriminator="name")]
"""Parameters of any model, told apart by their `name`."""

MODELS: dict[str, type[StageParams]] = {
    p.model_fields["name"].default: p for p in get_args(get_args(AnyModelParams)[0])
}
"""Parameter class of each model, by name."""


def checked(x: np.ndarray) -> np.ndarray:
    """x as float64 [n, d]; `ValueError` when it is no table of finite numbers with at least one row and column."""
    x = np.asarray(x, dtype=np.float64)
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"a model needs a table of at least one row and one column, got shape {x.shape}")
    if not np.isfinite(x).all():
        rows = int((~np.isfinite(x).all(axis=1)).sum())
        raise ValueError(
            f"{rows} of {len(x)} rows hold NaN or infinite values; leave masked rows out, never fill them in"
        )
    return x


def evenly(n: int, at_most: int) -> np.ndarray:
    """int64 positions of at most `at_most` of n rows, evenly spaced, first and last among them."""
    return np.unique(np.linspace(0, n - 1, min(n, at_most)).round().astype(np.int64))


FEW_ROWS = 8
"""Below so many rows the one-class SVM's solver has nothing to bound."""


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


class _Lof:
    """LOF with reference rows and a floor under distances, so that duplicates (a still picture) do not divide by zero.

    A row that is itself a reference is not its own neighbour. The score is the logarithm of the factor: 0 = as dense
    as its neighbours. With all rows as references and no duplicates it equals scikit-learn's to rounding (tested).
    """

    def __init__(self, params: LofParams) -> None:
        self._params = params

    def fit(self, x: np.ndarray) -> Self:
        from sklearn.neighbors import NearestNeighbors

        x = checked(x)
        x = x[evenly(len(x), self._params.max_rows)]
        self._centre = x.mean(axis=0)
        x = x - self._centre
        self._k = min(self._params.n_neighbors, len(x) - 1)
        if self._k < 1:
            return self
        self._index = NearestNeighbors(n_neighbors=self._k + 1, algorithm="kd_tree" if x.shape[1] <= 8 else "brute")
        self._index.fit(x)
        distance, neighbour = self._neighbours(x)
        reach = distance[:, -1]
        self._floor = 1e-3 * float(np.median(reach[reach > 0])) if (reach > 0).any() else 1.0
        self._reach = np.maximum(reach, self._floor)
        self._density = 1.0 / np.maximum(distance, self._reach[neighbour]).mean(axis=1)
        return self

    def score(self, x: np.ndarray) -> np.ndarray:
        x = checked(x) - self._centre
        if self._k < 1:
            return np.zeros(len(x))
        distance, neighbour = self._neighbours(x)
        density = 1.0 / np.maximum(distance, self._reach[neighbour]).mean(axis=1)
        return np.asarray(np.log(self._density[neighbour].mean(axis=1) / density))

    def _neighbours(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distances and positions [n, k] of the nearest references, without the row itself."""
        distance, neighbour = self._index.kneighbors(x)
        # The brute-force distance of a row to itself is rounding, not 0.
        itself = distance[:, 0] <= 1e-6 * (1.0 + np.sqrt((x**2).sum(axis=1)))
        columns = np.arange(self._k) + itself[:, None]
        return np.take_along_axis(distance, columns, axis=1), np.take_along_axis(neighbour, columns, axis=1)


class _Deviation:
    def fit(self, x: np.ndarray) -> Self:
        self._usual = Baseline.of(checked(x))
        return self

    def score(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(np.sqrt((self._usual.standardise(checked(x)) ** 2).mean(axis=1)))
