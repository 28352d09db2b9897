"""Footage: the only module that opens video files.

`open_footage` looks at a file once, without decoding more than its beginning, and returns an immutable `Footage`.
`read_frames` decodes one segment of it, forward, in one pass, with the true presentation time of every frame.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from faceline.decoding import Decoding, first_picture
from faceline.errors import FootageChangedError, FootageError
from faceline.packets import Damage, EntryPoint, PacketScan, TimeRule, scan_packets
from faceline.picture import Converter, Frame, Orientation, Projection
from faceline.timeline import Segment, cut_into_segments

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

__all__ = ["Damage", "Footage", "Frame", "FrameReader", "open_footage", "read_frames"]

log = logging.getLogger(__name__)

#: Decoder threads per reader: enough to keep one stage fed, few enough that buffered pictures do not add up.
DECODER_THREADS = 2

#: Pictures decoded by `open_footage` to see whether a container that numbers packets in storage order reorders them.
_ORDER_PROBE = 48

#: Entry points tried before reading begins at the file's start.
_SEEK_ATTEMPTS = 3

#: What FFmpeg would show as well. A playlist's digest says nothing about the files that it names.
_NO_FOOTAGE = {
    **dict.fromkeys(("hls", "dash", "concat", "sdp"), "a playlist"),
    "tty": "a text",
    "image2": "a still picture",
}

_UNSTEADY_CURE = "wait until nothing writes to it, then run again"


@dataclass(frozen=True)
class Footage:
    """A video file as it was when it was opened. Cheap to copy, to pickle and to compare.

    Attributes:
        path: the file.
        name: name for its results: the file name without its extension.
        sha256: hex digest of the file's bytes.
        size_bytes, mtime_ns: the file's state when it was hashed.
        start_s, end_s: presentation times of the first and the last frame, exact; the start may differ from 0.
        packets: number of frames that the container holds for showing.
        native_fps: frames per second on average over the footage, from the timestamps, not from the header.
        width_px, height_px: size of the upright picture in square pixels: the display matrix is applied, and a sample
            aspect ratio other than 1 has stretched or shrunk the width (the height stays), since networks were
            trained on faces of natural proportions.
        codec, container: FFmpeg's names of the codec and of the container format.
        time_base: seconds per unit of ``Frame.pts``.
        orientation: how stored pictures are turned upright.
        rule: how frames get their times; see `faceline.packets.TimeRule`.
        has_keyframes: whether the container marks keyframes.
        entries: keyframes at which reading can begin.
        damage: a fault that the packets alone show; decoding may find an earlier one.
    """

    path: Path
    name: str
    sha256: str
    size_bytes: int
    mtime_ns: int
    start_s: Fraction
    end_s: Fraction
    packets: int
    native_fps: float
    width_px: int
    height_px: int
    codec: str
    container: str
    time_base: Fraction
    orientation: Orientation = field(default_factory=Orientation)
    rule: TimeRule = "pts"
    has_keyframes: bool = True
    entries: tuple[EntryPoint, ...] = field(default=(), repr=False)
    damage: Damage | None = None

    @property
    def rotation_deg(self) -> int:
        """Clockwise turn (0, 90, 180, 270) that was applied to make stored pictures upright."""
        return self.orientation.rotation_deg

    @property
    def duration_s(self) -> float:
        """Seconds from the first to the last frame."""
        return float(self.end_s - self.start_s)

    def segments(self, segment_s: float | Fraction) -> list[Segment]:
        """The footage cut into segments of ``segment_s`` seconds; see `faceline.timeline.cut_into_segments`."""
        length_s = segment_s if isinstance(segment_s, Fraction) else Fraction(repr(segment_s))
        return cut_into_segments(self.start_s, self.end_s, length_s)

    def check_unchanged(self) -> None:
        """Raise `FootageChangedError` if the file's bytes are no longer those that were opened.

        The digest is only computed again where size or modification time differ.
        """
        try:
            if _state(self.path) == (self.size_bytes, self.mtime_ns):
                return
            digest = _sha256(self.path)
        except OSError as error:
            raise FootageChangedError(
                f"the footage vanished while it was read ({error.strerror})", where=str(self.path), cure=_UNSTEADY_CURE
            ) from error
        if digest != self.sha256:
            raise FootageChangedError(
                "the footage changed while it was read", where=str(self.path), cure=_UNSTEADY_CURE
            )


def open_footage(path: str | Path) -> Footage:
    """Look at a video file: hash it, read all of its packets, decode its first picture.

    Raises:
        FootageError: the file is missing, is no video, has no video stream, or nothing in it can be decoded.
        FootageChangedError: something wrote to the file meanwhile.
    """
    import av

    path = Path(path)
    try:
        before = _state(path)
        sha256 = _sha256(path)
    except FileNotFoundError as error:
        raise FootageError("no such file", where=str(path), cure="check the path") from error
    except IsADirectoryError as error:
        raise FootageError(
            "this is a folder", where=str(path), cure="name one file, or use 'faceline archive'"
        ) from error
    except OSError as error:
        raise FootageError(f"the file cannot be read ({error.strerror})", where=str(path)) from error
    if before[0] == 0:
        raise FootageError("the file is empty", where=str(path), cure="copy it again from its source")
    try:
        with _container(path) as container:
            stream = _video_stream(container, path)
            scan = _scan(container, stream, before[0])
        if not scan.pictures:
            raise FootageError("the video stream holds no pictures", where=str(path))
        with _container(path) as container:
            stream = _video_stream(container, path)
            image, runs_back = first_picture(
                container.demux(stream), stream.codec_context, _ORDER_PROBE if scan.in_order else 1
            )
            if image is None:
                raise FootageError("no picture in it can be decoded", where=str(path), cure="the file is damaged")
            projection = Projection.of(image, stream.sample_aspect_ratio)
            codec, kind = stream.codec_context.name, container.format.name
    except av.error.FFmpegError as error:
        raise _cannot_open(path, error) from error
    if _state(path) != before:
        raise FootageChangedError("the footage changed while it was opened", where=str(path), cure="run again")
    if scan.rule == "pts" and runs_back:
        scan = replace(scan, rule="sorted-pts", entries=())
    start_s, end_s = scan.first * scan.time_base, scan.last * scan.time_base
    fps = float((scan.pictures - 1) / (end_s - start_s)) if end_s > start_s else float(_nominal_fps(stream))
    return Footage(
        path=path,
        name=results_name(path),
        sha256=sha256,
        size_bytes=before[0],
        mtime_ns=before[1],
        start_s=start_s,
        end_s=end_s,
        packets=scan.pictures,
        native_fps=fps,
        width_px=projection.width_px,
        height_px=projection.height_px,
        codec=codec,
        container=kind,
        time_base=scan.time_base,
        orientation=projection.orientation,
        rule=scan.rule,
        has_keyframes=scan.has_keyframes,
        entries=scan.entries,
        damage=scan.damage,
    )


def results_name(path: Path) -> str:
    """Name for a file's results: without its extension, as valid Unicode, and never one that means another folder."""
    name = path.name if path.stem.strip(".") == "" else path.stem
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def read_frames(
    footage: Footage,
    segment: Segment | None = None,
    *,
    wanted: frozenset[int] | None = None,
    neighbours: bool = False,
) -> FrameReader:
    """Decode a segment, forward, in one pass.

    Args:
        footage: what to read.
        segment: the stretch to read; None for all.
        wanted: indices of the frames to deliver; None for all. Reading stops after the last of them.
        neighbours: also deliver the frame just before and the frame just after the segment, where there are any.

    Returns:
        An iterator of `Frame` that afterwards knows ``frames_decoded`` and ``damage``.
    """
    if segment is None:
        segment = footage.segments(footage.end_s - footage.start_s + 1)[0]
    return FrameReader(footage, segment, wanted, neighbours)


