"""Expression measures: what the lips, brows, lids and jaw do, as plain lengths on the face's own scale.

Every measure is taken from the mesh after the head's turn is taken out (`faceline.pose`), so moving, scaling or
turning the picture leaves it unchanged, and turning the head changes it little. Lengths are in units of the fitted
mean face's outer eye corner distance. They describe geometry; what is usual is for each person's own baseline to say.

Left and right are the subject's own. Heights grow upwards. Action units are those of the Facial Action Coding System
(Ekman & Friesen 1978; Ekman, Friesen & Hager 2002); a measure relates to its unit, it does not detect it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from faceline.pose import HeadFit, frontalise

_EYE_DISTANCE = "outer eye distances"
_RATIO = "ratio"
_OWN = "own definition"
_EAR = "Soukupová & Čech, Real-Time Eye Blink Detection using Facial Landmarks, CVWW 2016"

Points = np.ndarray
"""float64 [n, 478, 3] in the head frame of `faceline.pose`."""


@dataclass(frozen=True)
class Measure:
    """One expression measure.

    Attributes:
        name: its column.
        words: its name for people.
        definition: how it is taken, with mesh indices.
        unit: ``outer eye distances`` or ``ratio``; both are dimensionless.
        action_unit: FACS action units that move it, and which way.
        source: where the definition comes from.
        compute: [n, 478, 3] head-frame points → float64 [n].
    """

    name: str
    words: str
    definition: str
    unit: str
    action_unit: str
    source: str
    compute: Callable[[Points], np.ndarray] = field(repr=False, compare=False)


def _mean(p: Points, *indices: int) -> np.ndarray:
    return p[:, indices, :].mean(axis=1)


def _apart(p: Points, a: int, b: int) -> np.ndarray:
    return np.linalg.norm(p[:, a] - p[:, b], axis=-1)


def _eye_aspect(p: Points, corners: tuple[int, int], lids: tuple[tuple[int, int], ...]) -> np.ndarray:
    height = np.mean([_apart(p, upper, lower) for upper, lower in lids], axis=0)
    return height / np.maximum(_apart(p, *corners), 1e-9)


def _eye_right(p: Points) -> np.ndarray:
    return _eye_aspect(p, (33, 133), ((160, 144), (158, 153)))


def _eye_left(p: Points) -> np.ndarray:
    return _eye_aspect(p, (263, 362), ((387, 373), (385, 380)))


_EYES = (33, 133, 362, 263)
_BROW_INNER_RIGHT, _BROW_INNER_LEFT = (107, 55), (336, 285)
_BROW_OUTER_RIGHT, _BROW_OUTER_LEFT = (70, 63, 46, 53), (300, 293, 276, 283)
_CHEEK_RIGHT, _CHEEK_LEFT = (50, 101, 36), (280, 330, 266)


def _above(p: Points, indices: tuple[int, ...], reference: tuple[int, ...]) -> np.ndarray:
    return _mean(p, *indices)[:, 1] - _mean(p, *reference)[:, 1]


def _corner_lift_right(p: Points) -> np.ndarray:
    return _above(p, (61,), (2,))


def _corner_lift_left(p: Points) -> np.ndarray:
    return _above(p, (291,), (2,))


def _brow_inner_right(p: Points) -> np.ndarray:
    return _above(p, _BROW_INNER_RIGHT, _EYES)


def _brow_inner_left(p: Points) -> np.ndarray:
    return _above(p, _BROW_INNER_LEFT, _EYES)


def _brow_outer_right(p: Points) -> np.ndarray:
    return _above(p, _BROW_OUTER_RIGHT, _EYES)


def _brow_outer_left(p: Points) -> np.ndarray:
    return _above(p, _BROW_OUTER_LEFT, _EYES)


def _mouth_opening(p: Points) -> np.ndarray:
    return np.mean([_apart(p, upper, lower) for upper, lower in ((13, 14), (82, 87), (312, 317))], axis=0)


def _mouth_width(p: Points) -> np.ndarray:
    return _apart(p, 61, 291)


def _gaze(p: Points, axis: int) -> np.ndarray:
    shifts = []
    for iris, corners in ((468, (33, 133)), (473, (362, 263))):
        middle = _mean(p, *corners)
        width = np.maximum(_apart(p, *corners), 1e-9)
        shifts.append((p[:, iris, axis] - middle[:, axis]) / width)
    return np.mean(shifts, axis=0)


MEASURES: tuple[Measure, ...] = (
    Measure(
        "mouth_opening",
        "mouth opening",
        "mean distance of the inner lip points 13–14, 82–87, 312–317",
        _EYE_DISTANCE,
        "AU25, AU26, AU27 (up)",
        _OWN,
        _mouth_opening,
    ),
    Measure(
        "mouth_width",
        "mouth width",
        "distance of the lip corners 61–291",
        _EYE_DISTANCE,
        "AU12, AU14, AU20 (up), AU18 (down)",
        _OWN,
        _mouth_width,
    ),
    Measure(
        "corner_lift_left",
        "left lip corner lift",
        "height of lip corner 291 over the nose base 2",
        _EYE_DISTANCE,
        "AU12 (up), AU15 (down)",
        _OWN,
        _corner_lift_left,
    ),
    Measure(
        "corner_lift_right",
        "right lip corner lift",
        "height of lip corner 61 over the nose base 2",
        _EYE_DISTANCE,
        "AU12 (up), AU15 (down)",
        _OWN,
        _corner_lift_right,
    ),
    Measure(
        "mouth_curve",
        "lip corners over lip middle",
        "mean height of the lip corners 61, 291 over the mean of the lip middles 0, 13, 14, 17",
        _EYE_DISTANCE,
        "AU12 (up), AU15 (down)",
        _OWN,
        lambda p: _above(p, (61, 291), (0, 13, 14, 17)),
    ),
    Measure(
        "lip_pucker",
        "lip pucker",
        "how far the lip middles 0, 13, 14, 17 stand out in front of the lip corners 61, 291, per mouth width",
        _RATIO,
        "AU18, AU22 (up), AU12, AU20 (down)",
        _OWN,
        lambda p: (_mean(p, 0, 13, 14, 17)[:, 2] - _mean(p, 61, 291)[:, 2]) / np.maximum(_mouth_width(p), 1e-9),
    ),
    Measure(
        "upper_lip_thickness",
        "upper lip thickness",
        "distance of the upper lip's edges 0–13",
        _EYE_DISTANCE,
        "AU23, AU24, AU28 (down), AU22 (up)",
        _OWN,
        lambda p: _apart(p, 0, 13),
    ),
    Measure(
        "lower_lip_thickness",
        "lower lip thickness",
        "distance of the lower lip's edges 14–17",
        _EYE_DISTANCE,
        "AU23, AU24, AU28 (down), AU22 (up)",
        _OWN,
        lambda p: _apart(p, 14, 17),
    ),
    Measure(
        "upper_lip_raise",
        "upper lip raise",
        "height of the upper lip's edge points 37, 0, 267 over the nose base 2",
        _EYE_DISTANCE,
        "AU10 (up)",
        _OWN,
        lambda p: _above(p, (37, 0, 267), (2,)),
    ),
    Measure(
        "lip_to_chin",
        "lower lip to chin",
        "distance of lower lip 17 and chin 152",
        _EYE_DISTANCE,
        "AU17, AU26, AU27 (down)",
        _OWN,
        lambda p: _apart(p, 17, 152),
    ),
    Measure(
        "jaw_drop",
        "jaw drop",
        "distance of nose base 2 and chin 152",
        _EYE_DISTANCE,
        "AU26, AU27 (up)",
        _OWN,
        lambda p: _apart(p, 2, 152),
    ),
    Measure(
        "jaw_sideways",
        "jaw to the left",
        "sideways place of the chin 152, 148, 377 relative to the nose ridge 168, 6; positive to the subject's left",
        _EYE_DISTANCE,
        "AD30",
        _OWN,
        lambda p: _mean(p, 152, 148, 377)[:, 0] - _mean(p, 168, 6)[:, 0],
    ),
    Measure(
        "brow_inner_left",
        "left inner brow raise",
        "height of brow points 336, 285 over the eye corners 33, 133, 362, 263",
        _EYE_DISTANCE,
        "AU1 (up), AU4 (down)",
        _OWN,
        _brow_inner_left,
    ),
    Measure(
        "brow_inner_right",
        "right inner brow raise",
        "height of brow points 107, 55 over the eye corners 33, 133, 362, 263",
        _EYE_DISTANCE,
        "AU1 (up), AU4 (down)",
        _OWN,
        _brow_inner_right,
    ),
    Measure(
        "brow_outer_left",
        "left outer brow raise",
        "height of brow points 300, 293, 276, 283 over the eye corners 33, 133, 362, 263",
        _EYE_DISTANCE,
        "AU2 (up)",
        _OWN,
        _brow_outer_left,
    ),
    Measure(
        "brow_outer_right",
        "right outer brow raise",
        "height of brow points 70, 63, 46, 53 over the eye corners 33, 133, 362, 263",
        _EYE_DISTANCE,
        "AU2 (up)",
        _OWN,
        _brow_outer_right,
    ),
    Measure(
        "brow_gap",
        "gap between the brows",
        "mean distance of the inner brow points 55–285, 107–336",
        _EYE_DISTANCE,
        "AU4 (down)",
        _OWN,
        lambda p: (_apart(p, 55, 285) + _apart(p, 107, 336)) / 2,
    ),
    Measure(
        "eye_opening_left",
        "left eye opening",
        "eye aspect ratio: mean of lid distances 387–373, 385–380 over corner distance 263–362",
        _RATIO,
        "AU5 (up), AU6, AU7, AU43, AU45 (down)",
        _EAR,
        _eye_left,
    ),
    Measure(
        "eye_opening_right",
        "right eye opening",
        "eye aspect ratio: mean of lid distances 160–144, 158–153 over corner distance 33–133",
        _RATIO,
        "AU5 (up), AU6, AU7, AU43, AU45 (down)",
        _EAR,
        _eye_right,
    ),
    Measure(
        "cheek_raise_left",
        "left cheek raise",
        "height of cheek points 280, 330, 266 over the eye corners 263, 362",
        _EYE_DISTANCE,
        "AU6, AU12 (up)",
        _OWN,
        lambda p: _above(p, _CHEEK_LEFT, (263, 362)),
    ),
    Measure(
        "cheek_raise_right",
        "right cheek raise",
        "height of cheek points 50, 101, 36 over the eye corners 33, 133",
        _EYE_DISTANCE,
        "AU6, AU12 (up)",
        _OWN,
        lambda p: _above(p, _CHEEK_RIGHT, (33, 133)),
    ),
    Measure(
        "nose_wrinkle",
        "nose wrinkle",
        "mean height of the nostril wings 129, 358 over the inner eye corners 133, 362",
        _EYE_DISTANCE,
        "AU9, AU10 (up)",
        _OWN,
        lambda p: _above(p, (129, 358), (133, 362)),
    ),
    Measure(
        "mouth_asymmetry",
        "lip corners uneven",
        "corner_lift_left − corner_lift_right",
        _EYE_DISTANCE,
        "unilateral AU12, AU14, AU15",
        _OWN,
        lambda p: _corner_lift_left(p) - _corner_lift_right(p),
    ),
    Measure(
        "brow_asymmetry",
        "brows uneven",
        "mean of inner and outer brow raise, left − right",
        _EYE_DISTANCE,
        "unilateral AU1, AU2, AU4",
        _OWN,
        lambda p: (_brow_inner_left(p) + _brow_outer_left(p) - _brow_inner_right(p) - _brow_outer_right(p)) / 2,
    ),
    Measure(
        "eye_asymmetry",
        "eyes unevenly open",
        "eye_opening_left − eye_opening_right",
        _RATIO,
        "AU46",
        _OWN,
        lambda p: _eye_left(p) - _eye_right(p),
    ),
    Measure(
        "gaze_sideways",
        "gaze to the left",
        "sideways place of the irises 468, 473 between their eye corners, per eye width; positive to the left",
        _RATIO,
        "AU61 (up), AU62 (down)",
        _OWN,
        lambda p: _gaze(p, 0),
    ),
    Measure(
        "gaze_up",
        "gaze upwards",
        "height of the irises 468, 473 over their eye corners, per eye width",
        _RATIO,
        "AU63 (up), AU64 (down)",
        _OWN,
        lambda p: _gaze(p, 1),
    ),
)
"""All measures, in the order of their columns."""

MEASURE_NAMES: tuple[str, ...] = tuple(measure.name for measure in MEASURES)


def compute_measures(landmarks: npt.ArrayLike, fit: HeadFit | None = None) -> np.ndarray:
    """All measures of n faces.

    Args:
        landmarks: float [n, 478, 3], frame px (x right, y down, z in the same scale, smaller is nearer); a face with
            any NaN has no measures.
        fit: head fits of the same faces, when already made.

    Returns:
        float32 [n, len(MEASURES)], in the order of `MEASURES`; rows of NaN for missing faces.
    """
    faces = np.asarray(landmarks, dtype=np.float64)
    if faces.ndim != 3 or faces.shape[1:] != (478, 3):
        raise ValueError(f"landmarks of shape [n, 478, 3] are needed, got {faces.shape}")
    values = np.full((len(faces), len(MEASURES)), np.nan, dtype=np.float32)
    whole = np.isfinite(faces).all(axis=(1, 2))
    if not whole.any():
        return values
    part = None if fit is None else HeadFit(fit.rotation[whole], fit.scale[whole], fit.origin[whole])
    frontal = frontalise(faces[whole], part)
    values[whole] = np.stack([measure.compute(frontal) for measure in MEASURES], axis=1)
    return values
