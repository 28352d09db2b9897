"""Figures as plain text."""

from __future__ import annotations

from collections.abc import Sequence

NOTHING = "–"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table: the first column to the left, columns of numbers to the right."""
    widths = [max(len(name), *(len(row[i]) for row in rows), 0) for i, name in enumerate(columns)]
    right = [bool(rows) and i > 0 and all(_is_number(row[i]) for row in rows) for i in range(len(columns))]
    lines = []
    for row in [columns, *rows]:
        cells = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines


def _is_number(text: str) -> bool:
    return text in ("", NOTHING) or text[0].isdigit() or text[0] in "-−"


def number(value: float | None, digits: int = 1) -> str:
    """A number with so many digits behind the point; a dash for None."""
    return NOTHING if value is None else f"{value:.{digits}f}"


def share(value: float | None) -> str:
    """A share between 0 and 1 as per cent; a dash for None."""
    return NOTHING if value is None else f"{100 * value:.1f} %"


def times(value: float | None) -> str:
    """A ratio, ``12.3×``; a dash for None."""
    return NOTHING if value is None else f"{value:.1f}×"
