"""Names that others gave: nothing in them is obeyed, and whatever they are, a folder can bear them."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceline.errors import FacelineError
from faceline.names import cut, folder_name, printable
from faceline.report.swap import replacing
from faceline.video import results_name

HOSTILE = [
    "a\nb",
    "\x1b[2J\x1b]0;owned\x07",
    "\x9b31m",
    "gpj.\u202e4pm",
    "a\u2028b",
    "\udcff\udcfe",
    "-rf",
    "=1+1",
    "..",
    "<script>alert(1)</script>",
    "ä" * 125,
    "😀" * 62,
    "x" * 250,
]


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_shown_is_one_line_that_no_terminal_obeys(name: str) -> None:
    shown = printable(name)
    assert len(shown.splitlines()) == 1
    assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or 0x202A <= ord(c) <= 0x202E for c in shown)
    shown.encode()


def test_ordinary_names_stay_as_they_are() -> None:
    for name in ("Gespräch 2.mp4", "インタビュー", "10.30.15\u202fAM", "👩‍💻", "a\u00a0b", "מסמך", "50% (1)"):
        assert printable(name) == folder_name(name) == name
    assert printable("a\nb\x1b", keep="\n") == "a\nb\\x1b"


@given(st.text(st.characters(codec=None, exclude_characters="/\0"), min_size=1, max_size=255))
def test_every_name_gives_a_folder_of_its_own(name: str) -> None:
    made = folder_name(name)
    assert 0 < len(made.encode()) <= 180
    assert "/" not in made
    assert made == printable(made)
    if len(name.encode("utf-8", "surrogatepass")) > 180:
        assert folder_name(name + "x") != made


@pytest.mark.parametrize("name", HOSTILE)
def test_results_of_any_file_can_be_put_in_place_and_replaced(tmp_path: Path, name: str) -> None:
    folder = tmp_path / results_name(Path(f"{name}.mp4"))
    assert folder.parent == tmp_path
    for content in ("first", "second"):
        with replacing(folder) as building:
            (building / "run.json").write_text(content)
        assert (folder / "run.json").read_text() == content
    assert len(list(tmp_path.iterdir())) == 1


def test_a_results_folder_of_the_longest_name_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode("ä".encode() * 127)
    for _ in range(2):
        with replacing(folder) as building:
            (building / "x").touch()
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


@given(st.text(), st.integers(0, 300))
def test_cutting_leaves_whole_characters(text: str, most: int) -> None:
    part = cut(text, most)
    assert len(part.encode()) <= most
    assert text.startswith(part)


def test_an_error_is_one_line_whatever_it_names() -> None:
    error = FacelineError("is\nno video", where="/a/\x1b[31m\n.mp4", cure="look\tat it")
    assert str(error) == "/a/\\x1b[31m .mp4: is no video; look at it"
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert again.where == error.where
