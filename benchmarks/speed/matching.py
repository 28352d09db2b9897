"""Which boxes of several detectors, or of two runs, are the same face. Boxes are x1, y1, x2, y2 in pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LEAST_IOU = 0.4
"""Overlap from which two boxes are one face. The detectors here frame a face differently (YuNet's boxes are narrower
than MTCNN's), so that the same face often overlaps by less than the usual one half."""


def overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of all pairs, float64 [n, m], for boxes [n, 4] and [m, 4]; 0 for empty boxes."""
    first, second = np.asarray(first, float).reshape(-1, 4), np.asarray(second, float).reshape(-1, 4)
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=2)
    areas = [np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1][None, :] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def pairs(first: np.ndarray, second: np.ndarray, least_iou: float = LEAST_IOU) -> list[tuple[int, int]]:
    """Greedy one-to-one matching: the pair that overlaps most, then the next of those left, down to ``least_iou``.

    Of equal overlaps the pair with the lower numbers goes first.
    """
    shared = overlaps(first, second)
    found: list[tuple[int, int]] = []
    for flat in np.argsort(-shared, axis=None, kind="stable"):
        i, j = (int(v) for v in np.unravel_index(flat, shared.shape))
        if shared[i, j] < least_iou:
            break
        if all(i != a and j != b for a, b in found):
            found.append((i, j))
    return found


def clusters(sources: Sequence[np.ndarray], least_iou: float = LEAST_IOU) -> list[dict[int, int]]:
    """The faces of one frame, as several sources see them: every box belongs to one, and a source sees a face once.

    Pairs of boxes of different sources join from the largest overlap down to ``least_iou``, unless that would put two
    boxes of one source together. The order of the sources does not matter, except between equal overlaps.

    Args:
        sources: boxes [n, 4] of each source; none is [0, 4].

    Returns:
        For each face source → its box, in order of each face's first source and box.
    """
    faces: dict[tuple[int, int], dict[int, int]] = {
        (source, box): {source: box} for source, boxes in enumerate(sources) for box in range(len(boxes))
    }
    candidates: list[tuple[float, int, int, int, int]] = []
    for a in range(len(sources)):
        for b in range(a + 1, len(sources)):
            shared = overlaps(sources[a], sources[b])
            candidates += [(-shared[i, j], a, int(i), b, int(j)) for i, j in np.argwhere(shared >= least_iou)]
    for _, a, i, b, j in sorted(candidates):
        one, other = faces[a, i], faces[b, j]
        if one is not other and not one.keys() & other.keys():
            one.update(other)
            for member in other.items():
                faces[member] = one
    unique = {id(face): face for face in faces.values()}
    return sorted((dict(sorted(face.items())) for face in unique.values()), key=lambda face: next(iter(face.items())))
