"""Other methods, to compare with: each a function from a person's rows to one score per row, higher = more unusual.

They see what faceline sees (the features of a person's usable faces) and nothing of the truth. Deliberately plain:
library defaults, no windows, no robust scaling beyond what the method itself prescribes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Baseline = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""time_s float64 [n] ascending, features float64 [n, d] (NaN where unknown), stretches int64 [n] ascending →
float64 [n]; NaN for rows with a missing feature, and for all rows when fewer than `LEAST_ROWS` are complete."""

LEAST_ROWS = 20
SEED = 0
WINDOW_ROWS = 10
"""Length of the autoencoder's sequences, rows."""

TOP = 10
"""The ancestor reports so many rows of the highest error."""

SPACING_S = 1.0
"""Peaks closer than this are one event, as in faceline."""


def _complete(score: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]) -> Baseline:
    """A method on complete rows as a `Baseline`."""

    def scored(time_s: np.ndarray, features: np.ndarray, stretches: np.ndarray) -> np.ndarray:
        features = np.asarray(features, dtype=np.float64)
        known = np.isfinite(features).all(axis=1)
        out = np.full(len(features), np.nan)
        if known.sum() >= LEAST_ROWS:
            out[known] = score(np.asarray(time_s)[known], features[known], np.asarray(stretches)[known])
        return out

    scored.__doc__ = score.__doc__
    return scored


def _standard(features: np.ndarray) -> np.ndarray:
    """Mean 0, deviation 1 per column; constant columns become 0."""
    deviation = features.std(axis=0)
    return (features - features.mean(axis=0)) / np.where(deviation > 1e-12, deviation, np.inf)


@_complete
def isolation_forest(time_s: np.ndarray, features: np.ndarray, stretches: np.ndarray) -> np.ndarray:
    """Isolation Forest (Liu, Ting & Zhou 2008), scikit-learn's defaults, on single rows."""
    from sklearn.ensemble import IsolationForest

    return -IsolationForest(random_state=SEED).fit(features).score_samples(features)


@_complete
def one_class_svm(time_s: np.ndarray, features: np.ndarray, stretches: np.ndarray) -> np.ndarray:
    """One-class SVM (Schölkopf et al. 2001), scikit-learn's defaults, on standardised single rows."""
    from sklearn.svm import OneClassSVM

    x = _standard(features)
    return -OneClassSVM().fit(x).decision_function(x)


@_complete
def local_outlier_factor(time_s: np.ndarray, features: np.ndarray, stretches: np.ndarray) -> np.ndarray:
    """Local Outlier Factor (Breunig et al. 2000), scikit-learn's defaults, on standardised single rows."""
    from sklearn.neighbors import LocalOutlierFactor

    lof = LocalOutlierFactor(n_neighbors=min(20, len(features) - 1)).fit(_standard(features))
    return -lof.negative_outlier_factor_


@_complete
def principal_components(time_s: np.ndarray, features: np.ndarray, stretches: np.ndarray) -> np.ndarray:
    """Squared distance from the subspace that holds 90 % of the variance (Q statistic; Jackson & Mudholkar 1979)."""
    x = _standard(features)
    _, singular, directions = np.linalg.svd(x, full_matrices=False)
    share = np.cumsum(singular**2) / max(float((singular**2).sum()), 1e-12)
    kept = directions[: min(int(np.searchsorted(share, 0.9)) + 1, len(directions))]
    return ((x - x @ kept.T @ kept) ** 2).sum(axis=1)


@_complete
def largest_robust_z(time_s: np.ndarray, features: np.ndarray, stretches: np.ndarray) -> np.ndarray:
    """The largest |x − median| / (1.4826 MAD) of any feature (Iglewicz & Hoaglin 1993)."""
    apart = np.abs(features - np.median(features, axis=0))
    mad = 1.4826 * np.median(apart, axis=0)
    # A feature that mostly stands still has no MAD: its mean absolute deviation scales.
    scale = np.where(mad > 1e-9, mad, 1.2533 * apart.mean(axis=0))
    return (apart / np.where(scale > 1e-12, scale, np.inf)).max(axis=1)


@_complete
def chance(time_s: np.ndarray, features: np.ndarray, stretches: np.ndarray) -> np.ndarray:
    """Random scores: what any figure is worth when nothing is known."""
    return np.random.default_rng([SEED, len(time_s)]).random(len(time_s))


