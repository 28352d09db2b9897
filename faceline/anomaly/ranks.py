"""Rank statistics, with ties shared."""

from __future__ import annotations

import numpy as np


def average_precision(positive: np.ndarray, negative: np.ndarray) -> float:
    """Area under the precision-recall curve of scores that should be high and scores that should be low.

    Ties count against: a negative with the same score ranks before the positive.
    """
    positive = np.sort(positive)[::-1]
    above = len(negative) - np.searchsorted(np.sort(negative), positive, side="left")
    hits = np.arange(1, len(positive) + 1)
    return float(np.mean(hits / (hits + above)))


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation with mean ranks for ties; 0 when one of them is constant."""
    ranks = np.stack([average_ranks(a), average_ranks(b)])
    ranks -= ranks.mean(axis=1, keepdims=True)
    norm = np.sqrt((ranks**2).sum(axis=1))
    return float(ranks[0] @ ranks[1] / (norm[0] * norm[1])) if norm.all() else 0.0


def average_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, equal values sharing their mean rank; float64 [n]."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse], dtype=np.float64)
