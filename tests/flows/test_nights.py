"""Night after night over one archive: what is worked on, what is left alone, and what is said of it."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from faceline.errors import FacelineError, FootageChangedError, FootageError
from faceline.nightly.nights import night_names, read_night
from faceline.stages import STAGES
from flows import archive_plan
from flows.analyze import analyze
from flows.archive import archive
from flows.config import load_config
from flows.night import opener_for
from flows.plan import show_plan
from tasks.guarded import GuardedOpener
from tests.flows.conftest import Line
from tests.flows.fakes import FakeFootage, open_fake

pytestmark = [pytest.mark.prefect, pytest.mark.long]


class Nights:
    """An archive with fake footage, run night after night."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.home = line.folder / "archive"
        self.results = line.folder / "results"

    def put(self, name: str, content: str) -> Path:
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        # Long ago: what was written to a moment ago is hashed anew each time.
        os.utime(path, (1e9, 1e9 + len(list(self.home.rglob("*")))))
        return path

    def run(self, *overrides: str) -> int:
        self.line.calls.names()
        return archive(self.line.arguments(*overrides, footage=self.home))

    @property
    def computed(self) -> int:
        return self.line.calls.computed.count("sample")

    @property
    def states(self) -> dict[str, str]:
        rows = json.loads((self.results / "archive.json").read_text())["rows"]
        return {row["file"]: row["state"] for row in rows}

    @property
    def journal(self) -> Any:
        folder = self.results / "_archive" / "nights"
        return read_night(folder, night_names(folder)[-1])


@pytest.fixture
def nights(prefect_line: Line) -> Nights:
    return Nights(prefect_line)


def test_only_what_is_new_or_changed_is_worked_on(nights: Nights) -> None:
    for name in "abcde":
        nights.put(f"{name}.mp4", f"footage {name}")
    nights.put("bad.mp4", "broken")
    assert nights.run() == 3
    assert nights.computed == 5
    assert {delta.causes for delta in nights.journal.deltas} == {("new footage",)}

    assert nights.run() == 3
    assert nights.line.calls.computed == []
    assert set(nights.states.values()) == {"unchanged", "quarantined"}
    assert nights.journal.deltas == ()

    nights.put("f.mp4", "footage f")
    nights.put("deep/g.mp4", "footage g")
    nights.put("b.mp4", "another footage b")
    (nights.home / "c.mp4").unlink()
    assert nights.run() == 3
    assert nights.computed == 3
    assert nights.states == {
        "a.mp4": "unchanged",
        "b.mp4": "done",
        "bad.mp4": "quarantined",
        "c.mp4": "gone",
        "d.mp4": "unchanged",
        "e.mp4": "unchanged",
        "f.mp4": "done",
        "deep/g.mp4": "done",
    }
    causes = {delta.file: delta.causes for delta in nights.journal.deltas}
    # The stand-in finds the same event in both footages b, so that nothing of it is new.
    assert causes == {"f.mp4": ("new footage",), "deep/g.mp4": ("new footage",), "c.mp4": ("removed footage",)}
    assert (nights.results / "c" / "run.json").is_file(), "results are kept"


def test_moved_footage_keeps_its_artifacts_and_what_lies_beside_its_results(nights: Nights) -> None:
    nights.put("a.mp4", "footage a")
    assert nights.run() == 0
    (nights.results / "a" / "notes.txt").write_text("look at 0:12")
    (nights.home / "deep").mkdir()
    (nights.home / "a.mp4").rename(nights.home / "deep" / "a.mp4")
    assert nights.run() == 0
    assert nights.line.calls.computed == []
    assert (nights.results / "deep" / "a" / "notes.txt").is_file()
    assert not (nights.results / "a").exists()
    entry = nights.journal.entries["deep/a.mp4"]
    assert (entry.state, entry.moved_from, entry.stages_run) == ("done", "a.mp4", 0)
    assert nights.journal.entries["a.mp4"].state == "gone"
    assert nights.journal.deltas == ()


def test_copies_are_analysed_once_and_listed_under_every_name(nights: Nights) -> None:
    for name in ("z.mp4", "b/one.mp4", "b/two.mp4"):
        nights.put(name, "the same")
    assert nights.run() == 0
    assert nights.computed == 1
    entries = nights.journal.entries
    assert {entry.same_as for entry in entries.values()} == {"", "b/one.mp4"}
    assert {entry.results for entry in entries.values()} == {"b/one"}
    # A copy with a name that sorts before the first moves no results.
    nights.put("a.mp4", "the same")
    assert nights.run() == 0
    assert nights.line.calls.computed == []
    assert nights.journal.entries["a.mp4"].same_as == "b/one.mp4"


