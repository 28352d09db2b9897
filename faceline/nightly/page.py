"""``archive.html``: the page of a night. One file that opens from disk, asks no network, and needs no script.

The page is bounded whatever the archive holds: lists are cut, each says what is left out, and the tables beside it hold
everything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from importlib.resources import files
from typing import Any, TypeVar

from faceline.nightly.figures import HISTORY, Figures
from faceline.nightly.headline import sentences_of, tally_words, title_of
from faceline.nightly.rows import FileRow
from faceline.nightly.summary import Summary
from faceline.nightly.words import bytes_words, counted, cut, duration_words, shown, when_words
from faceline.report.words import number_words, p_words
from faceline.timeline import timecode

NIGHTS = "_archive/nights"
"""Where earlier pages are kept, below the output folder."""

SHOWN_FILES = 200
SHOWN_MOMENTS = {"new": 100, "changed": 50, "vanished": 50}
SHOWN_ASIDE = 100
SHOWN_FOOTAGE = 50
SHOWN_NAMES = 50
SHOWN_FIRST = 4
"""Failures named on the first screen."""

BAR_WIDTH, BAR_HEIGHT = 10.0, 40.0

KINDS = {
    "new": "New moments",
    "changed": "Changed moments",
    "vanished": "Moments that are no longer found",
}
STATES = {
    "done": "analysed",
    "unchanged": "as it was",
    "quarantined": "set aside",
    "failed": "failed",
    "left": "still being written",
    "gone": "gone",
}
_ORDER = ("failed", "quarantined", "left", "done", "gone", "unchanged")
_TONES = {
    "done": "good",
    "done with files set aside": "warn",
    "interrupted": "warn",
    "cut off": "warn",
    "failed": "bad",
}

T = TypeVar("T")


def render(summary: Summary, kept: Collection[str] = (), *, copy: bool = False) -> bytes:
    """The page as UTF-8.

    Args:
        summary: the night.
        kept: names of the nights whose pages are kept, to be linked.
        copy: whether this is the copy that is kept; its links lead up to the output folder, and to the newest page.
    """
    html = _environment("../../" if copy else "").get_template("archive.html.j2").render(_context(summary, kept, copy))
    # A line of blanks is what a template's tags leave behind.
    return re.sub(r"\n\s*\n+", "\n", html).encode("utf-8", "backslashreplace")


def _context(summary: Summary, kept: Collection[str], copy: bool) -> dict[str, Any]:
    counting = [row for row in summary.moments if row.counts]
    by_kind = {kind: [row for row in counting if row.kind == kind] for kind in KINDS}
    return {
        "s": summary,
        "style": _style(),
        "title": title_of(summary),
        "tone": _TONES[summary.state],
        "sentences": sentences_of(summary),
        "kinds": KINDS,
        "states": STATES,
        "moments": {kind: first(rows, SHOWN_MOMENTS[kind]) for kind, rows in by_kind.items()},
        "footage": first(summary.footage, SHOWN_FOOTAGE),
        "aside": first(summary.set_aside, SHOWN_ASIDE),
        "first_aside": first(summary.set_aside, SHOWN_FIRST),
        "left": first(summary.in_state("left"), SHOWN_NAMES),
        "gone": first(summary.in_state("gone"), SHOWN_NAMES),
        "moved": first([row for row in summary.rows if row.moved_from], SHOWN_NAMES),
        "same": first([row for row in summary.rows if row.same_as], SHOWN_NAMES),
        "recovered": first(summary.recovered, SHOWN_NAMES),
        "files": first(sorted(summary.rows, key=_attention), SHOWN_FILES),
        "stages": _shares(summary),
        "nights": list(reversed(summary.history)),
        "strips": _strips(summary.history) if len(summary.history) > 1 else [],
        "kept": frozenset(kept),
        "nights_folder": NIGHTS,
        "copy": copy,
    }


def first(rows: Sequence[T], most: int) -> dict[str, Any]:
    """The first of some rows: ``rows``, how many there are in ``total``, and ``left_out`` of these."""
    return {"rows": rows[:most], "total": len(rows), "left_out": max(len(rows) - most, 0)}


def _attention(row: FileRow) -> tuple[Any, ...]:
    """What needs attention comes first; of the others, those with most that is new."""
    return _ORDER.index(row.state), not row.is_news, -row.tally.new, -row.tally.total, row.file


def _shares(summary: Summary) -> list[dict[str, Any]]:
    stages = summary.work.stages
    most_s = max(stages.values(), default=0.0) or 1.0
    whole_s = sum(stages.values()) or 1.0
    return [
        {"stage": stage, "seconds": s, "width": round(100 * s / most_s, 1), "share": round(100 * s / whole_s)}
        for stage, s in stages.items()
    ]


def _strips(history: Sequence[Figures]) -> list[dict[str, Any]]:
    """Bars of the last nights, the newest on the right: new moments, files set aside, duration."""
    strips: tuple[tuple[str, str, Callable[[Figures], float | None], Callable[[float], str]], ...] = (
        ("new moments", "moment", lambda f: f.new, lambda v: f"{v:,.0f}"),
        ("set aside", "aside", lambda f: f.set_aside, lambda v: f"{v:,.0f}"),
        ("duration", "took", lambda f: f.seconds, duration_words),
    )
    return [_strip(history, *strip) for strip in strips]


def _strip(
    history: Sequence[Figures],
    label: str,
    style: str,
    value_of: Callable[[Figures], float | None],
    words: Callable[[float], str],
) -> dict[str, Any]:
    values = [value_of(figures) for figures in history]
    most = max((value for value in values if value is not None), default=0.0)
    bars = []
    for place, (figures, value) in enumerate(zip(history, values, strict=True), HISTORY - len(history)):
        # Nothing is a thin line, so that a night without failures is told from no night.
        height = 0.0 if not value else max(BAR_HEIGHT * value / most, 1.5)
        bars.append(
            {
                "x": round(place * BAR_WIDTH + 1, 2),
                "y": round(BAR_HEIGHT - max(height, 0.6), 2),
                "height": round(max(height, 0.6), 2),
                "style": style if value else "none",
                "title": f"{when_words(figures.began)}: {label} {'not known' if value is None else words(value)}"
                + ("" if figures.state == "done" else f" ({figures.state})"),
            }
        )
    return {"label": label, "most": words(most), "bars": bars, "last": "–" if values[-1] is None else words(values[-1])}


def _style() -> str:
    shared = (files("faceline.report") / "templates" / "base.css").read_text("utf-8")
    return shared + _resource("archive.css")


def _resource(name: str) -> str:
    return (files("faceline.nightly") / "templates" / name).read_text("utf-8")


def _environment(up: str) -> Any:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(_resource),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        shown=lambda text, most=400: cut(shown(text), most),
        link=lambda href: f"{up}{href}",
        when=when_words,
        duration=duration_words,
        size=bytes_words,
        timecode=timecode,
        p_words=p_words,
        number=number_words,
        tally=tally_words,
        counted=counted,
    )
    return environment
