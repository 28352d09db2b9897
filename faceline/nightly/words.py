"""Names, times and amounts of a night in words, the same on the page, on the console and in a notification."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import PurePosixPath
from urllib.parse import quote

_LONG = 400


def shown(text: object) -> str:
    """Foreign text in one line for people: what is not printable stands as an escape, so that none can act or hide.

    Line feeds, terminal sequences, marks that turn the order of letters, and bytes that are no text all become visible.

    >>> shown("a\\nb\\x1b[2J")
    'a\\\\nb\\\\x1b[2J'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))


def cut(text: str, most: int = _LONG) -> str:
    """Text of at most ``most`` characters, its middle left out."""
    if len(text) <= most:
        return text
    head = (most - 1) * 2 // 3
    return f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"


def href_of(results: str, page: str = "report.html") -> str:
    """A relative link to a page in a results folder; empty where the folder is not one below the output folder.

    Args:
        results: the folder, relative to the output folder, as `os.fsdecode` gives it.
        page: name of the page.
    """
    parts = PurePosixPath(results).parts
    if not parts or results.startswith("/") or ".." in parts:
        return ""
    return quote(os.fsencode(str(PurePosixPath(*parts, page))), safe="/")


def counted(number: int, one: str, many: str = "") -> str:
    """``1 file``, ``1,234 files``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def listed(names: Sequence[str], most: int = 3) -> str:
    """``a, b, c and 4 more``."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest:,} more" if rest > 0 else "")


def duration_words(seconds: float | None) -> str:
    """``1,240 h``, ``2 h 05 min``, ``3 min 20 s``, ``4.2 s``; an en dash where it is not known."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes < 6000 else f"{round(minutes / 60):,} h"


def bytes_words(number: float | None) -> str:
    """``1.2 GB``, in powers of 1000; an en dash where it is not known."""
    if number is None:
        return "–"
    size, unit = float(abs(number)), "B"
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if size < 999.5 or unit == "PB":
            break
        size /= 1000
    sign = "−" if number < 0 else ""
    return f"{sign}{size:.0f} {unit}" if unit == "B" or size >= 99.95 else f"{sign}{size:.1f} {unit}"


def instant(text: object) -> datetime | None:
    """A time as ISO 8601; None where there is none."""
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None


def when_words(text: object) -> str:
    """``Mon 23 Nov 2026, 02:00 UTC``; what is no time stands as it is."""
    at = instant(text)
    if at is None:
        return shown(text or "")
    zone = at.strftime("%z")
    name = "" if not zone else " UTC" if zone in ("+0000", "-0000") else f" UTC{zone[:3]}:{zone[3:5]}"
    # Not strftime's names: those change with the locale.
    day = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[at.weekday()]
    months = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
    return f"{day} {at.day} {months[at.month - 1]} {at.year}, {at.hour:02d}:{at.minute:02d}{name}"
