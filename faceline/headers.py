"""What the header of a video file says, without reading the file: good enough to plan with, not to work with."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from faceline.containers import open_container, video_stream
from faceline.errors import FootageError


def stated_span(path: Path) -> tuple[Fraction, Fraction] | None:
    """Start and end in seconds as the header states them; None where it states no length.

    Raises:
        FootageError: it is no video that can be opened.
    """
    import av

    try:
        with open_container(path, header_only=True) as container:
            stream = video_stream(container, path)
            start_s, length_s = Fraction(0), None
            if stream.duration is not None and stream.time_base is not None:
                length_s = stream.duration * stream.time_base
                start_s = (stream.start_time or 0) * stream.time_base
            elif container.duration is not None:
                length_s = Fraction(container.duration, av.time_base)
    except (av.error.FFmpegError, OSError) as error:
        raise FootageError("this is not a video that can be read", where=str(path)) from error
    return None if length_s is None or length_s < 0 else (start_s, start_s + length_s)
