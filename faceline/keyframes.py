"""Which frames the detector sees, and how faces come to the frames between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np

from faceline.faces import Detections, interpolated
from faceline.tracking import matched

#: Most sampled frames between two key frames; bounds memory at high rates.
_LONGEST_SPAN_FRAMES = 32


def key_frames(time_s: np.ndarray, cut: np.ndarray, interval_s: float) -> np.ndarray:
    """Which of the sampled frames the detector always sees: bool ``[n]``.

    The first and the last frame of each shot, and between them every frame that lies ``interval_s`` or more, or 32
    sampled frames, after the key frame before it.
    """
    count = len(time_s)
    is_key = np.zeros(count, bool)
    latest = -1
    for i in range(count):
        begins, ends = i == 0 or cut[i], i + 1 == count or cut[i + 1]
        # A millionth forgives the rounding of timestamps to the container's clock.
        is_due = time_s[i] - time_s[latest] >= interval_s - 1e-6 or i - latest >= _LONGEST_SPAN_FRAMES
        if begins or ends or is_due:
            is_key[i] = True
            latest = i
    return is_key


@dataclass(frozen=True)
class FoundFaces:
    """Faces of one sampled frame and whether the detector saw them itself."""

    faces: Detections
    detected: bool


class Eyes(Protocol):
    """What `find_faces` sees with; frames are named by position."""

    def look(self, positions: list[int]) -> list[Detections]:
        """The detector's faces of these frames."""
        ...

    def follow(
        self, before: tuple[int, Detections], expected: tuple[int, Detections], after: tuple[int, Detections]
    ) -> Detections | None:
        """Faces at their true places, given the expected ones and where they were before and after; None in doubt."""
        ...

    def refine(self, expected: list[tuple[int, Detections]]) -> list[Detections | None]:
        """The faces of these frames, measured anew about their expected places; None in doubt."""
        ...


def find_faces(
    time_s: np.ndarray,
    is_key: np.ndarray,
    cut: np.ndarray,
    eyes: Eyes,
    min_iou: float,
    known: dict[int, Detections] | None = None,
    refine_s: float = 0.0,
) -> list[FoundFaces]:
    """Faces of all frames of a stretch that begins and ends with a key frame.

    Args:
        time_s, is_key, cut: the frames' times, key frames, and shot boundaries before them.
        eyes: detector and follower.
        min_iou: see `DetectParams.interpolate_iou`.
        known: frames whose faces are known already, by position.
        refine_s: see `DetectParams.refine_s`.
    """
    seen: dict[int, Detections] = dict(known or {})

    def look_at(positions: list[int]) -> None:
        new = [i for i in positions if i not in seen]
        if new:
            seen.update(zip(new, eyes.look(new), strict=True))

    keys = np.flatnonzero(is_key).tolist()
    look_at(keys)
    between: dict[int, Detections] = {}
    spans = [(a, b) for a, b in pairwise(keys) if b - a > 1 and not cut[b]]
    while spans:
        split: list[tuple[int, int, int]] = []
        expected: list[tuple[int, Detections]] = []
        for a, b in spans:
            doubtful = (a + b) // 2
            pairs = matched(seen[a].boxes_px, seen[b].boxes_px, min_iou, rivalry=0.5)
            if len(pairs) == len(seen[a]) == len(seen[b]):
                is_long = len(pairs) > 0 and 0.0 < refine_s < time_s[b] - time_s[a] - 1e-6
                inside = range(doubtful, doubtful + 1) if is_long else range(a + 1, b)
                filled = _filled(time_s, a, b, inside, seen[a], seen[b], pairs, eyes)
                if not isinstance(filled, int):
                    if not is_long:
                        between.update(filled)
                        continue
                    expected.append((doubtful, filled[doubtful]))
                else:
                    doubtful = filled
            split.append((a, doubtful, b))
        for (i, _), faces in zip(expected, eyes.refine(expected) if expected else [], strict=True):
            if faces is not None:
                seen[i] = faces
        look_at([middle for _, middle, _ in split])
        spans = [(low, high) for a, m, b in split for low, high in ((a, m), (m, b)) if high - low > 1]
    return [FoundFaces(seen[i], True) if i in seen else FoundFaces(between[i], False) for i in range(len(time_s))]


def _filled(
    time_s: np.ndarray,
    a: int,
    b: int,
    inside: range,
    before: Detections,
    after: Detections,
    pairs: Sequence[tuple[int, int]],
    eyes: Eyes,
) -> dict[int, Detections] | int:
    """Faces of frames between ``a`` and ``b`` by position, or the first of them that is in doubt."""
    before, after = before.taken([i for i, _ in pairs]), after.taken([j for _, j in pairs])
    filled: dict[int, Detections] = {}
    for i in inside:
        length_s = time_s[b] - time_s[a]
        share = (time_s[i] - time_s[a]) / length_s if length_s > 0 else 0.0
        expected = interpolated(before, after, float(share))
        faces = eyes.follow((a, before), (i, expected), (b, after)) if len(pairs) else expected
        if faces is None:
            return i
        filled[i] = faces.ordered()
    return filled
