"""Index lists of MediaPipe's face mesh that the generator needs, and the face's own coordinate frame.

"left" and "right" are sides of the picture, not of the person. Contours run from left to right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

INNER_LIP_UPPER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
INNER_LIP_LOWER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
OUTER_LIP_UPPER = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
OUTER_LIP_LOWER = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)
MOUTH_CORNERS = (61, 291)
CHIN = 152
NOSE_BASE = 2

UPPER_LID = {
    "left": (33, 246, 161, 160, 159, 158, 157, 173, 133),
    "right": (362, 398, 384, 385, 386, 387, 388, 466, 263),
}
LOWER_LID = {"left": (33, 7, 163, 144, 145, 153, 154, 155, 133), "right": (362, 382, 381, 380, 374, 373, 390, 249, 263)}
BROW_UPPER = {"left": (70, 63, 105, 66, 107), "right": (336, 296, 334, 293, 300)}
BROW_LOWER = {"left": (46, 53, 52, 65, 55), "right": (285, 295, 282, 283, 276)}
JAW = (234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 361, 323, 454)
EYE_CORNERS = (33, 263)


@dataclass(frozen=True)
class FaceFrame:
    """Coordinates of one face: origin midway between the outer eye corners, x along them, y down the face.

    The unit is the distance between the outer eye corners, the unit of all expression amplitudes.

    Attributes:
        origin_px: float64 [2], the origin in pixels.
        eye_distance_px: the unit's length in pixels.
        x_axis: float64 [2], unit vector to the right of the picture along the eyes.
    """

    origin_px: np.ndarray
    eye_distance_px: float
    x_axis: np.ndarray

    @classmethod
    def of(cls, landmarks_px: np.ndarray) -> FaceFrame:
        """The frame of a face mesh, float [478, 2 or 3]."""
        left, right = landmarks_px[EYE_CORNERS[0], :2], landmarks_px[EYE_CORNERS[1], :2]
        span = right - left
        distance = float(np.hypot(*span))
        return cls(origin_px=(left + right) / 2, eye_distance_px=distance, x_axis=span / distance)

    @property
    def y_axis(self) -> np.ndarray:
        """float64 [2], unit vector down the face."""
        return np.array([-self.x_axis[1], self.x_axis[0]])

    def to_face(self, points_px: np.ndarray) -> np.ndarray:
        """Pixels to face units, [..., 2] to [..., 2]."""
        offset = (points_px - self.origin_px) / self.eye_distance_px
        return np.stack([offset @ self.x_axis, offset @ self.y_axis], axis=-1)

    def vectors_to_px(self, vectors: np.ndarray) -> np.ndarray:
        """Displacements in face units to displacements in pixels, [..., 2] to [..., 2]."""
        turned = vectors[..., :1] * self.x_axis + vectors[..., 1:] * self.y_axis
        return turned * self.eye_distance_px
