"""What is kept of a night: whole, private, bounded in number, and safe in a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
import os
from datetime import timedelta
from pathlib import Path

import pytest

from faceline.nightly.summary import summarize
from faceline.nightly.writing import EVENT_COLUMNS, FILE_COLUMNS, kept_nights, write_night
from tests.faceline.nightly import factory
from tests.faceline.nightly.factory import BEGAN, done, night


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text("utf-8"), newline="")))


def test_all_is_written_for_its_owner_only(tmp_path: Path) -> None:
    s = summarize(**factory.rich())
    before = os.umask(0)
    try:
        assert write_night(tmp_path / "results", s) == tmp_path / "results" / "archive.html"
    finally:
        os.umask(before)
    found = {str(path.relative_to(tmp_path)): path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert found == {
        "results": 0o700,
        "results/archive.csv": 0o600,
        "results/archive.html": 0o600,
        "results/archive.json": 0o600,
        "results/archive_events.csv": 0o600,
        "results/_archive": 0o700,
        "results/_archive/nights": 0o700,
        f"results/_archive/nights/{s.name}.html": 0o600,
        f"results/_archive/nights/{s.name}.json": 0o600,
    }


def test_the_tables_hold_everything(tmp_path: Path) -> None:
    s = summarize(**factory.rich())
    write_night(tmp_path, s)
    assert json.loads((tmp_path / "archive.json").read_text("utf-8")) == json.loads(json.dumps(s.to_plain()))
    files, events = table(tmp_path / "archive.csv"), table(tmp_path / "archive_events.csv")
    assert tuple(files[0]) == FILE_COLUMNS and tuple(events[0]) == EVENT_COLUMNS
    assert len(files) == len(s.rows) and len(events) == s.tally.total
    assert sum(int(row["new"]) for row in files) == s.tally.new
    row = next(row for row in events if row["kind"] == "changed" and row["before_score"])
    assert row["causes"] == "parameter; code"
    assert row["details"] == "sample: params.fps 5 → 10; detect: code of faceline.tracking changed"
    assert (row["score"], row["before_score"]) == ("9.0", "7.5")
    empty = next(row for row in events if row["file"].startswith("xxx"))
    assert (empty["score"], empty["p_value"], empty["before_score"]) == ("", "", "")


def test_no_cell_is_a_formula(tmp_path: Path) -> None:
    write_night(tmp_path, summarize(**factory.rich()))
    for name in ("archive.csv", "archive_events.csv"):
        for row in table(tmp_path / name):
            assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in row.values())
    assert "'=cmd|' /C calc'!A0.mp4" in {row["file"] for row in table(tmp_path / "archive.csv")}


def test_old_nights_go_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "_archive" / "nights"
    folder.mkdir(parents=True)
    others = ["notes.html", "20261101T020000Z.jsonl", "20261101T020000Z-2.html.bak", "x20261101T020000Z.html"]
    for name in others:
        (folder / name).write_text("mine")
    for n in range(6):
        write_night(tmp_path, summarize(night([done("a", 1)], began=BEGAN + timedelta(days=n))), keep=3)
    names = [(BEGAN + timedelta(days=n)).strftime("%Y%m%dT%H%M%SZ") for n in range(6)]
    assert kept_nights(tmp_path) == names[3:]
    kept = {f"{name}.{suffix}" for name in names[3:] for suffix in ("html", "json")}
    assert {path.name for path in folder.iterdir()} == kept | set(others)
    # A clock that was set back: the night at hand stays all the same.
    write_night(tmp_path, summarize(night(began=BEGAN - timedelta(days=9))), keep=1)
    assert kept_nights(tmp_path) == ["20261114T020000Z"]


def test_a_page_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_night(tmp_path, summarize(night([done("a", 1)])))
    before = {path: path.read_bytes() for path in tmp_path.glob("archive*") if path.is_file()}
    replace, left = Path.replace, [3]

    def fail(self: Path, target: Path) -> Path:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        write_night(tmp_path, summarize(night([done("b", 2)], began=BEGAN + timedelta(days=1))))
    monkeypatch.undo()
    # The picture was there first; the rest is as it was, and no half file lies about.
    assert json.loads((tmp_path / "archive.json").read_text())["rows"][0]["file"] == "b"
    assert all(path.read_bytes() == data for path, data in before.items() if path.name != "archive.json")
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    s = summarize(night())
    with pytest.raises(ValueError, match="keep"):
        write_night(tmp_path, s, keep=0)
    with pytest.raises(ValueError, match="no name of a night"):
        write_night(tmp_path, summarize(factory.Night("../x", {})))
    assert not list(tmp_path.iterdir())
