"""Text that leaves faceline in small files: tables that spreadsheets take as they are, and names as valid Unicode."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A CSV table; None stays empty, and no cell is taken for a formula by a spreadsheet."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(["" if value is None else _safe(value) for value in row])
    return text.getvalue()


def _safe(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def valid_text(path: str | Path) -> str:
    """A path as valid Unicode: bytes that are no text are shown as escapes."""
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")
