"""Shot boundaries between sampled frames, from their thumbnails."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from faceline.picture import THUMBNAIL_PX, luma

#: Side of the compared blocks and reach of the search for each, in thumbnail pixels.
_BLOCK_PX = 8
_REACH_PX = 6

#: Height of the strip above the first row of blocks.
_TOP_PX = (THUMBNAIL_PX[1] % _BLOCK_PX) // 2

#: A block that agrees this well where it stands has not moved.
_LOSS_WORTH_A_SEARCH = 0.05

#: Below this, where no threshold may lie, nobody asks whether blocks have moved: the search takes far longer than the
#: rest.
MOTION_SEARCHED_FROM = 0.3

#: Blocks with less contrast than this (standard deviation of luma, 0–255) say nothing about structure.
_MIN_CONTRAST = 3.0

#: With fewer textured blocks than this (of 32), a frame is as good as blank.
_MIN_BLOCKS = 4


def cut_score(before: np.ndarray, after: np.ndarray) -> float:
    """How unlike each other two thumbnails are: near 0 within a shot, about 0.6 and more across a cut, 2 at most.

    The sum of two parts, so that neither light alone nor motion alone makes a cut:

    - *structure*: for each textured 8×8 block, one minus its best normalised cross-correlation with the other frame
      within ±6 px; the median over blocks, the larger of both directions. Correlation ignores gain and offset (a lamp
      switched on, auto-exposure), the search ignores motion. Blank frames have no structure and add nothing.
    - *colour*: mean absolute difference of hue, saturation and value, as PySceneDetect's ContentDetector weighs them,
      over 128. It catches dips to white or black.

    Scores below 0.3 are upper bounds: motion is then not searched for.

    Args:
        before, after: uint8 RGB ``[36, 64, 3]``, see `faceline.picture.Frame.thumbnail`.
    """
    lumas = luma(before), luma(after)
    colour = _colour_change(before, after)
    blocks = _Blocks.of(lumas[0]), _Blocks.of(lumas[1])
    # In its own place, a block loses at least as much as where it is found.
    standing = 1.0 - blocks[0].correlation(blocks[1])
    lost = max(blocks[0].median(standing), blocks[1].median(standing))
    if min(1.0, lost) + colour >= MOTION_SEARCHED_FROM:
        lost = max(_lost(blocks[0], standing, lumas[1]), _lost(blocks[1], standing, lumas[0]))
    return min(1.0, lost) + colour


@dataclass(frozen=True)
class _Blocks:
    """The blocks of a picture ``[rows, columns, 8, 8]``; their contrast and which are textured, ``[rows, columns]``."""

    values: np.ndarray
    centred: np.ndarray
    contrast: np.ndarray
    textured: np.ndarray

    @classmethod
    def of(cls, picture: np.ndarray) -> _Blocks:
        """Of a luma picture, float32; what is left over lies half above, half below."""
        rows, columns = (picture.shape[0] - _TOP_PX) // _BLOCK_PX, picture.shape[1] // _BLOCK_PX
        used = picture[_TOP_PX : _TOP_PX + rows * _BLOCK_PX]
        values = used.reshape(rows, _BLOCK_PX, columns, _BLOCK_PX).swapaxes(1, 2)
        centred = values - values.mean((2, 3), keepdims=True)
        contrast = np.sqrt(np.einsum("ijkl,ijkl->ij", centred, centred) / _BLOCK_PX**2)
        return cls(values, centred, contrast, contrast >= _MIN_CONTRAST)

    def correlation(self, other: _Blocks) -> np.ndarray:
        """Of each block with the one in its place; 0 for flat ones."""
        covariance = np.einsum("ijkl,ijkl->ij", self.centred, other.centred) / _BLOCK_PX**2
        return covariance / np.maximum(self.contrast * other.contrast, 1e-6)

    def median(self, losses: np.ndarray) -> float:
        """Median over the textured blocks, 0 where too few have texture."""
        if np.count_nonzero(self.textured) < _MIN_BLOCKS:
            return 0.0
        return float(np.median(losses[self.textured]))


def _lost(blocks: _Blocks, standing: np.ndarray, scene: np.ndarray) -> float:
    """Median loss over the textured blocks when each is looked for around its place in ``scene``; luma, float32."""
    import cv2

    losses = standing.copy()
    for row, column in np.argwhere(blocks.textured):
        if losses[row, column] > _LOSS_WORTH_A_SEARCH:
            y, x = _TOP_PX + row * _BLOCK_PX, column * _BLOCK_PX
            around = scene[
                max(0, y - _REACH_PX) : y + _BLOCK_PX + _REACH_PX, max(0, x - _REACH_PX) : x + _BLOCK_PX + _REACH_PX
            ]
            found = cv2.matchTemplate(around, np.ascontiguousarray(blocks.values[row, column]), cv2.TM_CCOEFF_NORMED)
            losses[row, column] = 1.0 - float(found.max())
    return blocks.median(losses)


def _colour_change(before: np.ndarray, after: np.ndarray) -> float:
    import cv2

    difference = np.abs(
        cv2.cvtColor(before, cv2.COLOR_RGB2HSV).astype(np.int16) - cv2.cvtColor(after, cv2.COLOR_RGB2HSV)
    )
    # Hue runs round in 180 steps.
    difference[..., 0] = np.minimum(difference[..., 0], 180 - difference[..., 0])
    return float(difference.mean()) / 128.0
