"""Payload kinds: how tables, arrays and files are written chunk by chunk and read back, one class per kind.

Same content gives the same bytes, however it was cut into chunks: tables are cut anew into row groups of a fixed
number of rows, arrays are one block behind a header of fixed length, and nothing writes a time or a name of a machine.
Only pyarrow's own version stands in the bytes of a table. Nothing is ever pickled.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Protocol

import numpy as np
import pyarrow as pa

from faceline.folders import Folder, create_private, make_private_dirs
from faceline.keys import canonical_json, digest_of
from faceline.stage import Payload

ROW_GROUP_ROWS = 2048
_SIZES = "faceline.fixed_size_lists"
_HASH_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class StoredFile:
    """SHA-256 (hex) and size in bytes of one stored file."""

    sha256: str
    size: int


@dataclass(frozen=True)
class StoredPayload:
    """One payload as the manifest describes it.

    Attributes:
        kind: ``parquet``, ``npy`` or ``files``.
        path: its file (or folder, for ``files``), relative to the artifact.
        rows: rows of a table, entries along axis 0 of an array, or number of files.
        sha256: digest of the file; for ``files``, of the listing of all names, sizes and digests.
        size: bytes, all files together.
        files: for ``files``, relative name → digest and size; else empty.
    """

    kind: str
    path: str
    rows: int
    sha256: str
    size: int
    files: Mapping[str, StoredFile] = field(default_factory=dict)

    def stored_files(self) -> dict[str, StoredFile]:
        """Every file of the payload, by path relative to the artifact."""
        if self.kind == "files":
            return {f"{self.path}/{name}": file for name, file in self.files.items()}
        return {self.path: StoredFile(self.sha256, self.size)}


class PayloadWriter(Protocol):
    """Writes one payload; closed exactly once, also when the stage failed."""

    def append(self, chunk: Any) -> None:
        """Add a chunk; `TypeError` or `ValueError` if it does not fit the kind or the chunks before it."""
        ...

    def finish(self) -> StoredPayload:
        """Write what is left, flush to disk, and describe the payload."""
        ...

    def close(self) -> None:
        """Let go of open files without finishing."""
        ...


def writer_of(payload: Payload, folder: Path) -> PayloadWriter:
    """The writer of a declared payload, below the artifact's (temporary) folder."""
    kinds: dict[str, type[TableWriter] | type[ArrayWriter] | type[FilesWriter]] = {
        "parquet": TableWriter,
        "npy": ArrayWriter,
        "files": FilesWriter,
    }
    return kinds[payload.kind](payload, folder)


class TableWriter:
    """Parquet, zstd, in row groups of `ROW_GROUP_ROWS` rows. The first chunk sets the schema."""

    def __init__(self, payload: Payload, folder: Path) -> None:
        self._name = payload.file_name
        self._file = create_private(folder / self._name)
        self._schema: pa.Schema | None = None
        self._stored_schema: pa.Schema | None = None
        self._writer: Any = None
        self._waiting: list[pa.Table] = []
        self._waiting_rows = 0
        self._rows = 0

    def append(self, chunk: Any) -> None:
        if not isinstance(chunk, pa.Table):
            raise TypeError(f"{self._name} takes pyarrow tables, got {type(chunk).__name__}")
        # Metadata may hold what depends on the chunking (pandas writes its index range there).
        chunk = chunk.replace_schema_metadata(None)
        if self._schema is None:
            self._open(chunk.schema)
        elif not chunk.schema.equals(self._schema):
            difference = _schema_difference(self._schema, chunk.schema)
            raise ValueError(f"{self._name}: a chunk has another schema than the first one: {difference}")
        self._waiting.append(chunk)
        self._waiting_rows += chunk.num_rows
        while self._waiting_rows >= ROW_GROUP_ROWS:
            self._write_group(ROW_GROUP_ROWS)

    def _open(self, schema: pa.Schema) -> None:
        import pyarrow.parquet as pq  # Half a second that a cached run does without.

        for column in schema:
            if pa.types.is_dictionary(column.type):
                raise TypeError(
                    f"{self._name}: column {column.name} is dictionary-encoded, whose bytes depend on the chunks"
                )
        text = [column.name for column in schema if pa.types.is_string(column.type) or pa.types.is_boolean(column.type)]
        numbers = [column.name for column in schema if pa.types.is_primitive(column.type)]
        self._schema = schema
        self._stored_schema = _storable_schema(schema)
        self._writer = pq.ParquetWriter(
            self._file, self._stored_schema, compression="zstd", use_dictionary=text, write_statistics=text + numbers
        )

    def _write_group(self, rows: int) -> None:
        whole = pa.concat_tables(self._waiting)
        # One piece per column: where pages are cut must not depend on where chunks were.
        group = whole.slice(0, rows).combine_chunks().cast(self._stored_schema)
        self._writer.write_table(group, row_group_size=ROW_GROUP_ROWS)
        self._waiting = [whole.slice(rows)] if whole.num_rows > rows else []
        self._waiting_rows = whole.num_rows - rows
        self._rows += rows

    def finish(self) -> StoredPayload:
        if self._waiting_rows:
            self._write_group(self._waiting_rows)
        self._writer.close()
        file = finish_file(self._file)
        return StoredPayload("parquet", self._name, self._rows, file.sha256, file.size)

    def close(self) -> None:
        try:
            if self._writer is not None:
                self._writer.close()
        finally:
            self._file.close()


