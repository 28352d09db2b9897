"""Tracklets as evidence of identity: split where the person changes, summed up in one embedding, kept apart in time.

A tracklet is a run of boxes that the tracker took for one moving face. A *piece* is what is left of it after the split:
the unit that is assigned to a person.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Faces:
    """All faces of a footage, one row each, in any order.

    Attributes:
        track: int64 [n], tracklet, unique over the footage.
        frame: int64 [n], frame of the footage; a tracklet has at most one face in a frame.
        time_s: float64 [n], presentation time.
        box_px: float64 [n, 4], x, y, width, height.
        quality: float64 [n] in 0..1, NaN where unknown.
        visible: bool [n], whether a face was really seen there (false: an interpolated box without one).
        vector: int64 [n], row of ``vectors`` that holds the face's embedding, −1 where it has none.
        vectors: float32 [m, d], the embeddings.
    """

    track: np.ndarray
    frame: np.ndarray
    time_s: np.ndarray
    box_px: np.ndarray
    quality: np.ndarray
    visible: np.ndarray
    vector: np.ndarray
    vectors: np.ndarray

    def __len__(self) -> int:
        return len(self.track)


@dataclass(frozen=True)
class Pieces:
    """Summary of the pieces, one row each, in an order that does not depend on the order of the faces.

    Attributes:
        rows: per piece, the indices of its faces in order of time.
        centre: float64 [p, d], quality-weighted mean embedding (of unit length where the embeddings are); NaN where
            no face of the piece is embedded.
        embedded: int64 [p], embedded faces.
        good: int64 [p], embedded faces of at least the quality that was asked for.
        faces: int64 [p], visible faces.
        together: int64 [m, 2], pairs of pieces (lower index first) that have a visible face in one frame; no matrix,
            since pieces may be many and pairs are few.
        doubles: bool [m], whether the pair mostly covers the same picture area where both are seen: one face found
            twice.
    """

    rows: list[np.ndarray]
    centre: np.ndarray
    embedded: np.ndarray
    good: np.ndarray
    faces: np.ndarray
    together: np.ndarray
    doubles: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


def pieces_of(faces: Faces, split_distance: float, split_min_faces: int, good_quality: float) -> Pieces:
    """Cut the tracklets into pieces of one person each and sum them up.

    Args:
        faces: the faces.
        split_distance: a tracklet is cut where the mean embeddings before and after lie further apart than this.
        split_min_faces: embedded faces that either part must have for that, so that a face that is turned away or
            covered for a moment does not look like somebody else.
        good_quality: what counts for `Pieces.good`.

    Raises:
        ValueError: a tracklet has two faces in one frame.
    """
    # Order by content; the number of a tracklet means nothing and comes last.
    order = np.lexsort((faces.track, faces.box_px[:, 1], faces.box_px[:, 0], faces.frame))
    _, first, label = np.unique(faces.track[order], return_index=True, return_inverse=True)
    _reject_doubled_frames(faces, order, label)
    rows: list[np.ndarray] = []
    by_track = order[np.argsort(label, kind="stable")]
    whole = np.split(by_track, np.cumsum(np.bincount(label))[:-1]) if len(order) else []
    for track in np.argsort(first):
        rows += _split(faces, whole[track], split_distance, split_min_faces)
    together, doubles = _co_occurrence(faces, rows)
    good = (faces.vector >= 0) & (faces.quality >= good_quality)
    visible = [part[faces.visible[part]] for part in rows]
    return Pieces(
        rows=rows,
        centre=np.array([mean_embedding(faces, part) for part in rows]).reshape(len(rows), faces.vectors.shape[1]),
        embedded=np.array([(faces.vector[part] >= 0).sum() for part in rows], np.int64),
        good=np.array([good[part].sum() for part in rows], np.int64),
        faces=np.array([len(part) for part in visible], np.int64),
        together=together,
        doubles=doubles,
    )


def mean_embedding(faces: Faces, rows: np.ndarray) -> np.ndarray:
    """Quality-weighted mean of the embedded faces among ``rows``, float64 [d]; NaN if none is embedded.

    Means of unit vectors are brought back to unit length: the mean of many views lies inside the sphere, and would
    seem near to everybody.
    """
    rows = rows[faces.vector[rows] >= 0]
    if len(rows) == 0:
        return np.full(faces.vectors.shape[1], np.nan)
    vectors = faces.vectors[faces.vector[rows]].astype(np.float64)
    mean = np.average(vectors, axis=0, weights=_weight(faces.quality[rows]))
    if np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-3):
        mean /= max(np.linalg.norm(mean), 1e-12)
    return mean


def _weight(quality: np.ndarray) -> np.ndarray:
    # A floor, so that a tracklet of nothing but poor faces still has a mean.
    return np.maximum(np.nan_to_num(quality, nan=0.0), 0.05)


def _split(faces: Faces, rows: np.ndarray, split_distance: float, split_min_faces: int) -> list[np.ndarray]:
    """The tracklet's rows (in order of time), cut where the person changes; recursive binary segmentation."""
    known = np.flatnonzero(faces.vector[rows] >= 0)
    count = len(known)
    if count < 2 * split_min_faces:
        return [rows]
    vectors = faces.vectors[faces.vector[rows[known]]].astype(np.float64)
    weight = _weight(faces.quality[rows[known]])
    sums = np.cumsum(vectors * weight[:, None], axis=0)
    mass = np.cumsum(weight)
    at = np.arange(split_min_faces, count - split_min_faces + 1)
    before, after = sums[at - 1], sums[-1] - sums[at - 1]
    mass_before, mass_after = mass[at - 1], mass[-1] - mass[at - 1]
    # The cut that explains most of the scatter (between-group sum of squares).
    gap = np.linalg.norm(before / mass_before[:, None] - after / mass_after[:, None], axis=1)
    best = int(np.argmax(gap**2 * mass_before * mass_after))
    left, right = known[: at[best]], known[at[best] :]
    distance = np.linalg.norm(mean_embedding(faces, rows[left]) - mean_embedding(faces, rows[right]))
    if distance <= split_distance:
        return [rows]
    cut = left[-1] + 1 + _largest_jump(faces.box_px[rows[left[-1] : right[0] + 1]])
    return [
        *_split(faces, rows[:cut], split_distance, split_min_faces),
        *_split(faces, rows[cut:], split_distance, split_min_faces),
    ]