def mean_rank(*methods: Baseline) -> Baseline:
    """The mean of several methods' ranks (each from 0 to 1 over the rows it scores)."""

    def scored(time_s: np.ndarray, features: np.ndarray, stretches: np.ndarray) -> np.ndarray:
        return np.mean([ranks(method(time_s, features, stretches)) for method in methods], axis=0)

    return scored


def ranks(score: np.ndarray) -> np.ndarray:
    """Ranks 0 … 1 of the finite scores, equal ones sharing their mean; NaN stays NaN."""
    from scipy.stats import rankdata

    out = np.full(len(score), np.nan)
    known = np.isfinite(score)
    if known.sum() > 1:
        out[known] = (rankdata(score[known]) - 1) / (known.sum() - 1)
    return out


def ancestor(embeddings: np.ndarray, emotions: np.ndarray, stretches: np.ndarray, *, epochs: int = 50) -> np.ndarray:
    """The straightforward method that faceline replaces: UMAP to three components, beside six emotions, through an
    LSTM autoencoder over sequences of ten rows; the score is the reconstruction error.

    Everything is fitted on all rows, anomalies included, as it was; sequences are made by row, whatever the time
    between them, within a stretch.

    Args:
        embeddings: float [n, e], identity embeddings; NaN rows where there is none.
        emotions: float [n, 6], scores of angry, disgust, fear, happy, sad, surprise; NaN rows where there is none.
        stretches: int64 [n] ascending.
        epochs: passes over all sequences.

    Returns:
        float64 [n], NaN where an input is missing or no sequence covers the row.
    """
    import umap

    known = np.isfinite(embeddings).all(axis=1) & np.isfinite(emotions).all(axis=1)
    out = np.full(len(known), np.nan)
    if known.sum() < LEAST_ROWS:
        return out
    reduced = umap.UMAP(n_components=3, random_state=SEED, n_jobs=1).fit_transform(embeddings[known])
    x = _standard(np.concatenate([reduced, emotions[known]], axis=1))
    out[known] = _reconstruction_error(x, stretches[known], epochs)
    return out


def _reconstruction_error(x: np.ndarray, stretches: np.ndarray, epochs: int) -> np.ndarray:
    """Mean squared error per row, over all sequences that hold it; float64 [n]."""
    import torch

    n, d = x.shape
    starts = np.arange(max(n - WINDOW_ROWS + 1, 0))
    starts = starts[stretches[starts] == stretches[starts + WINDOW_ROWS - 1]]
    if len(starts) == 0:
        return np.full(n, np.nan)
    rows = starts[:, None] + np.arange(WINDOW_ROWS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        sequences = torch.tensor(x[rows], dtype=torch.float32)
        encoder, decoder = torch.nn.LSTM(d, 16, batch_first=True), torch.nn.LSTM(16, 16, batch_first=True)
        head = torch.nn.Linear(16, d)
        weights = [*encoder.parameters(), *decoder.parameters(), *head.parameters()]
        optimiser = torch.optim.Adam(weights, lr=1e-3)

        def rebuilt(batch: torch.Tensor) -> torch.Tensor:
            _, (code, _) = encoder(batch)
            return head(decoder(code[0][:, None].expand(-1, WINDOW_ROWS, -1))[0])

        for _ in range(epochs):
            for batch in torch.randperm(len(sequences)).split(32):
                optimiser.zero_grad()
                torch.nn.functional.mse_loss(rebuilt(sequences[batch]), sequences[batch]).backward()
                optimiser.step()
        with torch.no_grad():
            error = ((rebuilt(sequences) - sequences) ** 2).mean(dim=2).numpy().astype(np.float64)
    total, count = np.zeros(n), np.zeros(n)
    np.add.at(total, rows, error)
    np.add.at(count, rows, 1.0)
    return np.where(count > 0, total / np.maximum(count, 1.0), np.nan)


BASELINES: dict[str, Baseline] = {
    "isolation forest": isolation_forest,
    "one-class SVM": one_class_svm,
    "local outlier factor": local_outlier_factor,
    "principal components": principal_components,
    "largest robust z": largest_robust_z,
    "chance": chance,
    "mean rank": mean_rank(isolation_forest, one_class_svm, local_outlier_factor, principal_components),
}
"""Methods on one table of features, by the name under which their figures are printed."""
