"""Footage: the door to video files; stages open them through this module alone.

`open_footage` looks at a file once, without decoding more than its beginning, and returns an immutable `Footage`.
`read_frames` (`faceline.reading`) decodes one segment of it, with the true presentation time of every frame.
"""

from __future__ import annotations

import errno
import hashlib
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from faceline.boxes import claimed_samples
from faceline.containers import demuxed, open_container, video_stream, what_else
from faceline.decoding import first_picture
from faceline.errors import FootageChangedError, FootageError, FootageUnreadableError
from faceline.limits import Limits, Watch, beyond
from faceline.names import folder_name
from faceline.packets import Damage, EntryPoint, PacketScan, TimeRule, scan_packets
from faceline.picture import Frame, Orientation, Projection
from faceline.reading import FrameReader, read_frames
from faceline.timeline import Segment, cut_into_segments
from faceline.unsteady import UNSTEADY_CURE, check_readable, unsteady

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

__all__ = ["Damage", "Footage", "Frame", "FrameReader", "open_footage", "read_frames"]

#: Pictures decoded by `open_footage` to see whether a container that numbers packets in storage order reorders them.
_ORDER_PROBE = 48

#: Types of the box with which files of the MP4 family begin.
_MP4_HEADS = frozenset(
    (
        b"ftyp",
        b"styp",
        b"moov",
        b"moof",
        b"mdat",
        b"wide",
        b"free",
        b"skip",
        b"pnot",
        b"sidx",
        b"emsg",
        b"uuid",
        b"junk",
    )
)


@dataclass(frozen=True)
class Footage:
    """A video file as it was when it was opened. Cheap to copy, to pickle and to compare.

    Attributes:
        path: the file.
        name: name for its results: the file name without its extension.
        sha256: hex digest of the file's bytes.
        size_bytes, mtime_ns, changed_ns: the file's state when it was hashed.
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
        picture_bytes: memory that a decoded picture takes, by the first one.
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
    picture_bytes: int = 0
    changed_ns: int = 0

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

        The digest is only computed again where size, modification time or the time of the last change of the file's
        state differ; the last is set by the system alone, whoever winds back the modification time.
        """
        try:
            if _state(self.path) == (self.size_bytes, self.mtime_ns, self.changed_ns):
                return
            digest = _sha256(self.path)
        except OSError as error:
            raise FootageChangedError(
                f"the footage vanished while it was read ({error.strerror})", where=str(self.path), cure=UNSTEADY_CURE
            ) from error
        if digest != self.sha256:
            raise FootageChangedError("the footage changed while it was read", where=str(self.path), cure=UNSTEADY_CURE)


@dataclass(frozen=True)
class _Seen:
    """What looking at a file shows."""

    scan: PacketScan
    runs_back: bool
    projection: Projection
    picture_bytes: int
    codec: str
    container: str
    nominal_fps: Fraction


def open_footage(path: str | Path, limits: Limits | None = None) -> Footage:
    """Look at a video file: hash it, read all of its packets, decode its first picture.

    Args:
        path: the file.
        limits: what it may ask of this machine; `Limits()` by default. Within them, they change nothing.

    What a drive may have caused as well as the file (an error of FFmpeg's, a packet cut short, no way to open it) is
    only believed once all bytes could be read and the same came of looking again.

    Raises:
        FootageUnreadableError: the file is missing, or cannot be read, or not twice to the same end.
        FootageError: it is no video, has no video stream, is beyond a limit, or nothing in it can be decoded.
        FootageChangedError: something wrote to the file meanwhile.
    """
    path, limits = Path(path), limits or Limits()
    before, sha256 = _hashed(path)
    seen = _look(path, before[0], limits)
    if doubt := _doubt(seen):
        check_readable(path, sha256)
        if not _alike(seen, _look(path, before[0], limits)):
            raise unsteady(path, doubt)
    if isinstance(seen, FootageError):
        raise seen
    if _state(path) != before:
        raise FootageChangedError("the footage changed while it was opened", where=str(path), cure="run again")
    scan, projection = seen.scan, seen.projection
    if scan.rule == "pts" and seen.runs_back:
        scan = replace(scan, rule="sorted-pts", entries=())
    start_s, end_s = scan.first * scan.time_base, scan.last * scan.time_base
    fps = float((scan.pictures - 1) / (end_s - start_s)) if end_s > start_s else float(seen.nominal_fps)
    return Footage(
        path=path,
        name=results_name(path),
        sha256=sha256,
        size_bytes=before[0],
        mtime_ns=before[1],
        changed_ns=before[2],
        start_s=start_s,
        end_s=end_s,
        packets=scan.pictures,
        native_fps=fps,
        width_px=projection.width_px,
        height_px=projection.height_px,
        codec=seen.codec,
        container=seen.container,
        time_base=scan.time_base,
        orientation=projection.orientation,
        rule=scan.rule,
        has_keyframes=scan.has_keyframes,
        entries=scan.entries,
        damage=scan.damage,
        picture_bytes=seen.picture_bytes,
    )


