"""A night in one picture: what the page, the tables, the console and a notification all tell, each in its own length.

The picture is frozen and made of plain values, so that it can be kept as JSON; `docs/archive.md` describes the keys.
Every text in it is valid Unicode; a name may still hold line feeds and marks, which whoever shows it makes visible.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Protocol, get_args

from faceline.nightly.advice import advice
from faceline.nightly.cautions import cautions_of
from faceline.nightly.delta import change_words, counts_for_nothing, put_together
from faceline.nightly.figures import HISTORY, Figures, NightState, figures_of, seconds_of, state_of
from faceline.nightly.moments import Moment
from faceline.nightly.nights import Delta, Entry, Night, State
from faceline.nightly.recipe import Changes
from faceline.nightly.records import Record
from faceline.nightly.rows import CauseRow, EventRow, FileRow, FootageRow, Tally, Work
from faceline.nightly.words import href_of, instant
from faceline.textfiles import valid_text
from faceline.timeline import timecode

VERSION = 1
"""Of the JSON form; raised when a key changes its meaning or goes away."""

FILE_STATES: tuple[State, ...] = get_args(State)


class Known(Protocol):
    """Where records are looked up: `faceline.nightly.records.Records`, or a dictionary."""

    def get(self, sha256: str, /) -> Record | None:
        """The record of a content, if there is one."""
        ...


@dataclass(frozen=True)
class Summary:
    """A night.

    Attributes:
        version: of this form.
        name: of its journal.
        state: see `faceline.nightly.figures.state_of`; reason: why it failed, where it says so.
        began, ended: as ISO 8601; seconds: wall time; None or empty where not known.
        why: why it ran; archive, output: the folders; faceline: version of the program; host, overrides.
        next_at: when the schedule runs next, as ISO 8601; empty where nobody knows.
        since: name and beginning of the last whole run, which events are compared with; None where there is none.
        cut_off: runs since then that did not look at all there was; their events count in here.
        found_before: files without anything to do whose content these runs had analysed.
        remaining: files that were not reached; None where not known.
        counts: number of files by state; files: their number without those that are gone.
        persons, events: in the whole archive as it stands, each content once, where known.
        tally: events that are not what they were, by kind; footage_changed: footages that these are of.
        causes: the same by cause. changes: how the configuration differs from that run's, in phrases.
        cautions: what an operator should know first, in sentences.
        work: durations. disk: name → ``bytes`` and ``change`` since the run before, both None where not known.
        history: this run and those before, in figures, oldest first.
        rows: all files, in order of path. footage: those whose events are not what they were. moments: these events,
            those that count and are new first, the least probable by chance first.
        recovered: files that came to nothing in the run before and are well now.
        notification: ``sent``, or why nobody could be told; empty where nobody wants to be.
    """

    version: int
    name: str
    state: NightState
    reason: str
    began: str
    ended: str
    seconds: float | None
    why: str
    archive: str
    output: str
    faceline: str
    host: str
    overrides: tuple[str, ...]
    next_at: str
    since: Mapping[str, str] | None
    cut_off: tuple[Figures, ...]
    found_before: int
    remaining: int | None
    counts: Mapping[str, int]
    files: int
    persons: int
    events: int
    tally: Tally
    footage_changed: int
    causes: tuple[CauseRow, ...]
    changes: tuple[str, ...]
    cautions: tuple[str, ...]
    work: Work
    disk: Mapping[str, Mapping[str, int | None]]
    history: tuple[Figures, ...]
    recovered: tuple[str, ...]
    rows: tuple[FileRow, ...] = field(repr=False)
    footage: tuple[FootageRow, ...] = field(repr=False)
    moments: tuple[EventRow, ...] = field(repr=False)
    notification: str = ""

    def to_plain(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    def in_state(self, *states: str) -> tuple[FileRow, ...]:
        """The files in any of these states."""
        return tuple(row for row in self.rows if row.state in states)

    @property
    def set_aside(self) -> tuple[FileRow, ...]:
        """Files that came to nothing, those that are news first."""
        return tuple(sorted(self.in_state("quarantined", "failed"), key=lambda row: (not row.is_news, row.file)))


def summarize(
    night: Night,
    before: Night | None = None,
    cut_off: Sequence[Night] = (),
    records: Known | None = None,
    *,
    past: Sequence[Figures] = (),
    changes: Changes | None = None,
    next_at: datetime | None = None,
) -> Summary:
    """The picture of a night.

    Args:
        night: the run, with its end where it came to one.
        before: the last whole run before it; None where there is none.
        cut_off: the runs between the two, oldest first (`faceline.nightly.nights.nights_since_the_last_whole_one`;
            where it is asked after this run's journal was begun, this run is among them, and passed over here).
        records: looked up for the seconds of each stage; without them these are not known.
        past: the runs before this one in figures, oldest first (`faceline.nightly.figures.past_figures`).
        changes: how the recipe differs from that of ``before``.
        next_at: when the schedule runs next.
    """
    between = [other for other in cut_off if other.name != night.name]
    deltas = put_together([*between, night])
    reports = _reports(night)
    tallies = {delta.file: _tally([delta]) for delta in deltas}
    entries = [night.entries[file] for file in sorted(night.entries)]
    counts = Counter(entry.state for entry in entries)
    files = len(entries) - counts["gone"]
    # Each content once, whatever it is called.
    own = [entry for entry in entries if entry.state in ("done", "unchanged") and not entry.same_as]
    whole = tuple(_footage_row(delta, reports.get(delta.file, ""), tallies[delta.file]) for delta in deltas)
    end, begin = night.end or {}, night.begin
    seconds = seconds_of(night)
    return Summary(
        version=VERSION,
        name=night.name,
        state=state_of(night),
        reason=_text(end.get("reason")),
        began=_text(begin.get("began")),
        ended=_text(end.get("ended")),
        seconds=seconds,
        why=_text(begin.get("reason")),
        archive=_text(begin.get("archive")),
        output=_text(begin.get("output")),
        faceline=_text(begin.get("faceline")),
        host=_text(begin.get("host")),
        overrides=tuple(_text(override) for override in begin.get("overrides") or ()),
        next_at="" if next_at is None else next_at.isoformat(timespec="seconds"),
        since=None if before is None else {"name": before.name, "began": _text(before.begin.get("began"))},
        cut_off=tuple(figures_of(other) for other in between),
        found_before=_found_before(entries, between),
        remaining=_whole_number(end.get("remaining")),
        counts={state: counts[state] for state in FILE_STATES},
        files=files,
        persons=sum(entry.persons or 0 for entry in own),
        events=sum(entry.events or 0 for entry in own),
        tally=_tally(deltas),
        footage_changed=len(deltas),
        causes=_causes(deltas),
        changes=() if changes is None else (*changes.parameters, *changes.code, *changes.models),
        cautions=cautions_of(night, before, between),
        work=_work(own, seconds, records, begin),
        disk=_disk(end, before),
        history=(*past, figures_of(night))[-HISTORY:],
        recovered=_recovered(entries, before),
        rows=tuple(_file_row(entry, reports, before, tallies.get(entry.file, Tally())) for entry in entries),
        footage=tuple(sorted(whole, key=lambda row: (-row.tally.new, -row.tally.total, row.file))),
        moments=tuple(sorted((row for d in deltas for row in _event_rows(d, reports)), key=_rank)),
    )


def _text(value: Any) -> str:
    return "" if value is None else valid_text(str(value))


def _whole_number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _reports(night: Night) -> dict[str, str]:
    """Link to the report of each file; that of another with the same content where it has none of its own."""
    own = {file: href_of(entry.results) for file, entry in night.entries.items()}
    return {file: own[file] or own.get(entry.same_as, "") for file, entry in night.entries.items()}


def _file_row(entry: Entry, reports: Mapping[str, str], before: Night | None, tally: Tally) -> FileRow:
    then = None if before is None else before.entries.get(entry.file)
    return FileRow(
        file=valid_text(entry.file),
        state=entry.state,
        reason=valid_text(entry.reason),
        advice=valid_text(advice(entry)),
        # A run that was cut off may have met it, too, of which the number of tries tells.
        is_news=entry.tries <= 1 and (then is None or (then.state, then.reason) != (entry.state, entry.reason)),
        report=reports[entry.file],
        results=valid_text(entry.results),
        sha256=entry.sha256,
        same_as=valid_text(entry.same_as),
        moved_from=valid_text(entry.moved_from),
        persons=entry.persons,
        events=entry.events,
        stages_run=entry.stages_run,
        seconds=round(entry.seconds, 2),
        duration_s=entry.duration_s,
        tries=entry.tries,
        since=entry.since,
        tally=tally,
    )


def _tally(deltas: Iterable[Delta]) -> Tally:
    kinds = Counter(
        "explained" if counts_for_nothing(difference) else difference.kind
        for delta in deltas
        for difference in delta.differences
    )
    return Tally(kinds["new"], kinds["changed"], kinds["vanished"], kinds["explained"])


def _footage_row(delta: Delta, report: str, tally: Tally) -> FootageRow:
    details = tuple(valid_text(detail) for detail in delta.details)
    return FootageRow(valid_text(delta.file), report, tuple(delta.causes), details, tally)


def _causes(deltas: Sequence[Delta]) -> tuple[CauseRow, ...]:
    groups: dict[tuple[str, ...], list[Delta]] = {}
    for delta in deltas:
        groups.setdefault(tuple(sorted(delta.causes)), []).append(delta)
    rows = [CauseRow(causes, len(group), _tally(group)) for causes, group in groups.items()]
    return tuple(sorted(rows, key=lambda row: (-row.tally.total, row.causes)))


def _event_rows(delta: Delta, reports: Mapping[str, str]) -> Iterable[EventRow]:
    for difference in delta.differences:
        before, after = difference.before, difference.after
        moment = after or before
        assert moment is not None
        yield EventRow(
            kind=difference.kind,
            counts=not counts_for_nothing(difference),
            file=valid_text(delta.file),
            report=reports.get(delta.file, ""),
            causes=tuple(delta.causes),
            **_plain(moment),
            before=_plain(before) if before is not None and after is not None else None,
            change=tuple(map(valid_text, change_words(before, after))) if before and after else (),
        )


def _plain(moment: Moment) -> dict[str, Any]:
    return {
        **moment.to_plain(),
        "what": valid_text(moment.what),
        "peak_timecode": timecode(moment.peak_s),
    }


def _rank(row: EventRow) -> tuple[Any, ...]:
    kinds = {"new": 0, "changed": 1, "vanished": 2}
    chance = (row.p_value is None, row.p_value or 0.0, row.score is None, -(row.score or 0.0))
    return (not row.counts, kinds[row.kind], *chance, row.file, row.peak_s, row.person)


def _found_before(entries: Iterable[Entry], between: Sequence[Night]) -> int:
    analysed = {e.sha256 for other in between for e in other.entries.values() if e.state == "done" and e.sha256}
    return sum(entry.state == "unchanged" and entry.sha256 in analysed for entry in entries)


def _recovered(entries: Iterable[Entry], before: Night | None) -> tuple[str, ...]:
    if before is None:
        return ()
    bad = {file for file, entry in before.entries.items() if entry.state in ("quarantined", "failed")}
    return tuple(valid_text(e.file) for e in entries if e.file in bad and e.state in ("done", "unchanged"))


def _work(own: Sequence[Entry], seconds: float | None, records: Known | None, begin: Mapping[str, Any]) -> Work:
    done = [entry for entry in own if entry.state == "done"]
    footage_s = sum(entry.duration_s or 0.0 for entry in done)
    # What an earlier run computed of a footage took none of this night's time.
    fresh_s = sum(entry.duration_s or 0.0 for entry in done if not entry.stages_cached)
    partly = any(entry.stages_cached and entry.stages_run for entry in done)
    stages: Counter[str] = Counter()
    began = instant(begin.get("began"))
    for sha256 in dict.fromkeys(entry.sha256 for entry in done if entry.sha256):
        record = records.get(sha256) if records is not None else None
        if record is not None and _is_of(record, began):
            stages.update(dict(record.stages))
    slowest = sorted(done, key=lambda entry: (-entry.seconds, entry.file))[:10]
    return Work(
        footage_s=round(footage_s, 3),
        unknown=sum(entry.duration_s is None for entry in done),
        busy_s=round(sum(entry.seconds for entry in done), 2),
        speed=round(fresh_s / seconds, 3) if seconds and fresh_s and not partly else None,
        stages={stage: round(spent_s, 2) for stage, spent_s in stages.most_common()},
        slowest=tuple((valid_text(e.file), round(e.seconds, 2), e.duration_s) for e in slowest),
    )


def _is_of(record: Record, began: datetime | None) -> bool:
    """Whether a record was made by the run that began then: what an earlier one spent is not this night's."""
    at = instant(record.at)
    if began is None or at is None or (at.tzinfo is None) != (began.tzinfo is None):
        return True
    return at >= began.replace(microsecond=0)


def _disk(end: Mapping[str, Any], before: Night | None) -> dict[str, dict[str, int | None]]:
    now, then = (_sizes(facts) for facts in (end, (before.end or {}) if before is not None else {}))
    found = {}
    for name, size in now.items():
        earlier = then.get(name)
        found[name] = {"bytes": size, "change": None if size is None or earlier is None else size - earlier}
    return found


def _sizes(end: Mapping[str, Any]) -> dict[str, int | None]:
    disk = end.get("disk") or {}
    return {_text(name): _whole_number(size) for name, size in disk.items()}
