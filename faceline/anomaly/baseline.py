"""What is usual for a person: robust location and scale of each feature, and the part that head pose explains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MAD_TO_SIGMA = 1.4826
"""The median absolute deviation of a normal distribution times this is its standard deviation."""

LIMIT = 12.0
"""Standardised values are limited to ± this, so that one glitch of one feature cannot outweigh all others."""


@dataclass(frozen=True)
class Baseline:
    """Robust location and scale per column: `centre`, `scale` float64 [d]."""

    centre: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, floor: float | np.ndarray = 1e-6) -> Baseline:
        """Baseline of the rows of `x` [n, d] (NaN ignored per column), which must hold at least one finite row.

        The scale is the largest of three: the MAD (as a standard deviation), half the standard deviation that the
        central 80 % suggest, and `floor`. The second keeps a feature that is still most of the time (its MAD is near
        nothing) from turning every ordinary movement into a departure; up to 10 % of anomalies on a side cannot
        touch it.
        """
        with np.errstate(all="ignore"):
            centre = np.nanmedian(x, axis=0)
            mad = MAD_TO_SIGMA * np.nanmedian(np.abs(x - centre), axis=0)
            low, high = np.nanquantile(x, [0.1, 0.9], axis=0)
        return cls(centre, np.maximum(np.maximum(mad, 0.5 * (high - low) / 2.563), floor))

    def standardise(self, x: np.ndarray, limit: float = LIMIT) -> np.ndarray:
        """(x − centre) / scale, limited to ± `limit`; NaN stays NaN."""
        return np.clip((x - self.centre) / self.scale, -limit, limit)


def robust_z(score: np.ndarray) -> np.ndarray:
    """Scores with median 0 and MAD (as a standard deviation) 1 over the finite ones; NaN stays NaN.

    Where more than half of the scores are equal the MAD is 0; then their mean absolute deviation scales, and a
    constant series becomes zeros.
    """
    z = np.full(len(score), np.nan)
    known = np.isfinite(score)
    if not known.any():
        return z
    centred = score[known] - np.median(score[known])
    scale = MAD_TO_SIGMA * np.median(np.abs(centred))
    if scale <= 1e-12 * max(1.0, float(np.max(np.abs(score[known])))):
        scale = 1.2533 * np.mean(np.abs(centred))
    z[known] = centred / scale if scale > 0 else 0.0
    return z


def without_pose(x: np.ndarray, pose_deg: np.ndarray, ridge: float = 0.05) -> np.ndarray:
    """What is left of `x` [n, d] after the part that head pose [n, 3] explains linearly and by its squares.

    Rows without a pose keep their value (their pose is taken as the usual one). The fit is a ridge regression with
    two rounds of Huber weights, so that a burst of expression that happens with a turned head is not explained away,
    and it is skipped where fewer than 30 rows know their pose.
    """
    known = np.isfinite(pose_deg).all(axis=1) & np.isfinite(x).all(axis=1)
    if known.sum() < 30:
        return x
    z = np.where(np.isfinite(pose_deg), Baseline.of(pose_deg[known], 2.0).standardise(pose_deg, 4.0), 0.0)
    design = np.concatenate([z, z**2 - 1.0], axis=1)
    usual = Baseline.of(x[known])
    target = usual.standardise(x[known])
    a = design[known]
    weight = np.ones_like(target)
    coefficients = np.zeros((a.shape[1], x.shape[1]))
    for _ in range(3):
        for j in range(x.shape[1]):
            aw = a * weight[:, j : j + 1]
            coefficients[:, j] = np.linalg.solve(aw.T @ a + ridge * len(a) * np.eye(a.shape[1]), aw.T @ target[:, j])
        weight = 1.5 / np.maximum(np.abs(target - a @ coefficients), 1.5)
    return x - (design @ coefficients) * usual.scale
