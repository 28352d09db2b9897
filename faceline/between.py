"""How faces come to the frames between those that the detector searches as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np

from faceline.faces import Detections, interpolated, joined, without_duplicates
from faceline.keyframes import FoundFaces
from faceline.tracking import matched

#: Side of the square that is searched for a face that comes, goes, or is in doubt, in sides of its box.
_SOUGHT_SIDES = 3.0


class Eyes(Protocol):
    """What faces are found with; frames are named by position, boxes are x, y, width, height in full pictures."""

    def seek(self, positions: list[int], squares_px: list[np.ndarray]) -> list[Detections]:
        """The detector's faces in squares (``[n, 4]`` per frame) of these frames."""
        ...

    def follow(
        self, before: tuple[int, Detections], expected: tuple[int, Detections], after: tuple[int, Detections]
    ) -> Detections | None:
        """Faces at their true places, given the expected ones and where they were before and after; None in doubt."""
        ...

    def refine(self, expected: list[tuple[int, Detections]]) -> list[tuple[Detections, np.ndarray]]:
        """Faces measured anew about their expected places, a row per face, and which of them are beyond doubt."""
        ...


@dataclass(frozen=True)
class _Split:
    """A frame between two seen ones that has to be seen itself: faces expected in it, and boxes of those in doubt."""

    before: int
    middle: int
    after: int
    expected: Detections
    doubtful_px: np.ndarray


def find_between(
    time_s: np.ndarray,
    cut: np.ndarray,
    eyes: Eyes,
    min_iou: float,
    seen: dict[int, Detections],
    refine_s: float = 0.0,
) -> list[FoundFaces]:
    """Faces of all frames of a stretch.

    Args:
        time_s, cut: the frames' times, and shot boundaries before them.
        eyes: what to see with.
        min_iou: see `DetectParams.interpolate_iou`.
        seen: faces of the frames that have been searched, by position; the first and the last of every shot are
            among them.
        refine_s: see `DetectParams.refine_s`.
    """
    seen = dict(seen)
    between: dict[int, Detections] = {}
    spans = [(a, b) for a, b in pairwise(sorted(seen)) if b - a > 1 and not cut[b]]
    while spans:
        splits: list[_Split] = []
        for a, b in spans:
            pairs = matched(seen[a].boxes_px, seen[b].boxes_px, min_iou, rivalry=0.5)
            before, after = seen[a].taken([i for i, _ in pairs]), seen[b].taken([j for _, j in pairs])
            middle = (a + b) // 2
            if len(pairs) == len(seen[a]) == len(seen[b]):
                is_long = len(pairs) > 0 and 0.0 < refine_s < time_s[b] - time_s[a] - 1e-6
                inside = range(middle, middle + 1) if is_long else range(a + 1, b)
                filled = _filled(time_s, (a, before), inside, (b, after), eyes)
                if isinstance(filled, int):
                    middle, expected = filled, interpolated(before, after, _share(time_s, a, filled, b))
                elif is_long:
                    expected = filled[middle]
                else:
                    between.update(filled)
                    continue
                doubtful = np.zeros((0, 4), np.float32)
            else:
                expected = interpolated(before, after, _share(time_s, a, middle, b))
                alone_a = np.setdiff1d(np.arange(len(seen[a])), [i for i, _ in pairs])
                alone_b = np.setdiff1d(np.arange(len(seen[b])), [j for _, j in pairs])
                doubtful = np.concatenate([seen[a].boxes_px[alone_a], seen[b].boxes_px[alone_b]])
            splits.append(_Split(a, middle, b, expected, doubtful))
        seen.update(zip([split.middle for split in splits], _seen(splits, eyes), strict=True))
        spans = [
            (low, high) for s in splits for low, high in ((s.before, s.middle), (s.middle, s.after)) if high - low > 1
        ]
    return [FoundFaces(seen[i], True) if i in seen else FoundFaces(between[i], False) for i in range(len(time_s))]


def _seen(splits: Sequence[_Split], eyes: Eyes) -> list[Detections]:
    """Faces of the frames in the middle: expected ones measured anew, and those in doubt searched for."""
    expected = [(n, split) for n, split in enumerate(splits) if len(split.expected)]
    measured = eyes.refine([(split.middle, split.expected) for _, split in expected]) if expected else []
    sure = [split.expected for split in splits]
    squares = [sought_around(split.doubtful_px) for split in splits]
    for (n, split), (faces, is_sure) in zip(expected, measured, strict=True):
        sure[n] = faces.taken(np.flatnonzero(is_sure))
        squares[n] = np.concatenate([squares[n], sought_around(split.expected.boxes_px[~is_sure])])
    sought = [n for n in range(len(splits)) if len(squares[n])]
    found = eyes.seek([splits[n].middle for n in sought], [squares[n] for n in sought]) if sought else []
    for n, faces in zip(sought, found, strict=True):
        sure[n] = joined(sure[n], faces)
    return [without_duplicates(faces) for faces in sure]


def sought_around(boxes_px: np.ndarray) -> np.ndarray:
    """The squares that are searched for faces that were last seen in these boxes."""
    sides = _SOUGHT_SIDES * boxes_px[:, 2:].max(axis=1, keepdims=True, initial=0)
    return np.concatenate([boxes_px[:, :2] + (boxes_px[:, 2:] - sides) / 2, sides, sides], axis=1)


def _share(time_s: np.ndarray, a: int, i: int, b: int) -> float:
    length_s = time_s[b] - time_s[a]
    return float((time_s[i] - time_s[a]) / length_s) if length_s > 0 else 0.0


def _filled(
    time_s: np.ndarray, before: tuple[int, Detections], inside: range, after: tuple[int, Detections], eyes: Eyes
) -> dict[int, Detections] | int:
    """Faces of frames between two others by position, or the first of them that is in doubt."""
    filled: dict[int, Detections] = {}
    for i in inside:
        expected = interpolated(before[1], after[1], _share(time_s, before[0], i, after[0]))
        faces = eyes.follow(before, (i, expected), after) if len(expected) else expected
        if faces is None:
            return i
        filled[i] = faces.ordered()
    return filled
