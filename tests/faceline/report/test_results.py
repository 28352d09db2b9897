"""The results folder: complete, private, replaced in one step, never at the cost of what somebody else put there."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from faceline.errors import FacelineError, UsageError
from faceline.report import results, swap
from faceline.report.pictures import face_names
from faceline.report.results import check_replaceable, compute_counts, write_results
from faceline.report.stage import REPORT, ReportParams
from faceline.stage import MemoryInputs, Runtime, collect
from tests.faceline.report import factory

SCRIPT = factory.Script(
    length_s=10,
    persons=(((0, 10),), ((2, 6),)),
    events=((1, 4, 5),),
    segment_s=4,
    unknown_every=9,
    no_face_every=7,
    no_crop_every=11,
)
RUN: dict[str, Any] = {
    "faceline": "0.1.0",
    "footage": {"path": "clip.mp4", "sha256": "ab" * 32, "duration_s": 10.0, "start_s": 0.0},
    "config": {"sample": {"fps": 10}},
    "models": {"detector": {"name": "mtcnn", "sha256": "01" * 32, "source": "package"}},
    "stages": [{"stage": "sample", "segment": 0, "key": "k", "state": "run", "reason": "no artifact", "seconds": 0.1}],
}


@pytest.fixture(scope="module")
def inputs() -> MemoryInputs:
    return factory.make(SCRIPT)


@pytest.fixture(scope="module")
def report_files(inputs: MemoryInputs) -> dict[str, bytes]:
    return dict(collect(REPORT.compute(ReportParams(plots=False), inputs, Runtime()))["files"])


def _tree(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_run_json_accounts_for_every_file(tmp_path: Path, inputs: MemoryInputs, report_files: dict[str, bytes]) -> None:
    folder = tmp_path / "results" / "clip"
    returned = write_results(folder, report_files, inputs, RUN)
    run = json.loads((folder / "run.json").read_text())
    assert run == returned
    tree = _tree(folder)
    del tree["run.json"]
    assert run["outputs"] == tree
    assert {key: run[key] for key in ("faceline", "config", "models", "stages")} == {
        key: RUN[key] for key in ("faceline", "config", "models", "stages")
    }
    assert run["footage"] == {**RUN["footage"], "frames_decoded": 300, "damaged_at_s": None}
    assert sorted(p.name for p in (tmp_path / "results").iterdir()) == ["clip"]


def test_faces_lie_in_time_order_and_by_person(
    tmp_path: Path, inputs: MemoryInputs, report_files: dict[str, bytes]
) -> None:
    folder = tmp_path / "clip"
    write_results(folder, report_files, inputs, RUN)
    crops = {
        (row["segment"], row["face"]): row["crop"] for row in inputs.table("align", "crops").to_pylist() if row["crop"]
    }
    persons = {(row["segment"], row["face"]): row for row in inputs.table("cluster", "persons").to_pylist()}
    states = {(row["segment"], row["face"]): row["state"] for row in inputs.table("align", "faces").to_pylist()}
    wanted = [persons[key] for key in crops if states[key] != "no_face"]
    aligned = sorted(path.name for path in (folder / "aligned_faces").iterdir())
    assert len(aligned) == len(wanted) > 100
    assert [int(name[1:9]) for name in aligned] == sorted(row["frame"] for row in wanted)
    for row in wanted:
        place = "unknown" if row["person"] is None else f"person_{row['person']}"
        found = list((folder / "organized_faces" / place).glob(f"f{row['frame']:08d}_*_track{row['track']:04d}.jpg"))
        assert len(found) == 1
        assert found[0].read_bytes() == crops[row["segment"], row["face"]]
        assert found[0].samefile(folder / "aligned_faces" / found[0].name)
    organized = list((folder / "organized_faces").rglob("*.jpg"))
    assert len(organized) == len(aligned)


def test_thumbnails_of_the_events_exist(tmp_path: Path, inputs: MemoryInputs, report_files: dict[str, bytes]) -> None:
    folder = tmp_path / "clip"
    write_results(folder, report_files, inputs, RUN)
    lines = list(csv.DictReader((folder / "events.csv").read_text().splitlines()))
    assert lines
    for line in lines:
        assert (folder / line["thumbnail"]).is_file()


def test_only_the_owner_may_look(tmp_path: Path, inputs: MemoryInputs, report_files: dict[str, bytes]) -> None:
    folder = tmp_path / "results" / "clip"
    before = os.umask(0)
    try:
        write_results(folder, report_files, inputs, RUN)
    finally:
        os.umask(before)
    for path in [tmp_path / "results", folder, *folder.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_copies_where_links_are_refused(
    tmp_path: Path, inputs: MemoryInputs, report_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    folder = tmp_path / "clip"
    run = write_results(folder, report_files, inputs, RUN)
    tree = _tree(folder)
    del tree["run.json"]
    assert run["outputs"] == tree
    picture = next((folder / "organized_faces" / "person_1").iterdir())
    assert not picture.samefile(folder / "aligned_faces" / picture.name)
    assert stat.S_IMODE(picture.stat().st_mode) == 0o600


def test_old_results_go_and_foreign_files_stay(
    tmp_path: Path, inputs: MemoryInputs, report_files: dict[str, bytes]
) -> None:
    folder = tmp_path / "clip"
    write_results(folder, report_files, inputs, RUN)
    (folder / "anomaly_detection_results_person_9.csv").write_text("old")
    (folder / "organized_faces" / "person_9").mkdir()
    (folder / "notes").mkdir()
    (folder / "notes" / "mine.txt").write_text("looked at it")
    (folder / "todo.txt").symlink_to("notes/mine.txt")
    run = write_results(folder, report_files, inputs, RUN)
    assert not (folder / "anomaly_detection_results_person_9.csv").exists()
    assert not (folder / "organized_faces" / "person_9").exists()
    assert (folder / "notes" / "mine.txt").read_text() == "looked at it"
    assert (folder / "todo.txt").is_symlink()
    assert "todo.txt" not in run["outputs"]


@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "two steps"])
@pytest.mark.parametrize("failing", ["write", "link", "carry"])
def test_a_failure_leaves_the_old_results(
    tmp_path: Path,
    inputs: MemoryInputs,
    report_files: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    failing: str,
    exchange: bool,
) -> None:
    folder = tmp_path / "clip"
    write_results(folder, report_files, inputs, RUN)
    before = _tree(folder)
    place, name = (results, "_carry_over") if failing == "carry" else (results._Writer, failing)
    whole = getattr(place, name)
    calls = 0

    def fail(*args: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > 20 or failing == "carry":
            raise RuntimeError("power")
        whole(*args)

    if not exchange:
        monkeypatch.setattr(swap, "_exchange", lambda *_: False)
    monkeypatch.setattr(place, name, fail)
    with pytest.raises(RuntimeError):
        write_results(folder, report_files, inputs, RUN)
    assert _tree(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["clip"]


def test_a_failing_last_rename_brings_the_old_results_back(
    tmp_path: Path, inputs: MemoryInputs, report_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "clip"
    write_results(folder, report_files, inputs, RUN)
    before = _tree(folder)
    monkeypatch.setattr(swap, "_exchange", lambda *_: False)
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self.name.startswith(".clip.new-"):
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(FacelineError, match="cannot be written"):
        write_results(folder, report_files, inputs, RUN)
    assert _tree(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["clip"]


def test_two_steps_replace_too(
    tmp_path: Path, inputs: MemoryInputs, report_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swap, "_exchange", lambda *_: False)
    folder = tmp_path / "clip"
    write_results(folder, report_files, inputs, {**RUN, "faceline": "0.0.9"})
    write_results(folder, report_files, inputs, RUN)
    assert json.loads((folder / "run.json").read_text())["faceline"] == "0.1.0"
    assert [path.name for path in tmp_path.iterdir()] == ["clip"]


RACING = """
import sys
from pathlib import Path
from faceline.report import swap
if sys.argv[2] == "two steps":
    swap._exchange = lambda *_: False
