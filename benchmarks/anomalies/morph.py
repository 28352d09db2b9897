"""Real faces moved through their meshes: from one picture to another, and part of the way into an expression.

A picture is moved by a piecewise linear map over the Delaunay triangles of the face mesh. What lies around the face
follows the head's own movement (a similarity of the mesh's rigid points) and comes to rest at the picture's border.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from faceline.cropping import fit_similarity, transform
from faceline.made import landmarks as lm
from faceline.pose import RIGID_INDICES, fit_heads

FACE_OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150,
    136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
"""Outline of MediaPipe's face mesh."""

AROUND = 1.45
"""The ring that moves as the head does, as a multiple of the oval: hair and ears lie inside it."""

OPENINGS: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
    (lm.INNER_LIP_UPPER, lm.INNER_LIP_LOWER),
    (lm.UPPER_LID["left"], lm.LOWER_LID["left"]),
    (lm.UPPER_LID["right"], lm.LOWER_LID["right"]),
)
"""Upper and lower edge of what opens and shuts; what lies behind it cannot be stretched into view."""


class MeshFinder(Protocol):
    """Finds the face mesh of the one face of a picture."""

    def __call__(self, rgb: np.ndarray) -> np.ndarray | None:
        """float [478, 3] in pixels of ``rgb`` uint8 [h, w, 3], or None."""
        ...


