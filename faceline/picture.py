"""One decoded frame as an upright picture: display matrix, pixel shape, colour conversion, thumbnails."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import av
    from av.video.reformatter import VideoReformatter

#: Width and height of `Frame.thumbnail` in pixels; small enough that a shot looks like itself from frame to frame.
THUMBNAIL_PX = (64, 36)

#: Pixel formats of 8 bits whose first plane is the luma.
_LUMA_FIRST = frozenset(
    {"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "yuv410p", "yuv411p", "nv12", "gray"}
)

#: Sample aspect ratios outside of this range are broken headers, not pixels that anybody records.
_PLAUSIBLE_SAR = (Fraction(1, 4), Fraction(4))


@dataclass(frozen=True)
class Orientation:
    """How stored pictures are turned to stand upright: first transposed, then mirrored.

    Attributes:
        transpose: rows and columns change places.
        mirror_x: left and right change places (after the transposition).
        mirror_y: top and bottom change places (after the transposition).
    """

    transpose: bool = False
    mirror_x: bool = False
    mirror_y: bool = False

    @classmethod
    def from_display_matrix(cls, matrix: bytes) -> Orientation:
        """Read FFmpeg's ``AV_PKT_DATA_DISPLAYMATRIX``: nine native-endian int32 ``a b u c d v x y w``.

        A stored point (x, y) is shown at (a·x + c·y, b·x + d·y), y downwards (ISO 14496-12, 6.2.2). Angles between
        the quarter turns do not occur in recordings; they are rounded to the nearest one.
        """
        a, b, _, c, d, _, _, _, _ = struct.unpack("=9i", matrix[:36])
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(False, a < 0, d < 0)
        return cls(True, c < 0, b < 0)

    @property
    def rotation_deg(self) -> int:
        """Clockwise turn in degrees (0, 90, 180, 270) that makes the picture upright, a mirroring left aside."""
        if self.transpose:
            return 90 if self.mirror_x else 270
        return 180 if self.mirror_y else 0

    def upright(self, picture: np.ndarray) -> np.ndarray:
        """The stored picture ``[H, W, …]`` made upright; C-contiguous, the same array where nothing is to be done."""
        if self.transpose:
            picture = picture.swapaxes(0, 1)
        if self.mirror_x:
            picture = picture[:, ::-1]
        if self.mirror_y:
            picture = picture[::-1]
        return np.ascontiguousarray(picture)


def square_pixel_width(width_px: int, sample_aspect_ratio: Fraction | None) -> int:
    """Width in square pixels of a picture stored ``width_px`` wide; the height stays, as players do it."""
    if not sample_aspect_ratio or not _PLAUSIBLE_SAR[0] <= sample_aspect_ratio <= _PLAUSIBLE_SAR[1]:
        return width_px
    return max(1, round(width_px * sample_aspect_ratio))


@dataclass(frozen=True)
class Projection:
    """From stored pictures to upright ones with square pixels, the same for a whole footage.

    Attributes:
        width_px: width of the upright picture.
        height_px: height of the upright picture.
        orientation: the turn applied.
    """

    width_px: int
    height_px: int
    orientation: Orientation = field(default_factory=Orientation)

    @classmethod
    def of(cls, image: av.VideoFrame, sample_aspect_ratio: Fraction | None) -> Projection:
        """The projection for footage that begins with this image."""
        matrix = image.side_data.get("DISPLAYMATRIX")
        orientation = Orientation() if matrix is None else Orientation.from_display_matrix(bytes(matrix))
        width_px, height_px = square_pixel_width(image.width, sample_aspect_ratio), image.height
        if orientation.transpose:
            width_px, height_px = height_px, width_px
        return cls(width_px, height_px, orientation)

    @property
    def unturned_px(self) -> tuple[int, int]:
        """Width and height with square pixels, before the turn."""
        return (self.height_px, self.width_px) if self.orientation.transpose else (self.width_px, self.height_px)


def fitted_px(size_px: tuple[int, int], max_side_px: int | None) -> tuple[int, int]:
    """Width and height of a picture shrunk so that its longer side is at most ``max_side_px``; never enlarged."""
    scale = 1.0 if max_side_px is None else min(1.0, max_side_px / max(size_px))
    return (max(1, round(size_px[0] * scale)), max(1, round(size_px[1] * scale)))


def shrunk(picture: np.ndarray, size_px: tuple[int, int]) -> np.ndarray:
    """A picture ``[H, W]`` or ``[H, W, 3]`` at this width and height: halved by averaging as long as it is twice as
    large or more, then scaled bilinearly.

    Averaging over areas that are no whole pixels gives hardly another picture and takes five times as long.
    """
    import cv2

    while picture.shape[1] >= 2 * size_px[0] and picture.shape[0] >= 2 * size_px[1]:
        height, width = picture.shape[0] // 2, picture.shape[1] // 2
        # An odd last row or column is left out: 2 × 2 pixels make one.
        picture = cv2.resize(picture[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
    if (picture.shape[1], picture.shape[0]) != size_px:
        picture = cv2.resize(picture, size_px, interpolation=cv2.INTER_LINEAR)
    return picture


class Converter:
    """Colour conversion and scaling for one reader; keeps the tables that FFmpeg would set up anew for every frame."""

    def __init__(self, projection: Projection) -> None:
        self.projection = projection
        self._scalers: dict[str, VideoReformatter] = {}

    def rgb(self, image: av.VideoFrame, max_side_px: int | None) -> np.ndarray:
        """Upright uint8 RGB ``[H, W, 3]`` of a decoded image, its longer side at most ``max_side_px``."""
        full_px = self.projection.unturned_px
        # Going to RGB at full size and scaling there is twice as fast as FFmpeg's own scaling conversion.
        picture = self._convert(image, full_px, "full", "BICUBIC")
        return self.projection.orientation.upright(shrunk(picture, fitted_px(full_px, max_side_px)))

    def gray(self, image: av.VideoFrame, max_side_px: int | None) -> np.ndarray:
        """Upright uint8 luma ``[H, W]`` of a decoded image, as large as `rgb` would be, in its stored range."""
        size_px = fitted_px(self.projection.unturned_px, max_side_px)
        if image.format.name in _LUMA_FIRST:
            plane = image.planes[0]
            stored = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: image.height, : image.width]
        else:
            stored = self._convert(image, (image.width, image.height), "gray", "BICUBIC", "gray")
        return self.projection.orientation.upright(shrunk(stored, size_px))

    def thumbnail(self, image: av.VideoFrame) -> np.ndarray:
        """uint8 RGB ``[36, 64, 3]`` by area averaging, neither turned nor with the picture's proportions."""
        return self._convert(image, THUMBNAIL_PX, "thumbnail", "AREA")

    def _convert(
        self, image: av.VideoFrame, size_px: tuple[int, int], purpose: str, method: str, layout: str = "rgb24"
    ) -> np.ndarray:
        scaler = self._scalers.get(purpose)
        if scaler is None:
            from av.video.reformatter import VideoReformatter

            scaler = self._scalers[purpose] = VideoReformatter()
        return scaler.reformat(image, *size_px, format=layout, interpolation=method).to_ndarray()


