"""Displacement fields: how the picture moves when one channel of the face moves by one unit.

Every field is a smooth function of face coordinates (`FaceFrame`), so it can be evaluated on a pixel grid and at the
landmarks alike; a frame's displacement is the weighted sum of the fields. Expression channels are in units of the
eye distance (`lid_close`: 1 = shut), `roll`, `yaw` and `pitch` in radians, `scale` as a relative change.

A mouth that opens and an eye that shuts are not smooth: skin on one side of the slit moves, on the other it does not.
Hence the three groups. *Common* channels move everything. *Upper* channels move only what lies above the lip line.
*Sheet* channels move what is drawn over the rest: the lower lip with the chin, and the upper lids.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from faceline.made import landmarks as lm
from faceline.made.landmarks import FaceFrame

Field = Callable[[np.ndarray], np.ndarray]
"""Points in face units, float64 [..., 2], to displacements in face units per unit of the channel, [..., 2]."""

SIDES = ("left", "right")

LIMITS: dict[str, tuple[float, float]] = {
    "brow_inner_up": (-0.08, 0.15),
    "brow_outer_up": (-0.08, 0.15),
    "brow_down": (-0.12, 0.12),
    "lid_wide": (-0.05, 0.05),
    "lid_lower_up": (-0.05, 0.05),
    "lid_close": (0.0, 1.0),
    "corner_up": (-0.15, 0.15),
    "corner_out": (-0.15, 0.15),
    "upper_lip_up": (-0.12, 0.12),
    "lower_lip_down": (-0.12, 0.15),
    "jaw_open": (0.0, 0.25),
}
"""Expression channel, without its side, → least and largest amount at which the picture does not fold over itself.
Movements look natural well inside them."""


def limits(channel: str) -> tuple[float, float]:
    """Least and largest amount of an expression channel; infinite for head movements."""
    return LIMITS.get(channel.removesuffix("_left").removesuffix("_right"), (-np.inf, np.inf))


def ramp(t: np.ndarray) -> np.ndarray:
    """1 at ``t <= 0``, 0 at ``t >= 1``, with continuous slope between (half a cosine)."""
    return 0.5 + 0.5 * np.cos(np.pi * np.clip(t, 0.0, 1.0))


@dataclass(frozen=True)
class Curve:
    """A contour of the face as a function y(x) in face units, extended level beyond its ends."""

    x: np.ndarray
    y: np.ndarray

    @classmethod
    def through(cls, points: np.ndarray) -> Curve:
        """The contour through points [n, 2], which need not be sorted."""
        order = np.argsort(points[:, 0])
        return cls(points[order, 0], points[order, 1])

    def at(self, x: np.ndarray) -> np.ndarray:
        """y at x, monotone cubic between the points."""
        from scipy.interpolate import PchipInterpolator

        return PchipInterpolator(self.x, self.y)(np.clip(x, self.x[0], self.x[-1]))


def _profile(x: np.ndarray, knots: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Monotone cubic through (knots, values); beyond the outermost knots their values hold."""
    from scipy.interpolate import PchipInterpolator

    return PchipInterpolator(knots, values)(np.clip(x, knots[0], knots[-1]))


def _band(offset: np.ndarray, up: float, down: float) -> np.ndarray:
    """Falloff across a contour: 1 on it, 0 at ``up`` above it and ``down`` below it."""
    return ramp(np.where(offset < 0, -offset / up, offset / down))


def _vector(weight: np.ndarray, x: float, y: float) -> np.ndarray:
    return weight[..., None] * np.array([x, y])


def _brow(curve: Curve, side: str, inner: bool, up: float, down: float, direction: tuple[float, float]) -> Field:
    """Half of one brow; inner and outer half add up to the whole brow."""
    sign = 1.0 if side == "left" else -1.0
    # Along the brow from its outer end (0) to its inner end (1), and a little beyond both.
    outer_x, inner_x = (curve.x[0], curve.x[-1]) if side == "left" else (curve.x[-1], curve.x[0])

    def field(points: np.ndarray) -> np.ndarray:
        x, y = points[..., 0], points[..., 1]
        along = (x - outer_x) / (inner_x - outer_x)
        if inner:
            weight = _profile(along, np.array([0.1, 0.85, 1.05, 1.45]), np.array([0.0, 1.0, 1.0, 0.0]))
        else:
            weight = _profile(along, np.array([-0.6, -0.05, 0.1, 0.85]), np.array([0.0, 1.0, 1.0, 0.0]))
        weight = weight * _band(y - curve.at(x), up, down)
        return _vector(weight, sign * direction[0], direction[1])

    return field


