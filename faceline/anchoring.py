"""Unsure faces count where they go on from, or lead to, sure ones.

A head that turns away is detected with less and less confidence. Taking all unsure detections takes in prints, hands
and backs of heads; following ByteTrack (Zhang et al. 2022), they only extend tracklets that hold sure faces.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from faceline.keyframes import FoundFaces
from faceline.tracking import Tracker

#: Sure faces that a tracklet needs for unsure ones to count: a hand or a print passes for a face now and then, once.
_VOUCHERS = 3


@dataclass(frozen=True)
class TrackedFaces:
    """Faces of one sampled frame that count, with their tracklets (int64 ``[n]``)."""

    position: int
    found: FoundFaces
    tracks: np.ndarray


@dataclass
class Anchoring:
    """Links faces of successive frames into tracklets and leaves out unsure ones without sure ones nearby.

    Attributes:
        tracker: gives tracklets, unsure faces included.
        min_confidence: faces from this on are sure.
        extend_s: farthest in time that the sure faces of an unsure one's tracklet may lie.
    """

    tracker: Tracker
    min_confidence: float
    extend_s: float
    _waiting: deque[tuple[float, TrackedFaces]] = field(default_factory=deque, repr=False)
    _sure_s: dict[int, list[float]] = field(default_factory=dict, repr=False)
    _numbers: dict[int, tuple[int, float]] = field(default_factory=dict, repr=False)
    _next_number: int = 0

    def add(self, position: int, time_s: float, found: FoundFaces, *, cut: bool) -> list[TrackedFaces]:
        """Take in the next frame.

        Returns:
            The frames about which nothing that follows can change anything, in order.
        """
        tracks = self.tracker.update(time_s, found.faces.boxes_px, cut=cut)
        self._waiting.append((time_s, TrackedFaces(position, found, tracks)))
        done = []
        while self._waiting and (self._is_sure(self._waiting[0][1]).all() or self._is_past(time_s)):
            done.append(self._released())
        return done

    def finish(self) -> list[TrackedFaces]:
        """The frames that are left."""
        return [self._released() for _ in range(len(self._waiting))]

    def _is_past(self, now_s: float) -> bool:
        return now_s - self._waiting[0][0] > self.extend_s

    def _is_sure(self, entry: TrackedFaces) -> np.ndarray:
        return entry.found.faces.confidence >= self.min_confidence

    def _is_voucher(self, entry: TrackedFaces) -> np.ndarray:
        """Sure faces that were detected: a copy between two detections says nothing that they do not say."""
        return self._is_sure(entry) & entry.found.detected

    def _released(self) -> TrackedFaces:
        time_s, entry = self._waiting.popleft()
        is_sure = self._is_sure(entry)
        for track in entry.tracks[self._is_voucher(entry)].tolist():
            self._sure_s.setdefault(track, []).append(time_s)
        counts = [
            sure or self._vouchers(track, time_s) >= _VOUCHERS
            for track, sure in zip(entry.tracks.tolist(), is_sure.tolist(), strict=True)
        ]
        kept = np.flatnonzero(counts)
        numbers = [self._number(track, time_s) for track in entry.tracks[kept].tolist()]
        found = FoundFaces(entry.found.faces.taken(kept), entry.found.detected)
        return TrackedFaces(entry.position, found, np.array(numbers, np.int64))

    def _vouchers(self, track: int, time_s: float) -> int:
        """Sure faces of a tracklet near a time."""
        earlier = [at_s for at_s in self._sure_s.get(track, []) if time_s - at_s <= self.extend_s]
        self._sure_s[track] = earlier
        later = [
            track in entry.tracks[self._is_voucher(entry)]
            for at_s, entry in self._waiting
            if at_s - time_s <= self.extend_s
        ]
        return len(earlier) + sum(later)

    def _number(self, track: int, time_s: float) -> int:
        """Tracklets by their first face that counts; one that was out of sight for too long begins anew."""
        number, latest_s = self._numbers.get(track, (-1, -np.inf))
        if time_s - latest_s > self.tracker.gap_s:
            number = self._next_number
            self._next_number += 1
        self._numbers[track] = (number, time_s)
        return number
