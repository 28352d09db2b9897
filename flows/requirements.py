"""What footage has to offer before any work is done on it."""

from __future__ import annotations

import math
from typing import Protocol

from faceline.errors import FootageError
from flows.options import RequireOptions

TOLERANCE = 0.005
"""Share by which a frame rate may fall short. Clocks of cameras and rounded timestamps make 24.9 of 25, which is the
same rate; 23.976 is another one, that of film, and falls short of 25 by 4 per cent."""


class Rated(Protocol):
    """Footage that knows its frame rate."""

    @property
    def path(self) -> object: ...
    @property
    def native_fps(self) -> float: ...


def check_footage(footage: Rated, options: RequireOptions) -> None:
    """Refuse footage that does not offer what is required.

    The frame rate is the mean by the frames' presentation times: a header may lie, and where frames were dropped, what
    was to be found in them is missing.

    Raises:
        FootageError: what it offers, what that means, and the cure; without the cure it still says all.
    """
    least = options.native_fps
    if not least or footage.native_fps >= least * (1 - TOLERANCE):
        return
    fps = footage.native_fps
    raise FootageError(
        f"{fps:.4g} frames per second, fewer than the {least:.4g} of require.native_fps: what lasts less "
        f"than {1 / fps:.2g} s can fall between two frames",
        where=str(footage.path),
        cure=f"choose another preset, or lower the requirement with require.native_fps={math.floor(fps)}",
    )
