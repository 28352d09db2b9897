"""The page of a night: well formed, closed to the network, safe against any name, bounded, and clear at first sight."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest

from faceline.nightly.nights import Delta, Entry
from faceline.nightly.page import SHOWN_FILES, render
from faceline.nightly.summary import summarize
from faceline.nightly.words import href_of
from faceline.nightly.writing import write_night
from tests.faceline.nightly import factory
from tests.faceline.nightly.factory import HOSTILE, done, new, night
from tests.faceline.report.test_page import FORBIDDEN, Page

MADE = ("rich", "empty", "failed")


def page(made: str, **options: object) -> tuple[str, Page]:
    html = render(summarize(**getattr(factory, made)()), **options).decode("utf-8")  # type: ignore[arg-type]
    return html, Page(html)


def words(read: Page) -> str:
    return " ".join(" ".join(read.words).split())


@pytest.mark.parametrize("made", MADE)
def test_the_page_is_closed_to_the_network_and_needs_no_script(made: str) -> None:
    html, read = page(made)
    tags = [tag for tag, _ in read.tags]
    assert "script" not in tags and "link" not in tags and "img" not in tags
    (policy,) = [attrs["content"] for tag, attrs in read.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy and policy.startswith("default-src 'none'; style-src 'unsafe-inline'")
    assert not any(name.startswith("on") for _, attrs in read.tags for name in attrs)
    assert "url(" not in html and "@import" not in html


@pytest.mark.parametrize("made", MADE)
def test_the_limit_stands_on_it_and_nobody_is_accused(made: str) -> None:
    _, read = page(made)
    text = words(read)
    assert "A lead for a human, and no more. Each moment is atypical for this person in this footage." in text
    assert not FORBIDDEN.search(text)


def test_every_link_leads_to_a_page_below_or_a_place_on_it(tmp_path: Path) -> None:
    s = summarize(**factory.rich())
    for entry in factory.rich()["night"].entries.values():
        if entry.results and ".." not in Path(entry.results).parts:
            (tmp_path / entry.results).mkdir(parents=True, exist_ok=True)
            (tmp_path / entry.results / "report.html").touch()
    write_night(tmp_path, s)
    for path in (tmp_path / "archive.html", *(tmp_path / "_archive" / "nights").glob("*.html")):
        read = Page(path.read_text("utf-8"))
        ids = {attrs["id"] for _, attrs in read.tags if "id" in attrs}
        links = [attrs["href"] or "" for tag, attrs in read.tags if tag == "a"]
        assert len(links) > 20
        for link in links:
            if link.startswith("#"):
                assert link[1:] in ids
                continue
            assert re.fullmatch(r"[A-Za-z0-9_.~/%-]+", link), link
            target = Path(os.path.normpath(path.parent / os.fsdecode(unquote_to_bytes(link))))
            assert target.is_relative_to(tmp_path)
            assert target.is_file(), link


def test_hostile_names_are_shown_and_do_nothing() -> None:
    html, read = page("rich")
    text = "".join(read.words)
    assert "{{ 7 * 7 }}{% raw %}.mp4" in text
    assert "<script>alert(1)</script>.mp4" in text
    assert "esc\\x1b[2J\\x1b]0;title\\x07.mp4" in text
    assert "turned\\u202e4pm.gpj" in text
    assert "new\\nline.mp4" in text
    assert "not \\udcff text.mp4" in text
    assert "\x1b" not in html and "\u202e" not in html
    hrefs = [attrs["href"] or "" for tag, attrs in read.tags if tag == "a"]
    assert "javascript%3Aalert%281%29/report.html" in hrefs
    assert "not%20%FF%20text/report.html" in hrefs
    # What would lead out of the results is named and not linked.
    assert "../../outside.mp4" in text
    assert not any("outside" in href for href in hrefs)
    # The page has no such tag of its own; an event has it among its words.
    assert ("i", {}) not in read.tags
    assert "<i>mouth</i> opening" in text


@pytest.mark.parametrize(
    ("results", "href"),
    [
        ("", ""),
        ("a b", "a%20b/report.html"),
        ("./a", "a/report.html"),
        ("/etc", ""),
        ("../a", ""),
        ("a/../../b", ""),
        ("a/..b", "a/..b/report.html"),
        ("a?b#c%41", "a%3Fb%23c%2541/report.html"),
        ("http://x.example", "http%3A/x.example/report.html"),
        ("é", "%C3%A9/report.html"),
    ],
)
def test_links(results: str, href: str) -> None:
    assert href_of(results) == href


def test_the_first_screen_says_how_it_went_what_is_new_and_what_failed() -> None:
    html, _ = page("rich")
    first = words(Page("<html>" + html[html.index("<header>") : html.index("</header>")] + "</header></html>"))
    for told in (
        "Done, 4 files set aside",
        "14 new moments in 9 files since the run of Sat 21 Nov 2026, 02:00 UTC; 2 changed, 4 vanished",
        "2026/notes.mp4 : this is a text, not a video",
        "1 run before this one did not come to its end",
        "The next run is planned for Tue 24 Nov 2026, 02:00 UTC.",
    ):
        assert told in first
    html, read = page("failed")
    assert "The run could not go on after 20 min 34 s: the store cannot be written: No space left on device." in words(
        read
    )
    assert 'class="state bad"' in html
    _, read = page("empty")
    assert "There is no footage in the archive." in words(read)


def test_thousands_of_files_make_a_page_of_bounded_size() -> None:
    s = summarize(**factory.large(3000, 4))
    html = render(s).decode("utf-8")
    read = Page(html)
    assert len(html) < 400_000
    assert "11,900 more are left out here; all are in archive_events.csv ." in words(read)
    assert f"{SHOWN_FILES} files of 3,150" in words(read)
    worst = "x" * 250
    entries = [Entry(f"{n}/{worst}", "failed", reason=worst * 9, results=worst) for n in range(999)]
    assert len(render(summarize(night(entries)))) < 1_000_000


def test_what_needs_attention_comes_first() -> None:
    entries = [Entry(f"a{n}", "unchanged") for n in range(SHOWN_FILES)] + [
        done("y", 1),
        Entry("z", "failed", reason="why"),
    ]
    deltas = (Delta("y", ("new footage",), (), (new(),)),)
    html = render(summarize(night(entries, deltas))).decode()
    listed = re.findall(r'<th scope="row" class="file"><bdi>(\w+)</bdi>|class="file"><a[^>]*><bdi>(\w+)</bdi>', html)
    order = ["".join(pair) for pair in listed]
    assert order[-SHOWN_FILES:][:2] == ["z", "y"]
    assert 'class="file"><a href="y/report.html">' in html


def test_bars_of_the_last_nights() -> None:
    html, read = page("rich")
    titles = re.findall(r"<title>([^<]*)</title></rect>", html)
    assert len(titles) == 3 * 29
    assert titles[-1] == "Mon 23 Nov 2026, 02:00 UTC: duration 1 h 40 min (done with files set aside)"
    assert "Sun 22 Nov 2026, 02:00 UTC: duration not known (cut off)" in titles
    for rect in (attrs for tag, attrs in read.tags if tag == "rect"):
        x, y, height = (float(rect[name] or "nan") for name in ("x", "y", "height"))
        assert 0 <= x <= 292 and y >= 0 and y + height <= 40.001


def test_kept_nights_are_linked_and_copies_lead_to_the_newest() -> None:
    html, _ = page("rich", kept=["20261122T020000Z"])
    assert 'href="_archive/nights/20261122T020000Z.html"' in html
    assert "_archive/nights/20261121T020000Z.html" not in html
    html, _ = page("rich", copy=True)
    assert 'href="../../archive.html"' in html
    assert 'href="../../2026/interviews/room%201/take%2001/report.html"' in html
    assert "_archive/nights" not in html


def test_names_of_all_scripts_are_set_apart() -> None:
    html, _ = page("rich")
    assert f"<bdi>{HOSTILE[14]}</bdi>" in html
    s = summarize(night([replace(done("a", 1), reason="\u2066x")]))
    assert "\\u2066x" in render(s).decode()
