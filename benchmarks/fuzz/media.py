"""What is done with a mutated media file in its guarded process, and what is to be said of the outcome."""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fuzz.mutations import mutated
from faceline.errors import FootageError
from faceline.limits import Limits

#: Pictures of which colours are asked for as well: the first ones, and some later.
_CONVERTED = frozenset({0, 1, 2, 10, 50})

#: Small enough that what passes is read within the time limit of a case.
LIMITS = Limits(max_frames=1_000_000, max_decoding_mib=512, open_s=30.0)


@dataclass(frozen=True)
class MediaCase:
    """One mutated file.

    Attributes:
        number: of the case.
        seed: name of the intact file.
        mutations: what was done to it.
        content: the bytes.
    """

    number: int
    seed: str
    mutations: list[str]
    content: bytes


@dataclass(frozen=True)
class Outcome:
    """What came of a case.

    Attributes:
        kind: ``fine``, ``damaged`` (read, with damage stated), ``refused`` (a `FacelineError` in one line), or a
            finding: ``time``, ``memory``, ``crash``, ``error``.
        text: what was said.
        peak_mib: largest resident memory beyond what the process had before.
    """

    kind: str
    text: str = ""
    peak_mib: int = 0


#: Outcomes that are as they should be.
GOOD = ("fine", "damaged", "refused")


def make_case(
    number: int, seed: int, made: Sequence[tuple[str, bytes]], real: Sequence[tuple[str, bytes]] = ()
) -> MediaCase:
    """The case of this number; the same for the same seeds, whatever else is run.

    Args:
        number, seed: decide everything.
        made: intact files, made here: the same on every machine with the same FFmpeg.
        real: real files, for every fifth case where there are any.
    """
    rng = random.Random(f"faceline fuzz media {seed} {number}")
    seeds = real if real and number % 5 == 4 else made
    name, data = seeds[rng.randrange(len(seeds))]
    content, done = mutated(data, rng, [content for _, content in made])
    return MediaCase(number, name, done, content)


def read_all(path: Path) -> Outcome:
    """Open a file and read every frame, some of them in colour. Runs in the guarded process."""
    from faceline.video import open_footage, read_frames

    _forget_peak()
    before = _resident_kib("VmRSS")
    try:
        footage = open_footage(path, LIMITS)
        count, latest, sums = 0, None, hashlib.sha256()
        with read_frames(footage) as reader:
            for frame in reader:
                if latest is not None and frame.time_s < latest:
                    raise AssertionError(f"time runs back from {float(latest)} to {float(frame.time_s)}")
                latest = frame.time_s
                if count in _CONVERTED:
                    expected = (footage.height_px, footage.width_px, 3)
                    small = frame.rgb(640)
                    if max(expected) <= 4096 and frame.rgb().shape != expected:
                        raise AssertionError(f"a picture of {frame.rgb().shape}, expected {expected}")
                    sums.update(small.tobytes())
                    sums.update(frame.gray(640).tobytes())
                    sums.update(frame.thumbnail().tobytes())
                count += 1
        kind = "damaged" if reader.damage or footage.damage else "fine"
        text = f"{count} frames, {sums.hexdigest()[:16]}"
    except FootageError as error:
        kind, text = "refused", str(error)
        if len(text.splitlines()) != 1:
            raise AssertionError(f"an error of several lines: {text!r}") from error
    return Outcome(kind, text, max(0, _resident_kib("VmHWM") - before) // 1024)


def _forget_peak() -> None:
    """Let the kernel measure the peak of resident memory anew."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _resident_kib(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    return 0
