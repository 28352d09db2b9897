"""The picture of a night: its figures add up whatever the night was, and say what they should of one that is known."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceline.nightly import rows
from faceline.nightly.figures import Figures, NightState, past_figures, state_of
from faceline.nightly.headline import sentences_of, title_of
from faceline.nightly.moments import Difference
from faceline.nightly.nights import Cause, Delta, Entry, Journal, Night, State
from faceline.nightly.recipe import Changes
from faceline.nightly.records import Record
from faceline.nightly.summary import Summary, Tally, summarize
from faceline.nightly.telling import lines
from tests.faceline.nightly import factory
from tests.faceline.nightly.factory import BEGAN, changed, digest, done, moment, new, night, vanished

names = st.sampled_from(["a", "b", "c", "d", "e", *factory.HOSTILE[:4]])
maybe = st.one_of(st.none(), st.integers(0, 5))
entries = st.lists(
    st.builds(
        Entry,
        names,
        st.sampled_from(get_args(State)),
        sha256=st.sampled_from(["", digest(1), digest(2)]),
        reason=st.sampled_from(["", "no space left", "no video stream"]),
        results=st.sampled_from(["", "r/x", "../out"]),
        same_as=st.sampled_from(["", "", "a"]),
        moved_from=st.sampled_from(["", "", "b"]),
        persons=maybe,
        events=maybe,
        seconds=st.floats(0, 1e5),
        duration_s=st.one_of(st.none(), st.floats(0, 1e5)),
        tries=st.integers(0, 4),
    ),
    max_size=9,
    unique_by=lambda entry: entry.file,
)
sides = st.builds(moment, st.integers(1, 9).map(float), st.integers(1, 2), explained=st.booleans())
differences = st.one_of(
    st.builds(lambda m: Difference("new", None, m), sides),
    st.builds(lambda m: Difference("vanished", m, None), sides),
    st.builds(lambda m, e: Difference("changed", m, replace(m, score=99.0, explained=e)), sides, st.booleans()),
)
deltas = st.lists(
    st.builds(
        Delta,
        names,
        st.lists(st.sampled_from(get_args(Cause)), max_size=3, unique=True).map(tuple),
        st.lists(st.text(max_size=5), max_size=2).map(tuple),
        st.lists(differences, max_size=4).map(tuple),
    ),
    max_size=6,
).map(tuple)
ends = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {"state": st.sampled_from(["done", "interrupted", "failed"])},
        optional={
            "seconds": st.floats(0, 1e6),
            "remaining": st.integers(0, 9),
            "disk": st.dictionaries(
                st.sampled_from(["store", "results", "free"]), st.one_of(st.none(), st.integers(0, 10**13))
            ),
        },
    ),
)


@st.composite
def nights(draw: st.DrawFn, days: int = 0) -> Night:
    began = BEGAN + timedelta(days=days)
    found = draw(entries)
    end = draw(ends)
    return Night(
        began.strftime("%Y%m%dT%H%M%SZ"),
        draw(st.sampled_from([{}, {"began": began.isoformat(), "overrides": ["a=b"]}])),
        {entry.file: entry for entry in found},
        draw(deltas),
        end,
        draw(st.integers(0, 1)),
    )


def added(tallies: list[Tally]) -> Tally:
    return Tally(*(sum(getattr(t, part.name) for t in tallies) for part in fields(Tally)))


def check(s: Summary, this: Night) -> None:
    """Every figure in the picture against what it is made of."""
    assert sum(s.counts.values()) == len(s.rows) == len(this.entries)
    assert s.files == len(s.rows) - s.counts["gone"]
    assert Counter(row.state for row in s.rows) == {state: n for state, n in s.counts.items() if n}
    assert len(s.set_aside) == s.counts["quarantined"] + s.counts["failed"]
    assert added([row.tally for row in s.causes]) == s.tally == added([row.tally for row in s.footage])
    assert sum(row.footage for row in s.causes) == s.footage_changed == len(s.footage)
    assert s.tally.total == len(s.moments)
    kinds = Counter("explained" if not row.counts else row.kind for row in s.moments)
    assert (kinds["new"], kinds["changed"], kinds["vanished"], kinds["explained"]) == (
        *(s.tally.new, s.tally.changed, s.tally.vanished),
        s.tally.explained,
    )
    there = {row.file for row in s.rows}
    assert added([row.tally for row in s.rows]) == added([row.tally for row in s.footage if row.file in there])
    own = [e for e in this.entries.values() if e.state == "done" and not e.same_as]
    assert s.work.footage_s == pytest.approx(sum(e.duration_s or 0.0 for e in own), abs=0.01)
    assert s.work.busy_s == pytest.approx(sum(e.seconds for e in own), abs=0.01)
    assert s.history[-1].files == s.files
    assert s.history[-1].set_aside == len(s.set_aside)
    assert s.history[-1].worked_on == s.counts["done"]
    assert [row.file for row in s.rows] == [valid(file) for file in sorted(this.entries)]
    counted = [row.counts for row in s.moments]
    assert counted == sorted(counted, reverse=True)


def valid(file: str) -> str:
    return file.encode("utf-8", "backslashreplace").decode()


@given(nights(2), st.one_of(st.none(), nights(0)), st.lists(nights(1), max_size=2))
def test_the_figures_add_up(this: Night, before: Night | None, cut_off: list[Night]) -> None:
    s = summarize(this, before, cut_off)
    check(s, this)
    # It is plain JSON, of valid Unicode, and comes back as it was.
    text = json.dumps(s.to_plain(), allow_nan=False, ensure_ascii=False)
    assert json.loads(text.encode("utf-8")) == json.loads(json.dumps(s.to_plain()))
    assert s.state in get_args(NightState)
    assert title_of(s) and all(sentences_of(s))


@pytest.mark.parametrize("made", ["rich", "empty", "failed"])
def test_the_figures_of_made_nights_add_up(made: str) -> None:
    arguments = getattr(factory, made)()
    check(summarize(**arguments), arguments["night"])


def test_a_rich_night_says_what_it_was() -> None:
    s = summarize(**factory.rich())
    assert s.state == "done with files set aside"
    assert s.tally == Tally(new=14, changed=2, vanished=4, explained=5)
    assert s.since == {"name": "20261121T020000Z", "began": "2026-11-21T02:00:00+00:00"}
    assert [f.name for f in s.cut_off] == ["20261122T020000Z"]
    # Analysed by the run that was cut off, and found unchanged by this one: told all the same.
    assert (s.moments[0].file, s.moments[0].report) == ("2025/old 3.mov", "2025/old%203/report.html")
    assert s.found_before == 1
    assert {row.causes: row.tally.total for row in s.causes} == {
        ("new footage",): 18,
        ("code", "parameter"): 4,
        ("model",): 2,
        ("removed footage",): 1,
    }
    assert s.recovered == ("2026/interviews/room 2/take 02.mp4",)
    torn = next(row for row in s.rows if row.file == "2026/torn.mp4")
    assert (torn.is_news, torn.tries) == (False, 3)
    assert torn.advice.startswith("Copy it again from its source; a recording that was cut off needs a repair tool.")
    assert {row.file for row in s.set_aside if row.is_news} == {"2026/notes.mp4", "2026/<b>evil</b>\n.mp4"}
    same = next(row for row in s.rows if row.same_as)
    assert same.report == "2026/interviews/room%201/take%2001/report.html"
    assert s.disk["store"] == {"bytes": 412_000_000_000, "change": 7_000_000_000}
    assert s.work.stages["detect"] == pytest.approx(8 * 812.5)
    assert next(iter(s.work.stages)) == "detect"
    assert len(s.history) == 29
    assert any("room for 2 more such runs" in caution for caution in s.cautions)


def test_what_other_runs_spent_is_not_this_nights() -> None:
    records = {
        digest(1): Record(digest(1), "done", "r", "2026-11-23T02:00:00+00:00", "a", stages={"detect": 1.0}),
        digest(2): Record(digest(2), "done", "r", "2026-11-22T02:00:00+00:00", "b", stages={"detect": 50.0}),
    }
    this = night([done("a", 1), replace(done("b", 1), same_as="a"), done("c", 2), done("d", 3)])
    s = summarize(this, records=records)
    assert s.work.stages == {"detect": 1.0}
    # The same content under two names is worked on, and counts, once.
    assert (s.persons, s.events) == (6, 9)
    assert summarize(this).work.stages == {}


@pytest.mark.parametrize(
    ("made", "state"),
    [
        (night(ended=False), "cut off"),
        (night(end={"state": "interrupted"}), "interrupted"),
        (night(end={"state": "failed"}), "failed"),
        (night(), "done"),
        (night([done("a", 1)]), "done"),
        (night([done("a", 1), Entry("b", "failed")]), "done with files set aside"),
        (night([Entry("a", "unchanged"), Entry("b", "quarantined")]), "done with files set aside"),
        (night([Entry("a", "left"), Entry("b", "quarantined")]), "failed"),
        (night([Entry("a", "left"), Entry("b", "gone")]), "done"),
    ],
)
def test_states(made: Night, state: str) -> None:
    assert state_of(made) == state
    assert summarize(made).state == state


def test_the_run_itself_is_not_among_those_that_were_cut_off(tmp_path: Path) -> None:
    this = night([done("a", 1)], (Delta("a", ("new footage",), (), (new(),)),))
    s = summarize(this, cut_off=[replace(this, end=None)])
    assert (s.tally.new, s.cut_off) == (1, ())


def test_an_archive_that_seems_to_be_gone_is_told_of() -> None:
    before = night([done(f"{n}", n) for n in range(5)], began=BEGAN - timedelta(days=1))
    gone = [Entry(f"{n}", "gone") for n in range(5)]
    (caution,) = summarize(night(gone), before).cautions
    assert "Is the archive mounted?" in caution
    (caution,) = summarize(night([*gone[:4], done("4", 4)]), before).cautions
    assert caution.startswith("4 files are gone")
    assert not summarize(night([gone[0], *(done(f"{n}", n) for n in range(1, 5))]), before).cautions
    # Who was stopped has not looked everywhere.
    assert not summarize(night(end={"state": "interrupted"}), before).cautions


def test_changes_of_the_recipe_are_told_even_where_no_event_changed() -> None:
    s = summarize(night(), changes=Changes(("sample: params.fps 5 → 10",), (), ("embed: model identity: a → b",)))
    assert s.changes == ("sample: params.fps 5 → 10", "embed: model identity: a → b")


def test_an_event_that_gets_an_explanation_counts_as_changed() -> None:
    kinds = (
        Difference("changed", moment(), replace(moment(), explained=True)),
        new(3.0, explained=True),
        vanished(9.0),
    )
    s = summarize(night([done("a", 1)], (Delta("a", ("code",), ("x",), (*kinds, changed(5.0))),)))
    assert s.tally == Tally(0, 2, 1, 1)
    assert [(row.kind, row.counts) for row in s.moments][-1] == ("new", False)
    assert "is now explained by something beside expression" in s.moments[0].change + s.moments[1].change


def test_past_runs_in_figures(tmp_path: Path) -> None:
    made = []
    for n in range(5):
        journal = Journal(tmp_path, BEGAN + timedelta(days=n // 2))
        journal.begin({"began": (BEGAN + timedelta(days=n // 2)).isoformat()})
        journal.entry(done("a", 1))
        journal.delta(Delta("a", ("code",), (), tuple(new(float(k)) for k in range(n))))
        if n != 2:
            journal.end({"seconds": 5.0})
        made.append(journal.name)
    found = past_figures(tmp_path, made[4])
    assert [(f.name, f.new, f.state, f.seconds) for f in found] == [
        (made[0], 0, "done", 5.0),
        (made[1], 1, "done", 5.0),
        (made[2], 2, "cut off", None),
        (made[3], 3, "done", 5.0),
    ]
    assert past_figures(tmp_path, made[4], 2) == found[-2:]
    assert past_figures(tmp_path, made[4], 0) == past_figures(tmp_path, made[0]) == ()


def test_every_key_is_described() -> None:
    text = (Path(__file__).parents[3] / "docs" / "archive.md").read_text("utf-8")
    kinds: tuple[Any, ...] = (Summary, Figures, *(getattr(rows, name) for name in ("Tally", "FileRow", "EventRow")))
    for kind in (*kinds, rows.FootageRow, rows.CauseRow, rows.Work):
        for part in fields(kind):
            assert f"`{part.name}`" in text, (kind.__name__, part.name)


def test_every_night_has_its_words() -> None:
    everything = " ".join(
        " ".join(lines(summarize(made)))
        for made in (
            night(),
            night(ended=False),
            night([done("a", 1)], end={"state": "interrupted", "remaining": 3}),
            night([Entry("a", "unchanged")]),
            night([Entry("a", "failed", reason="no space left")]),
        )
    )
    for words in (
        "There is no footage in the archive.",
        "Its journal has no end, so that it was killed or is still going on: 0 files were analysed by then.",
        "The run was told to stop after 1 h 40 min: 1 file was analysed, 3 files were not reached.",
        "Nothing had to be done: the one file is as it was.",
        "Not one of 1 file could be analysed.",
    ):
        assert words in everything


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (Entry("b.mp4", "quarantined", reason="is no video", tries=3), "Nothing had to be done; 1 file is as before."),
        (Entry("b.mp4", "quarantined", reason="is no video", tries=1), "Nothing could be analysed anew; 1 file is"),
        (Entry("b.mp4", "failed", reason="no room", tries=3), "Nothing could be analysed anew; 1 file is as before."),
    ],
)
def test_a_run_that_tried_nothing_says_so(entry: Entry, words: str) -> None:
    assert words in sentences_of(summarize(night([Entry("a.mp4", "unchanged"), entry])))[0]
