"""Footage of the benchmark of speed: real clips, the demo's made footage where there are none, and longer versions.

A clip is lengthened by repeating its packets with shifted times, without encoding anything again: every repetition
decodes to the same pictures, so the script's time per frame stays what it is, and only the fixed costs of a run
spread over more frames. Footage of several clips is first brought to one size and rate, clip by clip.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "artifacts" / "_bench-speed"
"""Where footage and results are kept between runs; the store passes over names that begin with an underscore."""

CLIPS = {
    "single 720p": "jiho_foreigner_interview.mp4",
    "two people": "den250400_interview.mp4",
    "crowd 1080p": "facenetpt_video.mp4",
    "mostly empty": "intel_one-by-one-person-detection.mp4",
}
"""The clips that are measured unless others are named: what each stands for, and its file."""

MIXED = (
    *CLIPS.values(),
    *("clm_multi_face.avi", "fer_woman2.mp4", "openface3_test.avi", "lp_d9.mp4"),
)
"""The clips that the footage of an hour goes through, over and over."""

MIXED_SIZE_PX = (1280, 720)
MIXED_FPS = 25


def data_folder() -> Path:
    """Folder with ``clips/`` and ``models/``; it may not be there."""
    return Path(os.environ.get("FACELINE_TESTDATA", ROOT.parent / "shared" / "data"))


def find_clip(name: str) -> Path | None:
    """A clip by the path or, among the real clips, by its file name; None where there is none."""
    for path in (Path(name), data_folder() / "clips" / name):
        if path.is_file():
            return path.resolve()
    return None


def made_footage() -> Path:
    """The demo's made footage (75 s, two persons, nine moments), rendered unless it is there already."""
    from faceline.made.render import render_once
    from faceline.made.script import default_demo_script

    path = FOLDER / "footage" / "made.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    render_once(default_demo_script(75.0), path, progress=lambda done, total: None)
    return path


def chosen_clips(names: Sequence[str]) -> dict[str, Path]:
    """Label → file of the clips that are asked for.

    Args:
        names: paths or file names; empty for `CLIPS`, of which those that are not there are left out.

    Returns:
        At least one: the made footage, where none of `CLIPS` is there.

    Raises:
        FileNotFoundError: a clip that was named is not there.
    """
    if names:
        found = {name: find_clip(name) for name in names}
        missing = [name for name, path in found.items() if path is None]
        if missing:
            raise FileNotFoundError(f"no such clip: {', '.join(missing)}")
        return {path.stem: path for path in found.values() if path is not None}
    here = {label: find_clip(name) for label, name in CLIPS.items()}
    return {label: path for label, path in here.items() if path is not None} or {"made": made_footage()}


def lengthened(source: Path, seconds: float) -> Path:
    """The clip repeated until it lasts so long, in the benchmark's folder; made unless it is there already.

    It ends before the first keyframe at which it is long enough, or with the clip. A clip may also be shortened so.
    """
    target = FOLDER / "footage" / f"{source.stem}-{_digest(source)}-{seconds:g}s.mp4"
    if not target.is_file():
        join([source], target, seconds)
    return target


def mixed(seconds: float, clips: Sequence[Path]) -> Path:
    """Footage that goes through clips, all at one size and rate, over and over; made unless it is there already."""
    digest = hashlib.sha256("".join(_digest(clip) for clip in clips).encode()).hexdigest()[:12]
    target = FOLDER / "footage" / f"mixed-{digest}-{seconds:g}s.mp4"
    if not target.is_file():
        join([_at_one_size(clip) for clip in clips], target, seconds)
    return target


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def join(sources: Sequence[Path], target: Path, seconds: float) -> None:
    """Write the sources' video packets one after the other, again and again, until they last ``seconds``.

    Nothing is encoded: the sources have to agree in codec, its headers, and size.

    Args:
        sources: files with one video stream each; others of their streams are left out.
        target: an MP4 file, which appears when it is whole.
        seconds: footage ends before the first keyframe at which it lasts so long, or with the source that reaches it.

    Raises:
        ValueError: the sources differ, or one of them has packets without times.
    """
    import av

    target.parent.mkdir(parents=True, exist_ok=True)
    building = target.with_name(f".{os.getpid()}-{target.name}")
    try:
        with av.open(str(sources[0])) as first, av.open(str(building), "w", format="mp4") as output:
            template = first.streams.video[0]
            headers = _headers(template)
            stream = output.add_stream_from_template(template)
            # One time base for all: the muxer may choose another for the file, PyAV converts.
            base = Fraction(template.time_base)
            start, number = 0, 0
            wanted = int(seconds / base)
            while start < wanted:
                source = sources[number % len(sources)]
                with av.open(str(source)) as container:
                    if _headers(container.streams.video[0]) != headers:
                        raise ValueError(f"{source.name} is not encoded as {sources[0].name} is: they cannot be joined")
                    start += _append(container, output, stream, base, start, wanted)
                number += 1
        building.replace(target)
    finally:
        building.unlink(missing_ok=True)


