"""Where pictures have changed since they were last searched for faces."""

from __future__ import annotations

import numpy as np

#: Side in pixels of the blocks over which change is averaged: a little less than that of the smallest searched face.
_BLOCK_PX = 16

#: Blocks around a changed one that are searched with it: whoever moves shows more than what changed.
_MARGIN_BLOCKS = 1

#: Share of the picture from which searching what changed saves nothing against searching all of it.
_LARGEST_SHARE = 0.5


class ChangeWatch:
    """Says of each frame which parts of it look other than when they were last searched; frames are shown in order.

    What is compared with is a picture put together from the parts last searched, not the frame before, so that slow
    changes add up until they count. Key frames are compared with the last one that was searched as a whole: who comes
    in bit by bit has changed bit by bit, and is seen in no part but in all of them together.

    Args:
        least_change: mean absolute difference of luma (0 to 255) over a block of 16×16 pixels that counts as a change;
            0 takes every frame for changed as a whole.
    """

    def __init__(self, least_change: float) -> None:
        self._least = least_change
        self._reference: np.ndarray | None = None
        self._whole: np.ndarray | None = None
        self._is_busy = False

    def changed(self, gray: np.ndarray, *, is_key: bool, starts_anew: bool) -> np.ndarray | None:
        """The parts of a frame that have changed.

        Args:
            gray: uint8 ``[H, W]``.
            is_key: whether it can be searched as a whole; after a frame of which too much has changed, the next of
                these has to be.
            starts_anew: whether it is searched as a whole in any case.

        Returns:
            int64 ``[n, 4]``: x, y, width, height in pixels of ``gray``, margins included; they may overlap. None where
            the frame is to be searched as a whole, or has changed too much for parts to be worth while.
        """
        if self._least <= 0.0:
            return None
        boxes = None
        before = self._whole if is_key else self._reference
        if before is not None and not starts_anew:
            boxes = _changed_boxes(before, gray, self._least)
        if boxes is None or (is_key and self._is_busy):
            if is_key or self._reference is None:
                self._reference, self._whole, self._is_busy = gray.copy(), gray, False
            else:
                self._is_busy = True
            return None
        assert self._reference is not None
        for x, y, width, height in boxes.tolist():
            self._reference[y : y + height, x : x + width] = gray[y : y + height, x : x + width]
        return boxes


def _changed_boxes(before: np.ndarray, after: np.ndarray, least: float) -> np.ndarray | None:
    """Boxes around what differs; None if they cover too much of the picture."""
    import cv2

    height, width = max(1, before.shape[0] // _BLOCK_PX), max(1, before.shape[1] // _BLOCK_PX)
    difference = cv2.absdiff(before, after)[: height * _BLOCK_PX, : width * _BLOCK_PX]
    blocks = cv2.resize(difference, (width, height), interpolation=cv2.INTER_AREA)
    is_changed = (blocks >= least).astype(np.uint8)
    if not is_changed.any():
        return np.zeros((0, 4), np.int64)
    side = 2 * _MARGIN_BLOCKS + 1
    _, _, stats, _ = cv2.connectedComponentsWithStats(cv2.dilate(is_changed, np.ones((side, side), np.uint8)))
    boxes = stats[1:, :4].astype(np.int64)
    if np.prod(boxes[:, 2:], axis=1).sum() > _LARGEST_SHARE * blocks.size:
        return None
    return boxes * _BLOCK_PX
