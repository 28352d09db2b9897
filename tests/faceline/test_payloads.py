"""Payload kinds: what is written is read back, bytes do not depend on the chunks, and misfits are refused."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faceline.folders import LocalFolder
from faceline.payloads import (
    ROW_GROUP_ROWS,
    StoredPayload,
    read_array,
    read_batches,
    read_table,
    safe_name,
    writer_of,
)
from faceline.stage import Payload

SCHEMA = pa.schema(
    [
        ("frame", pa.int64()),
        ("score", pa.float32()),
        ("state", pa.string()),
        ("good", pa.bool_()),
        ("points_px", pa.list_(pa.float32(), 4)),
        ("crop", pa.binary()),
    ]
)


def _table(rows: int, seed: int = 0) -> pa.Table:
    random = np.random.default_rng(seed)
    missing = random.random(rows) < 0.3
    return pa.table(
        {
            "frame": pa.array(np.arange(rows)),
            "score": pa.array(random.random(rows).astype(np.float32), mask=missing),
            "state": pa.array([["ok", "no_face", None][i] for i in random.integers(0, 3, rows)], pa.string()),
            "good": pa.array(random.random(rows) < 0.5),
            "points_px": pa.array([None if m else [1.0, 2.0, 3.0, float(i)] for i, m in enumerate(missing)]).cast(
                pa.list_(pa.float32(), 4)
            )
            if rows
            else pa.array([], pa.list_(pa.float32(), 4)),
            "crop": pa.array([None if m else bytes([i % 256]) * (i % 50) for i, m in enumerate(missing)], pa.binary()),
        },
        schema=SCHEMA,
    )


def _write(folder: Path, kind: Literal["parquet", "npy", "files"], chunks: Sequence[Any]) -> StoredPayload:
    folder.mkdir(parents=True)
    writer = writer_of(Payload("p", kind), folder)
    for chunk in chunks:
        writer.append(chunk)
    return writer.finish()


def _cut(value: Any, cuts: Sequence[int]) -> list[Any]:
    edges = [0, *sorted(min(cut, len(value)) for cut in cuts), len(value)]
    pieces = [slice(a, b) for a, b in pairwise(edges)]
    if isinstance(value, pa.Table):
        return [value.slice(piece.start, piece.stop - piece.start) for piece in pieces]
    return [value[piece] for piece in pieces]


# Tables.


def test_a_table_comes_back(tmp_path: Path) -> None:
    table = _table(5000)
    stored = _write(tmp_path / "a", "parquet", [table])
    folder = LocalFolder(tmp_path / "a")
    assert (stored.kind, stored.path, stored.rows) == ("parquet", "p.parquet", 5000)
    assert read_table(folder, "p.parquet", None).equals(table)
    assert read_table(folder, "p.parquet", ["state", "frame"]).equals(table.select(["state", "frame"]))
    batches = list(read_batches(folder, "p.parquet", ["points_px", "frame"], 300))
    assert max(batch.num_rows for batch in batches) <= 300
    assert pa.Table.from_batches(batches).equals(table.select(["points_px", "frame"]))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 3 * ROW_GROUP_ROWS), st.lists(st.integers(0, 3 * ROW_GROUP_ROWS), max_size=6))
def test_a_tables_bytes_do_not_depend_on_its_chunks(
    tmp_path_factory: pytest.TempPathFactory, rows: int, cuts: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("bytes")
    table = _table(rows)
    whole = _write(folder / "whole", "parquet", [table])
    pieces = _write(folder / "pieces", "parquet", _cut(table, cuts))
    copied = _write(
        folder / "copied", "parquet", [pa.Table.from_pylist(t.to_pylist(), SCHEMA) for t in _cut(table, cuts[:1])]
    )
    assert whole == pieces == copied
    assert (folder / "whole" / "p.parquet").read_bytes() == (folder / "pieces" / "p.parquet").read_bytes()


def test_row_groups_have_a_fixed_size(tmp_path: Path) -> None:
    _write(tmp_path / "a", "parquet", _cut(_table(5000), range(0, 5000, 7)))
    metadata = pq.ParquetFile(tmp_path / "a" / "p.parquet").metadata
    sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    assert sizes == [ROW_GROUP_ROWS, ROW_GROUP_ROWS, 5000 - 2 * ROW_GROUP_ROWS]


def test_an_empty_table_keeps_its_schema(tmp_path: Path) -> None:
    stored = _write(tmp_path / "a", "parquet", [SCHEMA.empty_table()])
    assert stored.rows == 0
    assert read_table(LocalFolder(tmp_path / "a"), "p.parquet", None).schema == SCHEMA
    assert list(read_batches(LocalFolder(tmp_path / "a"), "p.parquet", None, 10)) == []


def test_fixed_size_lists_with_gaps_come_back(tmp_path: Path) -> None:
    """pyarrow by itself cannot read these back."""
    column = pa.array([None, [1.0, 2.0], None, [3.0, None]], pa.list_(pa.float64(), 2))
    table = pa.table({"a": column, "b": [1, 2, 3, 4]})
    _write(tmp_path / "a", "parquet", [table])
    assert read_table(LocalFolder(tmp_path / "a"), "p.parquet", None).equals(table)
    assert read_table(LocalFolder(tmp_path / "a"), "p.parquet", ["b"]).schema == pa.schema([("b", pa.int64())])
    assert pq.read_table(tmp_path / "a" / "p.parquet")["a"].to_pylist() == column.to_pylist()


def test_metadata_of_a_table_does_not_count(tmp_path: Path) -> None:
    table = _table(10)
    noted = table.replace_schema_metadata({"pandas": "index 0..10", "written": "today"})
    assert _write(tmp_path / "a", "parquet", [table]) == _write(tmp_path / "b", "parquet", [noted])


@pytest.mark.parametrize(
    ("chunks", "error", "message"),
    [
        ([pa.table({"a": [1]}), pa.table({"a": [1.5]})], ValueError, "a: int64 → double"),
        ([pa.table({"a": [1]}), pa.table({"b": [1]})], ValueError, "a: int64 → absent, b: absent → int64"),
        ([pa.table({"a": [1], "b": [2]}), pa.table({"b": [2], "a": [1]})], ValueError, "order"),
        ([np.zeros(3)], TypeError, "takes pyarrow tables, got ndarray"),
        ([pa.table({"a": pa.array(["x"]).dictionary_encode()})], TypeError, "dictionary-encoded"),
    ],
)
def test_misfit_tables_are_refused(tmp_path: Path, chunks: list[Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        _write(tmp_path / "a", "parquet", chunks)


def test_an_unknown_column_is_named(tmp_path: Path) -> None:
    _write(tmp_path / "a", "parquet", [pa.table({"a": [1], "b": [2]})])
    with pytest.raises(KeyError, match="no column c; there are a, b"):
        read_table(LocalFolder(tmp_path / "a"), "p.parquet", ["a", "c"])


# Arrays.


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 300),
    st.sampled_from([(), (3,), (478, 3), (0,)]),
    st.sampled_from(["<f4", "<f8", "|u1", "<i8", "|b1"]),
    st.lists(st.integers(0, 300), max_size=5),
)
def test_an_arrays_bytes_do_not_depend_on_its_chunks(
    tmp_path_factory: pytest.TempPathFactory, rows: int, trailing: tuple[int, ...], dtype: str, cuts: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("bytes")
    array = (np.arange(rows * int(np.prod(trailing))) % 251).reshape(rows, *trailing).astype(dtype)
    stored = _write(folder / "pieces", "npy", _cut(array, cuts))
    assert stored == _write(folder / "whole", "npy", [array])
    loaded = read_array(LocalFolder(folder / "pieces"), "p.npy", stored.rows)
    assert (loaded.dtype, loaded.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(loaded, array)


def test_the_header_fits_any_number_of_rows(tmp_path: Path) -> None:
    small = _write(tmp_path / "a", "npy", [np.zeros((1, 2), np.float32)])
    large = _write(tmp_path / "b", "npy", [np.zeros((500_000, 2), np.float32)] * 3)
    assert large.size - 1_500_000 * 8 == small.size - 8
    assert read_array(LocalFolder(tmp_path / "b"), "p.npy", large.rows).shape == (1_500_000, 2)


def test_arrays_are_mapped_and_read_only(tmp_path: Path) -> None:
    stored = _write(tmp_path / "a", "npy", [np.arange(6.0).reshape(3, 2)])
    array = read_array(LocalFolder(tmp_path / "a"), "p.npy", stored.rows)
    assert isinstance(array, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 1


def test_strided_arrays_are_written_in_order(tmp_path: Path) -> None:
    array = np.arange(24).reshape(4, 6)
    stored = _write(tmp_path / "a", "npy", [array[:, ::2], np.asfortranarray(array)[:, 1::2]])
    loaded = read_array(LocalFolder(tmp_path / "a"), "p.npy", stored.rows)
    np.testing.assert_array_equal(loaded, np.concatenate([array[:, ::2], array[:, 1::2]]))


@pytest.mark.parametrize(
    ("chunks", "error", "message"),
    [
        ([np.array([{}])], TypeError, "need pickling"),
        ([np.array(1.0)], ValueError, "without axes"),
        ([[1, 2]], TypeError, "takes NumPy arrays, got list"),
        ([np.zeros(2), np.zeros(2, np.float32)], ValueError, "float32.* the first one was float64"),
        ([np.zeros((2, 3)), np.zeros((2, 4))], ValueError, r"float64\[4\] per row, the first one was float64\[3\]"),
    ],
)
def test_misfit_arrays_are_refused(tmp_path: Path, chunks: list[Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        _write(tmp_path / "a", "npy", chunks)


def test_pickles_are_not_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="Python objects"):
        read_array(LocalFolder(tmp_path), "p.npy", 1)


# Files.


def test_files_come_back(tmp_path: Path) -> None:
    stored = _write(tmp_path / "a", "files", [{"b/c.png": b"123", "a.html": b""}, {"z": b"9"}])
    assert (stored.rows, stored.size, list(stored.files)) == (3, 4, ["a.html", "b/c.png", "z"])
    assert (tmp_path / "a" / "p" / "b" / "c.png").read_bytes() == b"123"
    assert stored == _write(tmp_path / "b", "files", [{"z": b"9"}, {"a.html": b"", "b/c.png": b"123"}])


def test_another_name_or_content_gives_another_digest(tmp_path: Path) -> None:
    digests = {
        _write(tmp_path / str(i), "files", [files]).sha256
        for i, files in enumerate([{"a": b"1"}, {"a": b"2"}, {"b": b"1"}, {"a": b"1", "b": b""}, {}])
    }
    assert len(digests) == 5


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../x", "a/../x", "a/..", "", ".", "a/", "a//b", "./a", "a\\b", "C:x", "a\nb", "a\x00"]
)
def test_unsafe_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="no safe relative"):
        safe_name(name)
    with pytest.raises(ValueError, match="no safe relative"):
        _write(tmp_path / "a", "files", [{name: b""}])


@pytest.mark.parametrize("name", ["a", "a/b.png", "..a", "a..b", "ä b.txt", ".hidden"])
def test_ordinary_names_are_safe(name: str) -> None:
    assert safe_name(name) == name


@pytest.mark.parametrize(
    ("chunks", "error", "message"),
    [
        ([{"a": b""}, {"a": b""}], ValueError, "p/a is written twice"),
        ([{"a": "text"}], TypeError, "takes bytes, got str"),
        ([[b"a"]], TypeError, "takes mappings"),
        ([{1: b""}], ValueError, "no safe relative"),
    ],
)
def test_misfit_files_are_refused(tmp_path: Path, chunks: list[Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        _write(tmp_path / "a", "files", chunks)


# All kinds.


@pytest.mark.parametrize(
    ("kind", "chunk"), [("parquet", pa.table({"a": [1]})), ("npy", np.zeros(3)), ("files", {"d/x": b"1"})]
)
def test_what_is_written_is_private(tmp_path: Path, kind: Literal["parquet", "npy", "files"], chunk: Any) -> None:
    _write(tmp_path / "a", kind, [chunk])
    for path in (tmp_path / "a").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
