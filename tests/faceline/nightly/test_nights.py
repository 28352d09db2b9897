"""Journals: cut at every byte, damaged in the middle, several of one second, and which is the last whole one."""

from __future__ import annotations

import json
import os
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from faceline.nightly.nights import (
    Delta,
    Entry,
    Journal,
    causes_of,
    night_names,
    nights_since_the_last_whole_one,
    read_night,
)
from faceline.nightly.recipe import Changes
from tests.faceline.nightly.factory import changed, new

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
ENTRIES = [Entry("a.mp4", "done", "0" * 64, events=2), Entry(os.fsdecode(b"\xff\n.mp4"), "failed", reason="ü\n{")]
DELTA = Delta("a.mp4", ("parameter", "code"), ("sample: params.fps 5 → 10",), (new(), changed(20.0)))


LATER = NOW + timedelta(days=2)


def journal(folder: Path, at: datetime = NOW, state: str | None = "done") -> str:
    """A journal with all kinds of lines; without an end where ``state`` is None."""
    written = Journal(folder, at)
    written.begin({"began": at.isoformat(), "archive": "/archive"})
    for entry in ENTRIES:
        written.entry(entry)
    written.delta(DELTA)
    if state is not None:
        written.end({"seconds": 5.0, "state": state})
    return written.name


def test_what_is_written_is_read(tmp_path: Path) -> None:
    night = read_night(tmp_path, journal(tmp_path))
    assert list(night.entries.values()) == ENTRIES
    assert night.deltas == (DELTA,)
    assert night.begin["archive"] == "/archive"
    assert night.end == {"seconds": 5.0, "state": "done"}
    assert night.whole and not night.damaged


def test_a_journal_is_its_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "nights"
    name = journal(folder)
    assert (folder / f"{name}.jsonl").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_journal_cut_at_any_byte_says_what_was_whole(tmp_path: Path) -> None:
    name = journal(tmp_path)
    path = tmp_path / f"{name}.jsonl"
    data = path.read_bytes()
    ends = [i for i, byte in enumerate(data) if byte == ord("\n")]
    for size in range(len(data) + 1):
        path.write_bytes(data[:size])
        night = read_night(tmp_path, name)
        # A line that lacks nothing but its line feed is whole.
        lines = sum(end <= size for end in ends)
        assert bool(night.begin) == (lines > 0)
        assert list(night.entries.values()) == ENTRIES[: max(lines - 1, 0)][:2]
        assert len(night.deltas) == (lines > 3)
        assert night.whole == (lines > 4)
        assert night.damaged == 0


@pytest.mark.parametrize("line", range(5))
@pytest.mark.parametrize(
    "damage", [b"\x00" * 20, b"{}", b"5", b'{"entry": 5}', b'{"delta": {"file": "x"}}', b"[" * 99999]
)
def test_a_damaged_line_costs_what_it_said_and_no_more(line: int, damage: bytes, tmp_path: Path) -> None:
    name = journal(tmp_path)
    path = tmp_path / f"{name}.jsonl"
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([*lines[:line], damage, *lines[line + 1 :]]) + b"\n")
    night = read_night(tmp_path, name)
    assert night.damaged == 1
    assert (len(night.entries), len(night.deltas), bool(night.begin), night.whole) == (
        2 - (line in (1, 2)),
        1 - (line == 3),
        line != 0,
        line != 4,
    )


def test_a_journal_of_a_later_version_is_read_as_far_as_it_is_known(tmp_path: Path) -> None:
    lines = [{"begin": {}}, {"entry": {"file": "a", "state": "done", "mood": 1}}, {"weather": {}}, {"end": {}}]
    lines.insert(1, {"entry": {"file": "b", "state": "dreaming"}})
    (tmp_path / "20261123T020000Z.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    night = read_night(tmp_path, "20261123T020000Z")
    assert night.entries == {"a": Entry("a", "done")}
    assert night.damaged == 1


def test_a_file_met_twice_counts_as_it_was_last(tmp_path: Path) -> None:
    written = Journal(tmp_path, NOW)
    written.entry(Entry("a", "failed"))
    written.entry(Entry("a", "done"))
    assert read_night(tmp_path, written.name).entries == {"a": Entry("a", "done")}


def test_runs_of_one_second_have_journals_of_their_own_in_order(tmp_path: Path) -> None:
    names = [Journal(tmp_path, NOW + timedelta(seconds=s)).name for s in (0, 0, *[0] * 9, 1)]
    assert names[:3] == ["20261123T020000Z", "20261123T020000Z-2", "20261123T020000Z-3"]
    assert night_names(tmp_path) == names
    east = Journal(tmp_path, datetime(2026, 11, 23, 9, 30, tzinfo=timezone(timedelta(hours=9)))).name
    assert east == "20261123T003000Z"
    assert night_names(tmp_path)[0] == east
    assert night_names(tmp_path / "none") == []


def test_several_threads_may_write(tmp_path: Path) -> None:
    written = Journal(tmp_path, NOW)
    workers = [
        threading.Thread(target=lambda n=n: [written.entry(Entry(f"{n}-{i}", "done")) for i in range(50)])
        for n in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    night = read_night(tmp_path, written.name)
    assert (len(night.entries), night.damaged) == (200, 0)


def test_the_last_whole_run_and_those_after_it(tmp_path: Path) -> None:
    assert nights_since_the_last_whole_one(tmp_path, LATER) == (None, [])
    states = ["done", "done", None, "interrupted", "failed"]
    names = [journal(tmp_path, NOW + timedelta(hours=n), state) for n, state in enumerate(states)]
    last, cut_off = nights_since_the_last_whole_one(tmp_path, LATER)
    assert last is not None and last.name == names[1]
    assert [night.name for night in cut_off] == names[2:]


def test_a_journal_of_the_future_is_no_evidence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The clock was a year ahead for one night; whoever believed its journal would catch up on nothing for a year."""
    whole = journal(tmp_path)
    journal(tmp_path, NOW + timedelta(days=365))
    cut = journal(tmp_path, NOW + timedelta(hours=1), None)
    for _ in range(2):
        last, cut_off = nights_since_the_last_whole_one(tmp_path, NOW + timedelta(hours=2))
        assert last is not None and last.name == whole
        assert [night.name for night in cut_off] == [cut]
    assert caplog.text.count("is of a time to come") == 1, "told once"
    later = nights_since_the_last_whole_one(tmp_path, NOW + timedelta(days=365))[0]
    assert later is not None and later.name != whole, "its time has come"
    soon = journal(tmp_path, NOW + timedelta(hours=2, minutes=5))
    last, _ = nights_since_the_last_whole_one(tmp_path, NOW + timedelta(hours=2))
    assert last is not None and last.name == soon, "another machine's clock goes before this one's"


def test_journals_that_say_nothing_or_cannot_be_read_are_passed_over(tmp_path: Path) -> None:
    whole = journal(tmp_path)
    Journal(tmp_path, NOW + timedelta(hours=1))
    (tmp_path / "20261124T020000Z.jsonl").mkdir()
    last, cut_off = nights_since_the_last_whole_one(tmp_path, LATER)
    assert last is not None and last.name == whole
    assert cut_off == []


def test_causes_of_footage_whose_content_is_the_same() -> None:
    changes = Changes(("sample: params.fps 5 → 10",), (), ("embed: model identity: a → b",))
    assert causes_of(changes) == (("parameter", "model"), (*changes.parameters, *changes.models))
    assert causes_of(Changes()) == (("unknown",), ())
