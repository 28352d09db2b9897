"""Where a night is kept: the page, the whole picture as JSON, and two tables, beside the archive's results.

    archive.html          the page of the last night
    archive.json          the whole picture; its keys are described in docs/archive.md
    archive.csv           one row per file
    archive_events.csv    one row per event that is new, changed or vanished
    _archive/nights/      page and picture of each night, the newest ones

Each is written whole or not at all, readable by its owner only. The page comes last: what it speaks of is there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path

from faceline.folders import LocalFolder
from faceline.nightly.figures import HISTORY
from faceline.nightly.nights import order_of
from faceline.nightly.page import NIGHTS, render
from faceline.nightly.rows import EventRow, FileRow, Tally
from faceline.nightly.summary import Summary
from faceline.textfiles import csv_text

KEPT = HISTORY
"""Nights whose pages are kept: those that the page looks back on."""

_TALLY = tuple(part.name for part in fields(Tally))
FILE_COLUMNS = (*(part.name for part in fields(FileRow) if part.name != "tally"), *_TALLY)
EVENT_COLUMNS = (
    *("kind", "counts", "file", "report", "causes", "details", "person", "start_s", "peak_s", "end_s", "peak_timecode"),
    *("score", "p_value", "what", "explained", "change"),
    *("before_person", "before_start_s", "before_peak_s", "before_end_s", "before_score", "before_p_value"),
)


def write_night(output: Path, summary: Summary, keep: int = KEPT) -> Path:
    """Write all that is said of a night; the path of its page.

    Args:
        output: the folder of the archive's results.
        summary: the night.
        keep: nights whose page and picture are kept, this one among them; what is older is removed. At least 1.

    Raises:
        OSError: something cannot be written; what was written before it is whole.
        ValueError: ``keep`` is less than 1, or the night's name cannot be that of a file.
    """
    if keep < 1:
        raise ValueError(f"keep must be at least 1, got {keep}")
    if not _is_name(summary.name):
        raise ValueError(f"{summary.name!r} is no name of a night")
    folder = LocalFolder(output)
    picture = json.dumps(summary.to_plain(), ensure_ascii=False, allow_nan=False, indent=1).encode("utf-8") + b"\n"
    folder.put(f"{NIGHTS}/{summary.name}.json", picture)
    folder.put(f"{NIGHTS}/{summary.name}.html", render(summary, copy=True))
    kept = _prune(output / NIGHTS, keep, summary.name)
    folder.put("archive.json", picture)
    folder.put("archive.csv", csv_text(FILE_COLUMNS, _file_cells(summary.rows)).encode("utf-8"))
    folder.put("archive_events.csv", csv_text(EVENT_COLUMNS, _event_cells(summary)).encode("utf-8"))
    folder.put("archive.html", render(summary, kept))
    return output / "archive.html"


def kept_nights(output: Path) -> list[str]:
    """Names of the nights whose pages are kept, oldest first."""
    return sorted((path.stem for path in (output / NIGHTS).glob("*.html") if _is_name(path.stem)), key=order_of)


def _is_name(name: str) -> bool:
    # Nothing else in the folder is touched.
    return re.fullmatch(r"\d{8}T\d{6}Z(-\d+)?", name) is not None


def _prune(folder: Path, keep: int, this: str) -> frozenset[str]:
    names = {path.stem for suffix in ("html", "json") for path in folder.glob(f"*.{suffix}") if _is_name(path.stem)}
    # The night at hand stays, even if a clock that was set back makes it the oldest.
    others = sorted(names - {this}, key=order_of)
    gone = others[: max(len(others) - (keep - 1), 0)]
    for name in gone:
        for suffix in ("html", "json"):
            (folder / f"{name}.{suffix}").unlink(missing_ok=True)
    return frozenset(names - set(gone))


def _file_cells(rows: Sequence[FileRow]) -> Iterator[list[object]]:
    for row in rows:
        own: list[object] = [getattr(row, name) for name in FILE_COLUMNS if name not in _TALLY]
        yield [*own, *(getattr(row.tally, name) for name in _TALLY)]


def _event_cells(summary: Summary) -> Iterator[list[object]]:
    details = {row.file: "; ".join(row.details) for row in summary.footage}
    for row in summary.moments:
        yield [_event_cell(row, name, details) for name in EVENT_COLUMNS]


def _event_cell(row: EventRow, name: str, details: dict[str, str]) -> object:
    if name == "details":
        return details.get(row.file, "")
    if name.startswith("before_"):
        return None if row.before is None else row.before[name.removeprefix("before_")]
    value = getattr(row, name)
    return "; ".join(value) if isinstance(value, tuple) else value
