"""The rows that the picture of a night is made of: files, events, footage, causes, and what the night worked on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Tally:
    """Events by what became of them.

    ``explained``: all of these, whatever their kind, that do not count since something beside expression explains them;
    the other three do not hold these.
    """

    new: int = 0
    changed: int = 0
    vanished: int = 0
    explained: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.new + self.changed + self.vanished + self.explained


@dataclass(frozen=True)
class FileRow:
    """One file: the fields of `faceline.nightly.nights.Entry`, and what follows from them.

    Attributes:
        report: relative link (percent-encoded) from the output folder to its report; empty where there is none.
        advice: what to do about it; empty where nothing is to be done.
        is_news: whether it is in this state, for this reason, for the first time since the run before.
        tally: its events since the last whole run.
    """

    file: str
    state: str
    reason: str
    advice: str
    is_news: bool
    report: str
    results: str
    sha256: str
    same_as: str
    moved_from: str
    persons: int | None
    events: int | None
    stages_run: int
    seconds: float
    duration_s: float | None
    tries: int
    since: str
    tally: Tally


@dataclass(frozen=True)
class EventRow:
    """One event that is not what it was since the last whole run.

    Attributes:
        kind: ``new``, ``changed`` or ``vanished``.
        counts: whether it counts; False where something beside expression explains it.
        file, report: the footage, and the link to its report.
        causes: see `FootageRow`.
        person, start_s, peak_s, end_s, peak_timecode, score, p_value, what, explained: the event as it is now, or as it
            was where it vanished.
        before: the same as it was, for one that changed.
        change: what changed about it, in phrases.
    """

    kind: str
    counts: bool
    file: str
    report: str
    causes: tuple[str, ...]
    person: int
    start_s: float
    peak_s: float
    end_s: float
    peak_timecode: str
    score: float | None
    p_value: float | None
    what: str
    explained: bool
    before: Mapping[str, Any] | None
    change: tuple[str, ...]


@dataclass(frozen=True)
class FootageRow:
    """A footage whose events are not what they were.

    Attributes:
        causes: why: ``new footage``, ``changed footage``, ``removed footage``, ``parameter``, ``code``, ``model`` or
            ``unknown``; several where they came together and cannot be told apart.
        details: the differences behind the causes, in phrases.
        tally: its events.
    """

    file: str
    report: str
    causes: tuple[str, ...]
    details: tuple[str, ...]
    tally: Tally


@dataclass(frozen=True)
class CauseRow:
    """All events of footage with the same causes; over all rows they add up to the whole tally."""

    causes: tuple[str, ...]
    footage: int
    tally: Tally


@dataclass(frozen=True)
class Work:
    """What the night worked on.

    Attributes:
        footage_s: length of the footage that was analysed, each content once, where it is known.
        unknown: analysed files whose length is not known.
        busy_s: wall time of these files; more than the night's where several were worked on at once.
        speed: seconds of footage that was computed as a whole per second of wall time; None where either is not known
            or nothing, and where some footage was computed in part, the rest having been stored before.
        stages: seconds spent in each stage, the longest first.
        slowest: the files that took longest, as (file, seconds, length of the footage or None).
    """

    footage_s: float
    unknown: int
    busy_s: float
    speed: float | None
    stages: Mapping[str, float]
    slowest: tuple[tuple[str, float, float | None], ...]
