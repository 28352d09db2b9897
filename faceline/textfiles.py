"""Text that leaves faceline in small files: tables that spreadsheets take as they are, and names as valid Unicode."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""How text begins that some spreadsheet runs (OWASP, "CSV Injection"; the last four are the full-width forms)."""


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
