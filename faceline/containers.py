"""Opening containers with PyAV: which files count as footage, and the stream that holds it.

Whatever a file says, nothing else is opened: playlists, text that lists files, patterns of picture names and whatever
talks to the network are formats that are not taken, and the only protocol is that of local files.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from faceline.errors import FootageError

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

#: Decoder threads per reader: enough to keep one stage fed, few enough that buffered pictures do not add up.
DECODER_THREADS = 2

#: FFmpeg's demuxers of recordings that lie in one file. Named one by one: FFmpeg has some 350, among them such as open
#: further files or addresses, and every release adds some.
_RECORDINGS = (
    *("mov", "matroska", "avi", "asf", "asf_o", "flv", "live_flv", "kux", "mpeg", "mpegts", "mpegtsraw", "mpegvideo"),
    *("mxf", "ogg", "dv", "gif", "apng", "h261", "h263", "h264", "hevc", "vvc", "m4v", "av1", "obu", "ivf", "evc"),
    *("nut", "rm", "ivr", "swf", "wtv", "yuv4mpegpipe", "nsv", "mjpeg", "mjpeg_2000", "smjpeg", "vc1", "vc1test"),
    *("dirac", "cavsvideo", "avs2", "avs3", "dnxhd", "gxf", "lxf", "nuv", "pva", "pmp", "dhav", "amv", "ty", "vivo"),
    *("film_cpk", "flic", "mtv", "rpl", "r3d", "mlv", "cine", "ser", "jpegxl_anim", "apv", "ifv", "lmlm4", "xmv"),
)

#: Beyond these, a container is not what a camera or an encoder writes.
_MOST_STREAMS = 256

_MOST_PROBED_PIXELS = 2**26
_LEAST_DECODED_PIXELS = 2**25

#: How files begin that are known not to be footage, and what they are.
_HEADS = (
    (b"#EXTM3U", "a playlist"),
    (b"ffconcat version", "a playlist"),
    (b"<MPD", "a playlist"),
    (b"v=0", "a playlist"),
    (b"\x89PNG", "a still picture"),
    (b"\xff\xd8\xff", "a still picture"),
    (b"II*\0", "a still picture"),
    (b"MM\0*", "a still picture"),
    (b"BM", "a still picture"),
    (b"RIFF????WEBP", "a still picture"),
)


def open_container(path: Path, timeout_s: float | None = None, *, header_only: bool = False) -> InputContainer:
    """Open a file as FFmpeg reads it.

    Args:
        path: a file of this machine, whatever its name looks like to FFmpeg.
        timeout_s: seconds after which FFmpeg gives up opening, or reading one packet.
        header_only: decode nothing to find out more about the streams than the header says; ten times as fast.

    Raises:
        av.error.FFmpegError: it cannot be opened.
    """
    import av

    options = {
        "protocol_whitelist": "file",
        "format_whitelist": ",".join(_RECORDINGS),
        "max_streams": str(_MOST_STREAMS),
        # For the decoders with which FFmpeg finds out what the streams are.
        "max_pixels": str(_MOST_PROBED_PIXELS),
    }
    if header_only:
        options |= {"skip_frame": "all", "analyzeduration": "1"}
    # A relative name such as "file:x" or "concat:a|b" would be taken for a protocol.
    name = os.path.abspath(path)  # noqa: PTH100 (Path.absolute leaves ".." in place)
    return av.open(name, metadata_errors="ignore", options=options, timeout=timeout_s)


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """The first video stream that is neither a cover picture nor a still, its decoder threaded.

    The decoder refuses pictures of more than 32 million pixels and of more than twice as many as the header states.
    That depends on the file alone, so that what is read of it does not depend on any limit.

    Raises:
        FootageError: there is none, or no decoder for it.
    """
    for stream in container.streams.video:
        if not stream.disposition & stream.disposition.attached_pic:
            codec = stream.codec_context
            if codec is None:
                raise FootageError("there is no decoder for its video stream", where=str(path))
            stream.thread_type = "AUTO"
            codec.thread_count = DECODER_THREADS
            most = max(_LEAST_DECODED_PIXELS, 2 * codec.width * codec.height)
            codec.options = {"max_pixels": str(most)}
            return stream
    kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "no streams"
    raise FootageError(f"it has no video stream (only {kinds})", where=str(path))


def demuxed(container: InputContainer, *streams: VideoStream) -> Iterator[av.Packet]:
    """Packets of these streams (of all, if none is named) in storage order, as `InputContainer.demux` gives them.

    A damaged MPEG-TS can bring forth streams on the way. PyAV (18.1) fails to find these when it flushes all streams at
    the end, after those that were there from the beginning.
    """
    with contextlib.suppress(IndexError):
        yield from container.demux(*streams)


def what_else(path: Path) -> str:
    """What a file is that is no footage, by its first bytes; empty if they do not tell."""
    with path.open("rb") as file:
        start = file.read(512)
    head = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith(b"<?xml") and b"<MPD" in head:
        return "a playlist"
    for mark, what in _HEADS:
        if all(a == b or a == ord("?") for a, b in zip(mark, head, strict=False)) and len(head) >= len(mark):
            return what
    return ""
