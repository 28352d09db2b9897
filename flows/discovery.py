"""Finding footage below a folder, and a results folder for each file."""

from __future__ import annotations

import fnmatch
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from flows.options import ArchiveOptions

_HEAD_BYTES = 16
_NO_VIDEO_BRANDS = frozenset({b"heic", b"heix", b"mif1", b"msf1", b"avif", b"M4A ", b"M4B ", b"crx "})
"""Brands of the ISO container that hold pictures or sound alone."""

_VIDEO_HEADS = (
    *(b"\x1aE\xdf\xa3", b"0&\xb2u\x8ef\xcf\x11", b"FLV\x01"),  # Matroska and WebM, ASF, Flash
    *(b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3"),  # MPEG program stream, MPEG video
)


def find_footage(
    folder: Path,
    options: ArchiveOptions,
    leave_out: Iterable[Path] = (),
    closed_to_us: Callable[[OSError], None] = lambda error: None,
) -> list[Path]:
    """Every file below ``folder`` that counts as footage, in order of path.

    Folders that are links are not entered (they may lead round in circles); files that are links are taken.

    Args:
        folder: where to look.
        options: what counts.
        leave_out: folders not to enter: where results and artifacts go may lie inside the archive.
        closed_to_us: told of each folder that cannot be read.
    """
    closed = {os.path.realpath(path) for path in leave_out}

    def may_be_entered(path: Path) -> bool:
        if (not options.hidden and path.name.startswith(".")) or os.path.realpath(path) in closed:
            return False
        return not _fits(path.relative_to(folder), options.exclude)

    def is_wanted(path: Path) -> bool:
        if not options.hidden and path.name.startswith("."):
            return False
        inside = path.relative_to(folder)
        return not _fits(inside, options.exclude) and (not options.include or _fits(inside, options.include))

    found: list[Path] = []
    for place, folders, files in os.walk(folder, onerror=closed_to_us):
        folders[:] = [name for name in folders if may_be_entered(Path(place, name))]
        found.extend(
            path for path in (Path(place, name) for name in files) if is_wanted(path) and _is_footage(path, options)
        )
    return sorted(found)


def _fits(inside: Path, patterns: Iterable[str]) -> bool:
    """Whether a path below the archive's folder fits one of the patterns; ``*`` also stands for slashes."""
    whole = inside.as_posix()
    return any(fnmatch.fnmatchcase(whole if "/" in pattern else inside.name, pattern) for pattern in patterns)


def _is_footage(path: Path, options: ArchiveOptions) -> bool:
    if path.suffix.lower().lstrip(".") in options.extensions:
        # Not opened here: what cannot be read is to be listed with the reason, not passed over.
        return path.is_file()
    return options.sniff and _begins_like_video(path)


def _begins_like_video(path: Path) -> bool:
    """Whether the first bytes are those of a video container, whatever the file is called."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except OSError:
        return False
    if head[4:8] == b"ftyp":
        return head[8:12] not in _NO_VIDEO_BRANDS
    avi = head[:4] == b"RIFF" and head[8:12] == b"AVI "
    return avi or head.startswith(_VIDEO_HEADS) or head[4:8] in (b"moov", b"mdat", b"wide")


def results_folders(folder: Path, files: Sequence[Path], output: Path) -> Iterator[Path]:
    """A folder for the results of each file: ``output`` and the file's place in the archive, without its extension.

    Where two would share a folder, or one lie inside another's, the extension stays.
    """
    whole = [file.relative_to(folder) for file in files]
    stems = [path.with_suffix("") for path in whole]
    taken = Counter(stems)
    # A name without its extension may be another file's whole name (a.mp4.avi beside a.mp4), or a folder's.
    others = {*whole, *(parent for path in whole for parent in path.parents)}
    for path, stem in zip(whole, stems, strict=True):
        plain = taken[stem] == 1 and stem not in others and stem.name.strip(".")
        yield output / (stem if plain else path)