def _headers(stream: Any) -> tuple[Any, ...]:
    context = stream.codec_context
    return context.name, context.width, context.height, bytes(context.extradata or b"")


def _append(container: Any, output: Any, stream: Any, base: Fraction, start: int, wanted: int) -> int:
    """Append one source at ``start`` (units of ``base``), to its end or to ``wanted``; how long what was added is."""
    source = container.streams.video[0]
    scale = Fraction(source.time_base) / base
    nominal = max(1, round(1 / (Fraction(source.average_rate or 25) * source.time_base)))
    origin, end = None, 0
    for packet in container.demux(source):
        if packet.pts is None and packet.dts is None:  # The flushing packet at the end.
            continue
        if packet.pts is None or packet.dts is None:
            raise ValueError(f"{container.name} has packets without times")
        origin = packet.pts if origin is None else origin
        at = int((packet.pts - origin) * scale)
        if packet.is_keyframe and end and start + at >= wanted:
            break
        end = max(end, int((packet.pts - origin + (packet.duration or nominal)) * scale))
        packet.dts = start + int((packet.dts - origin) * scale)
        packet.pts = start + at
        packet.time_base = base
        packet.stream = stream
        output.mux(packet)
    if not end:
        raise ValueError(f"{container.name} holds no pictures")
    return end


def _at_one_size(clip: Path) -> Path:
    """A clip as H.264 of `MIXED_SIZE_PX` and `MIXED_FPS`, whole pictures in black borders; made unless it is there."""
    import av
    import numpy as np

    target = FOLDER / "footage" / f"{clip.stem}-{_digest(clip)}-{MIXED_SIZE_PX[1]}p.mp4"
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    building = target.with_name(f".{os.getpid()}-{target.name}")
    try:
        with av.open(str(building), "w", format="mp4") as output:
            stream = output.add_stream("libx264", rate=MIXED_FPS)
            stream.width, stream.height = MIXED_SIZE_PX
            stream.pix_fmt = "yuv420p"
            stream.options = {"preset": "veryfast", "crf": "20"}
            for rgb in _steady(clip):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(_framed(rgb)), format="rgb24")
                for packet in stream.encode(frame):
                    output.mux(packet)
            for packet in stream.encode():
                output.mux(packet)
        building.replace(target)
    finally:
        building.unlink(missing_ok=True)
    return target


def _steady(clip: Path) -> Iterator[Any]:
    """Pictures of a clip at `MIXED_FPS`: at every tick the one that is shown then."""
    from faceline.video import open_footage, read_frames

    footage = open_footage(clip)
    shown, tick = None, 0
    with read_frames(footage) as frames:
        for frame in frames:
            while shown is not None and footage.start_s + Fraction(tick, MIXED_FPS) < frame.time_s:
                yield shown
                tick += 1
            shown = frame.rgb()
    if shown is not None:
        yield shown


def _framed(rgb: Any) -> Any:
    """A picture shrunk or enlarged to fit into `MIXED_SIZE_PX`, in the middle of a black one."""
    import cv2
    import numpy as np

    width, height = MIXED_SIZE_PX
    scale = min(width / rgb.shape[1], height / rgb.shape[0])
    size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    whole = np.zeros((height, width, 3), np.uint8)
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    whole[top : top + size[1], left : left + size[0]] = small
    return whole