def _storable_schema(schema: pa.Schema) -> pa.Schema:
    """The schema with fixed-size lists as plain lists, their sizes noted in its metadata.

    Arrow C++ up to 25 writes fixed-size lists that contain nulls but cannot read them (apache/arrow#35692).
    """
    sizes = {column.name: column.type.list_size for column in schema if pa.types.is_fixed_size_list(column.type)}
    columns = [
        column.with_type(pa.list_(column.type.value_field)) if column.name in sizes else column for column in schema
    ]
    return pa.schema(columns, {_SIZES: canonical_json(sizes)} if sizes else None)


def _restored(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table (any columns of a file with ``schema``) with its fixed-size lists as they were, without metadata."""
    sizes = json.loads((schema.metadata or {}).get(_SIZES.encode(), b"{}"))
    table = table.replace_schema_metadata(None)
    if not sizes:
        return table
    columns = [
        column.with_type(pa.list_(column.type.value_field, sizes[column.name])) if column.name in sizes else column
        for column in table.schema
    ]
    return table.cast(pa.schema(columns))


def _schema_difference(first: pa.Schema, other: pa.Schema) -> str:
    before = {column.name: str(column.type) for column in first}
    after = {column.name: str(column.type) for column in other}
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return (
        ", ".join(f"{n}: {before.get(n, 'absent')} → {after.get(n, 'absent')}" for n in changed)
        or "order or nullability"
    )


class ArrayWriter:
    """NPY, appended along axis 0. The first chunk sets dtype and trailing shape; the header is patched at the end."""

    def __init__(self, payload: Payload, folder: Path) -> None:
        self._name = payload.file_name
        self._file = create_private(folder / self._name)
        self._dtype: np.dtype[Any] | None = None
        self._trailing: tuple[int, ...] = ()
        self._header_bytes = 0
        self._rows = 0

    def append(self, chunk: Any) -> None:
        if not isinstance(chunk, np.ndarray):
            raise TypeError(f"{self._name} takes NumPy arrays, got {type(chunk).__name__}")
        if chunk.dtype.hasobject:
            raise TypeError(f"{self._name}: dtype {chunk.dtype} would need pickling")
        if chunk.ndim == 0:
            raise ValueError(f"{self._name}: an array without axes cannot be appended")
        if self._dtype is None:
            self._dtype, self._trailing = chunk.dtype, chunk.shape[1:]
            self._write_header()
            self._header_bytes = self._file.tell()
        elif (chunk.dtype, chunk.shape[1:]) != (self._dtype, self._trailing):
            raise ValueError(
                f"{self._name}: a chunk is {chunk.dtype}{list(chunk.shape[1:])} per row, "
                f"the first one was {self._dtype}{list(self._trailing)}"
            )
        if chunk.size:
            self._file.write(np.ascontiguousarray(chunk).data)
        self._rows += len(chunk)

    def _write_header(self) -> None:
        description = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self._rows, *self._trailing),
        }
        # NumPy pads the header for a growing first axis, so that it can be written again in place.
        np.lib.format.write_array_header_1_0(self._file, description)

    def finish(self) -> StoredPayload:
        self._file.seek(0)
        self._write_header()
        if self._file.tell() != self._header_bytes:
            raise ValueError(f"{self._name}: the header grew from {self._header_bytes} bytes to {self._file.tell()}")
        file = finish_file(self._file)
        return StoredPayload("npy", self._name, self._rows, file.sha256, file.size)

    def close(self) -> None:
        self._file.close()


class FilesWriter:
    """A folder of whole files, by safe relative name."""

    def __init__(self, payload: Payload, folder: Path) -> None:
        self._name = payload.file_name
        self._folder = folder / self._name
        self._files: dict[str, StoredFile] = {}
        make_private_dirs(self._folder)

    def append(self, chunk: Any) -> None:
        if not isinstance(chunk, Mapping):
            raise TypeError(f"{self._name} takes mappings of name → bytes, got {type(chunk).__name__}")
        for name, data in chunk.items():
            safe_name(name)
            if not isinstance(data, bytes):
                raise TypeError(f"{self._name}/{name} takes bytes, got {type(data).__name__}")
            if name in self._files:
                raise ValueError(f"{self._name}/{name} is written twice")
            path = self._folder / name
            make_private_dirs(path.parent)
            with create_private(path) as file:
                file.write(data)
                self._files[name] = finish_file(file)

    def finish(self) -> StoredPayload:
        files = dict(sorted(self._files.items()))
        return StoredPayload(
            "files", self._name, len(files), listing_digest(files), sum(file.size for file in files.values()), files
        )

    def close(self) -> None:
        """Every file is closed as soon as it is written."""


def safe_name(name: str) -> str:
    """``name`` if it is a relative path that stays below its folder; else `ValueError`.

    >>> safe_name("plots/person_1.png")
    'plots/person_1.png'
    """
    parts = PurePosixPath(name).parts if isinstance(name, str) else ()
    hostile = "\\" in str(name) or ":" in str(name) or any(ord(letter) < 32 for letter in str(name))
    if not parts or name.startswith("/") or ".." in parts or str(PurePosixPath(*parts)) != name or hostile:
        raise ValueError(f"{name!r} is no safe relative file name")
    return name


def listing_digest(files: Mapping[str, StoredFile]) -> str:
    """SHA-256 (hex) over names, digests and sizes of a ``files`` payload."""
    return digest_of({"files": [[name, file.sha256, file.size] for name, file in sorted(files.items())]})


def finish_file(file: BinaryIO) -> StoredFile:
    """Bring an open, just written file to disk, close it, and describe it."""
    file.flush()
    os.fsync(file.fileno())
    file.seek(0)
    stored = hash_file(file)
    file.close()
    return stored


def hash_file(file: BinaryIO) -> StoredFile:
    """SHA-256 and size of what is left to read."""
    digest, size = hashlib.sha256(), 0
    while block := file.read(_HASH_BLOCK_BYTES):
        digest.update(block)
        size += len(block)
    return StoredFile(digest.hexdigest(), size)


def table_file(folder: Folder, name: str) -> Any:
    """The Parquet file ``name`` as `pyarrow.parquet.ParquetFile`."""
    import pyarrow.parquet as pq

    path = folder.local_path(name)
    return pq.ParquetFile(path if path is not None else folder.open(name))


def read_table(folder: Folder, name: str, columns: Sequence[str] | None) -> pa.Table:
    """A whole Parquet file, or some of its columns in the order asked for; `KeyError` for a column it lacks."""
    with table_file(folder, name) as file:
        wanted = _checked_columns(file.schema_arrow, columns)
        table = _restored(file.read(columns=wanted), file.schema_arrow)
    return table if wanted is None else table.select(wanted)


def read_batches(folder: Folder, name: str, columns: Sequence[str] | None, batch_size: int) -> Iterator[pa.RecordBatch]:
    """A Parquet file in batches of at most ``batch_size`` rows, read as they are asked for."""
    with table_file(folder, name) as file:
        wanted = _checked_columns(file.schema_arrow, columns)
        for batch in file.iter_batches(batch_size=batch_size, columns=wanted):
            table = _restored(pa.Table.from_batches([batch]), file.schema_arrow)
            yield from (table if wanted is None else table.select(wanted)).to_batches()


def _checked_columns(schema: pa.Schema, columns: Sequence[str] | None) -> list[str] | None:
    if columns is None:
        return None
    missing = [column for column in columns if column not in schema.names]
    if missing:
        raise KeyError(f"no column {', '.join(missing)}; there are {', '.join(schema.names)}")
    return list(columns)


def read_array(folder: Folder, name: str, rows: int) -> np.ndarray:
    """A whole NPY file: memory-mapped and read-only when it lies on this machine, else read into memory."""
    path = folder.local_path(name)
    array: np.ndarray
    if path is None:
        with folder.open(name) as file:
            array = np.load(file, allow_pickle=False)
    else:
        # An empty file region cannot be mapped.
        array = np.load(path, mmap_mode="r" if rows else None, allow_pickle=False)
    return array
