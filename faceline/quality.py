"""How far a face picture can be trusted: sharpness, light, size and turn, and one figure in 0..1 made of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

SIZE_RAMP_PX = (12.0, 60.0)
"""Distance of the outer eye corners below which a face carries no expression, and above which size is no concern."""

SHARPNESS_RAMP = (0.002, 0.03)
"""`sharpness` of a face smeared beyond reading, and of an ordinary video face."""

CONTRAST_RAMP = (6.0, 25.0)
"""Standard deviation of the crop's luma: a face drowned in dark or light, and an ordinary one."""

TURN_RAMP_DEG = (25.0, 75.0)
"""Turn of the head away from the camera up to which both halves are well seen, and from which it is a profile."""


@dataclass(frozen=True)
class CropStatistics:
    """Statistics of an aligned crop.

    Attributes:
        sharpness: variance of the Laplacian relative to the variance of the luma, after a light blur; ≥ 0.
        luma_mean: mean luma, 0–255.
        contrast: standard deviation of the luma, in the same unit.
    """

    sharpness: float
    luma_mean: float
    contrast: float


def crop_statistics(rgb: np.ndarray) -> CropStatistics:
    """Measure the face region of an aligned crop, uint8 [S, S, 3] RGB.

    The variance of the Laplacian (Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", ICPR 2000)
    grows with contrast, so the same face in half the light would seem blurred; dividing by the variance of the luma
    takes that out. The blur before it keeps sensor noise from passing as detail.
    """
    import cv2

    gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    size = gray.shape[0]
    edge = size // 5  # the middle 60 % is face; the rest is hair and background
    face = gray[edge : size - edge, edge : size - edge].astype(np.float32)
    smooth = cv2.GaussianBlur(face, (0, 0), 1.0, borderType=cv2.BORDER_REPLICATE)
    laplacian = cv2.Laplacian(smooth, cv2.CV_32F, ksize=1)[1:-1, 1:-1]
    # OpenCV sums in double precision, in a tenth of the time.
    ((mean,),), ((contrast,),) = cv2.meanStdDev(face)
    spread = float(cv2.meanStdDev(laplacian)[1][0, 0])
    return CropStatistics(
        # Half a gray level of rounding noise has to stay small beside the variance of a blank picture.
        sharpness=spread**2 / (float(contrast) ** 2 + 1.0),
        luma_mean=float(mean),
        contrast=float(contrast),
    )


def _ramp(value: float, low_high: tuple[float, float], *, logarithmic: bool = False) -> float:
    low, high = low_high
    if not math.isfinite(value):
        return 0.0
    if logarithmic:
        value, low, high = math.log(max(value, 1e-12)), math.log(low), math.log(high)
    return min(1.0, max(0.0, (value - low) / (high - low)))


def quality(statistics: CropStatistics, eye_distance_px: float, yaw_deg: float, pitch_deg: float) -> float:
    """One figure in 0..1: the geometric mean of four parts, each 0..1, so that one bad part spoils the whole.

    size (eye distance, linear over `SIZE_RAMP_PX`), sharpness (logarithmic over `SHARPNESS_RAMP`), light (contrast,
    linear over `CONTRAST_RAMP`) and turn (angle between the nose and the camera, falling over `TURN_RAMP_DEG`).
    An unknown turn (NaN) counts as 0, as does any other part that is NaN.
    """
    facing = math.cos(math.radians(yaw_deg)) * math.cos(math.radians(pitch_deg))  # cosine of the angle to the camera
    away_deg = math.degrees(math.acos(max(-1.0, min(1.0, facing)))) if math.isfinite(facing) else 180.0
    parts = (
        _ramp(eye_distance_px, SIZE_RAMP_PX),
        _ramp(statistics.sharpness, SHARPNESS_RAMP, logarithmic=True),
        _ramp(statistics.contrast, CONTRAST_RAMP),
        1.0 - _ramp(away_deg, TURN_RAMP_DEG),
    )
    return float(math.prod(parts) ** (1 / len(parts)))
