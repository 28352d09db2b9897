"""The faults: a kill on the real thing, and that the comparison afterwards sees what it should."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from benchmarks.faults import run as module
from benchmarks.faults.faults import FAULTS, TITLES, Known, Struck, aftermath, differences
from benchmarks.faults.place import OPTIONS, Ended, Left, Place
from benchmarks.faults.run import Tally, main, print_table, run

pytestmark = pytest.mark.long

CHEAP = ("sample.fps=2", "runtime.workers=1")
"""Still two segments, and a worker process."""

LEFT = Left({("sample", "a" * 64): "1"}, {"events.csv": "2", "report.html": "3"}, [("sample", 0, None, "a" * 64, "1")])


@pytest.fixture
def known(tmp_path: Path) -> Known:
    return Known((tmp_path / "a", tmp_path / "b"), (LEFT, LEFT), 1.0, Place(tmp_path), 1)


@pytest.mark.prefect
@pytest.mark.models
@pytest.mark.timeout(1500)
def test_a_killed_run_costs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told: list[str] = []
    # That two undisturbed runs leave the same is shown elsewhere (tests/flows/test_line.py).
    tallies = run(tmp_path, ("run",), times=1, seed=1, say=told.append, options=(*OPTIONS, *CHEAP), check_twice=False)
    assert [tally.problems for tally in tallies.values()] == [[]], "\n".join(told)
    assert [tally.hit for tally in tallies.values()] == [1]
    assert tallies["run"].went_on == 0
    assert not list(tmp_path.glob("run-*")), "what ended well is removed"
    print_table(tallies)
    assert "PROBLEM" not in capsys.readouterr().out


def test_what_is_as_undisturbed_differs_in_nothing(known: Known) -> None:
    assert differences(LEFT, known, 0) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"artifacts": {("sample", "a" * 64): "x"}}, "other content than undisturbed"),
        ({"artifacts": {("sample", "b" * 64): "1"}}, "no undisturbed run makes this artifact"),
        ({"results": {"events.csv": "x", "report.html": "3"}}, "1 files of the results differ: events.csv"),
        ({"results": {"events.csv": "2"}}, "1 files of the results differ: report.html"),
        ({"results": {**LEFT.results, "more": "4"}}, "1 files of the results differ: more"),
        ({"used": []}, "the results were made of other artifacts"),
    ],
)
def test_every_difference_is_named(known: Known, changed: dict[str, object], said: str) -> None:
    assert said in "; ".join(differences(dataclasses.replace(LEFT, **changed), known, 0))


def test_a_run_that_does_not_end_well_after_a_fault_is_a_problem(
    known: Known, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Bad:
        def ended(self) -> Ended:
            return Ended(1, "it did not go\nthe last line\n")

    monkeypatch.setattr(Place, "start", lambda place, verb: Bad())
    monkeypatch.setattr(Place, "command", lambda place, *arguments: Bad())
    monkeypatch.setattr(Place, "left", lambda place: LEFT)
    mended: list[str] = []
    struck = Struck(Place(tmp_path), "now", problems=["before"], mend=lambda: mended.append("mended"))
    problems = aftermath(struck, known)
    assert problems[0] == "before"
    assert problems[1:] == [
        "the next run ends with 1: the last line",
        "verify ends with 1: the last line",
        "verify of the results ends with 1: the last line",
    ]
    assert mended == ["mended"]


def test_processes_that_stay_are_found_and_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess
    import sys

    monkeypatch.setattr("benchmarks.faults.place.LINGER_S", 0.5)
    place = Place(tmp_path)
    environment = {**os.environ, "FACELINE_STATE": str(tmp_path / "state")}
    stays = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env=environment)
    try:
        words = place.lingering()
        assert len(words) == 1
        assert "time.sleep(600)" in words[0]
        assert stays.wait(20) == -9
        assert place.lingering() == []
    finally:
        stays.kill()


def test_a_fault_that_cannot_be_tried_and_one_that_never_hits_are_said(
    known: Known, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*_: object) -> Struck | None:
        raise OSError("must be superuser to use mount")

    monkeypatch.setattr(module, "undisturbed", lambda folder, say, **how: known)
    monkeypatch.setattr(module, "FAULTS", {"disk": refused, "run": lambda *_: None})
    monkeypatch.setattr(Place, "lingering", lambda place: [])
    tallies = run(tmp_path, ("disk", "run"), times=1)
    assert tallies["disk"] == Tally(not_run="must be superuser to use mount")
    assert tallies["run"].missed == module.MOST_MISSES
    print_table(tallies)
    out = capsys.readouterr().out
    assert "NOT RUN disk: must be superuser to use mount" in out
    assert "PROBLEM run 0: never came in time" in out
    assert main(["--only", "disk", "--keep", str(tmp_path / "kept")]) == 2
    assert main(["--only", "run", "--times", "1", "--keep", str(tmp_path / "more")]) == 1


@pytest.mark.parametrize(
    ("names", "check_twice", "made"),
    [
        (("run", "flipped"), False, ["first"]),
        (("run", "flipped"), True, ["first", "again"]),
        (("run", "replaced"), True, ["first", "other", "again"]),
    ],
)
def test_only_what_the_faults_are_compared_with_is_made(
    names: tuple[str, ...], check_twice: bool, made: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def ended(place: Place, verb: str) -> Ended:
        assert place.options == ("sample.fps=2",)
        ran.append(place.folder.name)
        return Ended(0, "")

    monkeypatch.setattr(module, "render", lambda script, path: (path.parent.mkdir(exist_ok=True), path.touch()))
    monkeypatch.setattr(Place, "run", ended)
    # Each run leaves something else, which is only seen where there is a second one.
    monkeypatch.setattr(Place, "left", lambda place: dataclasses.replace(LEFT, results={"place": place.folder.name}))
    known: list[Known] = []
    monkeypatch.setattr(module, "FAULTS", dict.fromkeys(FAULTS, lambda place, of, rng: known.append(of)))
    monkeypatch.setattr(Place, "lingering", lambda place: [])
    how = {"times": 1, "options": ("sample.fps=2",), "check_twice": check_twice}
    if check_twice:
        with pytest.raises(RuntimeError, match="two undisturbed runs leave different things"):
            run(tmp_path, names, **how)
    else:
        run(tmp_path, names, **how)
        assert len(known[0].clips) == len(known[0].left) == 1
    assert ran == made


def test_every_fault_has_a_title_and_unknown_ones_are_refused() -> None:
    assert set(FAULTS) == set(TITLES)
    with pytest.raises(SystemExit, match="there is no fault x; there are run, worker"):
        main(["--only", "x"])