class FrameReader(Iterator[Frame]):
    """Frames of one segment in presentation order; times never run back.

    Damage never raises: pictures that the decoder marks as spoilt, and all that follow up to the next keyframe, are
    counted but not delivered (they would show concealment, not faces); the first of them is stated in ``damage``.

    Attributes:
        frames_decoded: pictures of the segment decoded so far, spoilt ones included.
        damage: the first fault met in the segment so far; final once the iteration has ended by itself.
    """

    def __init__(self, footage: Footage, segment: Segment, wanted: frozenset[int] | None, neighbours: bool) -> None:
        self.footage = footage
        self.segment = segment
        self.frames_decoded = 0
        self.damage: Damage | None = None
        self._frames: Generator[Frame] = self._read(wanted, neighbours)

    def __next__(self) -> Frame:
        return next(self._frames)

    def close(self) -> None:
        """Stop early and close the file."""
        self._frames.close()

    def _read(self, wanted: frozenset[int] | None, neighbours: bool) -> Generator[Frame]:
        footage, segment = self.footage, self.segment
        if wanted is not None and not wanted:
            return
        converter = Converter(Projection(footage.width_px, footage.height_px, footage.orientation))
        before: Frame | None = None
        last = max(wanted) if wanted is not None else math.inf
        with _decoding(footage, self._entries(wanted, neighbours)) as decoding:
            try:
                for rank, pts, image, spoilt in decoding:
                    frame = Frame(rank, pts, footage.time_base, image, converter)
                    time_s = frame.time_s
                    if time_s < segment.start_s:
                        before = before if spoilt else frame
                        continue
                    if time_s < segment.end_s:
                        self.frames_decoded += 1
                    elif not neighbours:
                        break
                    if spoilt:
                        continue
                    if before is not None and neighbours:
                        yield before
                    before = None
                    if wanted is None or rank in wanted or time_s >= segment.end_s:
                        yield frame
                    if time_s >= segment.end_s or rank >= last:
                        break
            finally:
                self._note_damage(decoding.damages)

    def _entries(self, wanted: frozenset[int] | None, neighbours: bool) -> list[EntryPoint]:
        """Entry points early enough for what is to be read, the latest first."""
        start = self.segment.start_s / self.footage.time_base
        first = min(wanted) if wanted else 0
        return [
            entry
            for entry in reversed(self.footage.entries)
            if entry.pts < start or (entry.pts == start and not neighbours) or entry.rank <= first
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
            stream = _video_stream(container, footage.path)
            try:
                container.seek(target.pts, stream=stream)
                packets = container.demux(stream)
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
        stream = _video_stream(container, footage.path)
        yield _start(footage, stream, container.demux(stream), None)


def _start(footage: Footage, stream: VideoStream, packets: Iterable[av.Packet], entry: EntryPoint | None) -> Decoding:
    return Decoding(
        packets,
        stream.codec_context,
        container=footage.container,
        rule=footage.rule,
        time_base=footage.time_base,
        entry=entry,
        has_keyframes=footage.has_keyframes,
    )


def _container(path: Path) -> InputContainer:
    import av

    # Playlists may name further files and addresses; footage is one local file.
    return av.open(str(path), metadata_errors="ignore", options={"protocol_whitelist": "file"})


def _reopened(footage: Footage) -> InputContainer:
    import av

    try:
        return _container(footage.path)
    except av.error.FFmpegError as error:
        raise FootageChangedError(
            f"the footage cannot be opened any more ({error.strerror})", where=str(footage.path), cure=_UNSTEADY_CURE
        ) from error


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    """The first video stream that is neither a cover picture nor a still, its decoder threaded."""
    kind = container.format.name
    what = "a still picture" if kind.endswith("_pipe") else _NO_FOOTAGE.get(kind)
    if what is not None:
        raise FootageError(f"this is {what}, not a video", where=str(path))
    for stream in container.streams.video:
        if not stream.disposition & stream.disposition.attached_pic:
            if stream.codec_context is None:
                raise FootageError("there is no decoder for its video stream", where=str(path))
            stream.thread_type = "AUTO"
            stream.codec_context.thread_count = DECODER_THREADS
            return stream
    kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "no streams"
    raise FootageError(f"it has no video stream (only {kinds})", where=str(path))


def _scan(container: InputContainer, stream: VideoStream, size_bytes: int) -> PacketScan:
    time_base = stream.time_base or Fraction(1, 1000)
    # MP4 has a table of all samples. A header that merely counts more frames than there are is no damage (AVI, edit
    # lists); a table that points beyond the end of the file is.
    kind = container.format.name
    is_cut_off = "mp4" in kind.split(",") and any(entry.pos + entry.size > size_bytes for entry in stream.index_entries)
    return scan_packets(
        container.demux(stream),
        time_base,
        container=kind,
        nominal_fps=_nominal_fps(stream),
        stated_packets=stream.frames if is_cut_off else None,
    )


def _nominal_fps(stream: VideoStream) -> Fraction:
    return Fraction(stream.average_rate or stream.guessed_rate or 25)


def _cannot_open(path: Path, error: Exception) -> FootageError:
    where = str(path)
    if _looks_like_mp4(path):
        return FootageError(
            "the index (moov) is missing or torn, so nothing in the file can be found",
            where=where,
            cure="copy it again from its source; a recording that was cut off needs a repair tool",
        )
    strerror = getattr(error, "strerror", None) or str(error)
    return FootageError(f"this is not a video that can be read ({strerror})", where=where)


def _looks_like_mp4(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(8)[4:] in {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"}


def _state(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_size, state.st_mtime_ns


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
