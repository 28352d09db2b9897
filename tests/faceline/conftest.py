"""Made clips for tests: every picture carries its own number, so that what was decoded can be told from its pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

# No test may depend on how busy the machine is.
settings.register_profile("faceline", deadline=None)
settings.load_profile("faceline")

#: Bits of the picture number, drawn as a row of black and white squares.
_BITS = 12
_SQUARE_PX = 16


def numbered_picture(number: int, width_px: int = 192, height_px: int = 96) -> np.ndarray:
    """uint8 RGB: a colour that changes with the number, and the number in binary along the top."""
    picture = np.empty((height_px, width_px, 3), np.uint8)
    picture[:] = ((number * 37) % 200 + 20, (number * 91) % 200 + 20, 120)
    for bit in range(_BITS):
        value = 235 if number >> bit & 1 else 16
        picture[:_SQUARE_PX, bit * _SQUARE_PX : (bit + 1) * _SQUARE_PX] = value
    return picture


def number_in(picture: np.ndarray) -> int:
    """The number that `numbered_picture` drew."""
    centres = [bit * _SQUARE_PX + _SQUARE_PX // 2 for bit in range(_BITS)]
    return sum((int(picture[_SQUARE_PX // 2, x].mean()) > 128) << bit for bit, x in enumerate(centres))


def write_clip(
    path: Path,
    pictures: Iterable[np.ndarray],
    *,
    pts: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 25),
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    prepare: Callable[[Any], None] | None = None,
) -> Path:
    """Encode pictures (uint8 RGB, all of one size) with exact timestamps.

    Args:
        path: where to; the extension names the container.
        pts: timestamps in units of ``time_base``; 0, 1, 2 … by default.
        options: of the encoder.
        container: options of the muxer.
        prepare: called with the stream before the first picture.
    """
    import av

    defaults = {"libx264": {"g": "12", "bf": "2", "crf": "12", "sc_threshold": "0", "threads": "1"}}
    with av.open(str(path), "w", options=container or {}) as output:
        stream: Any = None
        for i, picture in enumerate(pictures):
            if stream is None:
                stream = output.add_stream(codec, rate=25, options={**defaults.get(codec, {}), **(options or {})})
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.codec_context.time_base = time_base
                if prepare is not None:
                    prepare(stream)
            image = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            image.pts, image.time_base = (i if pts is None else pts[i]), time_base
            output.mux(stream.encode(image))
        output.mux(stream.encode(None))
    return path


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a clip of numbered pictures once per name: ``clips("a.mp4", count=50, **arguments of write_clip)``."""
    folder = tmp_path_factory.mktemp("clips")

    def make(name: str, count: int = 50, **how: Any) -> Path:
        path = folder / name
        if not path.exists():
            write_clip(path, (numbered_picture(i) for i in range(count)), **how)
        return path

    return make


@pytest.fixture(scope="session")
def clip_writer() -> Callable[..., Path]:
    """`write_clip`, for pictures of the test's own."""
    return write_clip


@pytest.fixture(scope="session")
def read_number() -> Callable[[np.ndarray], int]:
    """`number_in`: the number of a picture from the ``clips`` fixture."""
    return number_in