def test_quarantine_lasts_until_the_file_the_configuration_or_somebody_says_otherwise(nights: Nights) -> None:
    opened: list[str] = []
    path = nights.put("bad.mp4", "broken")
    nights.put("good.mp4", "fine")
    assert nights.run() == 3

    def tries() -> int:
        entry = nights.journal.entries["bad.mp4"]
        opened.append(entry.since)
        return int(entry.tries)

    assert tries() == 1
    assert nights.run() == 3 and tries() == 1
    assert nights.run("archive.retry=true") == 3 and tries() == 2
    assert nights.run("limits.max_hours=99") == 3 and tries() == 3
    assert nights.run("limits.max_hours=99", "sample.fps=5") == 3 and tries() == 4
    assert len(set(opened)) == 1, "since when it lies there does not change"
    path.write_text("mended")
    assert nights.run("limits.max_hours=99", "sample.fps=5") == 0
    assert nights.states["bad.mp4"] == "done"


def test_a_failure_is_tried_again_by_the_next_run(nights: Nights) -> None:
    nights.put("a.mp4", "footage a")
    nights.put("b.mp4", "footage b")
    nights.line.calls.errors["cluster"] = [ValueError("a mistake")]
    assert nights.run() == 3
    assert sorted(nights.states.values()) == ["done", "failed"]
    assert nights.run() == 0
    assert sorted(nights.states.values()) == ["done", "unchanged"]


