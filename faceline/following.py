"""Following a face between two frames in which it was detected, by its picture.

Heads do not move in straight lines: on footage with fast head motion, points interpolated over 0.3 s lie a fifth of
the face's side off. The face as it looks in the frames before and after is therefore searched for around its
interpolated place (normalised cross-correlation, Lewis 1995); where the two searches disagree, or the face is not
recognised, the place is in doubt and the detector has to look.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Faces are compared at this side in pixels, and searched for within half a side around the expected place.
_FACE_PX = 32
_SEARCH_PX = 2 * _FACE_PX

#: Least correlation of the better of the two comparisons; true places reach 0.75 to 0.99.
_LEAST_AGREEMENT = 0.7

#: A patch with less contrast (standard deviation, 0 to 255) looks the same everywhere.
_LEAST_CONTRAST = 4.0

#: Farthest that the places found from before and from after may lie apart, in sides.
_FARTHEST_APART = 0.15


@dataclass(frozen=True)
class Sight:
    """A frame with the boxes of faces in it.

    Attributes:
        gray: uint8 ``[H, W]``.
        boxes_px: float ``[n, 4]``: x, y, width, height in pixels of ``gray``.
    """

    gray: np.ndarray
    boxes_px: np.ndarray


def followed(before: Sight, expected: Sight, after: Sight, share: float) -> np.ndarray | None:
    """By how much each face lies off its expected place.

    Args:
        before, after: frames in which the faces were detected; the same faces in the same order.
        expected: the frame between, with interpolated boxes.
        share: where it lies in time, 0 at ``before``, 1 at ``after``.

    Returns:
        float ``[n, 2]``: x, y in pixels of ``expected.gray``; None if any face is in doubt.
    """
    offsets = np.zeros((len(expected.boxes_px), 2))
    for i, box in enumerate(expected.boxes_px):
        from_before, agreement_before = _found(before.gray, before.boxes_px[i], expected.gray, box)
        from_after, agreement_after = _found(after.gray, after.boxes_px[i], expected.gray, box)
        if max(agreement_before, agreement_after) < _LEAST_AGREEMENT:
            return None
        if np.linalg.norm(from_before - from_after) > _FARTHEST_APART:
            return None
        weights = np.array([agreement_before * (1 - share), agreement_after * share])
        weights = np.maximum(weights, 1e-6)
        offsets[i] = (weights @ [from_before, from_after]) / weights.sum() * _side(box)
    return offsets


def _found(known: np.ndarray, known_box: np.ndarray, frame: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, float]:
    """Where the face in ``known_box`` lies in ``frame``: offset from the centre of ``box`` in sides, and agreement.

    The agreement is 0 where the best place lies on the rim of what is searched: the true one may lie beyond.
    """
    import cv2

    face = _cut(known, known_box, _FACE_PX)
    if face.std() < _LEAST_CONTRAST:
        return np.zeros(2), 0.0
    agreement = cv2.matchTemplate(_cut(frame, box, _SEARCH_PX), face, cv2.TM_CCOEFF_NORMED)
    _, best, _, (x, y) = cv2.minMaxLoc(agreement)
    if not (0 < x < agreement.shape[1] - 1 and 0 < y < agreement.shape[0] - 1):
        return np.zeros(2), 0.0
    centre = (agreement.shape[0] - 1) / 2
    offset = np.array([x + _vertex(agreement[y, :], x), y + _vertex(agreement[:, x], y)]) - centre
    return offset / _FACE_PX, float(best)


def _vertex(values: np.ndarray, peak: int) -> float:
    """Position of the vertex of the parabola through a maximum and its two neighbours, relative to the maximum."""
    left, middle, right = (float(value) for value in values[peak - 1 : peak + 2])
    bend = left - 2 * middle + right
    return 0.5 * (left - right) / bend if bend < 0 else 0.0


def _cut(picture: np.ndarray, box: np.ndarray, size_px: int) -> np.ndarray:
    """The square of ``size_px`` around a box's centre, scaled so that the box's side is 32 px; edges repeat."""
    import cv2

    scale = _FACE_PX / _side(box)
    centre = (box[:2] + box[2:] / 2) * scale
    matrix = np.array([[scale, 0, size_px / 2 - centre[0]], [0, scale, size_px / 2 - centre[1]]])
    return cv2.warpAffine(picture, matrix, (size_px, size_px), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _side(box: np.ndarray) -> float:
    return float(max(1.0, (box[2] + box[3]) / 2))