@dataclass(frozen=True, eq=False)
class Frame:
    """A decoded frame; nothing is converted before it is asked for.

    Attributes:
        index: 0-based presentation index in the whole footage, wherever reading began.
        pts: presentation timestamp in units of ``time_base``.
        time_base: seconds per unit of ``pts``.
    """

    index: int
    pts: int
    time_base: Fraction
    _image: av.VideoFrame = field(repr=False)
    _converter: Converter = field(repr=False)

    @property
    def time_s(self) -> Fraction:
        """Presentation time in seconds, exact."""
        return self.pts * self.time_base

    def rgb(self, max_side_px: int | None = None) -> np.ndarray:
        """The upright picture with square pixels.

        Args:
            max_side_px: shrink so that the longer side is at most this; never enlarges.

        Returns:
            uint8 ``[H, W, 3]``, RGB, C-contiguous; ``footage.height_px × footage.width_px`` when not shrunk.
        """
        return self._converter.rgb(self._image, max_side_px)

    def gray(self, max_side_px: int | None = None) -> np.ndarray:
        """The luma of the same picture, without its colours: uint8 ``[H, W]``, C-contiguous.

        In the range in which it is stored (16–235 for most footage), for comparing pictures of one footage.
        """
        return self._converter.gray(self._image, max_side_px)

    def thumbnail(self) -> np.ndarray:
        """uint8 RGB ``[36, 64, 3]``: area averages for comparing frames; neither turned nor in proportion."""
        return self._converter.thumbnail(self._image)


def luma(rgb: np.ndarray) -> np.ndarray:
    """Rec. 601 luma, float32 0–255, of RGB ``[…, 3]``."""
    return rgb.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
