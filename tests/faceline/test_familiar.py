"""Telling new contents by size and both ends."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from faceline.familiar import ENDS_BYTES, FOLDER, Ends, met, note
from faceline.folders import Folder, folder_at


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    return folder_at(tmp_path / "store" if request.param == "local" else f"memory://{uuid.uuid4().hex}")


def file_of(path: Path, start: bytes, middle: bytes, end: bytes) -> Path:
    path.write_bytes(start.ljust(ENDS_BYTES, b"s") + middle.ljust(1000, b"m") + end.rjust(ENDS_BYTES, b"e"))
    return path


def test_a_content_is_met_under_any_name(folder: Folder, tmp_path: Path) -> None:
    note(folder, file_of(tmp_path / "a", b"1", b"2", b"3"), "aa" * 32)
    assert Ends.of(file_of(tmp_path / "b", b"1", b"2", b"3")) in met(folder)


@pytest.mark.parametrize("other", [(b"x", b"2", b"3"), (b"1", b"2", b"x")], ids=["start", "end"])
def test_a_content_that_differs_at_an_end_is_new(folder: Folder, tmp_path: Path, other: tuple[bytes, ...]) -> None:
    note(folder, file_of(tmp_path / "a", b"1", b"2", b"3"), "aa" * 32)
    assert Ends.of(file_of(tmp_path / "b", *other)) not in met(folder)


def test_another_size_is_new(folder: Folder, tmp_path: Path) -> None:
    small, smaller = tmp_path / "small", tmp_path / "smaller"
    small.write_bytes(b"0" * 50)
    smaller.write_bytes(b"0" * 49)
    note(folder, small, "aa" * 32)
    assert Ends.of(small) in met(folder)
    assert Ends.of(smaller) not in met(folder)


def test_contents_that_differ_in_the_middle_alone_are_not_told_apart(folder: Folder, tmp_path: Path) -> None:
    note(folder, file_of(tmp_path / "a", b"1", b"2", b"3"), "aa" * 32)
    assert Ends.of(file_of(tmp_path / "b", b"1", b"other", b"3")) in met(folder)


def test_noting_again_writes_nothing(tmp_path: Path) -> None:
    folder = folder_at(tmp_path / "store")
    file = file_of(tmp_path / "a", b"1", b"2", b"3")
    note(folder, file, "aa" * 32)
    (before,) = (tmp_path / "store" / FOLDER).iterdir()
    state = before.stat()
    note(folder, file, "aa" * 32)
    (after,) = (tmp_path / "store" / FOLDER).iterdir()
    assert (after.name, after.stat().st_ino) == (before.name, state.st_ino)


def test_what_else_lies_in_the_folder_is_nothing_that_was_met(folder: Folder) -> None:
    for name in ("notes.txt", "12-", "12-ab", "x-ab-cd", "-", "١-ab-cd"):
        folder.put(f"{FOLDER}/{name}", b"")
    assert not [ends for ends in met(folder) if ends.size_bytes != 1]
    assert not met(folder_at(f"memory://{uuid.uuid4().hex}"))