def _look(path: Path, size_bytes: int, limits: Limits) -> _Seen | FootageError:
    """Go through the packets and decode the first picture; errors that a drive may have caused are given back."""
    import av

    watch = Watch(limits, path, size_bytes)
    try:
        _check_claims(path, size_bytes, limits, watch)
        with open_container(path, watch.left_s) as container:
            try:
                stream = video_stream(container, path)
            except FootageError as error:
                return error
            limits.check_size(stream.codec_context.width, stream.codec_context.height, path)
            scan = _scan(container, stream, size_bytes, limits, watch, path)
        if not scan.pictures:
            return FootageError("the video stream holds no pictures", where=str(path))
        limits.check_duration(float((scan.last - scan.first) * scan.time_base), path)
        with open_container(path, watch.left_s) as container:
            stream = video_stream(container, path)
            image, runs_back = first_picture(
                _watched(container, stream, watch), stream.codec_context, _ORDER_PROBE if scan.in_order else 1
            )
            if image is None:
                return _nothing_decoded(path, stream, limits)
            projection = Projection.of(image, stream.sample_aspect_ratio)
            picture_bytes = sum(plane.buffer_size for plane in image.planes)
            limits.check_size(image.width, image.height, path)
            limits.check_size(projection.width_px, projection.height_px, path)
            limits.check_decoding(picture_bytes, path)
            return _Seen(
                scan=scan,
                runs_back=runs_back,
                projection=projection,
                picture_bytes=picture_bytes,
                codec=stream.codec_context.name,
                container=container.format.name,
                nominal_fps=_nominal_fps(stream),
            )
    except av.error.FFmpegError as error:
        watch.check()
        if error.errno == errno.ENOMEM:
            raise _no_memory(path) from MemoryError()
        _check_still_there(path)
        refused = _cannot_open(path, error)
        refused.__cause__ = error
        return refused
    except MemoryError as error:
        raise _no_memory(path) from error
    except OSError as error:
        raise FootageUnreadableError(f"the file cannot be read ({error.strerror})", where=str(path)) from error


def _doubt(seen: _Seen | FootageError) -> str:
    return f"an error: {seen.what}" if isinstance(seen, FootageError) else seen.scan.doubt


def _alike(one: _Seen | FootageError, other: _Seen | FootageError) -> bool:
    if isinstance(one, FootageError) or isinstance(other, FootageError):
        return str(one) == str(other)
    # What a decoder makes of damage is its threads' luck.
    return one.scan == other.scan


def _hashed(path: Path) -> tuple[tuple[int, int, int], str]:
    """State and digest of a file that may be footage."""
    try:
        # Asked first: a pipe would be waited for, and a device read for ever.
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise FootageError("this is a folder", where=str(path), cure="name one file, or use 'faceline archive'")
        if not stat.S_ISREG(mode):
            raise FootageError("this is a device, a pipe or a socket, not a file", where=str(path))
        before = _state(path)
        if before[0] == 0:
            raise FootageError("the file is empty", where=str(path), cure="copy it again from its source")
        return before, _sha256(path)
    except FileNotFoundError as error:
        raise FootageUnreadableError("no such file", where=str(path), cure="check the path") from error
    except OSError as error:
        raise FootageUnreadableError(f"the file cannot be read ({error.strerror})", where=str(path)) from error
    except ValueError as error:
        raise FootageError(f"the file cannot be read ({error})", where=str(path)) from error


