"""Small files beside the results: written whole or not at all, with names that any server and reader can take."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from faceline.folders import create_private, make_private_dirs

_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""How text begins that some spreadsheet runs (OWASP, "CSV Injection"; the last four are the full-width forms)."""


def replace_text(path: Path, text: str) -> None:
    """Put ``text`` at ``path`` in one step, readable by its owner only; folders above are made."""
    make_private_dirs(path.parent)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    try:
        with create_private(beside) as file:
            file.write(text.encode("utf-8"))
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A CSV table; None stays empty, and no cell is taken for a formula by a spreadsheet."""
    text = io.StringIO()
    # Python's writer leaves a carriage return bare where lines end otherwise, and readers take it for the end of a row.
    plain, quoting = (csv.writer(text, lineterminator="\n", quoting=how) for how in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
    for row in (columns, *rows):
        cells = ["" if value is None else _safe(value) for value in row]
        has_return = any(isinstance(cell, str) and "\r" in cell for cell in cells)
        (quoting if has_return else plain).writerow(cells)
    return text.getvalue()


def _safe(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULAS) else value


def valid_text(path: str | Path) -> str:
    """A path as valid Unicode: bytes that are no text are shown as escapes."""
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")
