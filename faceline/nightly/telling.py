"""A night for those who are told of it elsewhere: on the console, in the Prefect UI, in a notification."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from faceline.nightly.headline import LIMIT, sentences_of, tally_words, title_of
from faceline.nightly.rows import EventRow
from faceline.nightly.summary import VERSION, Summary
from faceline.nightly.words import bytes_words, cut, duration_words, shown, when_words
from faceline.report.words import p_words
from faceline.timeline import timecode

_TOLD_EVENTS, _TOLD_FILES = 10, 10
_TABLE_EVENTS, _TABLE_FILES = 50, 50
_SENT_EVENTS, _SENT_FILES, _SENT_CHARS = 5, 5, 200


def lines(summary: Summary) -> list[str]:
    """The night for a terminal: short, and without anything that a file's name could do to it."""
    found = [f"{title_of(summary)}. {' '.join(sentences_of(summary))}"]
    found += [f"Caution: {shown(caution)}" for caution in summary.cautions]
    new = _new(summary)
    if new:
        found.append("New moments, the least probable by chance first:")
        found += [f"- {_event_line(row)}" for row in new[:_TOLD_EVENTS]]
        found += _more(len(new) - _TOLD_EVENTS, "archive_events.csv")
    if summary.set_aside:
        found.append("Set aside:")
        found += [f"- {_short(row.file)}: {_short(row.reason)}" for row in summary.set_aside[:_TOLD_FILES]]
        found += _more(len(summary.set_aside) - _TOLD_FILES, "archive.csv")
    return found


def markdown(summary: Summary) -> str:
    """The night as GitHub-flavoured Markdown, foreign text escaped."""
    counts, work = summary.counts, summary.work
    facts = [
        ("run", when_words(summary.began)),
        ("archive", _escaped(summary.archive)),
        ("why", _escaped(summary.why)),
        ("files", _escaped(", ".join(f"{number:,} {state}" for state, number in counts.items() if number) or "none")),
        ("moments", _escaped(tally_words(summary.tally) or "as they were")),
        ("footage analysed", duration_words(work.footage_s)),
        ("took", duration_words(summary.seconds)),
        ("disk", _escaped(", ".join(f"{name} {bytes_words(d['bytes'])}" for name, d in summary.disk.items()))),
    ]
    text = [f"**{_escaped(title_of(summary))}.** {_escaped(' '.join(sentences_of(summary)))}", ""]
    text += [f"- **{_escaped(caution)}**" for caution in summary.cautions]
    text += ["", *_table(("", ""), [fact for fact in facts if fact[1]])]
    if new := _new(summary):
        rows = [
            (
                _file(row.file),
                timecode(row.peak_s),
                str(row.person),
                _escaped(p_words(row.p_value)),
                _escaped(_short(row.what)),
                _escaped(", ".join(row.causes)),
            )
            for row in new[:_TABLE_EVENTS]
        ]
        text += ["", f"New moments{_of(len(rows), len(new))}", ""]
        text += _table(("file", "peak", "person", "chance", "what departed", "why new"), rows)
    if aside := summary.set_aside:
        files = [
            (_file(row.file), _escaped(_short(row.reason)), when_words(row.since), str(row.tries), _escaped(row.advice))
            for row in aside[:_TABLE_FILES]
        ]
        text += ["", f"Set aside{_of(len(files), len(aside))}", ""]
        text += _table(("file", "reason", "since", "tries", "what to do"), files)
    return "\n".join([*text, "", LIMIT])


def webhook_body(summary: Summary, page: str = "") -> dict[str, Any]:
    """The night as a small JSON object; every text in it has at most 200 characters.

    Args:
        summary: the night.
        page: where the page lies; the summary's output folder says it where this is empty.
    """
    tally = summary.tally
    return {
        "version": VERSION,
        "state": summary.state,
        "title": title_of(summary),
        "text": _cut(" ".join(sentences_of(summary))),
        "night": summary.name,
        "archive": _cut(summary.archive),
        "host": _cut(summary.host),
        "began": summary.began,
        "ended": summary.ended,
        "seconds": summary.seconds,
        "files": summary.files,
        "counts": dict(summary.counts),
        "moments": {
            "new": tally.new,
            "changed": tally.changed,
            "vanished": tally.vanished,
            "explained": tally.explained,
        },
        "top": [
            {
                "file": _cut(row.file),
                "peak": row.peak_timecode,
                "person": row.person,
                "p_value": row.p_value,
                "what": _cut(row.what),
            }
            for row in _new(summary)[:_SENT_EVENTS]
        ],
        "set_aside": [
            {"file": _cut(row.file), "reason": _cut(row.reason), "is_news": row.is_news}
            for row in summary.set_aside[:_SENT_FILES]
        ],
        "cautions": [_cut(caution) for caution in summary.cautions],
        "limit": _cut(LIMIT),
        "page": page or (f"{summary.output}/archive.html" if summary.output else ""),
    }


def _new(summary: Summary) -> list[EventRow]:
    return [row for row in summary.moments if row.counts and row.kind == "new"]


def _event_line(row: EventRow) -> str:
    parts = (timecode(row.peak_s), f"person {row.person}", p_words(row.p_value), _short(row.what))
    return f"{_short(row.file)}  {'  '.join(part for part in parts if part)}"


def _short(text: str) -> str:
    return cut(shown(text), 160)


def _cut(text: str) -> str:
    return cut(shown(text), _SENT_CHARS)


def _more(number: int, where: str) -> list[str]:
    return [f"… and {number:,} more in '{where}'"] if number > 0 else []


def _of(some: int, every: int) -> str:
    return "" if some == every else f", {some} of {every:,} (all are in the tables beside the page)"


def _table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    head = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return [*head, *(f"| {' | '.join(row)} |" for row in rows)] if rows else []


def _file(name: str) -> str:
    return _escaped(_short(name))


def _escaped(text: str) -> str:
    """Text that Markdown takes for nothing but text: no markup, no table cell, no HTML, no link made of an address."""
    plain = shown(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]()#+\-!|~.:@/$=^\"'])", r"\\\1", plain)
