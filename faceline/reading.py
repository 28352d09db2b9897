"""Decoding one segment of a footage, forward, in one pass, with the true presentation time of every frame."""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain
from typing import TYPE_CHECKING

from faceline.ahead import ahead
from faceline.containers import demuxed, open_container, video_stream
from faceline.decoding import Decoding, Met
from faceline.errors import FootageChangedError
from faceline.packets import Damage, EntryPoint
from faceline.picture import Converter, Frame, Projection
from faceline.timeline import Segment
from faceline.unsteady import UNSTEADY_CURE, check_readable, unsteady

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

    from faceline.video import Footage

log = logging.getLogger(__name__)

#: Entry points tried before reading begins at the file's start.
_SEEK_ATTEMPTS = 3

#: Frames decoded ahead of their use: enough to keep the decoder busy while the detector goes through a window, as far
#: as they fit into so much memory, but a few in any case.
_MOST_AHEAD, _LEAST_AHEAD = 64, 6
_AHEAD_BYTES = 64 * 2**20

#: Decoders that leave out pictures to which no other refers and keep the rest to the byte. FFmpeg's MPEG-1 decoder was
#: seen to lose the last picture as well; the others have not been tried.
_LEAVES_OUT = frozenset({"h264", "hevc"})


def read_frames(
    footage: Footage,
    segment: Segment | None = None,
    *,
    wanted: Mapping[int, int] | frozenset[int] | None = None,
    neighbours: bool = False,
    lead_s: Fraction = Fraction(0),
) -> FrameReader:
    """Decode a segment, forward, in one pass; decoding runs a few frames ahead, in a thread of its own.

    Args:
        footage: what to read.
        segment: the stretch to read; None for all.
        wanted: indices of the frames to deliver; None for all. Reading stops after the last of them. Given with
            their stamps (index → `Frame.pts`), pictures that are not wanted and that no other refers to are not even
            decoded, where the decoder can leave them out, until it meets a fault: from there on all are decoded, since
            a decoder that leaves pictures out meets faults at other places and loses others with them. The frames
            delivered are the same; ``frames_decoded`` is smaller, and damage to pictures left out goes unseen.
        neighbours: also deliver the frame just before and the frame just after the segment, where there are any.
        lead_s: with ``neighbours``, also deliver frames up to this many seconds before the segment.

    Returns:
        An iterator of `Frame` that afterwards knows ``frames_decoded`` and ``damage``.
    """
    if segment is None:
        segment = footage.segments(footage.end_s - footage.start_s + 1)[0]
    return FrameReader(_Reading(footage, segment, wanted, neighbours, lead_s))


