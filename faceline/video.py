"""Footage: the door to video files; stages open them through this module alone.

`open_footage` looks at a file once, without decoding more than its beginning, and returns an immutable `Footage`.
`read_frames` (`faceline.reading`) decodes one segment of it, with the true presentation time of every frame.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from faceline.containers import open_container, video_stream
from faceline.decoding import first_picture
from faceline.errors import FootageChangedError, FootageError
from faceline.packets import Damage, EntryPoint, PacketScan, TimeRule, scan_packets
from faceline.picture import Frame, Orientation, Projection
from faceline.reading import UNSTEADY_CURE, FrameReader, read_frames
from faceline.timeline import Segment, cut_into_segments

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

__all__ = ["Damage", "Footage", "Frame", "FrameReader", "open_footage", "read_frames"]

#: Pictures decoded by `open_footage` to see whether a container that numbers packets in storage order reorders them.
_ORDER_PROBE = 48


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
                f"the footage vanished while it was read ({error.strerror})", where=str(self.path), cure=UNSTEADY_CURE
            ) from error
        if digest != self.sha256:
            raise FootageChangedError("the footage changed while it was read", where=str(self.path), cure=UNSTEADY_CURE)


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
        with open_container(path) as container:
            stream = video_stream(container, path)
            scan = _scan(container, stream, before[0])
        if not scan.pictures:
            raise FootageError("the video stream holds no pictures", where=str(path))
        with open_container(path) as container:
            stream = video_stream(container, path)
            image, runs_back = first_picture(
                container.demux(stream), stream.codec_context, _ORDER_PROBE if scan.in_order else 1
            )
            if image is None:
                raise FootageError("no picture in it can be decoded", where=str(path), cure="the file is damaged")
            projection = Projection.of(image, stream.sample_aspect_ratio)
            codec, kind = stream.codec_context.name, container.format.name
            picture_bytes = sum(plane.buffer_size for plane in image.planes)
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
        picture_bytes=picture_bytes,
    )


def results_name(path: Path) -> str:
    """Name for a file's results: without its extension, as valid Unicode, and never one that means another folder."""
    name = path.name if path.stem.strip(".") == "" else path.stem
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


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
