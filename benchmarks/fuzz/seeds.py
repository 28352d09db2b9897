"""Intact files to mutate: made footage in many containers and codecs, and real clips where they are."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

WIDTH_PX, HEIGHT_PX = 96, 64

#: Larger real files are cut to so many bytes: most of what a mutation can break lies at the beginning or in any packet.
_MOST_BYTES = 300_000


@dataclass(frozen=True)
class Make:
    """One kind of made footage.

    Attributes:
        name: with the extension that names the container.
        codec: FFmpeg's encoder.
        pixels: pixel format.
        options: of the encoder.
        muxer: options of the muxer.
        format: the muxer, where the extension does not name it.
        sound: encoder of a sound track, if it has one.
        size_px: width and height.
    """

    name: str
    codec: str
    pixels: str = "yuv420p"
    options: dict[str, str] = field(default_factory=dict)
    muxer: dict[str, str] = field(default_factory=dict)
    format: str | None = None
    sound: str = ""
    size_px: tuple[int, int] = (WIDTH_PX, HEIGHT_PX)


_X264 = {"g": "8", "bf": "2", "threads": "1", "preset": "veryfast"}

MAKES = (
    Make("plain.mp4", "libx264", options=_X264),
    Make("sound.mp4", "libx264", options=_X264, muxer={"movflags": "faststart"}, sound="aac"),
    Make("fragments.mp4", "libx264", options=_X264, muxer={"movflags": "frag_keyframe+empty_moov+default_base_moof"}),
    Make("hevc.mp4", "libx265", options={"x265-params": "pools=1:frame-threads=1:log-level=none", "g": "8"}),
    Make("mpeg4.mp4", "mpeg4", options={"g": "8", "bf": "1"}),
    Make("mjpeg.mov", "mjpeg", "yuvj420p", sound="pcm_s16le"),
    Make("png.mov", "png", "rgb24"),
    Make("qtrle.mov", "qtrle", "rgb24"),
    Make("h263.3gp", "h263", size_px=(176, 144)),
    Make("plain.mkv", "libx264", options=_X264, sound="aac"),
    Make("ffv1.mkv", "ffv1", options={"level": "3", "slices": "4"}),
    Make("vp9.webm", "libvpx-vp9", options={"cpu-used": "8", "g": "8", "threads": "1"}),
    Make("vp8.webm", "libvpx", options={"cpu-used": "8", "g": "8", "threads": "1"}),
    Make("mpeg4.avi", "mpeg4", options={"g": "8"}, sound="mp3"),
    Make("mjpeg.avi", "mjpeg", "yuvj420p"),
    Make("raw.avi", "rawvideo", "bgr24", size_px=(32, 32)),
    Make("huffyuv.avi", "huffyuv", "yuv422p"),
    Make("plain.mpg", "mpeg1video", options={"g": "8", "bf": "2"}),
    Make("dvd.vob", "mpeg2video", options={"g": "8", "bf": "2"}, format="vob"),
    Make("plain.ts", "libx264", options=_X264, sound="mp2"),
    Make("mpeg2.ts", "mpeg2video", options={"g": "8"}),
    Make("plain.flv", "flv1", options={"g": "8"}),
    Make("plain.wmv", "wmv2", options={"g": "8"}, sound="wmav2"),
    Make("plain.ogv", "libtheora", options={"g": "8"}),
    Make("plain.gif", "gif", "rgb8"),
    Make("plain.apng", "apng", "rgb24"),
    Make("plain.mxf", "mpeg2video", options={"g": "8"}),
    Make("plain.dv", "dvvideo", size_px=(720, 576)),
    Make("plain.nut", "mpeg4", options={"g": "8"}),
    Make("plain.y4m", "rawvideo", size_px=(32, 32), format="yuv4mpegpipe"),
    Make("av1.ivf", "libsvtav1", options={"preset": "12", "svtav1-params": "lp=1"}),
    Make("raw.h264", "libx264", options=_X264),
    Make("raw.hevc", "libx265", options={"x265-params": "pools=1:frame-threads=1:log-level=none", "g": "8"}),
    Make("plain.swf", "flv1", options={"g": "8"}),
)


def made_seeds(count: int = 24) -> Iterator[tuple[str, bytes]]:
    """Name and content of every kind that the FFmpeg at hand can write, ``count`` pictures each."""
    import av

    # SVT-AV1 tells its settings otherwise.
    os.environ.setdefault("SVT_LOG", "1")
    for make in MAKES:
        try:
            yield make.name, _encoded(make, 4 if make.codec == "dvvideo" else count)
        except (av.error.FFmpegError, ValueError):
            # An encoder that this build lacks.
            continue


def real_seeds(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of real clips and damaged files below ``folder``, long ones cut off."""
    for place in ("broken", "clips"):
        for path in sorted((folder / place).glob("*")):
            if path.is_file() and path.stat().st_size:
                yield f"{place}-{path.name}", path.read_bytes()[:_MOST_BYTES]


def picture(number: int, size_px: tuple[int, int]) -> np.ndarray:
    """uint8 RGB ``[H, W, 3]``: a bright square that wanders over a slope."""
    width, height = size_px
    y, x = np.mgrid[:height, :width]
    image = np.stack([(x * 2 + number * 5) % 256, (y * 3) % 256, (x + y) % 256], axis=2).astype(np.uint8)
    at = (number * 3) % (width - 16), (number * 2) % (height - 16)
    image[at[1] : at[1] + 16, at[0] : at[0] + 16] = 255
    return image


def _encoded(make: Make, count: int) -> bytes:
    # A file and no memory: some muxers go back and read what they wrote.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / make.name
        with _usual_scheduling():
            _encode(path, make, count)
        return path.read_bytes()


@contextlib.contextmanager
def _usual_scheduling() -> Iterator[None]:
    """Give this thread its scheduling back afterwards.

    SVT-AV1 makes the thread that opens it a real-time one with the highest priority where that is allowed (root). All
    threads begun later inherit that, and such threads that wait for each other by spinning hold the machine for ever.
    """
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def _encode(path: Path, make: Make, count: int) -> None:
    import av

    rate = 25
    with av.open(str(path), "w", format=make.format, options=make.muxer) as output:
        stream: Any = output.add_stream(make.codec, rate=rate, options=make.options)
        stream.width, stream.height = make.size_px
        stream.pix_fmt = make.pixels
        sound: Any = output.add_stream(make.sound, rate=44_100, layout="stereo") if make.sound else None
        if sound is not None:
            sound.bit_rate = 64_000
        for i in range(count):
            image = av.VideoFrame.from_ndarray(picture(i, make.size_px), format="rgb24").reformat(format=make.pixels)
            image.pts, image.time_base = i, Fraction(1, rate)
            output.mux(stream.encode(image))
        output.mux(stream.encode(None))
        if sound is not None:
            _add_sound(output, sound, count / rate)


def _add_sound(output: Any, sound: Any, seconds: float) -> None:
    import av

    rate = sound.codec_context.sample_rate
    tone = (np.sin(np.arange(int(rate * seconds)) * 0.06) * 8000).astype(np.int16)
    resampler = av.AudioResampler(sound.codec_context.format, "stereo", rate, sound.codec_context.frame_size or 1024)
    for start in range(0, len(tone), 1024):
        part = tone[start : start + 1024]
        frame = av.AudioFrame.from_ndarray(np.repeat(part, 2)[None], format="s16", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        for resampled in resampler.resample(frame):
            output.mux(sound.encode(resampled))
    for resampled in resampler.resample(None):
        output.mux(sound.encode(resampled))
    output.mux(sound.encode(None))