class FrameReader(Iterator[Frame]):
    """Frames of one segment in presentation order; times never run back.

    Damage never raises: pictures that the decoder marks as spoilt, and all that follow up to the next keyframe, are
    counted but not delivered (they would show concealment, not faces); the first of them is stated in ``damage``.
    What a drive may have caused as well, and was not met when the footage was opened, is only taken for damage where
    the file's bytes can be read and the same comes of reading it again; else `FootageUnreadableError` is raised.
    """

    def __init__(self, reading: _Reading) -> None:
        self._reading = reading
        # The thread knows the reading alone, so that a reader that is dropped half-way ends it.
        self._frames = ahead(reading.frames(), _frames_ahead(reading.footage), reading.stopped)

    @property
    def frames_decoded(self) -> int:
        """Pictures of the segment decoded, spoilt ones included; final once the iteration has ended by itself."""
        return self._reading.frames_decoded

    @property
    def damage(self) -> Damage | None:
        """The first fault met in the segment; known once the iteration has ended by itself."""
        return self._reading.damage

    def __next__(self) -> Frame:
        return next(self._frames)

    def __enter__(self) -> FrameReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop early and close the file. Whoever may fail half-way does so with ``with``: an exception that is kept
        would keep the reader, and with it a thread, an open file and pictures."""
        self._frames.close()


def _frames_ahead(footage: Footage) -> int:
    """How many decoded pictures may wait."""
    return max(_LEAST_AHEAD, min(_MOST_AHEAD, _AHEAD_BYTES // max(1, footage.picture_bytes)))


class _Reading:
    """What a reader's thread does and learns."""

    def __init__(
        self,
        footage: Footage,
        segment: Segment,
        wanted: Mapping[int, int] | frozenset[int] | None,
        neighbours: bool,
        lead_s: Fraction,
    ) -> None:
        self.footage = footage
        self.segment = segment
        self.frames_decoded = 0
        self.damage: Damage | None = None
        self.stopped = threading.Event()
        self._wanted = wanted
        # Where stamps only number the packets, a picture left out would pass its stamp on to the next.
        can_skip = footage.codec in _LEAVES_OUT and footage.rule == "pts" and not neighbours and footage.damage is None
        self._stamps = frozenset(wanted.values()) if can_skip and isinstance(wanted, Mapping) else None
        self._neighbours = neighbours
        self._lead_s = lead_s if neighbours else Fraction(0)

    def frames(self) -> Generator[Frame]:
        if self._wanted is not None and not self._wanted:
            return
        latest = -1
        if self._stamps is not None:
            left = deque(sorted(self._wanted or ()))
            for frame in self._pass(self._stamps):
                # One that is missing was lost to a fault, and perhaps only because others were left out.
                if frame.index != left.popleft():
                    break
                latest = frame.index
                yield frame
            if not left or self.stopped.is_set():
                return
            log.debug("%s: read again after frame %d, leaving nothing out", self.footage.path, latest)
            self.frames_decoded = 0
        for frame in self._pass(None):
            if frame.index > latest:
                yield frame

    def _pass(self, stamps: frozenset[int] | None) -> Generator[Frame]:
        """Decode once; with the stamps of what is wanted, leaving out what can be, as far as the first fault."""
        footage, segment, wanted, neighbours = self.footage, self.segment, self._wanted, self._neighbours
        converter = Converter(Projection(footage.width_px, footage.height_px, footage.orientation))
        before: Frame | None = None
        last = max(wanted) if wanted is not None else math.inf
        # Whole stamps are compared, not fractions of seconds: this is done for every picture.
        lead = math.ceil((segment.start_s - self._lead_s) / footage.time_base)
        start, end = math.ceil(segment.start_s / footage.time_base), math.ceil(segment.end_s / footage.time_base)
        with _decoding(footage, self._entries()) as decoding:
            decoding.wanted, decoding.doubted = stamps, self._check_again
            try:
                for rank, pts, image, spoilt in decoding:
                    if self.stopped.is_set():
                        return
                    # A field may have a packet of its own, and half a picture is not to be left out.
                    if stamps is not None and (spoilt or decoding.damages or image.interlaced_frame):
                        return
                    frame = Frame(rank, pts, footage.time_base, _bounded(image, footage, converter), converter)
                    if pts < lead:
                        before = before if spoilt else frame
                        continue
                    if start <= pts < end:
                        self.frames_decoded += 1
                    elif pts >= end and not neighbours:
                        break
                    if spoilt:
                        continue
                    if before is not None and neighbours:
                        yield before
                    before = None
                    if wanted is None or rank in wanted or pts >= end:
                        yield frame
                    if pts >= end or rank >= last:
                        break
            finally:
                self._note_damage(decoding.damages)

    def _check_again(self, trace: list[Met]) -> None:
        footage, met = self.footage, trace[-1]
        log.debug("%s: read again, having met %s after %d pictures", footage.path, met.what, met.pictures)
        check_readable(footage.path, footage.sha256)
        with _decoding(footage, self._entries()) as again:
            if again.met_again(len(trace)) != trace:
                raise unsteady(footage.path, f"{met.what} after {met.pictures} pictures")

    def _entries(self) -> list[EntryPoint]:
        """Entry points early enough for what is to be read, the latest first."""
        start = (self.segment.start_s - self._lead_s) / self.footage.time_base
        first = min(self._wanted) if self._wanted else 0
        return [
            entry
            for entry in reversed(self.footage.entries)
            if entry.pts < start or (entry.pts == start and not self._neighbours) or entry.rank <= first
        ]

    def _note_damage(self, damages: list[Damage]) -> None:
        known = [*damages, *([self.footage.damage] if self.footage.damage else [])]
        is_last = self.segment.end_s > self.footage.end_s
        inside = [
            damage
            for damage in known
            if damage.at_s >= self.segment.start_s and (damage.at_s < self.segment.end_s or is_last)
        ]
        self.damage = min(inside, key=lambda damage: damage.at_s, default=None)


def _bounded(image: av.VideoFrame, footage: Footage, converter: Converter) -> av.VideoFrame:
    """The image, or a copy in the size of the first where it takes more than twice the memory.

    How many pictures are held is decided by the first one; what is shown has its size in any case.
    """
    if sum(plane.buffer_size for plane in image.planes) <= 2 * footage.picture_bytes:
        return image
    return image.reformat(*converter.projection.unturned_px)


@contextmanager
def _decoding(footage: Footage, entries: list[EntryPoint]) -> Iterator[Decoding]:
    """Open the footage and begin at the first of the entry points that the container can be led to, or at its start."""
    import av

    known = {entry.pts: entry for entry in footage.entries}
    latest = entries[0].pts if entries else None
    # Seeking is a request: containers with sparse or wrong indices land elsewhere. What counts is where they landed.
    for target in entries[:_SEEK_ATTEMPTS]:
        if target.rank == 0:
            break
        with _reopened(footage) as container:
            stream = video_stream(container, footage.path)
            try:
                container.seek(target.pts, stream=stream)
                packets = demuxed(container, stream)
                head = next((packet for packet in packets if packet.is_keyframe and packet.size), None)
            except av.error.FFmpegError:
                continue
            landed = head.pts if head is not None and not head.is_discard else None
            entry = known.get(landed) if landed is not None else None
            if head is not None and entry is not None and latest is not None and entry.pts <= latest:
                yield _start(footage, stream, chain([head], packets), entry)
                return
        log.debug("%s: no way to enter at %.3f s", footage.path, float(target.pts * footage.time_base))
    with _reopened(footage) as container:
        stream = video_stream(container, footage.path)
        yield _start(footage, stream, demuxed(container, stream), None)


def _start(footage: Footage, stream: VideoStream, packets: Iterable[av.Packet], entry: EntryPoint | None) -> Decoding:
    return Decoding(
        packets,
        stream.codec_context,
        container=footage.container,
        rule=footage.rule,
        time_base=footage.time_base,
        entry=entry,
        has_keyframes=footage.has_keyframes,
        pictures=footage.packets,
        known=footage.damage,
    )


def _reopened(footage: Footage) -> InputContainer:
    import av

    try:
        return open_container(footage.path)
    except av.error.FFmpegError as error:
        raise FootageChangedError(
            f"the footage cannot be opened any more ({error.strerror})", where=str(footage.path), cure=UNSTEADY_CURE
        ) from error