def test_what_made_events_change_is_told(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.flows import fakes

    nights.put("a.mp4", "footage a")
    assert nights.run() == 0
    real = fakes.fake_finish

    def finish(*arguments: Any) -> Any:
        finished = real(*arguments)
        for event in finished.events:
            event["score"] = 7.0
        return finished

    for module in ("flows.flow", "flows.analyze"):
        monkeypatch.setattr(f"{module}.finish", finish)
    assert nights.run("sample.fps=5") == 0
    (delta,) = nights.journal.deltas
    assert delta.causes == ("parameter",)
    assert "sample: params.fps 10 → 5" in delta.details
    assert [difference.kind for difference in delta.differences] == ["changed"]
    nights.line.calls.code["detect"] = "written anew"
    for module in ("flows.flow", "flows.analyze"):
        monkeypatch.setattr(f"{module}.finish", real)
    assert nights.run("sample.fps=5") == 0
    (delta,) = nights.journal.deltas
    assert delta.causes == ("code",)


def test_two_runs_never_work_on_one_archive(nights: Nights) -> None:
    nights.put("a.mp4", "footage a")
    nights.line.calls.pause_s = 0.2
    codes: list[int] = []
    first = threading.Thread(target=lambda: codes.append(nights.run()))
    first.start()
    running = nights.results / "_archive" / "running.json"
    while not running.exists():
        time.sleep(0.01)
    with pytest.raises(FacelineError, match=r"another run works on this archive \(process \d+ on .*, since .*\)"):
        archive(nights.line.arguments(footage=nights.home))
    # Not into another output folder either.
    with pytest.raises(FacelineError, match="another run works on this archive"):
        archive([f"footage={nights.home}", f"store.root={nights.line.folder}/artifacts", f"output={nights.home}-out"])
    first.join()
    assert codes == [0]
    assert not running.exists()


def test_a_file_that_is_still_being_written_is_left_for_the_next_run(nights: Nights) -> None:
    nights.put("a.mp4", "footage a")
    growing = nights.put("growing.mp4", "begun")
    settled = nights.put("settled.mp4", "just copied")
    os.utime(settled)
    stop = threading.Event()

    def write() -> None:
        while not stop.wait(0.05):
            os.utime(growing)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert nights.run("archive.quiet_s=0.5") == 0
    finally:
        stop.set()
        writer.join()
    assert nights.states == {"a.mp4": "done", "growing.mp4": "left", "settled.mp4": "done"}
    os.utime(growing, (1e9, 1e9))
    assert nights.run("archive.quiet_s=0.5") == 0
    assert nights.states["growing.mp4"] == "done"


def test_a_late_copy_of_footage_under_way_is_listed(nights: Nights) -> None:
    nights.put("a.mp4", "the same")
    late = nights.put("late.mp4", "the same")
    nights.line.calls.pause_s = 0.1
    os.utime(late)
    assert nights.run("archive.quiet_s=0.4") == 0
    assert nights.computed == 1
    assert nights.states == {"a.mp4": "done", "late.mp4": "done"}
    assert nights.journal.entries["late.mp4"].same_as == "a.mp4"


def test_a_file_that_changes_while_it_is_hashed_is_not_lost(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    from faceline.nightly.catalogue import Catalogue, Unsteady

    nights.put("a.mp4", "footage a")
    nights.put("b.mp4", "footage b")
    identify = Catalogue.identify

    def unsteady(catalogue: Catalogue, path: str, file: Path) -> str:
        if path == "b.mp4":
            raise Unsteady
        return identify(catalogue, path, file)

    with monkeypatch.context() as patch:
        patch.setattr(Catalogue, "identify", unsteady)
        assert nights.run() == 0
    assert nights.states == {"a.mp4": "done", "b.mp4": "left"}
    assert nights.run() == 0
    assert nights.states == {"a.mp4": "unchanged", "b.mp4": "done"}


def test_footage_that_changes_meanwhile_is_left_for_the_next_run(
    nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    nights.put("a.mp4", "footage a")
    nights.line.calls.errors["detect"] = [FootageChangedError("the footage changed while it was read")]
    assert nights.run() == 0
    assert nights.states == {"a.mp4": "left"}
    assert nights.run() == 0
    assert nights.states == {"a.mp4": "done"}


def test_footage_that_takes_too_long_is_quarantined(nights: Nights) -> None:
    nights.put("a.mp4", "footage a")
    nights.line.calls.pause_s = 0.2
    assert nights.run("archive.time_limit_s=0.3") == 1
    assert "took longer than 0.3 s" in nights.journal.entries["a.mp4"].reason
    nights.line.calls.pause_s = 0.0
    assert nights.run("archive.time_limit_s=0.3") == 1, "neither the file nor the limit changed"
    assert nights.run("archive.time_limit_s=60") == 0


def test_an_archive_that_is_not_mounted_loses_nothing(nights: Nights) -> None:
    nights.put("a.mp4", "footage a")
    assert nights.run() == 0
    nights.home.rename(nights.line.folder / "away")
    nights.home.mkdir()
    with pytest.raises(FacelineError, match=r"no footage is there, but 1 files were the last time; .*mounted"):
        nights.run()
    nights.home.rmdir()
    (nights.line.folder / "away").rename(nights.home)
    assert nights.run() == 0
    assert nights.states == {"a.mp4": "unchanged"}


def test_a_run_that_is_cut_off_says_so_and_the_next_one_goes_on(
    nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    nights.put("a.mp4", "footage a")
    nights.put("b.mp4", "footage b")
    with monkeypatch.context() as patch:
        patch.setattr("flows.night.Night.note_what_is_gone", lambda night: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            nights.run()
    assert nights.journal.end["state"] == "interrupted"
    assert nights.run() == 0
    assert nights.line.calls.computed == []
    assert nights.journal.deltas == ()
    summary = json.loads((nights.results / "archive.json").read_text())
    assert summary["tally"]["new"] == 2, "events of the run that was cut off count in"


def test_removed_results_are_made_anew_without_computing(nights: Nights) -> None:
    nights.put("a.mp4", "footage a")
    assert nights.run() == 0
    run = nights.results / "a" / "run.json"
    digest = hashlib.sha256(run.read_bytes()).hexdigest()
    run.write_text(run.read_text() + " ")
    assert nights.run() == 0
    assert nights.line.calls.computed == []
    assert nights.states == {"a.mp4": "done"}
    assert hashlib.sha256(run.read_bytes()).hexdigest() != digest  # It states its own time.
    assert json.loads(run.read_text())["footage"]["path"].endswith("a.mp4")


def test_a_plan_says_what_a_run_will_do_and_changes_nothing(nights: Nights, capsys: pytest.CaptureFixture[str]) -> None:
    nights.put("a.mp4", "footage a")
    nights.put("copy.mp4", "footage a")
    nights.put("bad.mp4", "broken")
    arguments = nights.line.arguments(footage=nights.home)
    assert show_plan(arguments) == 0
    out = capsys.readouterr().out
    assert "2 contents: 2 to analyse, 0 unchanged, 1 duplicates" in out
    assert "it cannot be opened, and will be quarantined" in out
    assert not nights.results.exists()
    assert nights.run() == 3
    capsys.readouterr()
    assert show_plan(arguments) == 0
    assert "2 contents: 0 to analyse, 1 unchanged, 1 in quarantine, 1 duplicates" in capsys.readouterr().out
    assert show_plan([*arguments, "sample.fps=5"]) == 0
    out = capsys.readouterr().out
    assert "sample · segment 0: params.fps 10 → 5" in out
    assert "estimated: " in out


def test_a_plan_reads_no_new_footage_whole(
    nights: Nights, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from faceline.nightly.catalogue import Catalogue

    monkeypatch.setattr("faceline.nightly.catalogue.UNSURE_S", 0.0)
    nights.put("a.mp4", "footage a")
    assert nights.run() == 0
    nights.put("b.mp4", "footage b")
    nights.put("long.mp4", "footage of another length")

    def read_whole(catalogue: Catalogue, path: str, file: Path) -> str:
        seen = catalogue.known(path, file.stat())
        assert seen is not None, f"{path} is read whole"
        return seen

    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(Catalogue, "identify", read_whole)
        assert show_plan(nights.line.arguments(footage=nights.home)) == 0
    out = capsys.readouterr().out
    assert "3 contents: 2 to analyse, 1 unchanged" in out
    assert "stages: 22 run" in out
    assert out.count("never analysed") == 2


def test_a_plan_knows_contents_that_were_met_elsewhere(
    nights: Nights, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = nights.line.footage("elsewhere", "footage a")
    assert analyze(nights.line.arguments(footage=elsewhere)) == 0
    nights.put("a.mp4", "footage a")

    def planned() -> str:
        capsys.readouterr()
        assert show_plan(nights.line.arguments(footage=nights.home)) == 0
        return capsys.readouterr().out

    # A header says nearly where the footage ends.
    monkeypatch.setattr(archive_plan, "stated_span", lambda path: (Fraction(0), Fraction(199, 10)))
    with monkeypatch.context() as patch:
        patch.setattr(archive_plan, "open_footage", lambda path: pytest.fail(str(path)))
        out = planned()
    # Its name stands in the report alone.
    assert "stages: 10 cached, 1 run" in out
    assert out.splitlines()[2].endswith("  report: facts.footage.name elsewhere → a")
    for pointer in (nights.line.folder / "artifacts" / "_latest").rglob("report.json"):
        pointer.unlink()
    assert "stages: 10 cached, 1 run" in planned(), "a run that was interrupted"


def test_a_plan_of_what_is_stored_already_has_nothing_to_run(
    nights: Nights, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nights.put("a.mp4", "footage a")
    assert analyze(nights.line.arguments(footage=nights.home / "a.mp4")) == 0
    monkeypatch.setattr(archive_plan, "stated_span", lambda path: (Fraction(0), Fraction(199, 10)))
    capsys.readouterr()
    assert show_plan(nights.line.arguments(footage=nights.home)) == 0
    out = capsys.readouterr().out
    assert "stages: 11 cached" in out
    assert "  all is stored; only the results are made\n" in out


def test_a_plan_says_of_a_renamed_file_what_a_run_says(nights: Nights, capsys: pytest.CaptureFixture[str]) -> None:
    nights.put("a.mp4", "footage a")
    assert nights.run() == 0
    (nights.home / "a.mp4").rename(nights.home / "b.mp4")
    capsys.readouterr()
    assert show_plan(nights.line.arguments(footage=nights.home)) == 0
    assert capsys.readouterr().out.splitlines()[2].endswith("  report: facts.footage.name a → b")


def test_a_plan_reads_whole_what_is_alike_at_both_ends(nights: Nights, capsys: pytest.CaptureFixture[str]) -> None:
    ends = "e" * 70_000
    for name, middle in (("a", "1"), ("b", "2"), ("c", "2")):
        nights.put(f"{name}.mp4", ends + middle + ends)
    assert show_plan(nights.line.arguments(footage=nights.home)) == 0
    assert "2 contents: 2 to analyse, 0 unchanged, 1 duplicates" in capsys.readouterr().out


def test_footage_that_ends_the_process_it_is_opened_in_costs_itself_alone(
    nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    class Opener:
        closed = 0

        def open(self, path: Path) -> FakeFootage:
            opened.append(path.name)
            if path.name == "b.mp4":
                raise FootageError("opening it was ended by signal 11 (SIGSEGV)", where=str(path))
            return open_fake(path)

        def close(self) -> None:
            self.closed += 1

    opener = Opener()
    monkeypatch.setattr("flows.night.opener_for", lambda config: opener)
    for name in "abc":
        nights.put(f"{name}.mp4", f"footage {name}")
    assert nights.run() == 3
    assert nights.states == {"a.mp4": "done", "b.mp4": "quarantined", "c.mp4": "done"}
    assert "signal 11" in nights.journal.entries["b.mp4"].reason
    assert sorted(opened) == ["a.mp4", "b.mp4", "c.mp4"]
    assert opener.closed == 1


def test_an_archive_opens_footage_in_a_process_of_its_own_unless_there_are_threads_only(nights: Nights) -> None:
    threads = load_config(nights.line.arguments(footage=nights.home), STAGES)
    assert opener_for(threads) is None
    config = load_config([a for a in nights.line.arguments(footage=nights.home) if a != "runner=threads"], STAGES)
    opener = opener_for(config)
    assert isinstance(opener, GuardedOpener)
    opener.close()


def test_an_interrupted_night_names_the_file_that_was_under_way(
    nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    nights.put("a.mp4", "footage a")
    nights.put("b.mp4", "footage b")

    def stop(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("flows.flow_many.run_in_prefect", stop)
        with pytest.raises(KeyboardInterrupt):
            nights.run()
    entry = nights.journal.entries["a.mp4"]
    assert (entry.state, entry.reason) == ("left", "under way when the run ended; the next one goes on with it")
    assert nights.journal.end["remaining"] == 1, "b was not reached"
