"""The frames held in memory, and how the detector sees them: shrunk, finely, or in parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from faceline.faces import Detections, FaceDetector, joined, most_confident, without_duplicates
from faceline.following import Sight, followed
from faceline.keyframes import LONGEST_SPAN_FRAMES
from faceline.picture import Frame, fitted_px
from faceline.tracking import overlaps

#: Decoded pictures are kept until it is known whether the detector has to see them, if those of a window take no more
#: than this; larger ones are shrunk as they come.
HELD_BYTES = 256 * 2**20

#: Pixels that are given to the detector at once; bounds memory, whatever the batch.
_PIXELS_AT_ONCE = 8_000_000

#: Fine pictures kept for what else may be asked of the same frames.
_FINE_KEPT = 4

#: Parts of pictures begin and end at multiples of this, so that many are of one size and can share a batch.
_PART_STEP_PX = 32

#: Side in pixels of the pictures in which known faces are sought, whatever their size: faces of an eighth of it and
#: more are found.
_SOUGHT_PX = 160

#: Share of a picture from which it is searched as a whole instead of in parts.
_LARGEST_SHARE = 0.6

#: Least overlap of a face's expected box with the one that measuring it anew gives; below, its place is in doubt.
_LEAST_AGREEMENT_IOU = 0.5


@dataclass(frozen=True)
class Scale:
    """Pictures of one size and the detector for them."""

    max_side_px: int
    detector: FaceDetector


@dataclass
class FootageEyes:
    """`faceline.between.Eyes` for the frames held in memory, by position.

    Attributes:
        coarse, fine: the two sizes at which frames are looked at.
        sought: the detector for squares around known faces, all of one size.
        size_px: width and height of the full picture.
        frame_bytes: memory that a decoded frame takes.
        min_face_px: least side of a face in full pictures.
        least_confidence: faces below are none.
        batch_size: most pictures per call of the detector.
        max_faces: most faces of a frame; the most confident ones stay.
        is_fine: positions from which on frames are (True) or are not (False) looked at finely, by position; the last
            one that is not later holds.
        left_out: how many faces beyond `max_faces` a look at a frame found, by position.
    """

    coarse: Scale
    fine: Scale
    sought: FaceDetector
    size_px: tuple[int, int]
    frame_bytes: int
    min_face_px: float
    least_confidence: float
    batch_size: int
    max_faces: int = 256
    is_fine: dict[int, bool] = field(default_factory=dict)
    left_out: dict[int, int] = field(default_factory=dict)
    _frames: dict[int, Frame] = field(default_factory=dict)
    _pictures: dict[int, np.ndarray] = field(default_factory=dict)
    _grays: dict[int, np.ndarray] = field(default_factory=dict)
    _fine_pictures: dict[int, np.ndarray] = field(default_factory=dict)
    _fine_grays: dict[int, np.ndarray] = field(default_factory=dict)

    def hold(self, position: int, frame: Frame) -> None:
        """Take in the next frame."""
        self._frames[position] = frame
        if self.shrinks:
            self._picture(position, False)
            self._fine_pictures[position] = frame.rgb(self.fine.max_side_px)
            self._gray(position, False)
            self._fine_grays[position] = frame.gray(self.fine.max_side_px)
            del self._frames[position]

    @property
    def shrinks(self) -> bool:
        """Whether frames are too large to be held as they are decoded."""
        return self.frame_bytes * (LONGEST_SPAN_FRAMES + 1) > HELD_BYTES

    def keep_only(self, position: int) -> None:
        """Forget all frames but this one, which becomes the first."""
        self.is_fine = {0: self.looks_finely(position)}
        self.left_out = {0: self.left_out[position]} if position in self.left_out else {}
        for held in (self._frames, self._pictures, self._grays, self._fine_pictures, self._fine_grays):
            kept = held.get(position)
            held.clear()
            if kept is not None:
                held[0] = kept  # type: ignore[assignment]

    def look(self, positions: list[int], *, finely: bool = False) -> list[Detections]:
        """The detector's faces of these frames; ``finely`` whatever `is_fine` says."""
        found: dict[int, Detections] = {}
        for is_fine in (False, True):
            chosen = [i for i in positions if (finely or self.looks_finely(i)) is is_fine]
            for batch in self._batches(chosen, is_fine):
                pictures = [self._picture(i, is_fine) for i in batch]
                x, y = self._enlargement(pictures[0])
                for i, faces in zip(batch, self._scale(is_fine).detector.detect(pictures), strict=True):
                    found[i] = self._distinct(i, faces.scaled(x, y))
        return [found[i] for i in positions]

    def glance(self, positions: list[int], regions_px: list[np.ndarray]) -> list[Detections]:
        """The detector's faces in parts of these frames, each searched finely; x, y, width, height in full pictures."""
        found: list[list[Detections]] = [[] for _ in positions]
        parts: dict[tuple[int, ...], list[tuple[int, np.ndarray, np.ndarray]]] = {}
        for n, (i, regions) in enumerate(zip(positions, regions_px, strict=True)):
            picture = self._picture(i, True)
            for x, y, width, height in _parts(regions, picture.shape, self._enlargement(picture)):
                part = np.ascontiguousarray(picture[y : y + height, x : x + width])
                parts.setdefault(part.shape, []).append((n, part, np.array([x, y], np.float32)))
        for shape, alike in parts.items():
            size = self._at_once(shape[0] * shape[1])
            for start in range(0, len(alike), size):
                batch = alike[start : start + size]
                detected = self.fine.detector.detect([part for _, part, _ in batch])
                for (n, _, corner), faces in zip(batch, detected, strict=True):
                    found[n].append(faces.moved(np.broadcast_to(corner, (len(faces), 2))))
        return self._measured(positions, [joined(*faces) for faces in found])

    def seek(self, positions: list[int], squares_px: list[np.ndarray]) -> list[Detections]:
        """The detector's faces in squares of these frames, each a few sides of a face that was near wide."""
        found: list[list[Detections]] = [[] for _ in positions]
        parts: list[tuple[int, np.ndarray, np.ndarray, float]] = []
        for n, (i, squares) in enumerate(zip(positions, squares_px, strict=True)):
            picture = self._picture(i, True)
            for square in squares / np.tile(self._enlargement(picture), 2):
                side = max(1, round(float(square[2:].mean())))
                corner = np.floor(square[:2]).astype(np.int64)
                parts.append((n, _square(picture, corner, side), corner.astype(np.float32), side / _SOUGHT_PX))
        size = self._at_once(_SOUGHT_PX**2)
        for start in range(0, len(parts), size):
            batch = parts[start : start + size]
            detected = self.sought.detect([part for _, part, _, _ in batch])
            for (n, _, corner, scale), faces in zip(batch, detected, strict=True):
                found[n].append(faces.scaled(scale, scale).moved(np.broadcast_to(corner, (len(faces), 2))))
        # Whoever is sought in an enlarged square may be smaller than anybody who is looked for elsewhere.
        measured = self._measured(positions, [joined(*faces) for faces in found])
        return [faces.taken(np.flatnonzero(self._is_large(faces))) for faces in measured]

    def _distinct(self, position: int, faces: Detections) -> Detections:
        """One detection per face, and no more faces than allowed; how many are left out is noted."""
        kept, left_out = most_confident(without_duplicates(faces, self.least_confidence), self.max_faces)
        if left_out:
            self.left_out[position] = max(left_out, self.left_out.get(position, 0))
        return kept

    def _measured(self, positions: list[int], found: list[Detections]) -> list[Detections]:
        """Faces found in parts of the fine pictures, measured anew in the whole: a part may end within a face."""
        faces_at = [self._distinct(i, faces) for i, faces in zip(positions, found, strict=True)]
        chosen = [n for n, faces in enumerate(faces_at) if len(faces)]
        for batch in self._batches(chosen, True):
            pictures = [self._picture(positions[n], True) for n in batch]
            boxes = [faces_at[n].boxes_px for n in batch]
            for n, faces in zip(batch, self.fine.detector.refine(pictures, boxes), strict=True):
                x, y = self._enlargement(pictures[0])
                faces_at[n] = without_duplicates(faces.scaled(x, y), self.least_confidence)
        return faces_at

    def refine(self, expected: list[tuple[int, Detections]]) -> list[tuple[Detections, np.ndarray]]:
        """Faces measured anew, from left to right as expected, and which are beyond doubt (bool)."""
        found: dict[int, tuple[Detections, np.ndarray]] = {}
        faces_at = dict(expected)
        for is_fine in (False, True):
            chosen = [i for i, _ in expected if self.looks_finely(i) is is_fine]
            for batch in self._batches(chosen, is_fine):
                pictures = [self._picture(i, is_fine) for i in batch]
                x, y = self._enlargement(pictures[0])
                boxes = [faces_at[i].scaled(1 / x, 1 / y).boxes_px for i in batch]
                for i, measured in zip(batch, self._scale(is_fine).detector.refine(pictures, boxes), strict=True):
                    faces = measured.scaled(x, y)
                    agreement = np.diagonal(overlaps(faces_at[i].boxes_px, faces.boxes_px))
                    is_sure = (agreement >= _LEAST_AGREEMENT_IOU) & (faces.confidence >= self.least_confidence)
                    found[i] = faces, is_sure
        return [found[i] for i, _ in expected]

    def follow(
        self, before: tuple[int, Detections], expected: tuple[int, Detections], after: tuple[int, Detections]
    ) -> Detections | None:
        """Faces where their pictures are found; None in doubt."""
        sights = []
        for i, faces in (before, expected, after):
            gray = self._gray(i, self.looks_finely(i))
            enlargement = np.array(self._enlargement(gray), np.float32)
            sights.append(Sight(gray, faces.boxes_px / np.tile(enlargement, 2)))
        first, middle, last = sights
        enlargement = np.array(self._enlargement(middle.gray), np.float32)
        offsets = followed(first, middle, last, (expected[0] - before[0]) / (after[0] - before[0]))
        return None if offsets is None else expected[1].moved(offsets.astype(np.float32) * enlargement)

    def gray(self, position: int) -> np.ndarray:
        """Luma of a frame at the coarse size."""
        return self._gray(position, False)

    def in_full(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes ``[n, 4]`` of a coarse picture in pixels of the full one."""
        picture = next(iter(self._grays.values()))
        return boxes * np.tile(self._enlargement(picture), 2)

    def looks_finely(self, position: int) -> bool:
        """Whether the frame is looked at finely."""
        known = [i for i in self.is_fine if i <= position]
        return bool(known) and self.is_fine[max(known)]

    def _scale(self, is_fine: bool) -> Scale:
        return self.fine if is_fine else self.coarse

    def _batches(self, positions: Sequence[int], is_fine: bool) -> Iterator[Sequence[int]]:
        width, height = fitted_px(self.size_px, self._scale(is_fine).max_side_px)
        size = self._at_once(width * height)
        for start in range(0, len(positions), size):
            yield positions[start : start + size]

    def _at_once(self, pixels: int) -> int:
        """How many pictures of so many pixels are given to the detector at once."""
        return max(1, min(self.batch_size, _PIXELS_AT_ONCE // max(1, pixels)))

    def _is_large(self, faces: Detections) -> np.ndarray:
        return np.asarray(faces.boxes_px[:, 2:].max(axis=1, initial=0) >= self.min_face_px)

    def _picture(self, position: int, is_fine: bool) -> np.ndarray:
        held = self._fine_pictures if is_fine else self._pictures
        if position not in held:
            held[position] = self._frames[position].rgb(self._scale(is_fine).max_side_px)
            if is_fine and not self.shrinks and len(held) > _FINE_KEPT:
                del held[next(iter(held))]
        return held[position]

    def _gray(self, position: int, is_fine: bool) -> np.ndarray:
        held = self._fine_grays if is_fine else self._grays
        if position not in held:
            held[position] = self._frames[position].gray(self._scale(is_fine).max_side_px)
            if is_fine and not self.shrinks and len(held) > _FINE_KEPT:
                del held[next(iter(held))]
        return held[position]

    def _enlargement(self, picture: np.ndarray) -> tuple[float, float]:
        return self.size_px[0] / picture.shape[1], self.size_px[1] / picture.shape[0]


def _square(picture: np.ndarray, corner: np.ndarray, side: int) -> np.ndarray:
    """A square of a picture, black beyond its edges, at the size in which faces are sought."""
    import cv2

    x, y = corner.tolist()
    height, width = picture.shape[:2]
    square = np.zeros((side, side, 3), np.uint8)
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + side, width), min(y + side, height)
    if x1 > x0 and y1 > y0:
        square[y0 - y : y1 - y, x0 - x : x1 - x] = picture[y0:y1, x0:x1]
    method = cv2.INTER_AREA if side > _SOUGHT_PX else cv2.INTER_LINEAR
    return cv2.resize(square, (_SOUGHT_PX, _SOUGHT_PX), interpolation=method)


def _parts(
    regions_px: np.ndarray, shape: tuple[int, ...], enlargement: tuple[float, float]
) -> list[tuple[int, int, int, int]]:
    """Parts of a picture of this shape (x, y, width, height) that cover the regions of the full one."""
    height, width = shape[:2]
    boxes = regions_px / np.tile(enlargement, 2)
    low = np.floor(boxes[:, :2] / _PART_STEP_PX).astype(np.int64) * _PART_STEP_PX
    high = np.ceil((boxes[:, :2] + boxes[:, 2:]) / _PART_STEP_PX).astype(np.int64) * _PART_STEP_PX
    low, high = np.maximum(low, 0), np.minimum(high, [width, height])
    sides = np.maximum(high - low, 0)
    if np.prod(sides, axis=1).sum() > _LARGEST_SHARE * width * height:
        return [(0, 0, width, height)]
    parts = np.unique(np.concatenate([low, sides], axis=1)[sides.min(axis=1, initial=1) > 0], axis=0)
    return [(int(x), int(y), int(w), int(h)) for x, y, w, h in parts]