def moved(rgb: np.ndarray, mesh: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The picture with its face mesh where it is wanted.

    Args:
        rgb: uint8 [h, w, 3].
        mesh: float [478, 2 or 3], its mesh, pixels.
        wanted: float [478, 2 or 3], where each point is to be.

    Returns:
        uint8 [h, w, 3].
    """
    import cv2

    height, width = rgb.shape[:2]
    points, shift = _anchored(mesh[:, :2].astype(np.float64), wanted[:, :2].astype(np.float64), width, height)
    source = _piecewise_linear(points, shift, width, height)
    return cv2.remap(rgb, source, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def _piecewise_linear(points: np.ndarray, shift: np.ndarray, width: int, height: int) -> np.ndarray:
    """Pixel + its displacement, float32 [height, width, 2]; linear over the triangles of points [n, 2], shift [n, 2].

    The triangles are drawn, each with its number, and every pixel is read off its own triangle. (Looking each pixel up
    in SciPy's triangulation takes seconds where closed lips or lids give triangles without area.)
    """
    import cv2
    from scipy.spatial import Delaunay

    corners = Delaunay(points).simplices
    a, b, c = (points[corners[:, k]] for k in range(3))
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    kept = np.abs(area) > 1e-3
    # Small ones first: where edges share a pixel, the larger triangle, which changes less over it, has it.
    order = np.flatnonzero(kept)[np.argsort(np.abs(area[kept]), kind="stable")]
    corners, area = corners[order], area[order]
    number = np.full((height, width), -1, np.int32)
    for k, drawn in enumerate(np.round(points[corners] * 16).astype(np.int32)):
        cv2.fillConvexPoly(number, drawn, k, cv2.LINE_8, 4)
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    a, b, c = (points[corners[:, k]] for k in range(3))
    # Weights of the second and the third corner, as affine functions of the pixel.
    to_b = np.stack([c[:, 1] - a[:, 1], a[:, 0] - c[:, 0]], axis=1) / area[:, None]
    to_c = np.stack([a[:, 1] - b[:, 1], b[:, 0] - a[:, 0]], axis=1) / area[:, None]
    dx, dy = x - a[number, 0].astype(np.float32), y - a[number, 1].astype(np.float32)
    weight_b = to_b[number, 0].astype(np.float32) * dx + to_b[number, 1].astype(np.float32) * dy
    weight_c = to_c[number, 0].astype(np.float32) * dx + to_c[number, 1].astype(np.float32) * dy
    weights = np.maximum(np.stack([1 - weight_b - weight_c, weight_b, weight_c]), 0)  # half a pixel outside, perhaps
    weights /= weights.sum(axis=0)
    moved_by = sum(weights[k][..., None] * shift[corners[:, k]].astype(np.float32)[number] for k in range(3))
    moved_by = np.where((number >= 0)[..., None], moved_by, np.float32(0))
    return np.stack([x, y], axis=-1) + moved_by


def _anchored(mesh: np.ndarray, wanted: np.ndarray, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Points of the new picture [n, 2] and how far from each the old picture is to be fetched [n, 2]."""
    rigid = list(RIGID_INDICES)
    back = fit_similarity(wanted[rigid], mesh[rigid])
    oval = wanted[list(FACE_OVAL)]
    centre = oval.mean(axis=0)
    ring = centre + AROUND * (oval - centre)
    room = 4.0
    ring = ring[((ring > room) & (ring < (width - 1 - room, height - 1 - room))).all(axis=1)]
    x, y = np.linspace(-room, width - 1 + room, 9), np.linspace(-room, height - 1 + room, 9)
    border = np.concatenate([np.stack([x, np.full(9, v)], axis=1) for v in (y[0], y[-1])])
    border = np.concatenate([border, *(np.stack([np.full(7, v), y[1:-1]], axis=1) for v in (x[0], x[-1]))])
    points = np.concatenate([wanted, ring, border])
    shift = np.concatenate([mesh - wanted, transform(back, ring) - ring, np.zeros_like(border)])
    return points, shift


def blended(a: np.ndarray, b: np.ndarray, weight: float | np.ndarray) -> np.ndarray:
    """(1 − weight) a + weight b, uint8 [h, w, 3]; the weight is a number or float32 [h, w]."""
    import cv2

    if isinstance(weight, np.ndarray):
        mixed = a + weight[..., None] * (b.astype(np.float32) - a)
        return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
    return cv2.addWeighted(a, 1 - weight, b, weight, 0)


def between(
    a: np.ndarray, b: np.ndarray, mesh_a: np.ndarray | None, mesh_b: np.ndarray | None, weight: float
) -> np.ndarray:
    """A picture on the way from `a` (weight 0) to `b` (weight 1): both are moved to the mesh between, then blended.

    So eyes and lips lie upon each other and no ghosts appear. Without a mesh of both it is a plain cross-fade.
    """
    if mesh_a is None or mesh_b is None:
        return blended(a, b, weight)
    middle = (1 - weight) * mesh_a[:, :2] + weight * mesh_b[:, :2]
    return blended(moved(a, mesh_a, middle), moved(b, mesh_b, middle), weight)


def reposed(expression: np.ndarray, base: np.ndarray) -> np.ndarray:
    """The mesh of an expression with the head's place, turn and size of another mesh, float64 [478, 3], pixels."""
    fit = fit_heads(np.stack([expression, base]))
    flip = np.array([1.0, -1.0, -1.0])
    in_head = (expression * flip - fit.origin[0]) @ fit.rotation[0] / fit.scale[0]
    return (in_head * fit.scale[1] @ fit.rotation[1].T + fit.origin[1]) * flip


def part_way(
    base: np.ndarray, expression: np.ndarray, mesh_base: np.ndarray, mesh_expression: np.ndarray, strength: float
) -> np.ndarray:
    """The face of `base`, part of the way into the expression that another picture shows.

    The mesh goes that part of the way, in the pose of `base`. The skin is a blend of both pictures, moved there, in
    the same proportion. Inside mouth and eyes no blend is possible without ghosts: but near the ends of the way, each
    is taken whole from the picture in which it is wider open, and closed as far as the mesh says.
    Outside the face it is `base`.

    Args:
        base: uint8 [h, w, 3], the usual face.
        expression: uint8 [h, w, 3], the same person with the expression.
        mesh_base: float [478, 3], pixels.
        mesh_expression: float [478, 3], pixels.
        strength: 0 … 1.

    Returns:
        uint8 [h, w, 3].
    """
    if strength <= 0:
        return base
    height, width = base.shape[:2]
    target = reposed(mesh_expression, mesh_base)
    wanted = (1 - strength) * mesh_base[:, :2] + strength * target[:, :2]
    under, over = moved(base, mesh_base, wanted), moved(expression, mesh_expression, wanted)
    unit = float(np.hypot(*(wanted[263] - wanted[33])))
    weight = np.full((height, width), strength, np.float32)
    # From one picture's texture to the other's at the beginning or at the end of the way, so that nothing pops up.
    early, late = (float(np.clip((strength - at) / 0.15, 0.0, 1.0)) for at in (0.0, 0.85))
    for upper, lower in OPENINGS:
        wider = _opening(target, upper, lower) > _opening(mesh_base, upper, lower)
        outline = np.concatenate([wanted[list(upper)], wanted[list(lower)][::-1]])
        mask = _soft(outline, width, height, 0.025 * unit)
        weight += mask * ((early if wider else late) - weight)
    oval = wanted[list(FACE_OVAL)]
    centre = oval.mean(axis=0)
    inside = _soft(centre + 0.94 * (oval - centre), width, height, 0.06 * unit)
    return blended(under, over, weight * inside)


def _opening(mesh: np.ndarray, upper: tuple[int, ...], lower: tuple[int, ...]) -> float:
    """Mean distance of two edges."""
    return float(np.hypot(*(mesh[list(upper), :2] - mesh[list(lower), :2]).T).mean())


def _soft(outline: np.ndarray, width: int, height: int, edge_px: float) -> np.ndarray:
    """1 inside an outline [n, 2], 0 outside, with a soft edge; float32 [height, width]."""
    import cv2

    mask = np.zeros((height, width), np.float32)
    cv2.fillPoly(mask, [np.round(outline * 16).astype(np.int32)], 1.0, cv2.LINE_AA, 4)
    return cv2.GaussianBlur(mask, (0, 0), max(edge_px, 0.7))
