"""The fuzz harness: a short run of it finds nothing, cases are their numbers' alone, and what it finds is kept."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from benchmarks.fuzz import run as module
from benchmarks.fuzz.media import Outcome, make_case
from benchmarks.fuzz.mutations import mp4_boxes
from benchmarks.fuzz.run import main, run
from benchmarks.fuzz.seeds import made_seeds


@pytest.fixture(scope="module")
def seeds() -> list[tuple[str, bytes]]:
    return list(made_seeds(count=12))


def test_a_short_run_over_media_has_no_findings(tmp_path: Path) -> None:
    tally = run(seed=1, media=60, texts=0, out=tmp_path / "found")
    assert tally.findings == {}
    kinds = {kind for _, kind in tally.counts}
    assert kinds == {"fine", "damaged", "refused"}, "mutations neither break everything nor nothing"
    assert sum(tally.counts.values()) == 60
    assert not (tmp_path / "found").exists()


def test_a_short_run_over_texts_has_no_findings(tmp_path: Path) -> None:
    tally = run(seed=1, media=0, texts=100, out=tmp_path / "found")
    assert tally.findings == {}
    assert {group for group, _ in tally.counts} == {"file", "command line", "manifest", "run.json"}


def test_making_files_leaves_the_priority_of_this_process_alone(seeds: list[tuple[str, bytes]]) -> None:
    assert "av1.ivf" in {name for name, _ in seeds}
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_a_case_follows_from_its_number_alone(seeds: list[tuple[str, bytes]]) -> None:
    assert make_case(17, 3, seeds) == make_case(17, 3, seeds)
    contents = {make_case(number, 3, seeds).content for number in range(200)}
    assert len(contents) > 190
    originals = {content for _, content in seeds}
    assert len(contents & originals) < 10
    assert make_case(17, 4, seeds) != make_case(17, 3, seeds)


def test_real_files_are_every_fifth_case(seeds: list[tuple[str, bytes]]) -> None:
    real = [("clips-x.mp4", seeds[0][1])]
    names = [make_case(number, 0, seeds, real).seed for number in range(10)]
    assert [name == "clips-x.mp4" for name in names] == [number % 5 == 4 for number in range(10)]
    assert make_case(3, 0, seeds, real) == make_case(3, 0, seeds)


def test_footage_is_made_in_many_containers(seeds: list[tuple[str, bytes]]) -> None:
    suffixes = {Path(name).suffix for name, _ in seeds}
    assert {".mp4", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".ts", ".flv", ".wmv", ".gif", ".mxf"} <= suffixes
    assert all(content for _, content in seeds)


def test_boxes_of_mp4_are_found_at_every_depth(seeds: list[tuple[str, bytes]]) -> None:
    content = dict(seeds)["plain.mp4"]
    kinds = [kind for _, _, kind in mp4_boxes(content)]
    assert {b"ftyp", b"moov", b"trak", b"stbl", b"stsz", b"mdat", b"avc1"} <= set(kinds)


def test_a_finding_is_told_and_kept_for_its_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "_guarded", lambda *_: (Outcome("crash", "was ended by signal 11"), "a note", 0.1))
    out = tmp_path / "found"
    assert main(["--media", "1", "--texts", "1", "--made-only", "--out", str(out)]) == 1
    said = capsys.readouterr().out
    assert "FINDING media:0, again with --seed 0 --only media:0" in said
    assert "2 findings" in said
    assert "signal 11\na note" in (out / "media-0-0.txt").read_text()
    case = next(path for path in out.iterdir() if path.name.startswith("media") and path.suffix != ".txt")
    assert case.read_bytes() == make_case(0, 0, list(made_seeds())).content
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in out.iterdir()} == {0o600}


def test_one_case_alone(tmp_path: Path) -> None:
    tally = run(seed=0, only="text:3", out=tmp_path)
    assert sum(tally.counts.values()) == 1
