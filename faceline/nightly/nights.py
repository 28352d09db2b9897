"""The journal of each run over an archive: a file of one JSON object per line, appended to as things happen.

Whatever ends a run, its journal says how far it came; a torn last line is the one that was being written. The first
line is the beginning, the last the end; a journal without an end is of a run that was killed, or goes on. A damaged
line costs what it said and no more.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal, get_args

from faceline.folders import FILE_MODE, make_private_dirs, sync_dir
from faceline.nightly.moments import Difference
from faceline.nightly.recipe import Changes

log = logging.getLogger(__name__)

State = Literal["done", "unchanged", "quarantined", "failed", "left", "gone"]
"""Of a file: worked on; nothing to do; cannot be analysed; did not work this time; still being written; not there."""

INTERRUPTED: Final = "interrupted"
FAILED: Final = "failed"
"""States of a run's end after which files may not have been looked at: it was told to stop, or could not go on."""

AHEAD: Final = timedelta(minutes=10)
"""How far a journal may be ahead of the clock: other machines that write here have clocks of their own."""

_STAMP = "%Y%m%dT%H%M%SZ"

Cause = Literal["new footage", "changed footage", "removed footage", "parameter", "code", "model", "unknown"]


@dataclass(frozen=True)
class Entry:
    """One file of an archive and what came of it in one run.

    Attributes:
        file: path below the archive's folder; bytes that are no text stand as lone surrogates (`os.fsdecode`).
        state: see `State`.
        sha256: of its content; empty where it could not be read.
        reason: why it is not done; where decoding had to end, for damaged footage; else empty.
        results: its results folder, relative to the output folder, in the same form; empty where there is none.
        same_as: another file with the same content, under whose name it was analysed; else empty.
        moved_from: where the same content lay before; else empty.
        persons, events: how many were found; None where nothing was.
        stages_run: stages that had to be computed.
        seconds: wall time.
        duration_s: length of the footage; None where it is not known.
        tries: how often in a row it ended like this, for ``quarantined`` and ``failed``.
        since: when the first of these was, as ISO 8601 in UTC.
        cure: what to do about it, as the error says; else empty.
        stages_cached: stage runs of this run that were taken from the store.
    """

    file: str
    state: State
    sha256: str = ""
    reason: str = ""
    results: str = ""
    same_as: str = ""
    moved_from: str = ""
    persons: int | None = None
    events: int | None = None
    stages_run: int = 0
    seconds: float = 0.0
    duration_s: float | None = None
    tries: int = 0
    since: str = ""
    cure: str = ""
    stages_cached: int = 0


@dataclass(frozen=True)
class Delta:
    """How the events of one footage differ from those of the analysis before, and why.

    Attributes:
        file: path below the archive's folder.
        causes: what brought it about; several where several things changed at once, so that none can be told apart.
        details: the differences behind the causes, in phrases.
        differences: the events.
    """

    file: str
    causes: tuple[Cause, ...]
    details: tuple[str, ...]
    differences: tuple[Difference, ...]


def causes_of(changes: Changes) -> tuple[tuple[Cause, ...], tuple[str, ...]]:
    """Causes and details of a footage whose content is the same, by how its recipe differs."""
    kinds: tuple[Any, ...] = changes.causes or ("unknown",)
    return kinds, (*changes.parameters, *changes.code, *changes.models)


@dataclass(frozen=True)
class Night:
    """A journal, read.

    Attributes:
        name: of its file, without the extension.
        begin: ``began``, ``archive``, ``output``, ``faceline``, ``recipe``, ``overrides``, ``host``, ``pid``,
            ``reason`` (why it ran: ``by hand``, ``schedule``, ``catching up: …``).
        entries: by file; the last one where a file was met twice.
        deltas: in order.
        end: ``ended``, ``seconds``, ``state`` (`INTERRUPTED`, `FAILED`, or anything else for done), ``reason`` where it
            failed, ``remaining`` (files that were not reached), ``disk`` (name → bytes, None where not known:
            ``store``, ``results``, ``free``); None where the run did not come to its end.
        damaged: whole lines that could not be read; what they said is missing.
    """

    name: str
    begin: Mapping[str, Any]
    entries: Mapping[str, Entry] = field(default_factory=dict)
    deltas: tuple[Delta, ...] = ()
    end: Mapping[str, Any] | None = None
    damaged: int = 0

    @property
    def whole(self) -> bool:
        """Whether the run looked at all there was, whatever came of it."""
        return self.end is not None and self.end.get("state") not in (INTERRUPTED, FAILED)


