"""Which frames of a window the detector searches as a whole, which in parts, and which not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Protocol

import numpy as np

from faceline.faces import NOBODY, Detections


class Looks(Protocol):
    """What is searched with; frames are named by position."""

    def look(self, positions: list[int]) -> list[Detections]:
        """The detector's faces of these frames."""
        ...

    def glance(self, positions: list[int], regions_px: list[np.ndarray]) -> list[Detections]:
        """The detector's faces in parts (``[n, 4]``: x, y, width, height) of these frames."""
        ...


def search(
    keys: Sequence[int], changed: Mapping[int, np.ndarray | None], eyes: Looks, seen: dict[int, Detections]
) -> dict[int, Detections]:
    """Faces of the key frames of a window, and of frames between that need no other way.

    After a key frame that shows nobody, frames are searched where they have changed, as long as that is little; a face
    that shows for a moment in an empty room is found in that very frame, and a room in which nothing moves costs
    nothing. Where a face is known, the next key frame is searched as a whole.

    Args:
        keys: positions of the key frames; the first and the last frame are among them.
        changed: which parts of a frame (``[n, 4]`` in full pictures) have changed since they were last searched, by
            position, for all key frames and those between that are to be searched for changes; None: too much, or the
            frame has to be searched as a whole.
        eyes: what to search with.
        seen: faces known already, by position.

    Returns:
        Faces by position, ``seen`` included.
    """
    seen = dict(seen)
    due = [k for k in keys if k not in seen and (changed[k] is None or k == keys[0])]
    seen.update(zip(due, eyes.look(due), strict=True))
    # Key frames after several with faces are searched together, which changes what is spent, and not what is found.
    spare: dict[int, Detections] = {}
    streak = 0
    for n, (a, b) in enumerate(pairwise(keys)):
        streak = streak + 1 if len(seen[a]) else 0
        if not len(seen[a]):
            seen.update(_watched(a, b, changed, eyes, b in seen))
        if b in seen:
            continue
        if b not in spare:
            ahead = [k for k in keys[n + 2 :] if k not in seen] if streak > 1 else []
            spare.update(zip([b, *ahead], eyes.look([b, *ahead]), strict=True))
        seen[b] = spare[b]
    return seen


def _watched(
    a: int, b: int, changed: Mapping[int, np.ndarray | None], eyes: Looks, is_seen: bool
) -> dict[int, Detections]:
    """Faces of the frames after an empty one, up to the next key frame, as far as what changed tells them."""
    regions: dict[int, np.ndarray] = {}
    for i in sorted(i for i in changed if a < i < b or (i == b and not is_seen)):
        boxes = changed[i]
        if boxes is None:
            return {}
        regions[i] = boxes
    active = [i for i, boxes in regions.items() if len(boxes)]
    found = dict(zip(active, eyes.glance(active, [regions[i] for i in active]), strict=True)) if active else {}
    seen: dict[int, Detections] = {}
    latest = NOBODY
    for i, part in regions.items():
        # A face outside of what has changed is still there: where exactly, others find out.
        if _covers(part, latest):
            seen[i] = latest = found.get(i, NOBODY)
    return seen


def _covers(regions: np.ndarray, faces: Detections) -> bool:
    """Whether every face lies in one of the regions, and as a whole: of half a face nothing is found."""
    low, high = faces.boxes_px[:, None, :2], (faces.boxes_px[:, :2] + faces.boxes_px[:, 2:])[:, None]
    inside = (low >= regions[None, :, :2]) & (high <= regions[None, :, :2] + regions[None, :, 2:])
    return bool(inside.all(axis=2).any(axis=1).all())
