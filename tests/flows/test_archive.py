"""Finding footage below a folder, a results folder for each, and what becomes of an archive's exit code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceline.errors import UsageError
from faceline.nightly.nights import Entry, State
from flows import archive as module
from flows.archive import open_archive
from flows.config import load_config
from flows.discovery import find_footage, results_folders
from flows.files import csv_text, replace_text, valid_text
from flows.options import ArchiveOptions
from tests.flows.conftest import Line

MP4 = b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00"
AVI = b"RIFF\x00\x00\x00\x00AVI LIST"
MKV = b"\x1aE\xdf\xa3\x01\x00\x00\x00"
HEIC = b"\x00\x00\x00\x20ftypheic\x00\x00\x00\x00"
SOUND = b"\x00\x00\x00\x20ftypM4A \x00\x00\x02\x00"


def fill(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def found(folder: Path, options: ArchiveOptions | None = None, leave_out: tuple[Path, ...] = ()) -> list[str]:
    return [str(path.relative_to(folder)) for path in find_footage(folder, options or ArchiveOptions(), leave_out)]


def test_footage_is_found_by_name_and_by_content(tmp_path: Path) -> None:
    fill(
        tmp_path,
        {
            "b.MP4": MP4,
            "a/z.avi": b"not readable, but to be listed",
            "a/no extension": MKV,
            "a/wrong.dat": AVI,
            "notes.txt": b"notes",
            "photo.heic": HEIC,
            "sound.m4a": SOUND,
            "empty": b"",
            ".hidden.mp4": MP4,
            ".cache/x.mp4": MP4,
        },
    )
    assert found(tmp_path) == ["a/no extension", "a/wrong.dat", "a/z.avi", "b.MP4"]
    assert found(tmp_path, ArchiveOptions(sniff=False)) == ["a/z.avi", "b.MP4"]
    assert found(tmp_path, ArchiveOptions(extensions=("avi",), sniff=False)) == ["a/z.avi"]
    assert ".cache/x.mp4" in found(tmp_path, ArchiveOptions(hidden=True))


def test_results_and_artifacts_within_the_archive_are_left_out(tmp_path: Path) -> None:
    fill(tmp_path, {"a.mp4": MP4, "results/a/clip.mp4": MP4, "artifacts/x.mp4": MP4})
    assert found(tmp_path, leave_out=(tmp_path / "results", tmp_path / "artifacts")) == ["a.mp4"]


def test_links_that_go_round_in_circles_end(tmp_path: Path) -> None:
    fill(tmp_path, {"deep/a.mp4": MP4})
    (tmp_path / "deep" / "loop").symlink_to(tmp_path)
    (tmp_path / "again.mp4").symlink_to(tmp_path / "deep" / "a.mp4")
    (tmp_path / "nowhere.mp4").symlink_to(tmp_path / "missing")
    assert found(tmp_path) == ["again.mp4", "deep/a.mp4"]


def test_odd_names_are_found(tmp_path: Path) -> None:
    names = ["-leading.mp4", "a=b,c.mp4", "new\nline.mp4", "quo'\"te.mp4", "ünï.mp4", "x" * 200 + ".mp4"]
    fill(tmp_path, dict.fromkeys(names, MP4))
    assert found(tmp_path) == sorted(names)
    assert all(valid_text(name).encode() for name in found(tmp_path))


@pytest.mark.parametrize(
    ("files", "folders"),
    [
        (["a.mp4", "deep/b.avi"], ["a", "deep/b"]),
        (["a.avi", "a.mp4"], ["a.avi", "a.mp4"]),
        (["a.mp4", "a/b.mp4"], ["a.mp4", "a/b"]),
        (["a.tar.mp4"], ["a.tar"]),
    ],
)
def test_no_two_files_share_a_results_folder(files: list[str], folders: list[str]) -> None:
    home, output = Path("/archive"), Path("/results")
    made = list(results_folders(home, [home / name for name in files], output))
    assert [str(path.relative_to(output)) for path in made] == folders


@given(
    st.lists(
        st.lists(st.sampled_from(["a", "b", "a.mp4", "..mp4", "...mp4", "a.mov", "a.mp4.avi"]), min_size=1, max_size=3),
        min_size=1,
        max_size=8,
        unique_by=tuple,
    )
)
def test_results_folders_are_all_different_and_inside(files: list[list[str]]) -> None:
    home, output = Path("/archive"), Path("/results")
    # A file cannot also be a folder.
    named = [Path(*parts) for parts in files]
    named = [path for path in named if not any(path in other.parents for other in named)]
    made = list(results_folders(home, [home / path for path in named], output))
    assert len(set(made)) == len(made)
    for path in made:
        inside = path.relative_to(output)
        assert inside.parts
        assert not {".", ".."} & set(inside.parts)
    assert not [a for a in made for b in made if a in b.parents]


@pytest.mark.parametrize(
    ("states", "code"),
    [
        ([], 0),
        (["done", "unchanged"], 0),
        (["done", "quarantined"], 3),
        (["unchanged", "failed", "left"], 3),
        (["quarantined", "failed"], 1),
        (["quarantined", "gone", "left"], 1),
        (["left"], 0),
    ],
)
def test_exit_codes(states: list[State], code: int) -> None:
    assert module.exit_code([Entry(str(i), state) for i, state in enumerate(states)]) == code


@pytest.mark.parametrize(
    ("options", "files"),
    [
        ({"exclude": ("tmp",)}, ["a.mp4", "deep/b.mp4", "deep/c.avi"]),
        ({"exclude": ("*.avi", "tmp/*")}, ["a.mp4", "deep/b.mp4", "deep/tmp/e.mp4"]),
        ({"include": ("deep/*",)}, ["deep/b.mp4", "deep/c.avi", "deep/tmp/e.mp4"]),
        ({"include": ("[ab].mp4",), "exclude": ("deep",)}, ["a.mp4"]),
    ],
)
def test_patterns_choose_files(tmp_path: Path, options: dict[str, tuple[str, ...]], files: list[str]) -> None:
    fill(tmp_path, dict.fromkeys(["a.mp4", "deep/b.mp4", "deep/c.avi", "deep/tmp/e.mp4", "tmp/d.mp4"], MP4))
    assert found(tmp_path, ArchiveOptions(**options)) == files


def test_folders_that_cannot_be_read_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, {"a.mp4": MP4, "closed/b.mp4": MP4})
    scandir = os.scandir

    def refuse(path: str) -> Any:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    told: list[OSError] = []
    assert find_footage(tmp_path, ArchiveOptions(), (), told.append) == [tmp_path / "a.mp4"]
    assert [Path(str(error.filename)).name for error in told] == ["closed"]


def test_an_empty_archive_is_done(line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    (line.folder / "archive").mkdir()
    assert module.archive(line.arguments(footage=line.folder / "archive")) == 0
    assert "0 to analyse" in capsys.readouterr().out


def test_what_is_no_folder_is_wrong_use(line: Line) -> None:
    with pytest.raises(UsageError, match="is no folder; use `faceline analyze` for one file"):
        module.archive(line.arguments(footage=line.footage()))
    with pytest.raises(UsageError, match="is no folder; check the path"):
        module.archive(line.arguments(footage=line.folder / "nowhere"))
    with pytest.raises(UsageError, match="no folder is named"):
        open_archive(load_config([], module.STAGES))


# ------------------------------------------------------------------------------------------ small files


def test_tables_hold_no_formulas() -> None:
    text = csv_text(["a", "b"], [["=1+1", None], ["plain, with comma", -5], ["-x", 1.5]])
    assert text == "a,b\n'=1+1,\n\"plain, with comma\",-5\n'-x,1.5\n"


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "table.csv"
    replace_text(path, "one")
    replace_text(path, "two")
    assert path.read_text() == "two"
    assert list(path.parent.iterdir()) == [path]