for number in range(60):
    with swap.replacing(Path(sys.argv[1])) as building:
        (building / "whole.txt").write_text(str(number))
"""


@pytest.mark.parametrize("way", ["exchange", "two steps"])
def test_two_runs_with_one_output_do_not_sweep_each_other_away(tmp_path: Path, way: str) -> None:
    folder = tmp_path / "clip"
    runs = [
        subprocess.Popen([sys.executable, "-c", RACING, str(folder), way], stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert [(run.communicate(timeout=120)[1], run.returncode) for run in runs] == [("", 0)] * 3
    assert (folder / "whole.txt").read_text() == "59"
    assert [path.name for path in tmp_path.iterdir()] == ["clip"]


KILLED = """
import os, signal, sys
from pathlib import Path
from faceline.report import swap
folder, when = Path(sys.argv[1]), sys.argv[2]
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
swap._exchange = lambda *_: False
rename = Path.rename
def dying(self, target):
    if self.name.startswith(f".{folder.name}.new-"):
        die()
    return rename(self, target)
if when == "between":
    Path.rename = dying
with swap.replacing(folder) as building:
    (building / "half.txt").write_text("half")
    if when == "building":
        die()
"""


@pytest.mark.parametrize("when", ["building", "between"])
def test_a_killed_process_costs_nothing(
    tmp_path: Path, inputs: MemoryInputs, report_files: dict[str, bytes], when: str
) -> None:
    folder = tmp_path / "clip"
    write_results(folder, report_files, inputs, RUN)
    before = _tree(folder)
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder), when], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    swap.recover(folder)
    assert _tree(folder) == before
    write_results(folder, report_files, inputs, RUN)
    assert [path.name for path in tmp_path.iterdir()] == ["clip"]


def test_a_folder_being_built_by_another_process_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    with swap.replacing(folder) as first:
        (first / "one.txt").write_text("1")
        with swap.replacing(folder) as second:
            assert (first / "one.txt").is_file()
            (second / "two.txt").write_text("2")
        assert (folder / "two.txt").is_file()
    assert (folder / "one.txt").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["clip"]


def test_a_folder_that_holds_something_else_is_refused(
    tmp_path: Path, inputs: MemoryInputs, report_files: dict[str, bytes]
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    check_replaceable(folder)
    check_replaceable(tmp_path / "new")
    (folder / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(UsageError, match="output=DIR") as refusal:
        write_results(folder, report_files, inputs, RUN)
    assert str(folder) in str(refusal.value)
    assert refusal.value.exit_code == 2
    (folder / "run.json").write_text('{"name": "another tool"}')
    with pytest.raises(UsageError):
        check_replaceable(folder)
    with pytest.raises(UsageError, match="a file"):
        check_replaceable(folder / "holiday.jpg")
    assert (folder / "holiday.jpg").read_bytes() == b"x"


def test_a_mount_point_is_refused() -> None:
    with pytest.raises(UsageError, match="inside it"):
        check_replaceable(Path("/"))


def test_no_picture_takes_the_name_of_another() -> None:
    rows = {"segment": 0, "frame": 7, "time_s": 0.28, "track": 3}
    faces = pa.Table.from_pylist([{**rows, "face": 1}, {**rows, "face": 2}, {**rows, "face": 3, "track": None}])
    names = face_names(faces)
    assert names[0] == "f00000007_00-00-00.280_track0003.jpg"
    assert len(set(names)) == 3


def test_names_sort_by_time_from_before_zero() -> None:
    faces = pa.Table.from_pylist(
        [{"segment": 0, "face": i, "frame": i, "time_s": -0.2 + i * 0.1, "track": 0} for i in range(1200)]
    )
    names = face_names(faces)
    assert names == sorted(names)
    assert not any(name.startswith("-") or "/" in name or ":" in name for name in names)


def test_a_place_that_cannot_be_written_is_one_clear_line(
    tmp_path: Path, inputs: MemoryInputs, report_files: dict[str, bytes]
) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(FacelineError, match="cannot be written") as failure:
        write_results(tmp_path / "file" / "clip", report_files, inputs, RUN)
    assert "\n" not in str(failure.value)


def test_a_link_to_a_folder_is_followed(tmp_path: Path, inputs: MemoryInputs, report_files: dict[str, bytes]) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link"
    link.symlink_to("real")
    write_results(link, report_files, inputs, RUN)
    assert link.is_symlink()
    assert (tmp_path / "real" / "run.json").is_file()


@pytest.mark.parametrize("path", ["../evil", "/etc/x", "a/../../b", "", "a//b", "./a"])
def test_no_report_file_leaves_the_folder(tmp_path: Path, inputs: MemoryInputs, path: str) -> None:
    with pytest.raises(ValueError, match="within the results folder"):
        write_results(tmp_path / "clip", {path: b"x"}, inputs, RUN)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a [1] * ?", "-dash", "面接", "with\nline"])
def test_any_name_of_footage_names_a_folder(
    tmp_path: Path, inputs: MemoryInputs, report_files: dict[str, bytes], name: str
) -> None:
    for _ in range(2):
        write_results(tmp_path / name, report_files, inputs, RUN)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_no_faces_still_make_a_whole_folder(tmp_path: Path) -> None:
    inputs = factory.empty()
    files = collect(REPORT.compute(ReportParams(plots=False), inputs, Runtime()))["files"]
    run = write_results(tmp_path / "clip", files, inputs, RUN)
    assert run["counts"] == {
        "sampled": 30, "frames_with_face": 0, "faces": 0, "tracks": 0, "persons": 0, "unknown_faces": 0, "events": 0,
        "explained": 0,
    }  # fmt: skip
    assert (tmp_path / "clip" / "aligned_faces").is_dir()
    assert (tmp_path / "clip" / "organized_faces" / "unknown").is_dir()


def test_counts_against_a_plain_loop(inputs: MemoryInputs) -> None:
    faces = [row for row in inputs.table("align", "faces").to_pylist() if row["state"] != "no_face"]
    persons = {(row["segment"], row["face"]): row for row in inputs.table("cluster", "persons").to_pylist()}
    mine = [persons[row["segment"], row["face"]] for row in faces]
    assert compute_counts(inputs) == {
        "sampled": 100,
        "frames_with_face": len({row["frame"] for row in faces}),
        "faces": len(faces),
        "tracks": len({row["track"] for row in mine}),
        "persons": 2,
        "unknown_faces": sum(row["person"] is None for row in mine),
        "events": 1,
        "explained": 0,
    }
    assert 0 < compute_counts(inputs)["unknown_faces"] < len(faces) < len(persons)


def test_explained_events_are_counted_apart() -> None:
    script = factory.Script(length_s=9, events=((1, 2, 3), (1, 5, 6), (1, 7, 8)), explained=2, pictures=False)
    counts = compute_counts(factory.make(script))
    assert (counts["events"], counts["explained"]) == (1, 2)


def test_damage_of_any_segment_is_in_run_json(tmp_path: Path) -> None:
    inputs = factory.make(factory.Script(length_s=10, segment_s=4, damaged_at_s=9.5, events=()))
    run = write_results(tmp_path / "clip", {}, inputs, RUN)
    assert run["footage"]["damaged_at_s"] == 9.5


def test_pictures_are_read_in_batches(tmp_path: Path, inputs: MemoryInputs, monkeypatch: pytest.MonkeyPatch) -> None:
    table = MemoryInputs.table

    def refuse(self: MemoryInputs, stage: str, payload: str, columns: Any = None) -> Any:
        assert (stage, payload) != ("align", "crops") or "crop" not in (columns or ["crop"]) or streaming
        return table(self, stage, payload, columns)

    streaming = False
    batches = MemoryInputs.batches

    def stream(self: MemoryInputs, *args: Any, **kwargs: Any) -> Any:
        nonlocal streaming
        streaming = True
        chunks = list(batches(self, *args, **kwargs))
        streaming = False
        assert max(chunk.num_rows for chunk in chunks) <= 256
        return iter(chunks)

    monkeypatch.setattr(MemoryInputs, "table", refuse)
    monkeypatch.setattr(MemoryInputs, "batches", stream)
    write_results(tmp_path / "clip", {}, inputs, RUN)
