"""Which frames the detector searches as a whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from faceline.faces import Detections

#: Most sampled frames between two key frames; bounds memory at high rates.
LONGEST_SPAN_FRAMES = 32


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
        is_due = time_s[i] - time_s[latest] >= interval_s - 1e-6 or i - latest >= LONGEST_SPAN_FRAMES
        if begins or ends or is_due:
            is_key[i] = True
            latest = i
    return is_key


def fine_frames(time_s: np.ndarray, cut: np.ndarray, is_key: np.ndarray, interval_s: float) -> np.ndarray:
    """Which key frames are searched for small faces whatever is known: bool ``[n]``.

    The first of each shot, and every one that lies ``interval_s`` or more after the one before.
    """
    is_fine = np.zeros(len(time_s), bool)
    latest_s = -np.inf
    for i in np.flatnonzero(is_key).tolist():
        if i == 0 or cut[i] or time_s[i] - latest_s >= interval_s - 1e-6:
            is_fine[i] = True
            latest_s = time_s[i]
    return is_fine


def spaced(time_s: np.ndarray, is_key: np.ndarray, interval_s: float) -> np.ndarray:
    """Key frames, and between them every frame that lies ``interval_s`` or more after the one before: bool ``[n]``."""
    is_due = np.zeros(len(time_s), bool)
    latest_s = -np.inf
    for i, now_s in enumerate(time_s.tolist()):
        if is_key[i] or now_s - latest_s >= interval_s - 1e-6:
            is_due[i] = True
            latest_s = now_s
    return is_due


@dataclass(frozen=True)
class FoundFaces:
    """Faces of one sampled frame and whether the detector saw them itself."""

    faces: Detections
    detected: bool
