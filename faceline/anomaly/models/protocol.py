"""What every model answers to, and what all of them need."""

from __future__ import annotations

from typing import Protocol, Self

import numpy as np


class AnomalyModel(Protocol):
    """A model of what is usual."""

    def fit(self, x: np.ndarray) -> Self:
        """Learn from x, float64 [n ≥ 1, d], finite."""
        ...

    def score(self, x: np.ndarray) -> np.ndarray:
        """float64 [n], finite, higher = more unusual; comparable only within one fitted model."""
        ...


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
