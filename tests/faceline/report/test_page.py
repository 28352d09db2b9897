"""The HTML page: well formed, closed to the network, safe against any text, and clear when there is nothing."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from faceline.report.stage import REPORT, ReportParams
from faceline.stage import MemoryInputs, Runtime, collect
from tests.faceline.report import factory

VOID = {"meta", "img", "br", "link", "input", "hr", "col"}
FORBIDDEN = re.compile(
    r"\b(lying|liar|lies|deceiv\w*|decepti\w*|suspicio\w*|suspect\w*|dishonest\w*|criminal\w*)\b", re.I
)


class Page(HTMLParser):
    """Every tag with its attributes, and the text outside scripts and styles; fails on unbalanced tags."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == [], self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), (tag, attrs)
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open[-1] == tag, (tag, self._open[-3:], self.getpos())
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self._open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def _html(inputs: MemoryInputs, **params: Any) -> str:
    files = collect(REPORT.compute(ReportParams(plots=False, **params), inputs, Runtime()))["files"]
    return str(files["report.html"].decode("utf-8"))


SCRIPT = factory.Script(
    length_s=40,
    persons=(((0, 15), (17, 40)), ((5, 20),)),
    events=((1, 8, 9), (2, 10, 11), (1, 30, 31)),
    unknown_every=19,
    no_crop_every=17,
    no_face_every=23,
)


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(_html(factory.make(SCRIPT), top_events=2))


def test_nothing_is_fetched_from_anywhere(page: Page) -> None:
    for tag, attrs in page.tags:
        for name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
            value = attrs.get(name)
            if value is None:
                continue
            if name == "href":
                assert not re.match(r"\s*([a-z][a-z0-9+.-]*:|//)", value, re.I), (tag, value)
            else:
                assert value.startswith("data:image/jpeg;base64,"), (tag, value[:60])
    html = _html(factory.make(SCRIPT))
    assert not re.search(r"https?://|@import|url\(", html)
    assert not page.all("link") and not page.all("iframe")


def test_the_policy_allows_only_this_script(page: Page) -> None:
    html = _html(factory.make(SCRIPT))
    policy = next(m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    script = re.search(r"<script>(.*?)</script>", html, re.S)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert not [attrs for _, attrs in page.tags if any(name.startswith("on") for name in attrs)]


def test_every_anchor_leads_somewhere_and_ids_are_unique(page: Page) -> None:
    ids = [attrs["id"] for _, attrs in page.tags if attrs.get("id")]
    assert len(ids) == len(set(ids))
    local = {str(attrs["href"])[1:] for attrs in page.all("a") if str(attrs.get("href")).startswith("#")}
    assert local <= set(ids)
    assert {"event-1", "event-2", "event-3", "person-1", "person-2"} <= set(ids)
    labelled = {attrs["aria-labelledby"] for _, attrs in page.tags if attrs.get("aria-labelledby")}
    assert labelled <= set(ids)


def test_pictures_have_words_and_can_be_seen(page: Page) -> None:
    pictures = page.all("img")
    assert len(pictures) >= 8
    for picture in pictures:
        assert picture["alt"]
        data = base64.b64decode(str(picture["src"]).split(",", 1)[1])
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            assert max(image.size) <= 160
    for svg in page.all("svg"):
        assert svg["role"] == "img" and svg["aria-label"]


def test_tables_have_captions_and_headers() -> None:
    html = _html(factory.make(SCRIPT))
    tables = re.findall(r"<table.*?</table>", html, re.S)
    assert len(tables) >= 5
    for table in tables:
        assert "<caption>" in table
        assert re.search(r'<thead><tr><th scope="col"', table)


def test_the_facts_and_the_limits_are_told(page: Page) -> None:
    text = page.text
    for words in (
        "3 moments in which a face departs from that person's own usual expression",
        "atypical for this person in this footage",
        "no finding about truthfulness, intent, guilt",
        "mouth opening +5.2 (without it −62 %)",
        "p = 0.002",
        "00:00:08",
        "Person 2",
        "chosen",
        "Also changed: head turned, light changed",
        "with a score",
        "Expected by chance 0.02 Found again 75 %",
        "2 moments stand out from what is usual for this person.",
        "too small",
        "01" * 32,
        "ab" * 32,
        "facenet-pytorch",
    ):
        assert words in text, words


def test_no_word_claims_more_than_can_be_known(page: Page) -> None:
    assert not FORBIDDEN.search(page.text)
    denied = [m.start() for m in re.finditer("guilt|truthful", page.text)]
    assert all(re.search(r"(no finding about|Nothing here measures)[^.]*$", page.text[:at]) for at in denied)


def test_scripts_are_not_needed(page: Page) -> None:
    lines = [attrs for attrs in page.all("path") if attrs.get("class") == "line"]
    assert len(lines) >= 2 * (1 + 7)
    assert all(str(attrs["d"]).startswith("M") for attrs in lines)


def test_damage_is_the_first_thing_said() -> None:
    page = Page(_html(factory.make(replace(SCRIPT, damaged_at_s=38.5))))
    assert any(attrs.get("role") == "alert" for _, attrs in page.tags)
    assert "The footage is damaged. Segment 0, at 00:00:38.500 : Invalid data" in page.text
    assert page.text.index("damaged") < page.text.index("Who is seen when")


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (factory.empty(), "No faces were found in 30 sampled frames"),
        (factory.empty(frames=0), "Not one frame of this footage could be read"),
        (factory.make(replace(SCRIPT, events=())), "No moment stands out"),
        (
            factory.make(replace(SCRIPT, events=(), unknown_every=1)),
            "none could be followed as one and the same person",
        ),
    ],
    ids=["no faces", "no frames", "no events", "no persons"],
)
def test_nothing_found_is_said_in_words(inputs: MemoryInputs, words: str) -> None:
    page = Page(_html(inputs))
    assert words in page.text
    assert "None" in page.text


