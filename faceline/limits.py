"""What footage may ask of the machine that opens it.

A header costs nothing to write: a few bytes promise pictures of four thousand million pixels, a thousand million
frames, or a recording of ten thousand years. Every limit ends in one line that names the option which raises it.
None of them changes a result: within all limits footage is read the same whatever they are.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from faceline.errors import FootageError

#: Decoded pictures that may be held at once: 16 that a decoder refers to, 2 in its threads, 6 that wait for their use.
PICTURES_HELD = 24

_MIB = 2**20
_GIB = 2**30


@dataclass(frozen=True)
class Limits:
    """Bounds for one file; `flows.options.LimitOptions` says what each is for.

    Attributes:
        max_megapixels: largest picture, in millions of pixels, as stored and as shown.
        max_frames: most pictures that the footage may hold or claim to hold.
        max_hours: longest time between the first and the last picture.
        max_packets: most packets of all streams together.
        max_decoding_mib: most memory for decoded pictures, `PICTURES_HELD` of the first one's size.
        open_s: seconds that opening may take; as much again for each GiB of the file, all of which is read.
    """

    max_megapixels: float = 64.0
    max_frames: int = 20_000_000
    max_hours: float = 100.0
    max_packets: int = 200_000_000
    max_decoding_mib: int = 4096
    open_s: float = 120.0

    @property
    def max_pixels(self) -> int:
        """`max_megapixels` in pixels, of which 8192 × 8192 make 64 million here as they do on a data sheet."""
        return int(self.max_megapixels * _MIB)

    def seconds_for(self, size_bytes: int) -> float:
        """Seconds that a file of this size may take to open."""
        return self.open_s * (1 + size_bytes / _GIB)

    def check_size(self, width_px: int, height_px: int, path: Path) -> None:
        """Refuse pictures of this size if they are too large.

        Raises:
            FootageError: in one line, with the option.
        """
        if width_px * height_px > self.max_pixels:
            raise beyond(
                f"its pictures have {width_px} x {height_px} pixels",
                path,
                f"limits.max_megapixels={self.max_megapixels:g}",
            )

    def check_frames(self, frames: int, path: Path, claimed: str = "holds") -> None:
        """Refuse footage of so many pictures if they are too many; as `check_size`."""
        if frames > self.max_frames:
            raise beyond(f"it {claimed} {frames} pictures", path, f"limits.max_frames={self.max_frames}")

    def check_duration(self, duration_s: float, path: Path) -> None:
        """Refuse footage that lasts so long if that is too long; as `check_size`."""
        if duration_s > self.max_hours * 3600:
            raise beyond(
                f"its pictures lie {duration_s / 3600:.4g} hours apart", path, f"limits.max_hours={self.max_hours:g}"
            )

    def check_decoding(self, picture_bytes: int, path: Path) -> None:
        """Refuse footage whose decoded pictures take so much memory if that is too much; as `check_size`."""
        if picture_bytes * PICTURES_HELD > self.max_decoding_mib * _MIB:
            raise beyond(
                f"decoding it may take {picture_bytes * PICTURES_HELD // _MIB} MiB",
                path,
                f"limits.max_decoding_mib={self.max_decoding_mib}",
            )


def beyond(what: str, path: Path, option: str) -> FootageError:
    """The error for footage beyond a limit: what it asks for, and which option allows it."""
    return FootageError(
        f"{what}, more than {option} allows", where=str(path), cure="raise it if the file can be trusted"
    )


class Watch:
    """Ends the opening of a file that takes too long or has too many packets.

    Args:
        limits: what is allowed.
        path: the file.
        size_bytes: its size.
        clock: seconds that never run back.
    """

    def __init__(
        self, limits: Limits, path: Path, size_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limits, self._path, self._clock = limits, path, clock
        self.seconds = limits.seconds_for(size_bytes)
        self._until_s = clock() + self.seconds
        self._packets = 0

    @property
    def is_late(self) -> bool:
        """Whether the time is up."""
        return self._clock() > self._until_s

    @property
    def left_s(self) -> float:
        """Seconds that are left; never quite none, which would mean no limit to FFmpeg."""
        return max(0.01, self._until_s - self._clock())

    def check(self) -> None:
        """Raise `FootageError` when the time is up."""
        if self.is_late:
            raise beyond(
                f"opening it takes more than {self.seconds:.4g} s", self._path, f"limits.open_s={self._limits.open_s:g}"
            )

    def count(self) -> None:
        """Another packet was read; raises `FootageError` when there are too many, or the time is up."""
        self._packets += 1
        if self._packets > self._limits.max_packets:
            raise beyond("it has too many packets", self._path, f"limits.max_packets={self._limits.max_packets}")
        self.check()
