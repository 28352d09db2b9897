"""Places that cannot be written: one line with a cure, before any work, and nothing left behind."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest

from faceline.errors import FacelineError
from faceline.folders import make_private_dirs
from faceline.writable import check_writable, write_cure
from flows.cli import main
from tests.flows.conftest import Line


@pytest.fixture
def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as on a read-only mount; whoever runs the tests may write everywhere."""
    folder = tmp_path / "closed"
    folder.mkdir()
    mkdir, mkdtemp = os.mkdir, tempfile.mkdtemp

    def refuse(path: str | os.PathLike[str]) -> None:
        if str(path).startswith(str(folder)):
            raise OSError(errno.EROFS, "Read-only file system", str(path))

    def no_mkdir(path: str, *args: int, **others: int) -> None:
        refuse(path)
        mkdir(path, *args, **others)

    def no_mkdtemp(prefix: str = "", dir: Path = tmp_path) -> str:
        refuse(dir)
        return mkdtemp(prefix=prefix, dir=dir)

    monkeypatch.setattr(os, "mkdir", no_mkdir)
    monkeypatch.setattr(tempfile, "mkdtemp", no_mkdtemp)
    return folder


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a command ends with, with exit code 1."""
    assert main(arguments) == 1
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "traceback" not in line
    return line


@pytest.mark.parametrize("verb", ["analyze", "sweep", "archive"])
@pytest.mark.parametrize("option", ["output", "store.root"])
def test_a_place_that_cannot_be_written_is_told_before_any_work(
    verb: str, option: str, line: Line, closed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = closed / "below" / "it"
    footage = line.footage("archive/clip")
    given = [text for text in line.arguments() if not text.startswith(("footage=", f"{option}="))]
    own = f"footage={footage.parent if verb == 'archive' else footage}"
    said = refused([verb, own, *given, f"{option}={place}"], capsys)
    assert said.startswith(f"faceline: {place}: cannot be written (Read-only file system); ")
    assert said.endswith(f"choose another place with {option}=DIR\n")
    assert line.calls.computed == []
    assert list(closed.iterdir()) == []


@pytest.mark.parametrize("verb", ["analyze", "plan", "sweep", "archive"])
def test_a_store_that_is_a_file_is_one_line(verb: str, line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    footage = line.footage("archive/clip")
    own = f"footage={footage.parent if verb == 'archive' else footage}"
    assert "is a file, not a store" in refused([verb, own, f"store.root={footage}"], capsys)


def test_keeping_results_that_are_not_there_is_wrong_use(line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    (line.folder / "artifacts").mkdir()
    assert main(["gc", "keep=nosuch", f"store.root={line.folder / 'artifacts'}"]) == 2
    assert capsys.readouterr().err == "faceline: keep=nosuch: there is no such folder; check the path\n"


def test_looking_leaves_nothing_behind(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "one", "output=DIR")
    check_writable(tmp_path, "output=DIR", beside=True)
    assert list(tmp_path.iterdir()) == []


def test_what_is_replaced_needs_its_parent_alone(closed: Path, tmp_path: Path) -> None:
    check_writable(closed, "output=DIR", beside=True)
    with pytest.raises(FacelineError, match="Read-only"):
        check_writable(closed, "output=DIR")


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FacelineError, match=r"\(.*/file is a file, not a folder\)"):
        check_writable(tmp_path / "file" / "a" / "b", "output=DIR")
    with pytest.raises(FileExistsError):
        make_private_dirs(tmp_path / "file")


def test_a_name_that_is_too_long_is_told(tmp_path: Path) -> None:
    with pytest.raises(FacelineError, match="choose a shorter name with output=DIR"):
        check_writable(tmp_path / ("x" * 300), "output=DIR")


@pytest.mark.parametrize(
    ("code", "cure"),
    [
        (errno.ENOSPC, "free some space, or choose another place with output=DIR"),
        (errno.EACCES, "see who may write there, or choose another place with output=DIR"),
        (errno.ENOENT, "choose another place with output=DIR"),
    ],
)
def test_the_cure_fits_the_error(code: int, cure: str) -> None:
    assert write_cure(OSError(code, "x"), "output=DIR") == cure


@pytest.mark.parametrize("verb", ["analyze", "plan", "sweep", "archive"])
def test_an_address_is_no_footage(verb: str, line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "footage=https://example.org/x.mp4"]) == 2
    said = "https://example.org/x.mp4: footage is a file or a folder, and addresses are not opened; download it first"
    assert capsys.readouterr().err.startswith(f"faceline: {said}")


def test_results_do_not_go_into_the_folder_of_the_footage_itself(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = line.footage("archive/clip").parent
    for output in (folder, folder / ".." / "archive"):
        assert main(["archive", f"footage={folder}", f"output={output}"]) == 2
        said = capsys.readouterr().err
        assert "results cannot go into the folder of the footage itself; choose another folder" in said
        assert said.count("\n") == 1
    assert main(["plan", f"footage={folder}", f"output={folder / 'results'}", f"store.root={line.folder / 's'}"]) == 0
