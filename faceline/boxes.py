"""Counts that fragmented MP4 files claim, read before FFmpeg believes them.

A track run (``trun``, ISO/IEC 14496-12, 8.8.8) states how many samples it has, and needs no table where they share
size and duration. FFmpeg makes an index entry of 24 bytes for each while it opens the file: 5 KB that claim 80 million
samples took 2.9 GB. Its other tables are checked by FFmpeg itself.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

#: Boxes that hold boxes, as FFmpeg descends into them.
_CONTAINERS = frozenset(
    (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"stbl", b"edts", b"mvex", b"moof", b"traf", b"tref", b"udta")
)

_DEEPEST = 10


def claimed_samples(path: Path, check: Callable[[], None] = lambda: None) -> int:
    """How many samples the track runs of an MP4 file claim together; 0 for other files.

    Args:
        path: the file.
        check: called for every box; may raise to give up.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        return _claimed(file, 0, size, 0, check)


def _claimed(file: BinaryIO, start: int, end: int, depth: int, check: Callable[[], None]) -> int:
    total = 0
    while start + 8 <= end:
        check()
        file.seek(start)
        head = file.read(16)
        if len(head) < 8:
            break
        size, kind = struct.unpack_from(">I4s", head)
        content = start + 8
        if size == 1 and len(head) == 16:
            size, content = struct.unpack_from(">Q", head, 8)[0], start + 16
        elif size == 0:
            size = end - start
        if size < content - start:
            break
        if kind == b"trun":
            file.seek(content)
            run = file.read(8)
            total += struct.unpack_from(">I", run, 4)[0] if len(run) == 8 else 0
        elif kind in _CONTAINERS and depth < _DEEPEST:
            total += _claimed(file, content, min(end, start + size), depth + 1, check)
        start += size
    return total
