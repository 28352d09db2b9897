"""Records by content: kept whole, read back as they were, torn ones as if there were none; tries in a row."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from faceline.folders import LocalFolder, folder_at
from faceline.keys import KeyParts
from faceline.nightly.recipe import Recipe
from faceline.nightly.records import Record, Records
from tests.faceline.nightly.factory import digest, moment

RECORD = Record(
    digest(1),
    "done",
    "ab" * 32,
    "2026-11-23T02:00:00+00:00",
    "not \udcff text\n.mp4",
    footage={"name": "a", "start_s": "1/3", "duration_s": 5.0},
    persons=2,
    events=1,
    moments=(moment(), moment(20.0, p_value=None)),
    stages={"detect": 1.5},
)
RECIPE = Recipe({"sample": KeyParts("sample", 1, {"fps": 5.0}, {}, None, {}, {}, {}, {"faceline.x": "11"})}, "0.1.0")


@pytest.mark.parametrize("where", ["local", "memory://records-of-tests"])
def test_records_come_back_as_they_were(where: str, tmp_path: Path) -> None:
    records = Records(folder_at(str(tmp_path) if where == "local" else where))
    assert records.get(digest(1)) is None
    records.put(RECORD)
    assert records.get(digest(1)) == RECORD
    records.put(replace(RECORD, state="failed"))
    again = records.get(digest(1))
    assert again is not None and again.state == "failed"
    assert records.get(digest(2)) is None


def test_a_record_torn_at_any_byte_is_none(tmp_path: Path) -> None:
    records = Records(LocalFolder(tmp_path))
    records.put(RECORD)
    (path,) = tmp_path.glob("contents/*/*.json")
    assert path.stat().st_mode & 0o777 == 0o600
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        assert records.get(digest(1)) is None
    for other in (b"[]", b"5", b"{}", whole.replace(b'"events"', b'"occurrences"'), b"\xff"):
        path.write_bytes(other)
        assert records.get(digest(1)) is None


def test_a_record_in_anothers_place_is_none(tmp_path: Path) -> None:
    records = Records(LocalFolder(tmp_path))
    records.put(RECORD)
    (path,) = tmp_path.glob("contents/*/*.json")
    path.rename(path.with_name(f"{digest(2)}.json"))
    assert records.get(digest(2)) is None


def test_recipes_come_back_and_altered_ones_do_not(tmp_path: Path) -> None:
    records = Records(LocalFolder(tmp_path))
    assert records.recipe(RECIPE.digest) is None
    records.put_recipe(RECIPE)
    again = records.recipe(RECIPE.digest)
    assert again is not None and again.digest == RECIPE.digest
    (path,) = tmp_path.glob("recipes/*.json")
    whole = path.read_bytes()
    for altered in (whole.replace(b"5.0", b"6.0"), whole[:-1], b"{}", b'{"parts": {"a": 5}, "faceline": ""}'):
        path.write_bytes(altered)
        assert records.recipe(RECIPE.digest) is None


def test_tries_in_a_row_count_what_ended_the_same_way() -> None:
    def failing(reason: str = "no space", at: str = "t2") -> Record:
        return replace(RECORD, state="failed", reason=reason, at=at, tries=9, since="?")

    first = failing(at="t1").after(None)
    assert (first.tries, first.since) == (1, "t1")
    second = failing().after(first)
    assert (second.tries, second.since) == (2, "t1")
    assert (failing("other").after(second).tries, failing("other", "t3").after(second).since) == (1, "t3")
    assert RECORD.after(second).tries == 1
    assert failing().after(RECORD.after(second)).tries == 1
