"""What is usual for a person: robust location and scale of each feature, and the part that pose and light explain."""

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
        if np.isfinite(x).all():
            # The same numbers, without NumPy's one call per column.
            columns = np.ascontiguousarray(np.transpose(x))
            centre = np.median(columns, axis=1)
            mad = MAD_TO_SIGMA * np.median(np.abs(columns - centre[:, None]), axis=1, overwrite_input=True)
            low, high = np.quantile(columns, [0.1, 0.9], axis=1)
        else:
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


CONFOUND_FLOORS = np.array([2.0, 2.0, 2.0, 4.0, 0.05])
"""Changes of pose (degrees), light (grey levels) and size (octaves) that are too small to matter; see `CONFOUNDS`."""


def without_confounds(x: np.ndarray, confounds: np.ndarray, *, squares: bool, ridge: float = 0.05) -> np.ndarray:
    """What is left of `x` [n, d] after the part that head pose, light and size [n, 5] explain.

    A ridge regression on the confounds in robust units (limited to ± 4), and on their squares if asked, with two
    rounds of Huber weights per row, so that a burst of expression that happens with a turned head is not explained
    away. Rows whose confounds are unknown keep their value (they count as usual); with fewer than 10 rows per
    regressor nothing is taken out.
    """
    known = np.isfinite(confounds).all(axis=1)
    count = confounds.shape[1] * (2 if squares else 1)
    if known.sum() < 10 * count:
        return x
    usual = Baseline.of(confounds[known], CONFOUND_FLOORS)
    z = np.where(known[:, None], usual.standardise(confounds, 4.0), 0.0)
    design = np.concatenate([z, np.where(known[:, None], z**2 - 1.0, 0.0)], axis=1) if squares else z
    target = Baseline.of(x[known])
    a, y = design[known], target.standardise(x[known])
    weight = np.ones(len(a))
    for _ in range(3):
        aw = a * weight[:, None]
        coefficients = np.linalg.solve(aw.T @ a + ridge * len(a) * np.eye(count), aw.T @ y)
        length = np.sqrt(((y - a @ coefficients) ** 2).mean(axis=1))
        weight = np.minimum(1.0, 1.5 * np.median(length) / np.maximum(length, 1e-12))
    return x - (design @ coefficients) * target.scale
