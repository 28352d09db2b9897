"""Telling that nothing has changed since a frame in which the detector found nobody."""

from __future__ import annotations

import numpy as np

#: Side in pixels of the blocks over which change is averaged; a face of the least searched size covers four of them.
_BLOCK_PX = 8


class StillWatch:
    """Says of key frames whether anything has changed since an earlier one; frames are shown to it in order, once.

    Every frame is compared with the same reference, not with the one before it, so that slow changes add up until they
    count. A key frame before which something changed becomes the next reference.

    Args:
        least_change: mean absolute difference of luma (0 to 255) over a block of 8×8 pixels that counts as a change;
            0 takes every frame for changed.
    """

    def __init__(self, least_change: float) -> None:
        self._least = least_change
        self._reference: np.ndarray | None = None
        self._changed = True

    def is_still(self, gray: np.ndarray, *, is_key: bool, cut: bool) -> bool:
        """Whether a frame is a key frame up to which, from the reference on, no block of any frame has changed.

        Args:
            gray: uint8 ``[H, W]``.
            is_key: whether the frame is a key frame.
            cut: whether a shot boundary lies before it.
        """
        if self._least <= 0.0:
            return False
        reference = self._reference
        self._changed = self._changed or cut or reference is None or largest_change(reference, gray) >= self._least
        if not is_key:
            return False
        is_still = not self._changed
        if self._changed:
            self._reference, self._changed = gray, False
        return is_still


def largest_change(before: np.ndarray, after: np.ndarray) -> float:
    """Largest mean absolute difference of two pictures (uint8 ``[H, W]``) over a block of 8×8 pixels."""
    import cv2

    difference = cv2.absdiff(before, after)
    height, width = max(1, difference.shape[0] // _BLOCK_PX), max(1, difference.shape[1] // _BLOCK_PX)
    used = difference[: height * _BLOCK_PX, : width * _BLOCK_PX]
    return float(cv2.resize(used, (width, height), interpolation=cv2.INTER_AREA).max())
