"""Nights in which something else than the footage goes wrong: a drive, a disk, a folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from faceline.nightly.nights import night_names, read_night
from flows.archive import archive
from flows.outage import OutageError
from tests.flows.conftest import Line
from tests.flows.fakes import open_fake

pytestmark = [pytest.mark.prefect, pytest.mark.long]


class Nights:
    """An archive with fake footage, run night after night."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.home, self.results = line.folder / "archive", line.folder / "results"

    def put(self, *names: str) -> None:
        for name in names:
            path = self.home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"footage {name}")
            os.utime(path, (1e9, 1e9))

    def run(self, *overrides: str) -> int:
        return archive(self.line.arguments(*overrides, footage=self.home))

    @property
    def journal(self) -> Any:
        folder = self.results / "_archive" / "nights"
        return read_night(folder, night_names(folder)[-1])

    @property
    def states(self) -> dict[str, str]:
        return {name: entry.state for name, entry in self.journal.entries.items()}


@pytest.fixture
def nights(prefect_line: Line) -> Nights:
    return Nights(prefect_line)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What an address is sent."""
    bodies: list[dict[str, Any]] = []
    monkeypatch.setenv("FACELINE_WEBHOOK", "http://127.0.0.1:9/hook")
    monkeypatch.setattr(
        "faceline.nightly.notification.send", lambda address, body, **_: bodies.append(dict(body)) or ""
    )
    return bodies


def test_a_run_that_cannot_go_on_is_not_taken_for_a_whole_one(
    nights: Nights, told: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    nights.put("a.mp4", "b.mp4", "c.mp4")
    assert nights.run() == 0
    put = "faceline.nightly.records.Records.put"

    def full(records: Any, record: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(put, full)
        with pytest.raises(OSError, match="No space left"):
            nights.run("sample.fps=5")
    assert nights.journal.end["state"] == "failed"
    assert "gone" not in nights.states.values(), "what it did not reach is still there"
    assert not nights.journal.deltas or all(delta.causes != ("removed footage",) for delta in nights.journal.deltas)
    assert [body["state"] for body in told] == ["done", "failed"]
    assert nights.run("sample.fps=5") == 0
    assert set(nights.states.values()) == {"done"}


def test_a_drive_that_goes_away_in_the_middle_puts_nothing_in_quarantine(
    nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    nights.put("a.mp4", "b.mp4", "c.mp4")
    away = nights.home.with_name("away")

    def open_and_lose(path: str | Path, limits: object = None) -> Any:
        if Path(path).name == "b.mp4":
            nights.home.rename(away)
        return open_fake(path, limits)

    with monkeypatch.context() as patch:
        patch.setattr("faceline.video.open_footage", open_and_lose)
        assert nights.run() == 3
    assert nights.states == {"a.mp4": "done", "b.mp4": "failed", "c.mp4": "failed"}
    away.rename(nights.home)
    assert nights.run() == 0, "they are tried again without being asked"
    assert nights.states == {"a.mp4": "unchanged", "b.mp4": "done", "c.mp4": "done"}


def refuse(patch: pytest.MonkeyPatch, folder: Path) -> None:
    scandir = os.scandir

    def scan(path: Any) -> Any:
        if str(path) == str(folder):
            raise OSError(116, "Stale file handle", str(path))
        return scandir(path)

    patch.setattr(os, "scandir", scan)


def test_what_lies_in_a_folder_that_cannot_be_read_is_not_gone(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    nights.put("a.mp4", "deep/er/b.mp4", "deep/c.mp4")
    assert nights.run() == 0
    with monkeypatch.context() as patch:
        refuse(patch, nights.home / "deep")
        assert nights.run() == 3
    assert nights.states == {"a.mp4": "unchanged", "deep": "failed"}
    assert nights.journal.deltas == (), "no event has vanished"
    (nights.home / "deep" / "c.mp4").unlink()
    assert nights.run() == 0
    assert nights.states == {"a.mp4": "unchanged", "deep/c.mp4": "gone", "deep/er/b.mp4": "unchanged"}


def test_an_archive_that_cannot_be_read_at_all_loses_nothing(
    nights: Nights, told: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    nights.put("a.mp4")
    assert nights.run() == 0
    with monkeypatch.context() as patch:
        refuse(patch, nights.home)
        with pytest.raises(Exception, match="no footage is there"):
            nights.run()
    assert [body["state"] for body in told] == ["done", "failed"]
    assert nights.run() == 0
    assert nights.states == {"a.mp4": "unchanged"}


@pytest.mark.parametrize(
    "place",
    ["flows.archive.write_night", "flows.night.Journal.begin", "flows.night.Journal.end", "flows.archive.Journal"],
)
def test_a_full_disk_is_told(
    nights: Nights, told: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    nights.put("a.mp4")

    def full(*arguments: Any, **named: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(place, full)
    with pytest.raises(OSError, match="No space left"):
        nights.run()
    assert [body["state"] for body in told] == ["failed"]
    assert "No space left" in told[0]["text"]


def test_a_run_by_schedule_whose_archive_is_not_there_is_told(nights: Nights, told: list[dict[str, Any]]) -> None:
    from flows.flow_many import archive as flow

    state: Any = flow(str(nights.home), nights.line.arguments()[1:], return_state=True)
    assert state.is_failed()
    assert [body["state"] for body in told] == ["failed"]
    assert "is no folder" in told[0]["text"]


NOBODY = "http://127.0.0.1:9/api"


def lose_connection(nights: Nights) -> None:
    nights.line.calls.errors["detect"] = [ConnectionError("all connection attempts failed")] * 2


def test_a_server_that_goes_away_ends_the_night_at_the_first_footage(
    nights: Nights, told: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    nights.put("a.mp4")
    assert nights.run() == 0
    nights.put(*(f"{name}.mp4" for name in "bcdef"))
    lose_connection(nights)
    with monkeypatch.context() as patch:
        patch.setattr("flows.outage.named_api_url", lambda: NOBODY)
        with pytest.raises(OutageError, match=r"Prefect server does not answer; .* 5 footages are left") as caught:
            nights.run("runner.retries=0")
    assert caught.value.exit_code == 1
    assert nights.states == {"a.mp4": "unchanged", "b.mp4": "failed"}, "the others were not tried, nor found gone"
    assert (nights.journal.end["state"], nights.journal.whole) == ("failed", False)
    assert "5 footages are left" in nights.journal.end["reason"]
    assert [body["state"] for body in told] == ["done", "failed"]
    nights.line.calls.errors.clear()
    assert nights.run() == 0
    assert set(nights.states.values()) == {"unchanged", "done"}


def test_a_night_goes_on_where_all_it_needs_answers(nights: Nights) -> None:
    nights.put("a.mp4", "b.mp4", "c.mp4")
    nights.line.calls.errors["detect"] = [ConnectionError("a moment ago")]
    assert nights.run("runner.retries=0") == 3
    assert nights.states == {"a.mp4": "failed", "b.mp4": "done", "c.mp4": "done"}
    assert nights.journal.whole


def test_a_run_by_schedule_says_what_went_away(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.flow_many import archive as flow

    nights.put("a.mp4", "b.mp4")
    lose_connection(nights)
    monkeypatch.setattr("flows.outage.named_api_url", lambda: NOBODY)
    overrides = nights.line.arguments("runner.retries=0", footage=nights.home)[1:]
    state: Any = flow(str(nights.home), overrides, return_state=True)
    assert state.is_failed()
    assert state.message.startswith(f"{NOBODY}: the Prefect server does not answer; the run ends here, 2 footages")
    assert not nights.journal.whole