def test_a_person_that_could_not_be_scored_is_shown() -> None:
    page = Page(_html(factory.make(replace(SCRIPT, events=(), no_crop_every=1))))
    assert "No face could be scored." in page.text


def test_a_threshold_far_above_the_scores_does_not_flatten_them() -> None:
    html = _html(factory.make(replace(SCRIPT, events=(), threshold=80.0)))
    assert "threshold 80.0, above this chart" in html
    top = max(float(value) for value in re.findall(r'data-label="score" data-low="[^"]*" data-high="([^"]*)"', html))
    assert top < 10


def test_provenance_may_be_absent() -> None:
    inputs = factory.make(replace(SCRIPT, facts={"faceline": "0.1.0"}))
    assert "none stated" in Page(_html(inputs)).text


def test_only_the_persons_seen_most_are_drawn() -> None:
    html = _html(factory.make(SCRIPT), persons_drawn=1)
    assert html.count("How unusual the expression is") == 1
    assert "Charts are drawn for the 1 person seen most" in Page(html).text


def test_the_same_input_gives_the_same_page() -> None:
    assert _html(factory.make(SCRIPT)) == _html(factory.make(SCRIPT))


def test_a_long_footage_stays_small() -> None:
    script = factory.Script(
        length_s=1200, persons=(((0, 1200),), ((100, 900),)), events=[(1, 60 * i + 5, 60 * i + 7) for i in range(19)],
        unknown_every=97, no_crop_every=31,
    )  # fmt: skip
    html = _html(factory.make(script))
    assert len(html) < 1_500_000
    Page(html)


EVIL = '</script><script>alert(1)</script><img src=x onerror=alert(1)>" onload="alert(1) \' {{ 7*7 }} {% raw %}'


def _hostile(text: str) -> MemoryInputs:
    facts = {
        "faceline": text,
        "footage": {"name": text, "sha256": text, "duration_s": 4.0, "start_s": 0.0},
        "models": {text: {"name": text, "sha256": text, "source": text}},
        "params": {text: {text: text}},
    }
    one = factory.Script(length_s=2, persons=(((0, 2),),), events=((1, 1, 1.5),), damaged_at_s=1.9)
    script = replace(one, facts=facts, top_features=text)
    inputs = factory.make(script)
    payloads = dict(inputs.payloads)
    damage = inputs.table("sample", "facts")
    payloads["sample", "facts"] = damage.set_column(damage.column_names.index("damage"), "damage", [[text]])
    return type(inputs)(payloads, facts=facts)


def _tags(inputs: MemoryInputs) -> list[str]:
    return [tag for tag, _ in Page(_html(inputs)).tags]


def test_hostile_text_stays_text() -> None:
    html = _html(_hostile(EVIL))
    assert html.count("<script>") == 1
    page = Page(html)
    assert EVIL.replace("  ", " ") in page.text
    assert not [attrs for _, attrs in page.tags if any(name.startswith("on") for name in attrs)]
    assert "49" not in re.findall(r"<title>(.*?)</title>", html)[0]


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.text(st.one_of(st.sampled_from("<>&\"'`={}%#/\n\x00,+-"), st.characters(codec="utf-8")), min_size=1, max_size=30)
)
def test_no_text_adds_a_tag(text: str) -> None:
    def shape(words: str) -> list[str]:
        # Chips come and go with commas in the text; anything else must not.
        return [tag for tag in _tags(_hostile(words)) if tag not in {"li", "ul", "b", "span"}]

    assert shape(text) == shape("plain")


def test_a_name_that_is_no_text_can_be_written() -> None:
    facts = {"footage": {"name": "clip\udcff", "sha256": "", "duration_s": 2.0, "start_s": 0.0}}
    assert "clip?" in _html(factory.empty(facts))