def _corner(centre: np.ndarray, direction: tuple[float, float]) -> Field:
    """A round patch about one mouth corner."""

    def field(points: np.ndarray) -> np.ndarray:
        offset = (points - centre) / np.array([0.36, 0.32])
        return _vector(ramp(np.hypot(offset[..., 0], offset[..., 1])), *direction)

    return field


def _lip(curve: Curve, up: float, down: float, direction_y: float) -> Field:
    """One lip between the mouth corners, which themselves stay."""
    middle, half = (curve.x[0] + curve.x[-1]) / 2, (curve.x[-1] - curve.x[0]) / 2

    def field(points: np.ndarray) -> np.ndarray:
        x, y = points[..., 0], points[..., 1]
        across = np.clip(np.abs(x - middle) / half, 0.0, 1.0)
        return _vector((1 - across**2) ** 1.5 * _band(y - curve.at(x), up, down), 0.0, direction_y)

    return field


def _jaw(lip: Curve, chin_y: float, jaw_half_width: float) -> Field:
    """The lower lip, the chin and the cheeks beside it; widens from the mouth corners to the jaw's breadth."""
    middle, half = (lip.x[0] + lip.x[-1]) / 2, (lip.x[-1] - lip.x[0]) / 2

    def field(points: np.ndarray) -> np.ndarray:
        x, y = points[..., 0], points[..., 1]
        lip_y = lip.at(x)
        depth = np.clip((y - lip_y) / (chin_y - lip_y), 0.0, 1.0)
        width = half + (jaw_half_width - half) * depth
        across = np.clip(np.abs(x - middle) / width, 0.0, 1.0)
        # The lip hangs between the corners; the chin, one bone, moves as a whole.
        along = (1 - across ** (2 + 2 * depth)) ** 1.2
        below_chin = ramp((y - chin_y) / 0.6)
        above_lip = ramp((lip_y - y) / 0.4)
        return _vector(along * below_chin * above_lip, 0.0, 1.0)

    return field


def _lid_close(upper: Curve, lower: Curve, room: float) -> Field:
    """The upper lid down onto the lower one (1 = shut), drawn as a sheet that goes on below its edge."""

    def field(points: np.ndarray) -> np.ndarray:
        x, y = points[..., 0], points[..., 1]
        aperture = np.maximum(lower.at(x) - upper.at(x), 0.0)
        inside = (x > upper.x[0]) & (x < upper.x[-1])
        offset = y - upper.at(x)
        offset = np.where(offset > 0, np.maximum(offset - 0.15, 0.0), offset)
        return _vector(np.where(inside, aperture, 0.0) * _band(offset, room, 0.3), 0.0, 1.0)

    return field


def _lid_edge(curve: Curve, up: float, down: float) -> Field:
    """One lid's edge upwards, by the amplitude times its height above the line between the eye's corners."""
    middle, half = (curve.x[0] + curve.x[-1]) / 2, (curve.x[-1] - curve.x[0]) / 2

    def field(points: np.ndarray) -> np.ndarray:
        x, y = points[..., 0], points[..., 1]
        across = np.clip(np.abs(x - middle) / half, 0.0, 1.0)
        return _vector((1 - across**2) ** 1.5 * _band(y - curve.at(x), up, down), 0.0, -1.0)

    return field


@dataclass(frozen=True)
class FaceFields:
    """The expression fields of one face, by channel."""

    common: dict[str, Field]
    upper: dict[str, Field]
    sheet: dict[str, Field]


