"""What a container says about its pictures before one is decoded: timestamps, order, entry points, gaps."""

from __future__ import annotations

import errno
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import av

#: A clock that runs back by more than this belongs to a second recording glued to the first, not to a reordering.
JUMP_BACK_S = 1

#: Entry points are kept at least this far apart; reading begins at most this much, plus one GOP, too early.
ENTRY_SPACING_S = 2

#: FFmpeg's stamp for "none" (AV_NOPTS_VALUE), which no packet can bear.
_NO_STAMP = -(2**63)

#: How pictures get their times. ``pts``: every packet states when its picture is shown. ``sorted-pts``,
#: ``sorted-dts``: the container only numbers its packets in the order in which they are stored (AVI with B-frames),
#: so the k-th picture shown gets the k-th smallest stamp; nothing is invented and time never runs back.
#: ``nominal``: there are no stamps at all (raw streams), and the stated frame rate has to do.
TimeRule = Literal["pts", "sorted-pts", "sorted-dts", "nominal"]


@dataclass(frozen=True)
class Damage:
    """Where footage stops being readable.

    Attributes:
        at_s: presentation time of the first picture that is missing or spoilt.
        reason: what is wrong, in one line.
    """

    at_s: Fraction
    reason: str


@dataclass(frozen=True)
class EntryPoint:
    """A keyframe at which decoding can begin.

    Attributes:
        pts: its timestamp in units of the stream's time base.
        rank: how many pictures of the footage are shown before it.
    """

    pts: int
    rank: int


@dataclass(frozen=True)
class PacketScan:
    """The result of reading all packets of a stream without decoding one.

    Attributes:
        pictures: number of packets that are to be shown.
        time_base: seconds per unit of the timestamps.
        first, last: smallest and largest timestamp; 0 without pictures.
        rule: how pictures get their times.
        in_order: stamps rise with storage order: either nothing is reordered, or the stamps do not tell.
        has_keyframes: whether packets are marked as keyframes at all.
        entries: keyframes at which reading may begin, by time; none where stamps cannot be trusted after a seek.
        damage: the first fault that the packets show.
        doubt: what the demuxer met that a drive may have caused as well as the file: an error, a packet cut short;
            empty for neither.
    """

    pictures: int
    time_base: Fraction
    first: int
    last: int
    rule: TimeRule
    in_order: bool
    has_keyframes: bool
    entries: tuple[EntryPoint, ...]
    damage: Damage | None
    doubt: str = ""


class Clock:
    """Watches the stamps of packets in storage order for a reset."""

    def __init__(self, time_base: Fraction) -> None:
        self._limit = JUMP_BACK_S / time_base
        self._latest: int | None = None

    def steps_back(self, packet: av.Packet) -> int:
        """By how many units the clock fell back with this packet; 0 for ordinary packets."""
        stamp = packet.dts if packet.dts is not None else packet.pts
        if stamp is None:
            return 0
        latest = stamp if self._latest is None else self._latest
        self._latest = max(latest, stamp)
        return latest - stamp if latest - stamp > self._limit else 0


