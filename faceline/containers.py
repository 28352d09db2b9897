"""Opening containers with PyAV: which files count as footage, and the stream that holds it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from faceline.errors import FootageError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

#: Decoder threads per reader: enough to keep one stage fed, few enough that buffered pictures do not add up.
DECODER_THREADS = 2

#: What FFmpeg would show as well. A playlist's digest says nothing about the files that it names.
_NO_FOOTAGE = {
    **dict.fromkeys(("hls", "dash", "concat", "sdp"), "a playlist"),
    "tty": "a text",
    "image2": "a still picture",
}


def open_container(path: Path) -> InputContainer:
    """Open a file as FFmpeg reads it.

    Raises:
        av.error.FFmpegError: it cannot be opened.
    """
    import av

    # Playlists may name further files and addresses; footage is one local file.
    return av.open(str(path), metadata_errors="ignore", options={"protocol_whitelist": "file"})


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """The first video stream that is neither a cover picture nor a still, its decoder threaded.

    Raises:
        FootageError: there is none, or no decoder for it.
    """
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