def face_fields(landmarks_px: np.ndarray, lid_room: float) -> FaceFields:
    """Build the expression fields of a face.

    Args:
        landmarks_px: its mesh, float [478, 2 or 3].
        lid_room: height above the upper lids that may stretch when they close, in eye distances.
    """
    face = FaceFrame.of(landmarks_px).to_face(landmarks_px[:, :2])
    common: dict[str, Field] = {}
    upper: dict[str, Field] = {}
    sheet: dict[str, Field] = {}
    for side in SIDES:
        brow = Curve.through((face[list(lm.BROW_UPPER[side])] + face[list(lm.BROW_LOWER[side])]) / 2)
        lid, low_lid = Curve.through(face[list(lm.UPPER_LID[side])]), Curve.through(face[list(lm.LOWER_LID[side])])
        corner = face[lm.MOUTH_CORNERS[SIDES.index(side)]]
        outwards = -1.0 if side == "left" else 1.0
        common[f"brow_inner_up_{side}"] = _brow(brow, side, True, 0.45, 0.16, (0.0, -1.0))
        common[f"brow_outer_up_{side}"] = _brow(brow, side, False, 0.45, 0.16, (0.0, -1.0))
        # A lowered brow pushes the skin above the eye together: it needs more room, or the picture would fold.
        common[f"brow_down_{side}"] = _brow(brow, side, True, 0.5, 0.3, (0.35, 1.0))
        common[f"lid_wide_{side}"] = _lid_edge(lid, 0.14, 0.12)
        common[f"lid_lower_up_{side}"] = _lid_edge(low_lid, 0.12, 0.22)
        common[f"corner_up_{side}"] = _corner(corner, (0.0, -1.0))
        common[f"corner_out_{side}"] = _corner(corner, (outwards, 0.0))
        sheet[f"lid_close_{side}"] = _lid_close(lid, low_lid, lid_room)
    upper_lip = Curve.through(face[list(lm.INNER_LIP_UPPER)])
    lower_lip = Curve.through(face[list(lm.INNER_LIP_LOWER)])
    jaw_half_width = float(np.ptp(face[list(lm.JAW)[4:-4], 0])) / 2
    upper["upper_lip_up"] = _lip(upper_lip, 0.22, 0.25, -1.0)
    sheet["lower_lip_down"] = _lip(lower_lip, 0.25, 0.3, 1.0)
    sheet["jaw_open"] = _jaw(lower_lip, float(face[lm.CHIN, 1]), jaw_half_width)
    return FaceFields(common, upper, sheet)


def _depth(landmarks_px: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """How far the head's surface stands out before its rim, in face units, from the mesh's z.

    Gaussian kernel regression over the landmarks; falls to 0 towards the outline of the head.
    """
    frame = FaceFrame.of(landmarks_px)
    known = frame.to_face(landmarks_px[:468, :2])
    z = landmarks_px[:468, 2] / frame.eye_distance_px
    rim_z = float(z[[234, 454]].mean())
    oval_centre, oval_radii = np.array([0.0, 0.25]), np.array([0.85, 1.05])

    def depth(points: np.ndarray) -> np.ndarray:
        flat = points.reshape(-1, 2)
        squared = ((flat[:, None, :] - known[None]) ** 2).sum(-1)
        # Far from every landmark all weights would underflow: the nearest one is the reference.
        weight = np.exp(-(squared - squared.min(axis=1, keepdims=True)) / (2 * 0.09**2))
        surface = rim_z - (weight * z).sum(1) / weight.sum(1)
        offset = (flat - oval_centre) / oval_radii
        return (np.maximum(surface, 0.0) * ramp((np.hypot(*offset.T) - 0.8) / 0.9)).reshape(points.shape[:-1])

    return depth


HEAD_CHANNELS = ("shift_x", "shift_y", "roll", "scale", "yaw", "pitch")


def head_fields(landmarks_px: np.ndarray) -> dict[str, Field]:
    """Rigid head movements, faded out over the background, neck and shoulders; small angles, 2.5-dimensional turns."""
    depth = _depth(landmarks_px)
    centre, radii, neck = np.array([0.0, -0.1]), np.array([1.35, 1.5]), np.array([0.0, 1.4])

    def inside(points: np.ndarray) -> np.ndarray:
        offset = (points - centre) / radii
        return ramp((np.hypot(offset[..., 0], offset[..., 1]) - 0.9) / 0.9)

    def roll(points: np.ndarray) -> np.ndarray:
        arm = points - neck
        return inside(points)[..., None] * np.stack([-arm[..., 1], arm[..., 0]], axis=-1)

    return {
        "shift_x": lambda p: _vector(inside(p), 1.0, 0.0),
        "shift_y": lambda p: _vector(inside(p), 0.0, 1.0),
        "roll": roll,
        "scale": lambda p: inside(p)[..., None] * (p - centre),
        "yaw": lambda p: _vector(depth(p), 1.0, 0.0),
        "pitch": lambda p: _vector(depth(p), 0.0, 1.0),
    }
