"""Mutations of media files: of any bytes, and of what MP4, Matroska and AVI files are built of."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator, Sequence

Mutation = Callable[[bytearray, random.Random, Sequence[bytes]], None]

#: Numbers at which counters, sizes and offsets turn over.
_EDGES = (0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0xFFFFFF, 0x7FFFFFFF, 0x80000000)
_EDGES += (0xFFFFFFFE, 0xFFFFFFFF, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1)

#: Where headers lie, most of the time.
_HEAD_BYTES = 2048

_MP4_CONTAINERS = frozenset(
    (
        b"moov",
        b"trak",
        b"mdia",
        b"minf",
        b"stbl",
        b"edts",
        b"udta",
        b"dinf",
        b"mvex",
        b"moof",
        b"traf",
        b"mfra",
        b"meta",
    )
)
_MP4_TYPES = (
    *(b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"stts", b"stsc", b"stsz", b"stco", b"co64", b"ctts"),
    *(b"elst", b"trun", b"tfhd", b"sidx", b"mdat", b"free", b"uuid", b"cmov", b"dref", b"avcC", b"hvcC", b"colr"),
)
_MKV_IDS = (
    *(b"\x18\x53\x80\x67", b"\x11\x4d\x9b\x74", b"\x15\x49\xa9\x66", b"\x16\x54\xae\x6b", b"\x1f\x43\xb6\x75"),
    *(b"\x1c\x53\xbb\x6b", b"\x12\x54\xc3\x67", b"\xae", b"\xe0", b"\xa3", b"\xa0", b"\xb0", b"\xba", b"\x63\xa2"),
    *(b"\x6d\x80", b"\x2a\xd7\xb1", b"\x23\xe3\x83", b"\xe7"),
)


def mutated(data: bytes, rng: random.Random, others: Sequence[bytes]) -> tuple[bytes, list[str]]:
    """A mutated copy, and the names of what was done to it.

    Args:
        data: an intact file.
        rng: decides everything.
        others: other files, to splice with.
    """
    content = bytearray(data)
    done = []
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        mutation = rng.choice(_MUTATIONS)
        mutation(content, rng, others)
        done.append(mutation.__name__.strip("_"))
        if not content:
            content += b"\0"
    return bytes(content), done


def _place(content: bytearray, rng: random.Random, width: int = 1) -> int:
    """Somewhere in the file: half of the time near its beginning, now and then near its end."""
    last = max(0, len(content) - width)
    kind = rng.random()
    if kind < 0.5:
        return rng.randint(0, min(last, _HEAD_BYTES))
    if kind < 0.7:
        return rng.randint(max(0, last - _HEAD_BYTES), last)
    return rng.randint(0, last)


def _flip_bits(content: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    for _n in range(rng.choice((1, 2, 8, 32))):
        content[_place(content, rng)] ^= 1 << rng.randrange(8)


def _set_bytes(content: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    for _n in range(rng.choice((1, 4, 16))):
        content[_place(content, rng)] = rng.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF, rng.randrange(256)))


def _set_number(content: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    width = rng.choice((2, 4, 4, 8))
    at = _place(content, rng, width)
    value = rng.choice(_EDGES) % 2 ** (8 * width)
    content[at : at + width] = value.to_bytes(width, rng.choice(("big", "little")))


def _truncate(content: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    del content[_place(content, rng) :]


def _cut_out(content: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    at = _place(content, rng)
    del content[at : at + rng.choice((1, 3, 16, 188, 1000, 5000))]


def _repeat(content: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    at = _place(content, rng)
    piece = content[at : at + rng.choice((1, 16, 188, 2000))]
    content[at:at] = piece * rng.choice((1, 2, 20))


def _zero(content: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    at = _place(content, rng)
    count = min(len(content) - at, rng.choice((4, 64, 1000, 4000)))
    content[at : at + count] = bytes(count)


def _noise(content: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    at = _place(content, rng)
    count = min(len(content) - at, rng.choice((4, 64, 1000)))
    content[at : at + count] = rng.randbytes(count)


def _splice(content: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    other = rng.choice(others)
    start = rng.randrange(len(other))
    content[_place(content, rng) :] = other[start : start + 200_000]


def _insert_other(content: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    other = rng.choice(others)
    start = rng.randrange(len(other))
    at = _place(content, rng)
    content[at:at] = other[start : start + rng.choice((16, 500, 20_000))]


def _swap(content: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    a, b, count = _place(content, rng), _place(content, rng), rng.choice((4, 64, 1000))
    first, second = bytes(content[a : a + count]), bytes(content[b : b + count])
    if len(first) == len(second):
        content[a : a + count], content[b : b + count] = second, first


def mp4_boxes(content: bytes | bytearray, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int, bytes]]:
    """Offset, size and type of each box of an MP4 file, those inside containers included."""
    end = len(content) if end is None else end
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", content, start)
        if size < 8 or start + size > end:
            return
        yield start, size, bytes(kind)
        if kind in _MP4_CONTAINERS:
            yield from mp4_boxes(content, start + 8, start + size)
        elif kind == b"stsd":
            yield from mp4_boxes(content, start + 16, start + size)
        start += size


def _mp4_box(content: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    boxes = list(mp4_boxes(content))
    if not boxes:
        _set_number(content, rng, others)
        return
    at, size, _ = rng.choice(boxes)
    what = rng.randrange(6)
    if what == 0:
        content[at : at + 4] = (rng.choice((*_EDGES, size - 1, size + 1, size * 2)) % 2**32).to_bytes(4, "big")
    elif what == 1:
        content[at + 4 : at + 8] = rng.choice(_MP4_TYPES)
    elif what == 2:
        # Size 1: a size of 64 bits follows.
        content[at : at + 4] = (1).to_bytes(4, "big")
        content[at + 8 : at + 8] = (rng.choice(_EDGES) % 2**64).to_bytes(8, "big")
    elif what == 3:
        content[at : at + size] = bytes(content[at : at + size]) * rng.choice((2, 3, 50 if size < 2000 else 2))
    elif what == 4:
        del content[at : at + size]
    else:
        field = at + 8 + 4 * rng.randrange(max(1, (size - 8) // 4))
        content[field : field + 4] = (rng.choice(_EDGES) % 2**32).to_bytes(4, "big")


def _ebml_element(content: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    mark = rng.choice(_MKV_IDS)
    places = []
    at = content.find(mark)
    while at >= 0 and len(places) < 50:
        places.append(at)
        at = content.find(mark, at + 1)
    if not places or content[:4] != b"\x1aE\xdf\xa3":
        _set_number(content, rng, others)
        return
    at = rng.choice(places)
    size_at = at + len(mark)
    what = rng.randrange(4)
    if what == 0:
        content[size_at : size_at + 1] = bytes((rng.choice((0x00, 0x01, 0x08, 0x40, 0x7F, 0x80, 0x81, 0xFE, 0xFF)),))
    elif what == 1:
        content[size_at : size_at + 1] = b"\x01" + (rng.choice(_EDGES) % 2**56).to_bytes(7, "big")
    elif what == 2:
        content[at:size_at] = rng.choice(_MKV_IDS)
    else:
        width = rng.choice((1, 2, 4, 8))
        content[size_at : size_at + 1 + width] = bytes((0x80 | width,)) + rng.choice(_EDGES).to_bytes(8, "big")[-width:]


def _riff_chunk(content: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    marks = (b"RIFF", b"LIST", b"avih", b"strh", b"strf", b"idx1", b"00dc", b"00db", b"01wb", b"indx", b"movi", b"hdrl")
    at = content.find(rng.choice(marks))
    if at < 0:
        _set_number(content, rng, others)
        return
    if rng.random() < 0.6:
        content[at + 4 : at + 8] = (rng.choice(_EDGES) % 2**32).to_bytes(4, "little")
    else:
        field = at + 8 + 4 * rng.randrange(14)
        content[field : field + 4] = (rng.choice(_EDGES) % 2**32).to_bytes(4, "little")


def _large_pictures(content: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    """Claim other sizes of pictures wherever the header states theirs."""
    found = False
    claimed = rng.choice(((65535, 65535), (16000, 16000), (65535, 1), (1, 65535), (0, 0), (8192, 8192), (30000, 8000)))
    for width, height in ((96, 64), (176, 144), (32, 32), (720, 576)):
        for layout in (">HH", "<HH", ">II", "<II"):
            mark, size = struct.pack(layout, width, height), struct.calcsize(layout)
            at = content.find(mark, 0, 4096)
            if at >= 0:
                content[at : at + size] = struct.pack(layout, *claimed)
                found = True
    if not found:
        _set_number(content, rng, others)


_MUTATIONS: tuple[Mutation, ...] = (
    *(_flip_bits, _flip_bits, _set_bytes, _set_number, _set_number, _truncate, _cut_out, _repeat, _zero, _noise),
    *(_splice, _insert_other, _swap, _mp4_box, _mp4_box, _ebml_element, _ebml_element, _riff_chunk, _large_pictures),
)
