"""Faces as a detector finds them: boxes, confidences, points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from faceline.tracking import overlaps


@dataclass(frozen=True)
class Detections:
    """Faces of one frame.

    Attributes:
        boxes_px: float32 ``[n, 4]``: x, y of the upper left corner, width, height; may exceed the frame.
        confidence: float32 ``[n]``, 0 to 1.
        points_px: float32 ``[n, 5, 2]``: eye on the left of the picture, eye on the right, nose tip, mouth corner on
            the left, on the right.
    """

    boxes_px: np.ndarray
    confidence: np.ndarray
    points_px: np.ndarray

    def __len__(self) -> int:
        return len(self.confidence)

    def taken(self, order: Sequence[int] | np.ndarray) -> Detections:
        """The faces with these indices, in this order."""
        index = np.asarray(order, np.int64)
        return Detections(self.boxes_px[index], self.confidence[index], self.points_px[index])

    def ordered(self) -> Detections:
        """The same faces from left to right."""
        return self.taken(np.lexsort((self.boxes_px[:, 1], self.boxes_px[:, 0])))

    def moved(self, offsets_px: np.ndarray) -> Detections:
        """The same faces, each moved by its row of ``[n, 2]`` pixels."""
        boxes = self.boxes_px.copy()
        boxes[:, :2] += offsets_px
        return Detections(boxes, self.confidence, self.points_px + offsets_px[:, None, :])

    def scaled(self, x: float, y: float) -> Detections:
        """The same faces in a picture ``x`` times as wide and ``y`` times as high."""
        factors = np.array([x, y], np.float32)
        return Detections(self.boxes_px * np.tile(factors, 2), self.confidence, self.points_px * factors)


NOBODY = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32))


def joined(*parts: Detections) -> Detections:
    """All faces of several detections in one frame, in order."""
    every = (NOBODY, *parts)
    return Detections(
        np.concatenate([part.boxes_px for part in every]),
        np.concatenate([part.confidence for part in every]),
        np.concatenate([part.points_px for part in every]),
    )


def most_confident(faces: Detections, most: int) -> tuple[Detections, int]:
    """The ``most`` most confident faces, in their order, and how many others there are; of equals the first stay."""
    if len(faces) <= most:
        return faces, 0
    kept = np.sort(np.argsort(-faces.confidence, kind="stable")[:most])
    return faces.taken(kept), len(faces) - most


class FaceDetector(Protocol):
    """Finds faces in pictures."""

    def detect(self, frames_rgb: Sequence[np.ndarray]) -> list[Detections]:
        """Faces of each picture (uint8 RGB ``[H, W, 3]``, all of one size), in its own pixels.

        What is found in a picture must not depend on the others.
        """
        ...

    def refine(self, frames_rgb: Sequence[np.ndarray], boxes_px: Sequence[np.ndarray]) -> list[Detections]:
        """The faces at these places (``[n, 4]`` per picture), a row per place, confidence near 0 where none is."""
        ...


def without_duplicates(found: Detections, min_confidence: float = 0.0) -> Detections:
    """One detection per face, ordered from left to right.

    The less confident of two detections goes if their boxes overlap by half, or if their points coincide (on average
    within a fifth of the smaller box's width); heads that overlap keep their own points.
    """
    kept: list[int] = []
    for index in np.lexsort((found.boxes_px[:, 1], found.boxes_px[:, 0], -found.confidence)).tolist():
        if found.confidence[index] < min_confidence:
            continue
        apart = np.linalg.norm(found.points_px[kept] - found.points_px[index], axis=2).mean(axis=1)
        width = np.minimum(found.boxes_px[kept, 2], found.boxes_px[index, 2])
        iou = overlaps(found.boxes_px[[index]], found.boxes_px[kept])[0]
        if not np.any((iou > 0.5) | (apart < 0.2 * width)):
            kept.append(index)
    return found.taken(kept).ordered()


def interpolated(before: Detections, after: Detections, share: float) -> Detections:
    """Faces ``share`` (0 to 1) of the way between two frames that show the same faces in the same order.

    The confidence is the smaller of the two.
    """
    weight = np.float32(share)
    return Detections(
        before.boxes_px + weight * (after.boxes_px - before.boxes_px),
        np.minimum(before.confidence, after.confidence),
        before.points_px + weight * (after.points_px - before.points_px),
    )
