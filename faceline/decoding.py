"""From packets to pictures in presentation order, each with its index and its stamp, across damage."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from faceline.packets import Clock, Damage, EntryPoint, TimeRule, is_torn, packet_stamp, refuse_without_memory

if TYPE_CHECKING:
    import av


class Picture(NamedTuple):
    """A decoded picture.

    Attributes:
        rank: 0-based presentation index in the whole footage.
        stamp: presentation time in units of the footage's time base.
        image: the decoded image.
        spoilt: it shows, or refers to, data that could not be decoded.
    """

    rank: int
    stamp: int
    image: av.VideoFrame
    spoilt: bool


class Met(NamedTuple):
    """Something that the demuxer met.

    Attributes:
        pictures: how many pictures it had given since the entry point.
        what: in words.
    """

    pictures: int
    what: str


class Decoding:
    """Decodes packets from an entry point on; iterate once.

    The rank of a picture is the number of packets whose stamps are smaller, counted from the entry point's rank. It
    is therefore the same wherever reading began, and pictures lost to damage keep their rank.

    Pictures that are not ``wanted`` are left out where no other refers to them (in H.264 those of nal_ref_idc 0),
    which FFmpeg is told packet by packet; it decodes the others to the same bytes.

    A demuxer's error, a torn packet, and an end before or after that of the packets when the footage was opened may be
    its drive's doing; unless they are ``known`` from then, ``doubted`` is called before anything is made of them.

    After a fault the decoder waits for the next keyframe; what comes out until then is marked as spoilt.

    Attributes:
        damages: faults met so far, in order.
        wanted: stamps of the pictures that somebody wants, set before the iteration; None decodes all.
        doubted: given the trace, raises what is to be raised instead; set before the iteration.
        trace: what the demuxer met so far, and after how many pictures.
    """

    def __init__(
        self,
        packets: Iterable[av.Packet],
        codec: av.VideoCodecContext,
        *,
        container: str,
        rule: TimeRule,
        time_base: Fraction,
        entry: EntryPoint | None,
        has_keyframes: bool,
        pictures: int,
        known: Damage | None,
    ) -> None:
        self.damages: list[Damage] = []
        self.trace: list[Met] = []
        self._pictures = pictures - (entry.rank if entry else 0)
        self._known = known
        self._booked = 0
        self._packets = packets
        self._codec = codec
        self._container = container
        self._rule = rule
        self._time_base = time_base
        self._entry = entry
        self._has_keyframes = has_keyframes
        self.wanted: frozenset[int] | None = None
        self.doubted: Callable[[list[Met]], None] = lambda trace: None
        self._next_rank = entry.rank if entry else 0
        self._pending: list[int] = []
        # What is stored before the first keyframe cannot be decoded, and its absence is no damage.
        self._awaits_key = has_keyframes
        self._first_key: int | None = None
        self._is_spoilt = False
        self._latest: int | None = None

    def __iter__(self) -> Iterator[Picture]:
        for packet in self._kept():
            if is_torn(packet, self._container):
                self._met("a torn packet", is_known=self._is_known(packet))
                # Whether a torn packet upsets a decoder depends on its threads; nothing good comes of it.
                yield from self._decode(None)
                self._fail("the container holds a torn packet")
            elif packet.is_keyframe or not self._awaits_key:
                self._awaits_key = False
                if self.wanted is not None:
                    self._codec.skip_frame = "DEFAULT" if packet.pts in self.wanted else "NONREF"
                yield from self._decode(packet)
        if not self._awaits_key:
            yield from self._decode(None)

    def met_again(self, most: int) -> list[Met]:
        """Decode nothing: the first so many entries of the trace."""
        for packet in self._kept():
            if is_torn(packet, self._container):
                self._met("a torn packet", is_known=True)
            if len(self.trace) >= most:
                break
        return self.trace[:most]

    def _kept(self) -> Iterator[av.Packet]:
        """The packets that belong to the footage; notes the fault that ends them."""
        import av

        clock = Clock(self._time_base)
        packets = iter(self._packets)
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError as error:
                refuse_without_memory(error)
                is_whole = self._booked == self._pictures
                self._met(f"an error: {error.strerror}", is_known=is_whole and self._known is not None)
                # Stamps of packets that never came are not known: they are missing after the last that was shown.
                self._note(f"reading the container failed: {error.strerror}", None if is_whole else self._latest)
                return
            if packet is not None and packet.size == 0:
                continue
            if packet is None or clock.steps_back(packet):
                self._met("the end", is_known=self._booked == self._pictures)
                return
            if self._book(packet):
                yield packet

    def _met(self, what: str, *, is_known: bool) -> None:
        self.trace.append(Met(self._booked, what))
        if not is_known:
            self.doubted(self.trace)

    def _is_known(self, packet: av.Packet) -> bool:
        stamp = packet_stamp(packet, self._rule)
        at = stamp if stamp is not None else self._booked - 1
        return self._known is not None and at * self._time_base >= self._known.at_s

    def _book(self, packet: av.Packet) -> bool:
        """Enter the packet's stamp among those to be shown; whether the packet belongs to the footage at all."""
        stamp = packet_stamp(packet, self._rule)
        if self._first_key is None:
            if self._awaits_key and not packet.is_keyframe:
                return False
            self._first_key = stamp if stamp is not None else 0
        if packet.is_discard or (stamp is not None and self._entry is not None and stamp < self._entry.pts):
            return True
        self._booked += 1
        if stamp is not None:
            heapq.heappush(self._pending, stamp)
        return True

    def _decode(self, packet: av.Packet | None) -> Iterator[Picture]:
        import av

        try:
            images = self._codec.decode(packet)
        except av.error.FFmpegError as error:
            self._fail(f"decoding failed: {error.strerror}")
            return
        for image in images:
            place = self._place(image)
            if place is None:
                continue
            is_spoilt = self._judge(image, place[1])
            if self._latest is not None and place[1] < self._latest:
                # Stamps that contradict the order in which pictures refer to each other: one of the two is damaged.
                self.damages.append(Damage(place[1] * self._time_base, "pictures come out of order"))
                is_spoilt = True
            else:
                self._latest = place[1]
            yield Picture(*place, image, is_spoilt)

    def _place(self, image: av.VideoFrame) -> tuple[int, int] | None:
        """Rank and stamp of an image; None for one that is shown before the entry point."""
        if self._rule == "nominal":
            stamp = self._next_rank
        else:
            if self._rule == "pts" and image.pts is not None:
                if self._entry is not None and image.pts < self._entry.pts:
                    return None
                while self._pending and self._pending[0] < image.pts:
                    heapq.heappop(self._pending)
                    self._next_rank += 1
            if not self._pending:
                return None
            stamp = heapq.heappop(self._pending)
        self._next_rank += 1
        return self._next_rank - 1, stamp

    def _judge(self, image: av.VideoFrame, stamp: int) -> bool:
        """Whether the image is spoilt; keeps book of where that begins and ends."""
        if image.is_corrupt:
            if self._first_key is not None and stamp < self._first_key:
                return True
            if not self._is_spoilt:
                self.damages.append(Damage(stamp * self._time_base, "pictures are damaged"))
            self._is_spoilt = True
        elif image.key_frame:
            self._is_spoilt = False
        return self._is_spoilt

    def _fail(self, reason: str) -> None:
        self._note(reason)
        self._codec.flush_buffers()
        self._is_spoilt = True
        self._awaits_key = self._has_keyframes

    def _note(self, reason: str, otherwise: int | None = None) -> None:
        missing = self._pending[0] if self._pending else self._next_rank if self._rule == "nominal" else otherwise
        if missing is not None:
            self.damages.append(Damage(missing * self._time_base, reason))


def first_picture(
    packets: Iterable[av.Packet], codec: av.VideoCodecContext, probed: int
) -> tuple[av.VideoFrame | None, bool]:
    """The first picture that can be decoded, and whether stamps run back among the first ``probed`` pictures shown.

    They do where a container gives stamps to packets in the order in which they are stored, and not shown.
    """
    import av

    first: av.VideoFrame | None = None
    latest: int | None = None
    count = 0
    for packet in packets:
        try:
            images = codec.decode(packet if packet.size else None)
        except av.error.FFmpegError as error:
            refuse_without_memory(error)
            continue
        for image in images:
            first = first or image
            if image.pts is not None:
                if latest is not None and image.pts < latest:
                    return first, True
                latest = image.pts
            count += 1
            if count >= probed:
                return first, False
    return first, False