def results_name(path: Path) -> str:
    """Name for a file's results: without its extension, printable, short enough, and never one that means another
    folder."""
    return folder_name(path.name if path.stem.strip(".") == "" else path.stem)


def _check_claims(path: Path, size_bytes: int, limits: Limits, watch: Watch) -> None:
    """Refuse what costs memory as soon as FFmpeg opens the file."""
    if not _looks_like_mp4(path):
        return
    samples = claimed_samples(path, watch.check)
    if samples > size_bytes:
        raise FootageError(
            f"it claims to hold {samples} samples, more than it has bytes", where=str(path), cure="the file is damaged"
        )
    if samples > limits.max_packets:
        raise beyond(f"it claims to hold {samples} samples", path, f"limits.max_packets={limits.max_packets}")


def _scan(
    container: InputContainer, stream: VideoStream, size_bytes: int, limits: Limits, watch: Watch, path: Path
) -> PacketScan:
    # MP4 has a table of all samples. A header that merely counts more frames than there are is no damage (AVI, edit
    # lists); a table that points beyond the end of the file is.
    kind = container.format.name
    is_cut_off = False
    if "mp4" in kind.split(","):
        limits.check_frames(max(stream.frames, len(stream.index_entries)), path, "claims to hold")
        is_cut_off = any(entry.pos + entry.size > size_bytes for entry in stream.index_entries)
    return scan_packets(
        _watched(container, stream, watch),
        _time_base(stream),
        container=kind,
        nominal_fps=_nominal_fps(stream),
        stated_packets=stream.frames if is_cut_off else None,
        check_frames=lambda frames: limits.check_frames(frames, path),
    )


def _watched(container: InputContainer, stream: VideoStream, watch: Watch) -> Iterator[av.Packet]:
    """The stream's packets; those of all streams are counted, since they have to be gone through."""
    import av

    try:
        for packet in demuxed(container):
            watch.count()
            if packet.stream_index == stream.index:
                yield packet
    except av.error.FFmpegError:
        # Given up for lack of time: not to be taken for damage.
        watch.check()
        raise


def _time_base(stream: VideoStream) -> Fraction:
    return stream.time_base if stream.time_base and stream.time_base > 0 else Fraction(1, 1000)


def _nominal_fps(stream: VideoStream) -> Fraction:
    rate = stream.average_rate or stream.guessed_rate
    return Fraction(rate) if rate and rate > 0 else Fraction(25)


def _nothing_decoded(path: Path, stream: VideoStream, limits: Limits) -> FootageError:
    what = "no picture in it can be decoded"
    if stream.codec_context.width * stream.codec_context.height > 0:
        return FootageError(what, where=str(path), cure="the file is damaged")
    option = f"limits.max_megapixels={limits.max_megapixels:g}"
    return FootageError(what, where=str(path), cure=f"it is damaged, or its pictures are larger than {option} allows")


def _check_still_there(path: Path) -> None:
    """A drive that went away meanwhile is no fault of the file's."""
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise FootageUnreadableError(f"the file cannot be read ({error.strerror})", where=str(path)) from error


def _cannot_open(path: Path, error: Exception) -> FootageError:
    where = str(path)
    if what := what_else(path):
        return FootageError(f"this is {what}, not a video", where=where)
    if _looks_like_mp4(path):
        return FootageError(
            "the index (moov) is missing or torn, so nothing in the file can be found",
            where=where,
            cure="copy it again from its source; a recording that was cut off needs a repair tool",
        )
    strerror = getattr(error, "strerror", None) or str(error)
    return FootageError(f"this is not a video that can be read ({strerror})", where=where)


def _no_memory(path: Path) -> FootageError:
    return FootageError("opening it takes more memory than there is", where=str(path))


def _looks_like_mp4(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(8)[4:] in _MP4_HEADS


def _state(path: Path) -> tuple[int, int, int]:
    state = path.stat()
    return state.st_size, state.st_mtime_ns, state.st_ctime_ns


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
