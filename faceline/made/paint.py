"""What the still portrait hides and a moved one shows: the inside of the mouth, and lids behind spectacles."""

from __future__ import annotations

import numpy as np

from faceline.made import landmarks as lm
from faceline.made.fields import Curve, ramp
from faceline.made.landmarks import FaceFrame

THROAT_RGB = np.array([38.0, 16.0, 17.0])
TONGUE_RGB = np.array([122.0, 58.0, 56.0])
TEETH_RGB = np.array([228.0, 170.0, 134.0])


LASHES_RGB = np.array([58.0, 34.0, 30.0])


def paint_lids(rgb: np.ndarray, landmarks_px: np.ndarray, room: float) -> np.ndarray:
    """The picture with plain upper lids over the eyes, in the colour of the skin below them, and their lashes.

    For portraits on which shadow and spectacles leave no lid that could be drawn down over the eye.

    Args:
        rgb: uint8 [h, w, 3].
        landmarks_px: float [478, 2 or 3] in its pixels.
        room: height of the lid above its edge, in eye distances.

    Returns:
        uint8 [h, w, 3]; only the surroundings of the eyes differ from the picture.
    """
    frame = FaceFrame.of(landmarks_px)
    unit = frame.eye_distance_px
    face = frame.to_face(landmarks_px[:, :2])
    out = rgb.copy()
    for side, contour in lm.UPPER_LID.items():
        eye = landmarks_px[[*contour, *lm.LOWER_LID[side]], :2]
        x0, y0 = np.floor(eye.min(axis=0) - 0.2 * unit).astype(int)
        x1, y1 = np.ceil(eye.max(axis=0) + 0.2 * unit).astype(int)
        columns, rows = np.meshgrid(np.arange(x0, x1), np.arange(y0, y1))
        points = frame.to_face(np.stack([columns, rows], axis=-1).astype(np.float64))
        upper, lower = Curve.through(face[list(contour)]), Curve.through(face[list(lm.LOWER_LID[side])])
        x, y = points[..., 0], points[..., 1]
        patch = out[y0:y1, x0:x1].astype(np.float64)
        below = (x > lower.x[0]) & (x < lower.x[-1]) & (y > lower.at(x) + 0.02) & (y < lower.at(x) + 0.09)
        skin = np.median(patch[below], axis=0)
        inside = ramp((np.maximum(upper.x[0] - x, x - upper.x[-1]) + 0.01) / 0.03)
        offset = y - upper.at(x)
        lid = inside * ramp((-offset / room - 0.35) / 0.65)
        shade = 0.86 + 0.14 * np.clip(-offset / room, 0, 1)
        patch += lid[..., None] * (skin * shade[..., None] - patch)
        lashes = 0.75 * inside * ramp(np.abs(offset) / 0.02)
        patch += lashes[..., None] * (LASHES_RGB - patch)
        out[y0:y1, x0:x1] = np.clip(np.rint(patch), 0, 255).astype(np.uint8)
    return out


def paint_cavity(rgb: np.ndarray, landmarks_px: np.ndarray) -> np.ndarray:
    """The picture with the inside of the mouth painted where the lips may uncover it.

    Args:
        rgb: uint8 [h, w, 3].
        landmarks_px: float [478, 2 or 3] in its pixels.

    Returns:
        uint8 [h, w, 3]: within about half an eye distance of the mouth teeth and throat, elsewhere the picture.
    """
    import cv2

    frame = FaceFrame.of(landmarks_px)
    unit = frame.eye_distance_px
    mouth = landmarks_px[list(lm.INNER_LIP_UPPER) + list(lm.INNER_LIP_LOWER), :2]
    x0, y0 = np.maximum(np.floor(mouth.min(axis=0) - 0.3 * unit).astype(int), 0)
    x1, y1 = np.ceil(mouth.max(axis=0) + 0.5 * unit).astype(int)
    patch = rgb[y0:y1, x0:x1].astype(np.float64)
    columns, rows = np.meshgrid(np.arange(x0, x0 + patch.shape[1]), np.arange(y0, y0 + patch.shape[0]))
    points = frame.to_face(np.stack([columns, rows], axis=-1).astype(np.float64))
    face = frame.to_face(landmarks_px[:, :2])
    upper = Curve.through(face[list(lm.INNER_LIP_UPPER)])
    lower = Curve.through(face[list(lm.INNER_LIP_LOWER)])
    x, y = points[..., 0], points[..., 1]
    top, bottom = upper.at(x), lower.at(x)
    middle, half = (upper.x[0] + upper.x[-1]) / 2, (upper.x[-1] - upper.x[0]) / 2
    across = np.clip(np.abs(x - middle) / half, 0, 1)
    gap = float(np.max(lower.at(upper.x) - upper.at(upper.x)))

    depth = (y - top) / 0.3
    tongue = ramp(1.6 - 1.6 * depth) * ramp(across * 1.2)
    painted = THROAT_RGB + tongue[..., None] * (TONGUE_RGB - THROAT_RGB) * 0.6
    if gap > 0.04:
        own = _own_teeth(patch, x0, y0, frame, landmarks_px, points, top, bottom)
        shown = ramp((y - bottom) / 0.02)[..., None]
        painted = painted + shown * (own - painted)
    else:
        length = 0.075 * (1 - 0.45 * across**2)
        ripple = 1 - 0.1 * np.abs(np.cos(np.pi * (x - middle) / 0.075)) ** 12
        shade = (1 - 0.8 * across**2) * 0.85 * ripple * (0.25 + 0.75 * np.clip((y - top) / 0.06, 0, 1))
        shown = ramp((y - top - length) / 0.02 + 0.5)[..., None]
        painted = painted + shown * (TEETH_RGB * shade[..., None] - painted)
    out = rgb.copy()
    out[y0:y1, x0:x1] = np.clip(np.rint(cv2.GaussianBlur(painted, (0, 0), 0.7)), 0, 255).astype(np.uint8)
    return out


def _own_teeth(
    patch: np.ndarray,
    x0: int,
    y0: int,
    frame: FaceFrame,
    landmarks_px: np.ndarray,
    points: np.ndarray,
    top: np.ndarray,
    bottom: np.ndarray,
) -> np.ndarray:
    """The portrait's teeth; above and beyond the lips' inner edge the nearest tooth is repeated, darker outwards."""
    import cv2

    inner = landmarks_px[list(lm.INNER_LIP_UPPER) + list(lm.INNER_LIP_LOWER), :2]
    left, right = frame.to_face(inner)[:, 0].min() + 0.09, frame.to_face(inner)[:, 0].max() - 0.09
    x = np.clip(points[..., 0], left, right)
    y = np.clip(points[..., 1], np.minimum(top + 0.02, bottom), bottom - 0.004)
    source = frame.origin_px + frame.vectors_to_px(np.stack([x, y], axis=-1))
    fetched = cv2.remap(
        patch.astype(np.float32),
        (source[..., 0] - x0).astype(np.float32),
        (source[..., 1] - y0).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    ).astype(np.float64)
    beyond = np.maximum(np.abs(points[..., 0] - x), 0.0)
    return fetched * ramp(beyond / 0.16)[..., None]
