"""Choosing among trials without labels.

No label says which trial is right, so three imperfect surrogates are asked and their rankings are added up (Borda), as
in Goswami et al. (ICLR 2023, "Unsupervised model selection for time-series anomaly detection"):

1. *injection*: average precision on synthetic facial anomalies planted into the person's own footage;
2. *stability*: Spearman correlation between the scores of two models fitted on alternating blocks of the footage;
3. *agreement*: mean Spearman correlation with the person's other trials, averaged per model first, so that twelve
   variants of one model do not vote each other into office.

The first two need one trial alone and are measured there; the third needs all of them. A high rank in all three makes
a trial sane, not right, so by default the scores of the better two thirds of the trials are averaged
(`select="ensemble"`). What that is worth beside the best trial, a random one and all of them is measured in
docs/adr/0006-anomalies.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from faceline.anomaly.baseline import robust_z
from faceline.anomaly.ranks import average_ranks

Select = Literal["best", "ensemble", "models", "all"]


def agreement(scores: np.ndarray, models: Sequence[str]) -> np.ndarray:
    """Mean Spearman correlation of each trial with the others, per model first; float64 [trials].

    Args:
        scores: float64 [trials, n], NaN where a trial has no score; ranks are taken within each trial and correlated
            over the rows that both have.
        models: model name of each trial.

    A trial without scores, or without another to agree with, gets NaN.
    """
    count = len(scores)
    known = np.isfinite(scores)
    ranks = np.zeros_like(scores)
    for i in range(count):
        ranks[i, known[i]] = average_ranks(scores[i, known[i]])
    mask = known.astype(np.float64)
    # Pearson correlation of the ranks over shared rows, all pairs at once.
    shared = mask @ mask.T
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (ranks @ mask.T) / shared
        square = (ranks**2 @ mask.T) / shared
        variance = np.maximum(square - mean**2, 0.0)
        correlation = ((ranks @ ranks.T) / shared - mean * mean.T) / np.sqrt(variance * variance.T)
    correlation[~np.isfinite(correlation)] = np.nan
    np.fill_diagonal(correlation, np.nan)
    names = np.asarray(models, dtype=object)
    result = np.full(count, np.nan)
    for i in range(count):
        per_model = [correlation[i, names == name] for name in sorted(set(models))]
        means = [float(np.nanmean(c)) for c in per_model if np.isfinite(c).any()]
        result[i] = np.mean(means) if means else np.nan
    return result


def objective(parts: np.ndarray, scored: np.ndarray) -> np.ndarray:
    """Rank-aggregated objective float64 [trials], 1 = best in everything, 0 = worst; NaN for trials without scores.

    Args:
        parts: float64 [trials, k], each higher = better; a part that could not be measured ranks as the middle.
        scored: bool [trials].
    """
    result = np.full(len(parts), np.nan)
    chosen = np.flatnonzero(scored)
    if len(chosen) == 0:
        return result
    total = np.zeros(len(chosen))
    for column in parts[chosen].T:
        share = np.full(len(chosen), 0.5)
        known = np.isfinite(column)
        if known.sum() > 1:
            share[known] = (average_ranks(column[known]) - 1) / (known.sum() - 1)
        total += share
    result[chosen] = total / parts.shape[1]
    return result


@dataclass(frozen=True)
class Choice:
    """Positions of trials from best to worst (`order`), and those that make the final score (`chosen`)."""

    order: tuple[int, ...]
    chosen: tuple[int, ...]


def choose(value: np.ndarray, models: Sequence[str], names: Sequence[str], select: Select, share: float) -> Choice:
    """Choose by objective; equal values are ordered by name, so that the order of trials does not matter.

    `select`: "best" takes the first; "ensemble" the best `share` of all scored trials (at least one); "models" the
    best of each model; "all" every scored trial.
    """
    order = sorted(np.flatnonzero(np.isfinite(value)), key=lambda i: (-value[i], names[i]))
    if select == "best":
        chosen = order[:1]
    elif select == "ensemble":
        chosen = order[: max(1, round(share * len(order)))]
    elif select == "all":
        chosen = order
    else:
        firsts: dict[str, int] = {}
        for i in order:
            firsts.setdefault(models[i], i)
        chosen = list(firsts.values())
    return Choice(tuple(int(i) for i in order), tuple(int(i) for i in chosen))


def combine(scores: np.ndarray, limit: float = 30.0) -> np.ndarray:
    """Mean of several trials' robust z-scores [k, n] as a robust z again; float64 [n].

    A row needs a score from at least half of the trials. Scores are limited so that one trial's outlier does not
    decide alone.
    """
    known = np.isfinite(scores)
    enough = known.sum(axis=0) * 2 >= len(scores)
    total = np.where(known, np.clip(scores, -limit, limit), 0.0).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(enough & known.any(axis=0), total / known.sum(axis=0), np.nan)
    return robust_z(mean)
