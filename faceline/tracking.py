"""Linking faces of successive frames into tracklets: pure functions over boxes, no pictures, no identities.

A tracklet is to hold one person only. Later stages can join two tracklets of one person, but nothing can part a mixed
one; so wherever two faces compete for a place, the tracklets end and new ones begin.

Boxes are float arrays ``[n, 4]``: x, y of the upper left corner, width, height.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

#: Weight of the newest step in a tracklet's velocity; detections jitter by a few per cent of their side.
_VELOCITY_GAIN = 0.5

#: A face that no longer overlaps its last place may be followed if it is alone: at most this fast, at most this far,
#: in sides of the face (8 sides are some 1.2 m), and to a face of about its size.
_FASTEST_SIDES_S = 8.0
_FARTHEST_SIDES = 1.5
_LARGEST_RATIO = 1.3

#: For how long, in seconds, a face is assumed to go on moving when it is not seen.
_COASTING_S = 0.25


def overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of each box of ``first`` ``[n, 4]`` with each of ``second`` ``[m, 4]``: ``[n, m]``."""
    a, b = np.asarray(first, np.float64)[:, None], np.asarray(second, np.float64)[None, :]
    low = np.maximum(a[..., :2], b[..., :2])
    high = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    shared = np.prod(np.clip(high - low, 0.0, None), axis=-1)
    union = np.prod(a[..., 2:], axis=-1) + np.prod(b[..., 2:], axis=-1) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def matched(first: np.ndarray, second: np.ndarray, min_iou: float, rivalry: float) -> list[tuple[int, int]]:
    """Pairs of boxes that show the same face beyond doubt.

    The assignment with the greatest sum of overlaps (Kuhn 1955) is taken, without pairs below ``min_iou`` and without
    contested ones: where another box overlaps either partner more than ``rivalry`` times as much as they overlap each
    other, and more than half of ``min_iou``.

    Returns:
        (index in ``first``, index in ``second``), ordered by the former; no index occurs twice.
    """
    if not len(first) or not len(second):
        return []
    from scipy.optimize import linear_sum_assignment

    iou = overlaps(first, second)
    pairs = []
    for i, j in zip(*linear_sum_assignment(iou, maximize=True), strict=True):
        others = np.concatenate([np.delete(iou[i], j), np.delete(iou[:, j], i)])
        rival = others.max(initial=0.0)
        contested = rival > rivalry * iou[i, j] and rival > min_iou / 2
        if iou[i, j] >= min_iou and not contested:
            pairs.append((int(i), int(j)))
    return pairs


def _apart(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance of centres in mean sides, and ratio of sides (1 and more), of each pair: ``[n, m]`` each."""
    a, b = first[:, None], second[None, :]
    side_a, side_b = a[..., 2:].mean(-1), b[..., 2:].mean(-1)
    step = np.linalg.norm((a[..., :2] + a[..., 2:] / 2) - (b[..., :2] + b[..., 2:] / 2), axis=-1)
    return step / ((side_a + side_b) / 2), np.maximum(side_a / side_b, side_b / side_a)


@dataclass
class _Track:
    """A tracklet that may go on."""

    number: int
    time_s: float
    box: np.ndarray
    velocity: np.ndarray

    def predicted(self, time_s: float) -> np.ndarray:
        """Where the face should be: moved on for a short while, its size kept."""
        moved = self.box.copy()
        moved[:2] += self.velocity * min(time_s - self.time_s, _COASTING_S)
        return moved

    def extended(self, time_s: float, box: np.ndarray) -> None:
        """Take over a newly seen box."""
        step_s = time_s - self.time_s
        if step_s > 0:
            centre_step = (box[:2] + box[2:] / 2) - (self.box[:2] + self.box[2:] / 2)
            self.velocity = self.velocity + _VELOCITY_GAIN * (centre_step / step_s - self.velocity)
        self.time_s, self.box = time_s, box


@dataclass
class Tracker:
    """Gives faces their tracklet numbers, frame by frame, in order of time.

    Attributes:
        min_iou: least overlap between where a face is expected and where it is found.
        gap_s: for how long a face may be unseen and still go on as the same tracklet.
        rivalry: share of the overlap that makes another face a rival, see `matched`.
    """

    min_iou: float = 0.25
    gap_s: float = 0.6
    rivalry: float = 0.6
    _active: list[_Track] = field(default_factory=list, repr=False)
    _next_number: int = 0

    def update(self, time_s: float, boxes: np.ndarray, *, cut: bool = False) -> np.ndarray:
        """Number the faces of the next frame.

        Args:
            time_s: the frame's time; must not run back.
            boxes: the frame's faces, ``[n, 4]``.
            cut: a shot boundary lies before this frame; no tracklet crosses it.

        Returns:
            int64 ``[n]``: 0-based tracklet numbers in order of first appearance; no two alike.
        """
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        if cut:
            self._active = []
        self._active = [track for track in self._active if time_s - track.time_s <= self.gap_s]
        expected = np.array([track.predicted(time_s) for track in self._active]).reshape(-1, 4)
        numbers = np.full(len(boxes), -1, np.int64)
        for i, j in matched(expected, boxes, self.min_iou, self.rivalry):
            self._active[i].extended(time_s, boxes[j])
            numbers[j] = self._active[i].number
        for i, j in self._leaps(time_s, expected, boxes, numbers):
            self._active[i].extended(time_s, boxes[j])
            numbers[j] = self._active[i].number
        self._end_doubtful(expected, boxes, numbers)
        for j in np.flatnonzero(numbers < 0):
            numbers[j] = self._next_number
            self._active.append(_Track(self._next_number, time_s, boxes[j], np.zeros(2)))
            self._next_number += 1
        return numbers

    def _end_doubtful(self, expected: np.ndarray, boxes: np.ndarray, numbers: np.ndarray) -> None:
        """End unseen tracklets that might come back as somebody else.

        These are the ones whose place is taken by another face, and the ones near which a new face appears: it may be
        theirs, and what reappears later at their place may not.
        """
        unseen = [i for i, track in enumerate(self._active) if track.number not in numbers]
        if not unseen or not len(boxes):
            return
        is_taken = overlaps(expected[unseen], boxes).max(axis=1) >= self.min_iou
        distance, _ = _apart(expected[unseen], boxes[numbers < 0])
        is_doubtful = is_taken | (distance.min(axis=1, initial=np.inf) <= 2 * _FARTHEST_SIDES)
        ended = {self._active[i].number for i, ends in zip(unseen, is_doubtful, strict=True) if ends}
        self._active = [track for track in self._active if track.number not in ended]

    def _leaps(
        self, time_s: float, expected: np.ndarray, boxes: np.ndarray, numbers: np.ndarray
    ) -> list[tuple[int, int]]:
        """Pairs of a tracklet and a face that moved too fast to overlap, where no other face comes into question."""
        lost = [i for i, track in enumerate(self._active) if track.number not in numbers]
        new = np.flatnonzero(numbers < 0).tolist()
        if not lost or not new:
            return []
        distance, ratio = _apart(expected[lost], boxes[new])
        gaps_s = np.array([time_s - self._active[i].time_s for i in lost])[:, None]
        reach = np.minimum(_FARTHEST_SIDES, _FASTEST_SIDES_S * gaps_s)
        pairs = []
        for row, column in np.argwhere((distance <= reach) & (ratio <= _LARGEST_RATIO)):
            others = np.concatenate([np.delete(distance[row], column), np.delete(distance[:, column], row)])
            if others.min(initial=np.inf) > 2 * _FARTHEST_SIDES:
                pairs.append((lost[row], new[column]))
        return pairs
