"""Artifacts: the manifest that makes a folder of payloads one, the small reference passed around, the reader."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
import pyarrow as pa

from faceline.errors import ArtifactError
from faceline.folders import Folder
from faceline.keys import KeyParts, digest_of, plain
from faceline.payloads import (
    StoredFile,
    StoredPayload,
    hash_file,
    listing_digest,
    read_array,
    read_batches,
    read_table,
    safe_name,
)

MANIFEST = "manifest.json"
FORMAT = 1


@dataclass(frozen=True)
class ArtifactRef:
    """Names one committed artifact; small, immutable, and all that travels between tasks.

    Attributes:
        stage: name of the stage.
        key: its key (hex).
        digest: SHA-256 (hex) over its payloads; what the keys of later stages contain.
        root: path or URL of the store.
        segment: index of the segment it covers, or None.
        trial: id of the grid-search trial it belongs to, or None.
        rows: payload → rows (or array entries, or files).
    """

    stage: str
    key: str
    digest: str
    root: str
    segment: int | None = None
    trial: str | None = None
    rows: Mapping[str, int] = field(default_factory=dict, hash=False)

    @property
    def folder(self) -> str:
        """The artifact's folder below the root."""
        return f"{self.stage}/{self.key}"


@dataclass(frozen=True)
class Manifest:
    """What is known of an artifact, written last; an artifact without a whole manifest does not exist.

    Attributes:
        parts: everything the key was made of.
        payloads: payload name → where it lies, its size and digest.
        faceline: version that wrote it.
        created: UTC time of the commit, ISO 8601.
        host: name of the machine.
        runtime: device, batch size, threads.
        libraries: distribution → version, of what computes results.
        timings: ``compute_s`` and ``write_s``, seconds.
    """

    parts: KeyParts
    payloads: Mapping[str, StoredPayload]
    faceline: str
    created: str
    host: str
    runtime: Mapping[str, Any]
    libraries: Mapping[str, str]
    timings: Mapping[str, float]

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over the payloads' names, kinds and digests: the artifact's content."""
        return digest_of({name: [payload.kind, payload.sha256] for name, payload in self.payloads.items()})

    @property
    def rows(self) -> dict[str, int]:
        """Payload → rows."""
        return {name: payload.rows for name, payload in self.payloads.items()}

    def to_bytes(self) -> bytes:
        """The manifest as an indented JSON file that ends with a digest of itself."""
        body = {"format": FORMAT, "stage": self.parts.stage, "key": self.parts.key, "digest": self.digest}
        for part in fields(self):
            value = getattr(self, part.name)
            if part.name == "parts":
                value = value.to_plain()
            elif part.name == "payloads":
                value = {name: asdict(payload) for name, payload in value.items()}
            body[part.name] = plain(value, part.name)
        body["check"] = digest_of(body, "manifest")
        return (json.dumps(body, ensure_ascii=False, allow_nan=False, indent=1) + "\n").encode("utf-8")

    @classmethod
    def from_bytes(cls, data: bytes, key: str) -> Manifest:
        """Read a manifest back, trusting nothing.

        Raises:
            ValueError: it is torn, altered, of another format, or does not belong to ``key``; the message says which.
        """
        try:
            body = json.loads(data.decode("utf-8"))
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            raise ValueError("manifest.json is torn") from error
        if not isinstance(body, dict) or "check" not in body:
            raise ValueError("manifest.json is torn")
        check = body.pop("check")
        try:
            if digest_of(body) != check:
                raise ValueError("manifest.json was altered")
            if body["format"] != FORMAT:
                raise ValueError(f"manifest.json has format {body['format']}, this version reads {FORMAT}")
            manifest = cls(
                parts=KeyParts.from_plain(body["parts"]),
                payloads={name: _payload_from(value) for name, value in body["payloads"].items()},
                **{name: body[name] for name in ("faceline", "created", "host", "runtime", "libraries", "timings")},
            )
            if manifest.parts.key != key or body["key"] != key:
                raise ValueError("manifest.json belongs to another key")
            if manifest.digest != body["digest"]:
                raise ValueError("manifest.json was altered")
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"manifest.json is not whole: {error}") from error
        return manifest


def _payload_from(value: Mapping[str, Any]) -> StoredPayload:
    files = {safe_name(name): StoredFile(**file) for name, file in value["files"].items()}
    safe_name(value["path"])
    payload = StoredPayload(**{**value, "files": files})
    described: list[StoredPayload | StoredFile] = [payload, *files.values()]
    for stored in described:
        # Whoever can write into a store can make the digests fit: nothing here is what it should be by itself.
        if not isinstance(stored.sha256, str) or type(stored.size) is not int or stored.size < 0:
            raise TypeError("a digest is no text, or a size no number")
    if type(payload.rows) is not int or payload.rows < 0 or not isinstance(payload.kind, str):
        raise TypeError("a kind is no text, or a number of rows no number")
    return payload


class Artifact:
    """Reads one committed artifact. Payloads are checked against their digests before they are read the first time.

    Args:
        folder: root of the store.
        ref: which artifact.
        on_damage: called before the error is raised when something stored is not what it should be.
        manifest: its manifest, where that was read a moment ago.

    Raises:
        ArtifactError: it is not there, torn, or no longer the one that ``ref`` was made for.
    """

    def __init__(
        self,
        folder: Folder,
        ref: ArtifactRef,
        on_damage: Callable[[ArtifactRef], None] | None = None,
        manifest: Manifest | None = None,
    ) -> None:
        self.ref = ref
        self._on_damage = on_damage
        self._folder = folder
        self._checked: set[str] = set()
        try:
            self.manifest = manifest or Manifest.from_bytes(folder.read(f"{ref.folder}/{MANIFEST}"), ref.key)
        except FileNotFoundError as error:
            raise self._damaged("manifest.json is missing") from error
        except ValueError as error:
            raise self._damaged(str(error)) from error
        if self.manifest.digest != ref.digest:
            raise ArtifactError(
                f"the artifact of {ref.stage} was replaced by one with other content",
                where=f"{ref.root}/{ref.folder}",
                cure="run the same command again",
            )

    def table(self, payload: str, columns: Sequence[str] | None = None) -> pa.Table:
        """A whole Parquet payload; `ArtifactError` if it is damaged, `KeyError` for unknown names."""
        stored = self._checked_payload(payload, "parquet")
        with self._reading(payload):
            return read_table(*self._near(stored.path, stored), columns)

    def batches(
        self, payload: str, columns: Sequence[str] | None = None, batch_size: int = 256
    ) -> Iterator[pa.RecordBatch]:
        """The same in batches of at most ``batch_size`` rows."""
        stored = self._checked_payload(payload, "parquet")
        with self._reading(payload):
            batches = read_batches(*self._near(stored.path, stored), columns, batch_size)
        while True:
            with self._reading(payload):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def array(self, payload: str) -> np.ndarray:
        """A whole NPY payload, memory-mapped and read-only; of a remote store, its copy on this machine is mapped."""
        stored = self._checked_payload(payload, "npy")
        with self._reading(payload):
            return read_array(*self._near(stored.path, stored), stored.rows)

    def files(self, payload: str) -> Iterator[tuple[str, bytes]]:
        """Name and content of each file of a ``files`` payload, one at a time."""
        stored = self._checked_payload(payload, "files")
        for name, file in stored.files.items():
            with self._reading(payload):
                folder, path = self._near(f"{stored.path}/{name}", file)
                data = folder.read(path)
            yield name, data

    def _near(self, path: str, content: StoredFile | StoredPayload, *, check: bool = False) -> tuple[Folder, str]:
        """A payload's file on this machine, to be opened now: a copy may be gone a minute later."""
        return self._folder.near(f"{self.ref.folder}/{path}", content.sha256, content.size, check=check)

    def problems(self, *, deep: bool) -> Iterator[str]:
        """What is wrong with the payloads, in words: sizes, and with ``deep`` digests too."""
        files = [path for stored in self.manifest.payloads.values() for path in stored.stored_files()]
        sizes = self._folder.sizes(self.ref.folder, files)
        for name in self.manifest.payloads:
            yield from self._payload_problems(name, sizes, deep=deep)

    def _payload_problems(self, payload: str, sizes: Mapping[str, int | None], *, deep: bool) -> Iterator[str]:
        stored = self.manifest.payloads[payload]
        if stored.kind == "files" and listing_digest(stored.files) != stored.sha256:
            yield f"{stored.path}: the listing does not match its digest"
        for path, expected in stored.stored_files().items():
            name = f"{self.ref.folder}/{path}"
            size = sizes[path]
            if size is None:
                yield f"{path} is missing"
            elif size != expected.size:
                yield f"{path} has {size} bytes, expected {expected.size}"
            elif deep:
                try:
                    with self._folder.open(name, size) as file:
                        actual = hash_file(file)
                except FileNotFoundError:  # Since its size was asked.
                    yield f"{path} is missing"
                    continue
                except OSError as error:
                    if error.errno != errno.EIO:
                        raise
                    yield f"{path} cannot be read: {error.strerror}"
                    continue
                if actual.sha256 != expected.sha256:
                    yield f"{path} has SHA-256 {actual.sha256[:12]}…, expected {expected.sha256[:12]}…"

    def _checked_payload(self, payload: str, kind: str) -> StoredPayload:
        try:
            stored = self.manifest.payloads[payload]
        except KeyError:
            raise KeyError(f"{self.ref.stage} has no payload {payload!r}") from None
        if stored.kind != kind:
            raise TypeError(f"{self.ref.stage}/{payload} is of kind {stored.kind}, not {kind}")
        if payload not in self._checked:
            with self._reading(payload):
                if self._folder.local_path("") is None:
                    self._fetch(stored)
                else:
                    sizes = self._folder.sizes(self.ref.folder, list(stored.stored_files()))
                    for problem in self._payload_problems(payload, sizes, deep=True):
                        raise self._damaged(problem)
            self._checked.add(payload)
        return stored

    def _fetch(self, stored: StoredPayload) -> None:
        """Have sound copies of a remote payload's files on this machine."""
        if stored.kind == "files" and listing_digest(stored.files) != stored.sha256:
            raise self._damaged(f"{stored.path}: the listing does not match its digest")
        for path, expected in stored.stored_files().items():
            try:
                self._near(path, expected, check=True)
            except FileNotFoundError:
                raise self._damaged(f"{path} is missing") from None
            except ValueError as error:
                raise self._damaged(f"{path} {error}") from error

    @contextmanager
    def _reading(self, payload: str) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowInvalid, ValueError) as error:
            # Arrow reports torn content as an OSError without a number. One with a number is the machine's trouble
            # (no more file handles, a stale mount), which says nothing about the artifact and may pass; but a sector
            # that cannot be read is as good as a torn file.
            if isinstance(error, OSError) and error.errno not in (None, errno.ENOENT, errno.EIO):
                raise
            raise self._damaged(f"{payload} cannot be read: {error}") from error

    def _damaged(self, problem: str) -> ArtifactError:
        if self._on_damage is not None:
            self._on_damage(self.ref)
        return ArtifactError(
            f"artifact damaged: {problem}",
            where=f"{self.ref.root}/{self.ref.folder}",
            cure="run the same command again; what is damaged is set aside and computed anew",
        )
