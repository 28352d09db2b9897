"""A night on the console, in Markdown and in a notification: short, and safe against any name."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceline.nightly.advice import advice
from faceline.nightly.nights import Delta, Entry
from faceline.nightly.summary import summarize
from faceline.nightly.telling import _escaped, lines, markdown, webhook_body
from faceline.nightly.words import bytes_words, cut, duration_words, shown, when_words
from tests.faceline.nightly import factory
from tests.faceline.nightly.factory import HOSTILE, done, new, night
from tests.faceline.report.test_page import FORBIDDEN


@pytest.mark.parametrize("made", ["rich", "empty", "failed"])
def test_lines_are_printable_and_short(made: str) -> None:
    found = lines(summarize(**getattr(factory, made)()))
    assert all(line.isprintable() for line in found)
    assert len(found) < 40
    assert not FORBIDDEN.search(" ".join(found))


def test_lines_of_a_night_of_hostile_files() -> None:
    entries = [Entry(name, "failed", reason=name * 20) for name in HOSTILE]
    deltas = tuple(Delta(name, ("new footage",), (), (new(what=name),)) for name in HOSTILE)
    found = lines(summarize(night(entries, deltas)))
    assert all(line.isprintable() and len(line) < 700 for line in found)
    assert "… and 5 more in 'archive_events.csv'" in found
    assert "… and 5 more in 'archive.csv'" in found


def test_markdown_tables_hold_their_shape() -> None:
    entries = [Entry(name, "quarantined", reason=name) for name in HOSTILE]
    deltas = tuple(Delta(name, ("new footage",), (), (new(what=name),)) for name in HOSTILE)
    text = markdown(summarize(night(entries, deltas, archive="/a|b`c")))
    rows = [line for line in text.split("\n") if line.startswith("|")]
    assert len(rows) > 2 * len(HOSTILE)
    widths = {len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) - 1 for row in rows}
    assert widths == {2, 5, 6}
    assert "<" not in text and not re.search(r"(?<!\\)`", text)
    assert "A moment is atypical for this person in this footage: a lead for a human, and no more." in text


@given(st.text(max_size=30))
def test_escaped_text_has_no_bare_mark(text: str) -> None:
    found = _escaped(text)
    assert found.isprintable()
    bare = re.sub(r"\\[!-/:-@\[-`{-~]|&(amp|lt|gt);", "", found)
    assert not re.search(r"[\\`*_{}\[\]()#+!|~<>@/:.=]", bare)
    # A reader takes the escapes back and sees what was meant.
    back = re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", found)
    assert back.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") == shown(text)


def test_the_body_of_a_notification_is_small() -> None:
    body = webhook_body(summarize(**factory.large(500, 3)), page="/results/archive.html")
    assert len(json.dumps(body)) < 5000
    assert body["moments"] == {"new": 1500, "changed": 0, "vanished": 0, "explained": 0}
    assert (len(body["top"]), len(body["set_aside"]), body["page"]) == (5, 5, "/results/archive.html")
    worst = [Entry("\u202e" * 3000, "failed", reason="\n" * 9999), done("b", 2)]
    small = webhook_body(summarize(night(worst, archive="x" * 9999)))
    assert len(json.dumps(small)) < 5000
    assert small["page"] == "/results/archive.html"
    assert (small["state"], small["set_aside"][0]["is_news"]) == ("done with files set aside", True)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (Entry("a", "done"), ""),
        (Entry("a", "left", reason="no space left"), ""),
        (
            Entry("a", "failed", reason="No space left on device", tries=1),
            "Free disk space. The next run tries it again.",
        ),
        (
            Entry("a", "failed", reason="odd", tries=3),
            "It has failed 3 times in a row: the run's log says more.",
        ),
        (
            Entry("a", "quarantined", reason="odd"),
            "See whether it plays elsewhere; replace it by a whole copy, or move it out of the archive."
            " It is tried again when the file or the configuration changes.",
        ),
        (
            Entry("a", "quarantined", reason="no space left", cure="wait\nfor it."),
            "Wait for it. It is tried again when the file or the configuration changes.",
        ),
    ],
)
def test_advice(entry: Entry, words: str) -> None:
    assert advice(entry) == words


def test_amounts_in_words() -> None:
    times = (None, 0, 9.94, 10, 59.4, 59.6, 3599.4, 3600, 7525, 400_000)
    assert [duration_words(s) for s in times] == [
        *("–", "0.0 s", "9.9 s", "10 s", "59 s", "1 min 00 s", "59 min 59 s", "1 h 00 min", "2 h 05 min", "111 h"),
    ]
    sizes = (None, 0, 999, 1000, 99_950, 999_600, 1.5e9, -7e9, 3e18)
    assert [bytes_words(n) for n in sizes] == [
        *("–", "0 B", "999 B", "1.0 kB", "100 kB", "1.0 MB", "1.5 GB", "−7.0 GB", "3000 PB"),
    ]
    assert when_words("2026-11-23T02:00:00+01:00") == "Mon 23 Nov 2026, 02:00 UTC+01:00"
    assert when_words("2026-11-23T02:00:00") == "Mon 23 Nov 2026, 02:00"
    assert when_words("\x1b") == "\\x1b" and when_words(None) == ""
    assert cut("abcdefghij", 5) == "ab…ij" and cut("abcde", 5) == "abcde"
