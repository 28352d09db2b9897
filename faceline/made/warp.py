"""Displacement on grids: mixing basis fields, inverting their sum, and fetching pictures through the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from faceline.made.fields import Field
from faceline.made.landmarks import FaceFrame

NEWTON_STEPS = 5
"""At most; small movements need one or two."""
CLOSE_ENOUGH_PX = 0.03


@dataclass(frozen=True)
class Basis:
    """Fields of some channels on one grid and at the landmarks, in picture pixels per unit of the channel.

    Attributes:
        channels: names, in the order of axis 0.
        grid: float32 [channels, rows, columns, 2].
        points: float64 [channels, landmarks, 2].
        origin_px: float32 [2], picture position of grid node (0, 0).
        step_px: spacing of the nodes.
    """

    channels: tuple[str, ...]
    grid: np.ndarray
    points: np.ndarray
    origin_px: np.ndarray
    step_px: float

    @classmethod
    def of(
        cls, fields: Mapping[str, Field], frame: FaceFrame, landmarks_px: np.ndarray, box_px: np.ndarray, step_px: float
    ) -> Basis:
        """Evaluate fields on a grid over ``box_px`` (x0, y0, x1, y1) and at the landmarks [n, 2 or 3]."""
        x = np.arange(box_px[0], box_px[2] + step_px, step_px, dtype=np.float64)
        y = np.arange(box_px[1], box_px[3] + step_px, step_px, dtype=np.float64)
        nodes = frame.to_face(np.stack(np.meshgrid(x, y), axis=-1))
        marks = frame.to_face(landmarks_px[:, :2])
        grid = np.stack([frame.vectors_to_px(field(nodes)) for field in fields.values()]).astype(np.float32)
        points = np.stack([frame.vectors_to_px(field(marks)) for field in fields.values()])
        return cls(tuple(fields), grid, points, np.array([x[0], y[0]], np.float32), step_px)

    def mix(self, weights: Mapping[str, float]) -> np.ndarray:
        """The weighted sum of the fields on the grid, float32 [rows, columns, 2], picture pixels."""
        # Summed one by one, not by BLAS, so that the same weights give the same bits on any number of threads.
        grid = np.zeros(self.grid.shape[1:], np.float32)
        for k, channel in enumerate(self.channels):
            if weight := weights.get(channel, 0.0):
                grid += np.float32(weight) * self.grid[k]
        return grid

    def mix_points(self, weights: Mapping[str, float]) -> np.ndarray:
        """The weighted sum of the fields at the landmarks, float64 [landmarks, 2], picture pixels."""
        points = np.zeros(self.points.shape[1:])
        for k, channel in enumerate(self.channels):
            if weight := weights.get(channel, 0.0):
                points += weight * self.points[k]
        return points

    def sample(self, grid: np.ndarray, at_px: np.ndarray) -> np.ndarray:
        """Bilinear values of a grid [rows, columns, n ≤ 4] at picture points, float32 [h, w, 2]; 0 outside the grid."""
        return _at_nodes(grid, (at_px - self.origin_px) * np.float32(1 / self.step_px))

    def invert(self, displacement: np.ndarray, targets_px: np.ndarray) -> np.ndarray:
        """Points p with ``p + displacement(p) = target``, by Newton's method from p = target.

        Args:
            displacement: float32 [rows, columns, 2] on this basis' grid; must not fold.
            targets_px: float32 [h, w, 2], picture pixels.
        """
        if targets_px.size == 0 or not displacement.any():
            return targets_px
        down, right = np.gradient(displacement, self.step_px, axis=(0, 1))
        slopes = np.concatenate([right, down], axis=-1, dtype=np.float32)  # dux/dx, duy/dx, dux/dy, duy/dy
        origin, scale = self.origin_px, np.float32(1 / self.step_px)
        points = targets_px
        for _ in range(NEWTON_STEPS):
            nodes = (points - origin) * scale
            error = points - targets_px
            error += _at_nodes(displacement, nodes)
            if max(error.max(), -error.min()) < CLOSE_ENOUGH_PX:
                break
            slope = _at_nodes(slopes, nodes)
            a, c, b, d = slope[..., 0] + 1, slope[..., 1], slope[..., 2], slope[..., 3] + 1
            # A floor on the determinant keeps a step finite where the skin is squeezed most.
            error /= np.maximum(a * d - b * c, np.float32(0.25))[..., None]
            step = np.stack([d * error[..., 0] - b * error[..., 1], a * error[..., 1] - c * error[..., 0]], axis=-1)
            points = points - step
        return points


def _at_nodes(grid: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.remap(grid, nodes, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)


@dataclass(frozen=True)
class BlockNodes:
    """Nodes at the middles of square pixel blocks, one block beyond the picture on each side.

    A map given at these nodes becomes a map of every pixel by plain linear resizing.

    Attributes:
        width_px: width of the picture that the blocks cover.
        height_px: its height.
        block_px: side of a block.
    """

    width_px: int
    height_px: int
    block_px: int

    @cached_property
    def positions_px(self) -> np.ndarray:
        """float32 [rows, columns, 2]: pixel coordinates of the nodes."""
        columns = -(-self.width_px // self.block_px) + 2
        rows = -(-self.height_px // self.block_px) + 2
        x = (np.arange(columns, dtype=np.float32) - np.float32(0.5)) * self.block_px - np.float32(0.5)
        y = (np.arange(rows, dtype=np.float32) - np.float32(0.5)) * self.block_px - np.float32(0.5)
        return np.stack(np.meshgrid(x, y), axis=-1)

    def halved(self, at_nodes: np.ndarray) -> np.ndarray:
        """Linear interpolation of values at these nodes [rows, columns, 2] to nodes of half the block size."""
        import cv2

        half = BlockNodes(self.width_px, self.height_px, self.block_px // 2)
        rows, columns = half.positions_px.shape[:2]
        size = (2 * at_nodes.shape[1], 2 * at_nodes.shape[0])
        return cv2.resize(at_nodes, size, interpolation=cv2.INTER_LINEAR)[1 : 1 + rows, 1 : 1 + columns]

    def window(self, box_px: tuple[float, float, float, float]) -> tuple[slice, slice]:
        """The rows and columns of nodes that cover a box (x0, y0, x1, y1); empty slices when it lies outside."""
        rows, columns = self.positions_px.shape[:2]

        def span(low: float, high: float, count: int) -> slice:
            first = int(np.floor((low + 0.5) / self.block_px - 0.5)) + 1
            last = int(np.ceil((high + 0.5) / self.block_px - 0.5)) + 1
            return slice(min(max(first, 0), count), min(max(last + 1, 0), count))

        return span(box_px[1], box_px[3], rows), span(box_px[0], box_px[2], columns)

    def per_pixel(self, at_nodes: np.ndarray, box_px: tuple[int, int, int, int] | None = None) -> np.ndarray:
        """Linear interpolation of values at all nodes [rows, columns, 2] to the pixels of a box, float32 [h, w, 2]."""
        import cv2

        x0, y0, x1, y1 = box_px or (0, 0, self.width_px, self.height_px)
        # Whole blocks around the box, with a ring of one node that is cut away after resizing.
        r0, r1, c0, c1 = y0 // self.block_px, -(-y1 // self.block_px), x0 // self.block_px, -(-x1 // self.block_px)
        part = at_nodes[r0 : r1 + 2, c0 : c1 + 2]
        size = (part.shape[1] * self.block_px, part.shape[0] * self.block_px)
        full = cv2.resize(part, size, interpolation=cv2.INTER_LINEAR)
        top, left = y0 - (r0 - 1) * self.block_px, x0 - (c0 - 1) * self.block_px
        return full[top : top + y1 - y0, left : left + x1 - x0]