def _largest_jump(box_px: np.ndarray) -> int:
    """Index of the step between consecutive boxes that moves or resizes the box most: where the tracker slipped."""
    centre = box_px[:, :2] + box_px[:, 2:] / 2
    size = np.maximum(np.sqrt(np.abs(box_px[:, 2] * box_px[:, 3])), 1e-6)
    moved = np.linalg.norm(np.diff(centre, axis=0), axis=1) / np.minimum(size[:-1], size[1:])
    return int(np.argmax(moved + np.abs(np.diff(np.log(size)))))


def _reject_doubled_frames(faces: Faces, order: np.ndarray, label: np.ndarray) -> None:
    keys = np.stack([label, faces.frame[order]], axis=1)
    if len(np.unique(keys, axis=0)) != len(keys):
        raise ValueError("a tracklet has two faces in one frame")


def _co_occurrence(faces: Faces, rows: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """`Pieces.together` and `Pieces.doubles`."""
    piece = np.full(len(faces), -1, np.int64)
    for index, part in enumerate(rows):
        piece[part] = index
    seen = np.flatnonzero(faces.visible)
    seen = seen[np.argsort(faces.frame[seen], kind="stable")]
    codes, overlapping = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    # Faces of one frame lie side by side; two that are `lag` apart are compared in one step for all frames.
    for lag in range(1, len(seen)):
        same = faces.frame[seen[lag:]] == faces.frame[seen[:-lag]]
        if not same.any():
            break
        a, b = seen[:-lag][same], seen[lag:][same]
        code = np.minimum(piece[a], piece[b]) * len(rows) + np.maximum(piece[a], piece[b])
        alike = overlap(faces.box_px[a], faces.box_px[b]) > 0.5
        unique, place = np.unique(code, return_inverse=True)
        codes.append(unique)
        # +1 for every frame in which the two boxes cover each other, −1 for every other.
        overlapping.append(np.bincount(place, weights=np.where(alike, 1, -1)).astype(np.int64))
    unique, place = np.unique(np.concatenate(codes), return_inverse=True)
    balance = np.bincount(place, weights=np.concatenate(overlapping), minlength=len(unique))
    return np.column_stack(np.divmod(unique, max(len(rows), 1))), balance > 0


def overlap(a_px: np.ndarray, b_px: np.ndarray) -> np.ndarray:
    """Intersection over the smaller area of paired boxes, float64 [n]: 1 where one box contains the other."""
    low = np.maximum(a_px[:, :2], b_px[:, :2])
    high = np.minimum(a_px[:, :2] + a_px[:, 2:], b_px[:, :2] + b_px[:, 2:])
    common = np.prod(np.maximum(high - low, 0.0), axis=1)
    smaller = np.minimum(np.prod(a_px[:, 2:], axis=1), np.prod(b_px[:, 2:], axis=1))
    return common / np.maximum(smaller, 1e-9)