class Journal:
    """Writes the journal of one run; may be used by several threads.

    Args:
        folder: of all journals of the archive.
        now: when the run begins; names the journal.
    """

    def __init__(self, folder: Path, now: datetime) -> None:
        make_private_dirs(folder)
        self._lock = threading.Lock()
        stamp = now.astimezone(UTC).strftime(_STAMP)
        for number in range(1, 10_000):
            name = stamp if number == 1 else f"{stamp}-{number}"
            try:
                descriptor = os.open(folder / f"{name}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
            except FileExistsError:
                continue
            self.name = name
            self._file = os.fdopen(descriptor, "wb")
            sync_dir(folder)
            return
        raise FileExistsError(f"10,000 journals of one second in {folder}")

    def begin(self, facts: Mapping[str, Any]) -> None:
        """Say what is begun."""
        self._write({"begin": dict(facts)})

    def entry(self, entry: Entry) -> None:
        """Say what came of a file."""
        self._write({"entry": asdict(entry)})

    def delta(self, delta: Delta) -> None:
        """Say how a footage's events changed."""
        self._write({"delta": asdict(delta)})

    def end(self, facts: Mapping[str, Any]) -> None:
        """Say how it ended, and close the journal."""
        self._write({"end": dict(facts)})
        self._file.close()

    def _write(self, line: Mapping[str, Any]) -> None:
        data = json.dumps(line).encode("ascii") + b"\n"
        with self._lock:
            self._file.write(data)
            self._file.flush()
            os.fsync(self._file.fileno())


def night_names(folder: Path) -> list[str]:
    """Names of all journals, oldest first."""
    try:
        return sorted((path.stem for path in folder.glob("*.jsonl")), key=order_of)
    except OSError:
        return []


def order_of(name: str) -> tuple[str, int, str]:
    """By time and number: ``…Z`` comes before ``…Z-2``."""
    return name[:16], len(name), name


def read_night(folder: Path, name: str) -> Night:
    """Read a journal as far as it is whole.

    Raises:
        OSError: it cannot be read.
    """
    begin: Mapping[str, Any] = {}
    end: Mapping[str, Any] | None = None
    entries: dict[str, Entry] = {}
    deltas: list[Delta] = []
    damaged = 0
    for line in _lines(folder / f"{name}.jsonl"):
        try:
            ((kind, body),) = json.loads(line).items()
            if kind == "entry":
                entry = _entry(body)
                entries[entry.file] = entry
            elif kind == "delta":
                deltas.append(_delta(body))
            elif kind == "begin":
                begin = {**body}
            elif kind == "end":
                end = {**body}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            # The last line without its line feed is the one that was being written.
            damaged += line.endswith(b"\n")
    return Night(name, begin, entries, tuple(deltas), end, damaged)


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from file


_ENTRY_FIELDS = frozenset(part.name for part in fields(Entry))
_STATES = frozenset(get_args(State))


def _entry(body: Mapping[str, Any]) -> Entry:
    # A later version may say more of a file than this one knows.
    entry = Entry(**{name: value for name, value in body.items() if name in _ENTRY_FIELDS})
    if not isinstance(entry.file, str) or entry.state not in _STATES:
        raise ValueError("an entry is not whole")
    return entry


def _delta(body: Mapping[str, Any]) -> Delta:
    differences = tuple(Difference.from_plain(difference) for difference in body["differences"])
    return Delta(str(body["file"]), tuple(body["causes"]), tuple(body["details"]), differences)


def nights_since_the_last_whole_one(folder: Path, now: datetime | None = None) -> tuple[Night | None, list[Night]]:
    """The newest run that looked at all there was, and those after it that did not, oldest first.

    A journal that cannot be opened, or says nothing (its run was killed before its first line), is passed over, and so
    is one of the future: it was written while the clock was ahead, and says nothing of when.

    Args:
        folder: of all journals.
        now: the time; None for that of the clock.
    """
    latest = (datetime.now(UTC) if now is None else now.astimezone(UTC)) + AHEAD
    cut_off: list[Night] = []
    for name in reversed(night_names(folder)):
        if name[:16] > latest.strftime(_STAMP):
            _tell_of_the_future(str(folder), name)
            continue
        try:
            night = read_night(folder, name)
        except OSError as error:
            log.warning("the journal %s cannot be read and does not count: %s", name, error)
            continue
        if night.whole:
            return night, cut_off[::-1]
        if night.begin or night.entries or night.deltas:
            cut_off.append(night)
    return None, cut_off[::-1]


@functools.cache
def _tell_of_the_future(folder: str, name: str) -> None:
    # Once: `serve` looks every few minutes.
    log.warning("the journal %s in %s is of a time to come (the clock was ahead) and does not count", name, folder)