def scan_packets(
    packets: Iterable[av.Packet],
    time_base: Fraction,
    *,
    container: str,
    nominal_fps: Fraction,
    stated_packets: int | None,
    check_frames: Callable[[int], None] = lambda frames: None,
) -> PacketScan:
    """Read all packets of a stream.

    Args:
        packets: the demuxer's packets in storage order; an FFmpeg error raised on the way is recorded as damage.
        time_base: seconds per unit of the packets' timestamps.
        container: FFmpeg's name of the container format.
        nominal_fps: stated frame rate, used only where there are no timestamps.
        stated_packets: number of packets in the container's sample table, where that is a fact (MP4) and not a
            header field that writers get wrong (AVI); fewer packets than that are damage.
        check_frames: called with the number of pictures so far; may raise to give up.
    """
    import av

    shown = _Shown()
    clock = Clock(time_base)
    seen = 0
    torn_at: int | None = None
    has_keyframes = False
    reason = doubt = ""
    try:
        for packet in packets:
            if packet.size == 0:
                continue
            seen += 1
            back = clock.steps_back(packet)
            if back:
                reason = f"timestamps jump back by {float(back * time_base):.1f} s, as in recordings glued together"
                break
            if packet.is_keyframe and not has_keyframes:
                # What is stored before the first keyframe refers to pictures that the file does not hold.
                has_keyframes, shown, torn_at = True, _Shown(), None
            if torn_at is None and is_torn(packet, container):
                torn_at, doubt = len(shown), "a torn packet"
            if not packet.is_discard:
                shown.append(packet)
                check_frames(len(shown))
    except av.error.FFmpegError as error:
        refuse_without_memory(error)
        reason = f"reading the container failed: {error.strerror}"
        doubt = f"an error: {error.strerror}"
    if not reason and stated_packets is not None and seen < stated_packets:
        reason = f"the file is cut off: {seen} of {stated_packets} pictures are there"

    rule, stamps = _stamps(shown)
    if rule == "nominal":
        time_base = 1 / nominal_fps
    damage = None
    if torn_at is not None and len(stamps):
        torn = stamps[min(torn_at, len(stamps) - 1)]
        damage = Damage(int(torn) * time_base, reason or "the container holds a torn packet")
    elif reason and len(stamps):
        damage = Damage(int(stamps.max()) * time_base, reason)
    keyframes = stamps[shown.keys()] if rule == "pts" else stamps[:0]
    return PacketScan(
        pictures=len(stamps),
        time_base=time_base,
        first=int(stamps.min()) if len(stamps) else 0,
        last=int(stamps.max()) if len(stamps) else 0,
        rule=rule,
        in_order=bool(np.all(stamps[1:] > stamps[:-1])),
        has_keyframes=has_keyframes,
        entries=_entries(stamps, keyframes, time_base),
        damage=damage,
        doubt=doubt,
    )


def refuse_without_memory(error: av.error.FFmpegError) -> None:
    """Raise `MemoryError` where FFmpeg got no memory, or no stack for a thread: that says nothing about the file."""
    if error.errno in (errno.ENOMEM, errno.EAGAIN):
        raise MemoryError from error


def is_torn(packet: av.Packet, container: str) -> bool:
    """Whether a packet is cut short. In MPEG-TS the mark only means that the packets' counters do not follow on."""
    return bool(packet.is_corrupt) and container != "mpegts"


def packet_stamp(packet: av.Packet, rule: TimeRule) -> int | None:
    """The stamp of a packet under a rule; None where the rule needs none."""
    if rule == "nominal":
        return None
    stamp: int | None = packet.dts if rule == "sorted-dts" else packet.pts
    return stamp


class _Shown:
    """Stamps and key marks of the packets that are to be shown: 17 bytes each, since a day has millions of them."""

    def __init__(self) -> None:
        self._pts, self._dts, self._keys = array("q"), array("q"), bytearray()

    def __len__(self) -> int:
        return len(self._keys)

    def append(self, packet: av.Packet) -> None:
        self._pts.append(_NO_STAMP if packet.pts is None else packet.pts)
        self._dts.append(_NO_STAMP if packet.dts is None else packet.dts)
        self._keys.append(packet.is_keyframe)

    def pts(self) -> np.ndarray:
        return np.array(self._pts, np.int64)

    def dts(self) -> np.ndarray:
        return np.array(self._dts, np.int64)

    def keys(self) -> np.ndarray:
        return np.frombuffer(bytes(self._keys), np.uint8).astype(bool)


def _stamps(shown: _Shown) -> tuple[TimeRule, np.ndarray]:
    rules: tuple[tuple[TimeRule, np.ndarray], ...] = (("pts", shown.pts()), ("sorted-dts", shown.dts()))
    for rule, stamps in rules:
        if not np.any(stamps == _NO_STAMP):
            return rule, stamps
    return "nominal", np.arange(len(shown), dtype=np.int64)


def _entries(stamps: np.ndarray, keyframes: np.ndarray, time_base: Fraction) -> tuple[EntryPoint, ...]:
    ordered = np.sort(stamps)
    spacing = ENTRY_SPACING_S / time_base
    entries: list[EntryPoint] = []
    for pts in np.unique(keyframes).tolist():
        if not entries or pts - entries[-1].pts >= spacing:
            entries.append(EntryPoint(pts, int(np.searchsorted(ordered, pts, "left"))))
    return tuple(entries)
