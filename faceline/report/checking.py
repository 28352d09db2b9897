"""A results folder checked: every file against ``run.json``, pictures and table rows against each other.

What connects ``run.json`` with the footage, stage by stage, is checked by `faceline.custody`.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from faceline import custody
from faceline.custody import Entry, Link, Run
from faceline.errors import UsageError
from faceline.report.pictures import ALIGNED, ORGANIZED, person_folder
from faceline.report.results import RUN, SIGNATURE, is_ours, run_bytes

EVENTS = "events.csv"

_TABLE = re.compile(r"anomaly_detection_results_person_(\d+)\.csv")
_PICTURE = re.compile(r"f(-?\d{8,})_-?[\d.-]+_(?:track|face)(\d{4,})(?:_\d+-\d+)?\.jpg")
_MOST_NAMED = 5


@dataclass(frozen=True)
class Kept:
    """A results folder as it was read.

    Attributes:
        folder: where it lies.
        content: bytes of ``run.json``.
        run: what they say, or None where they say nothing that can be checked.
        entries: the artifacts of ``custody.json``; empty where it is missing or torn.
        links: what was checked on the way.
    """

    folder: Path
    content: bytes
    run: Run | None = None
    entries: Sequence[Entry] = ()
    links: Sequence[Link] = ()


def read_results(folder: Path) -> Kept:
    """Read and hash a results folder.

    Raises:
        UsageError: there is no such folder, or no ``run.json`` in it.
    """
    try:
        content = read_plain(folder / RUN)
    except OSError as error:
        what = "holds no run.json, so it is no results folder" if folder.is_dir() else "there is no such folder"
        raise UsageError(what, where=str(folder)) from error
    sha256 = hashlib.sha256(content).hexdigest()
    try:
        tree = json.loads(content.decode())
        whole = isinstance(tree, dict) and run_bytes(tree) == content
    except (UnicodeDecodeError, ValueError, TypeError, RecursionError):
        return Kept(folder, content, links=(Link(RUN, "", (f"{RUN}: is torn or was altered",)),))
    if isinstance(tree, dict) and "check" not in tree:
        older = f"{RUN}: was made before a chain of custody was kept; analyse the footage again"
        return Kept(folder, content, links=(Link(RUN, "", (older,)),))
    altered = () if whole else (f"{RUN}: was altered: its content is not what it was when it was written",)
    try:
        run = Run.model_validate(tree)
    except ValidationError as error:
        missing = f"{RUN}: is not whole: {custody.first_fault(error)}"
        return Kept(folder, content, links=(Link(RUN, "", (*altered, missing)),))
    links = [Link(RUN, f"faceline {run.faceline}; SHA-256 {sha256}", altered)]
    entries: Sequence[Entry] = ()
    try:
        entries = custody.read_custody(read_plain(folder / custody.FILE))
    except OSError as error:
        links.append(Link("chain", "", (f"{custody.FILE}: cannot be read: {error.strerror}",)))
    except ValueError as error:
        links.append(Link("chain", "", (str(error),)))
    digests, odd, notes = _digests(folder)
    return Kept(folder, content, run, entries, (*links, _files(run, digests, odd, notes)))


def check_plain(path: Path) -> None:
    """Raise `OSError` for what is there and is no plain file: a pipe would be waited for, a device read for ever."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is no plain file", str(path))


def read_plain(path: Path) -> bytes:
    """A plain file's content; `OSError` as `check_plain`."""
    check_plain(path)
    return path.read_bytes()


def _digests(folder: Path) -> tuple[dict[str, str], list[str], list[str]]:
    """Digests of all plain files of the results, what else lies among them, and what beside them is not ours."""
    digests: dict[str, str] = {}
    odd: list[str] = []
    notes = sorted(_relative(folder, path) for path in folder.iterdir() if not is_ours(path.name))

    def failed(error: OSError) -> None:
        odd.append(f"{_relative(folder, Path(error.filename))}: cannot be read: {error.strerror}")

    for root, folders, files in os.walk(folder, onerror=failed):
        if root == str(folder):
            folders[:], files = filter(is_ours, folders), [*filter(is_ours, files)]
        for name in sorted(files) + [name for name in folders if (Path(root) / name).is_symlink()]:
            path = Path(root) / name
            relative = _relative(folder, path)
            if path.is_symlink() or not path.is_file():
                odd.append(f"{relative}: is no plain file")
                continue
            if relative in (RUN, SIGNATURE):
                continue
            try:
                with path.open("rb") as file:
                    digests[relative] = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                odd.append(f"{relative}: cannot be read: {error.strerror}")
    return digests, odd, notes


