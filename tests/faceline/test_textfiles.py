"""Text for spreadsheets: no cell is a formula, None stays empty, and any path becomes valid Unicode."""

from __future__ import annotations

import csv
import io
import os

from hypothesis import given
from hypothesis import strategies as st

from faceline.textfiles import csv_text, valid_text


@given(st.lists(st.lists(st.one_of(st.none(), st.text(), st.integers()), min_size=2, max_size=2), max_size=5))
def test_cells_come_back_and_none_is_a_formula(rows: list[list[object]]) -> None:
    read = list(csv.reader(io.StringIO(csv_text(("a", "b"), rows), newline="")))
    assert read[0] == ["a", "b"]
    for row, cells in zip(rows, read[1:], strict=True):
        for value, cell in zip(row, cells, strict=True):
            text = "" if value is None else str(value)
            assert cell in (text, f"'{text}")
            assert not (isinstance(value, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")))


def test_bytes_that_are_no_text_are_shown() -> None:
    assert valid_text(os.fsdecode(b"a\xff.mp4")) == "a\\udcff.mp4"
    assert valid_text("é\n") == "é\n"
