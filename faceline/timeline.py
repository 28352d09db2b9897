"""Time as footage states it: rational presentation timestamps, segments, timecodes."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Segment:
    """A half-open stretch ``[start_s, end_s)`` of one footage, in seconds of presentation time.

    Attributes:
        index: 0-based position among the footage's segments.
        start_s: first instant that belongs to the segment; for segment 0, the first frame's timestamp.
        end_s: first instant that no longer belongs to it.
    """

    index: int
    start_s: Fraction
    end_s: Fraction

    def __contains__(self, time_s: object) -> bool:
        return isinstance(time_s, (int, float, Fraction)) and self.start_s <= time_s < self.end_s


def cut_into_segments(start_s: Fraction, end_s: Fraction, length_s: Fraction) -> list[Segment]:
    """Cut ``[start_s, end_s]`` into equal segments, as few as can be, none longer than ``length_s``.

    The last instant lies inside the last segment. Equal ones keep all workers busy to the end, and none is a sliver.
    """
    if length_s <= 0:
        raise ValueError(f"length_s must be positive, got {length_s}")
    if end_s < start_s:
        raise ValueError(f"end_s {end_s} lies before start_s {start_s}")
    # The end is inclusive for the caller (it is a frame's timestamp), exclusive in a Segment.
    stop_s = end_s + Fraction(1, 1_000_000)
    count = max(1, -(-(end_s - start_s) // length_s))
    edges = [start_s + i * (end_s - start_s) / count for i in range(count)] + [stop_s]
    return [Segment(i, edges[i], edges[i + 1]) for i in range(count)]


def timecode(time_s: float | Fraction) -> str:
    """``HH:MM:SS.mmm`` of a time in seconds, rounded half up to the millisecond; negative times keep a sign.

    >>> timecode(83.4)
    '00:01:23.400'
    """
    exact = time_s if isinstance(time_s, Fraction) else Fraction(repr(float(time_s)))
    ms = int(abs(exact) * 1000 + Fraction(1, 2))
    sign = "-" if exact < 0 and ms else ""
    hours, rest = divmod(ms, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    seconds, millis = divmod(rest, 1000)
    return f"{sign}{hours:02d}:{minutes:02d}:{seconds:02d}.{millis:03d}"