def _relative(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix().encode("utf-8", "backslashreplace").decode()


def _files(run: Run, digests: Mapping[str, str], odd: Sequence[str], notes: Sequence[str]) -> Link:
    problems = list(odd)
    spoken = {problem.partition(":")[0] for problem in odd}
    for name, stated in run.outputs.items():
        if name in digests and digests[name] != stated:
            problems.append(f"{name}: was altered: its SHA-256 is {digests[name]}, {RUN} states {stated}")
        elif name not in digests and name not in spoken:
            problems.append(f"{name}: is missing")
    problems.extend(f"{name}: was added: {RUN} does not state it" for name in digests if name not in run.outputs)
    if custody.FILE not in run.outputs:
        problems.append(f"{RUN}: does not state {custody.FILE}")
    # Notes beside the results are the analyst's own, and survive a rerun.
    besides = f"; not part of the results: {_some(notes)}" if notes else ""
    text = f"{len(run.outputs)} files are what {RUN} states, none missing, none added{besides}"
    return Link("files", text, tuple(problems))


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def check_pictures(run: Run) -> Link:
    """Every picture lies in ``aligned_faces`` and, the same, in one person's folder."""
    aligned = {name.partition("/")[2]: sha for name, sha in run.outputs.items() if name.startswith(f"{ALIGNED}/")}
    owned: dict[str, str] = {}
    problems = []
    for name, sha256 in run.outputs.items():
        if name.startswith(f"{ORGANIZED}/"):
            picture = name.rpartition("/")[2]
            if picture in owned:
                problems.append(f"{name}: the same face lies in {owned[picture]}")
            owned[picture] = name
            if aligned.get(picture) != sha256:
                problems.append(f"{name}: is not the picture of that name in {ALIGNED}")
    problems.extend(
        f"{ALIGNED}/{picture}: belongs to nobody, known or unknown" for picture in aligned if picture not in owned
    )
    return Link(
        "pictures", f"{len(aligned)} faces, each in the folder of one person or of nobody known", tuple(problems)
    )


@dataclass(frozen=True)
class Row:
    """One row of a person's table.

    Attributes:
        table: file name.
        number: 1 for the first row below the headings.
        values: column → text; empty where missing.
    """

    table: str
    number: int
    values: Mapping[str, str]


def read_rows(folder: Path, table: str) -> list[Row]:
    """The rows of a CSV file. `ValueError` in words if it cannot be read as one."""
    try:
        text = read_plain(folder / table).decode("utf-8")
        return [
            Row(table, number, {name: value or "" for name, value in values.items() if isinstance(name, str)})
            for number, values in enumerate(csv.DictReader(io.StringIO(text, newline=""), strict=True), start=1)
        ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{table}: cannot be read as a table: {error}") from error


def table_of(person: str) -> str:
    """File name of the table of the person of that number."""
    return f"anomaly_detection_results_person_{person}.csv"


def peak_rows(event: Row, rows: Sequence[Row]) -> list[Row]:
    """The rows of the person's table that an event's peak stands in: one, where all is well."""
    wanted = (event.values.get("frame"), event.values.get("peak_timecode"))
    return [
        row
        for row in rows
        if (row.values.get("frame"), row.values.get("timecode")) == wanted and row.values.get("event")
    ]


def check_rows(folder: Path, run: Run) -> Link:
    """Events, rows of the persons' tables, pictures and counts against each other."""
    problems: list[str] = []
    tables: dict[str, list[Row]] = {}
    for name in [EVENTS, *filter(_TABLE.fullmatch, run.outputs)]:
        try:
            tables[name] = read_rows(folder, name)
        except ValueError as error:
            problems.append(str(error))
    events = tables.pop(EVENTS, [])
    for event in events:
        problems.extend(_event_problems(event, tables, run))
    for name, rows in tables.items():
        problems.extend(_order_problems(rows))
        problems.extend(_picture_problems(name, rows, run))
    faces = sum(map(len, tables.values()))
    if not problems:
        problems.extend(_count_problems(run, len(tables), faces, len(events)))
    return Link("rows", f"{len(events)} events stand in {faces} rows of {len(tables)} persons' tables", tuple(problems))


def _event_problems(event: Row, tables: Mapping[str, Sequence[Row]], run: Run) -> Iterator[str]:
    where = f"{EVENTS}, row {event.number}"
    table = table_of(event.values.get("person", ""))
    if table not in tables:
        yield f"{where}: there is no table of person {event.values.get('person')}"
    elif len(peak_rows(event, tables[table])) != 1:
        yield f"{where}: its peak, frame {event.values.get('frame')}, is not one row of {table}"
    thumbnail = event.values.get("thumbnail")
    if thumbnail and thumbnail not in run.outputs:
        yield f"{where}: its picture {thumbnail} is none of the results"


def _order_problems(rows: Sequence[Row]) -> Iterator[str]:
    before = float("-inf")
    for row in rows:
        try:
            time_s = float(row.values["time_s"])
        except (KeyError, ValueError):
            yield f"{row.table}, row {row.number}: has no time"
            continue
        if time_s < before:
            yield f"{row.table}, row {row.number}: is not in the order of time"
        before = time_s


def _picture_problems(table: str, rows: Sequence[Row], run: Run) -> Iterator[str]:
    """A person's pictures must be of faces that stand in the person's table."""
    match = _TABLE.fullmatch(table)
    folder = person_folder(int(match[1])) if match else ""
    known = {(row.values.get("frame"), row.values.get("track")) for row in rows}
    for name in run.outputs:
        if name.startswith(f"{folder}/"):
            parts = _PICTURE.fullmatch(name.rpartition("/")[2])
            if parts is None or (str(int(parts[1])), str(int(parts[2]))) not in known:
                yield f"{name}: shows no face of {table}"


def _count_problems(run: Run, persons: int, faces: int, events: int) -> Iterator[str]:
    counts = run.counts
    stated = {
        "persons": counts.get("persons"),
        "faces of known persons": counts.get("faces", 0) - counts.get("unknown_faces", 0),
        "events": counts.get("events", 0) + counts.get("explained", 0),
    }
    for (what, number), found in zip(stated.items(), (persons, faces, events), strict=True):
        if number != found:
            yield f"{RUN}: counts {number} {what}, the tables {found}"