def test_parameters_are_shown_whole() -> None:
    html = _html(factory.make(SCRIPT))
    blocks = re.findall(r"<pre>(.*?)</pre>", html, re.S)
    assert json.loads(blocks[0].replace("&#34;", '"')) == {"fps": 10.0}


def _section(html: str, id: str) -> str:
    """The section of the page that carries or is labelled by ``id``."""
    return next(part for part in re.findall(r"<section.*?</section>", html, re.S) if f'"{id}"' in part.split(">")[0])


def test_what_is_explained_is_set_apart_and_never_among_the_moments() -> None:
    html = _html(factory.make(replace(SCRIPT, explained=2)))
    moments, aside = _section(html, "moments"), _section(html, "explained")
    assert re.findall(r'id="event-(\d+)"', moments) == ["1"]
    assert re.findall(r'<tr id="event-(\d+)" class="demoted">', aside) == ["2", "3"]
    assert Page(aside).text.count("Explained by: head turned, light changed") == 2
    text = Page(html).text
    assert "1 moment in which a face departs" in text
    assert "1 further moment is explained by something beside expression, and not counted." in text
    assert html.index('id="moments"') < html.index('id="explained"')


def test_an_explained_event_of_low_rank_still_stands_last() -> None:
    inputs = factory.make(SCRIPT)
    events = inputs.table("gridsearch", "events").to_pylist()
    events[0] |= {"explained": True, "flags": "light changed"}
    payloads = {**inputs.payloads, ("gridsearch", "events"): pa.Table.from_pylist(events, factory.EVENTS)}
    html = _html(MemoryInputs(payloads, facts=inputs.facts))
    assert re.findall(r'id="event-(\d+)"', _section(html, "moments")) == ["2", "3"]
    assert 'id="event-1"' in _section(html, "explained")


def test_all_explained_leaves_no_moment() -> None:
    text = Page(_html(factory.make(replace(SCRIPT, explained=3)))).text
    assert "No moment stands out from what is usual for each person in this footage." in text
    assert "No anomaly." in text


def test_nothing_explained_needs_no_section() -> None:
    assert 'id="explained"' not in _html(factory.make(SCRIPT))


def test_verdicts_are_told_person_by_person() -> None:
    html = _html(factory.make(replace(SCRIPT, unsupported=2, unstable=1, dropped=3)))
    text = Page(_section(html, "person-1")).text
    for words in (
        "2 moments stand out",
        "2 further peaks of the score were over the threshold, but no emotion or measure departs enough there",
        "1 further peak was hardly found again",
        "3 less unusual moments are left out, beyond gridsearch.events.max_events.",
        "Threshold of the score 3.5",
        "Expected among them by chance 0.08",
    ):
        assert words in text, words
    lonely = _html(factory.make(replace(SCRIPT, events=(), no_crop_every=1)))
    assert "Insufficient data: too few usable faces. Nothing was judged" in Page(lonely).text


def test_who_was_not_judged_is_said_at_the_top() -> None:
    inputs = factory.make(replace(SCRIPT, events=()))
    verdicts = inputs.table("gridsearch", "verdicts").to_pylist()
    verdicts[1] |= {"state": "insufficient data", "reason": "15 s <b>are</b> too little", "threshold": None}
    payloads = {**inputs.payloads, ("gridsearch", "verdicts"): pa.Table.from_pylist(verdicts, factory.VERDICTS)}
    html = _html(MemoryInputs(payloads, facts=inputs.facts))
    text = Page(html).text
    assert "usual for who was judged in this footage. Not judged, for too little usable footage: person 2." in text
    assert "Insufficient data: 15 s <b>are</b> too little. Nothing was judged" in text


def test_the_faces_of_a_person_are_accounted_for(page: Page) -> None:
    tallies = re.findall(r"([\d,]+) faces = ([\d,]+) with a score((?: \+ [\d,]+ [a-z ]+?)*)(?= How)", page.text)
    assert len(tallies) == 2
    for total, scored, rest in tallies:
        assert int(total) == int(scored) + sum(map(int, re.findall(r"\+ (\d+)", rest)))


def test_plots_that_are_not_drawn_are_named() -> None:
    inputs = factory.make(factory.Script(length_s=4, persons=(((0, 4),),), events=()))
    blank = MemoryInputs(
        {**inputs.payloads, ("cluster", "components"): inputs.array("cluster", "components")[:, :0]}, facts=inputs.facts
    )
    files = collect(REPORT.compute(ReportParams(dpi=50), blank, Runtime()))["files"]
    assert not [name for name in files if "components" in name]
    assert "Not drawn, since there is nothing to draw: components plot." in Page(files["report.html"].decode()).text
