"""What of a store is reached: from the latest keys of each place, from pins, and from there back along the inputs.

Manifests name their inputs by content, not by key. Where a reached artifact names a content that several artifacts
have, these differ in where they come from (footage, segment, their own inputs) or only in how they were made
(parameters, code, weights). Of each that come from elsewhere one is kept: what is reached by its key, else the one that
was used last. So a chain stays whole, while copies that an edit of the code has left do not stay with it.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from faceline.artifacts import FORMAT, MANIFEST
from faceline.folders import Folder
from faceline.store import Store
from faceline.uses import Uses

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

_AT_ONCE = 16
"""Requests to an object store at the same time."""


@dataclass(slots=True)
class Entry:
    """A stored artifact, in so few bytes that a hundred thousand fit into memory; manifests are not kept.

    Attributes:
        stage, key: which one.
        size_bytes: of all its files, as they lie there.
        used_s: its last use, seconds since the epoch.
        content: digest of its content (32 bytes); empty when the manifest cannot be read.
        origin: digest of content, footage, scope and inputs (16 bytes): equal for artifacts that differ in nothing but
            how they were made.
        strange: whether another version of faceline wrote it, so that nothing can be said of it.
    """

    stage: str
    key: str
    size_bytes: int
    used_s: float
    content: bytes = b""
    origin: bytes = b""
    strange: bool = False


Inputs = Mapping[str, Sequence[str]]


def scan(store: Store, uses: Uses) -> Iterator[Entry]:
    """Every artifact of a store, sound or not; each manifest is read once, and none is kept."""

    def look_at(place: tuple[str, str]) -> Entry | None:
        return _entry_at(store.folder, uses, *place)

    yield from (entry for entry in side_by_side(store.folder, look_at, store.artifacts()) if entry is not None)


def side_by_side(folder: Folder, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """``map`` in order; several at the same time where each waits for an object store."""
    if folder.local_path("") is not None:
        yield from map(function, items)
        return
    remaining = iter(items)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        while batch := list(islice(remaining, 16 * _AT_ONCE)):
            yield from pool.map(function, batch)


def _entry_at(folder: Folder, uses: Uses, stage: str, key: str) -> Entry | None:
    place = f"{stage}/{key}"
    try:
        body = _manifest(folder, place)
    except OSError as error:
        log.warning("%s/%s/%s cannot be read, and is kept: %s", folder.url, place, MANIFEST, error)
        body = {"format": None}
    used_s = uses.last_s(stage, key)
    if body is None and (used_s is None or folder.local_path("") is None):
        return None  # Gone meanwhile; or, on an object store, payloads without a manifest, which are no artifact.
    entry = Entry(stage, key, folder.bytes_below(place), used_s or 0.0)
    if body:
        entry.strange = body.get("format") != FORMAT
        _describe(entry, body)
    return entry


def _manifest(folder: Folder, place: str) -> dict[str, Any] | None:
    """The manifest, unchecked: a wrong one keeps too much or is no hit anyway. Empty if torn, None if missing."""
    try:
        body = json.loads(folder.read(f"{place}/{MANIFEST}"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _describe(entry: Entry, body: dict[str, Any]) -> None:
    try:
        parts = body["parts"]
        entry.content = bytes.fromhex(body["digest"])
        comes_from = [body["digest"], parts["footage"], parts["scope"], parts["inputs"]]
        text = json.dumps(comes_from, sort_keys=True, separators=(",", ":"))
        entry.origin = hashlib.sha256(text.encode()).digest()[:16]
    except (KeyError, TypeError, ValueError):
        entry.content = entry.origin = b""


def inputs_of(folder: Folder, entry: Entry) -> Inputs:
    """Input stage → content digests of what an artifact was made from; empty when its manifest cannot be read."""
    try:
        body = _manifest(folder, f"{entry.stage}/{entry.key}") or {}
        inputs = (body.get("parts") or {}).get("inputs") or {}
        return {str(stage): [str(digest) for digest in digests] for stage, digests in inputs.items() if digests}
    except (OSError, AttributeError, TypeError):
        return {}


class Reach:
    """Marks what is reached, and from where.

    Args:
        folder: root of the store, where manifests of what is found on the way are read again.
        entries: everything stored.
    """

    def __init__(self, folder: Folder, entries: Sequence[Entry]) -> None:
        self._folder, self._entries = folder, entries
        self._by_key = {(entry.stage, entry.key): number for number, entry in enumerate(entries)}
        self._by_content: dict[tuple[str, bytes], list[int]] = {}
        for number, entry in enumerate(entries):
            if entry.content:
                self._by_content.setdefault((entry.stage, entry.content), []).append(number)
        self._named: set[tuple[str, bytes]] = set()
        self._waiting: dict[str, list[tuple[str, bytes]]] = {}
        self.reasons: dict[int, str] = {}

    def number(self, stage: str, key: str) -> int | None:
        """The position of a key's entry; None if nothing is stored there."""
        return self._by_key.get((stage, key))

    def add(self, reason: str, stage: str, key: str, inputs: Inputs | None = None) -> None:
        """Reach an artifact by its key, whether it is there or not. All of these come before `follow`.

        Args:
            reason: why; the first one counts.
            stage, key: which artifact.
            inputs: what it was made from; None if its manifest is to say so.
        """
        number = self._by_key.get((stage, key))
        if number is not None:
            self.reasons.setdefault(number, reason)
            if inputs is None:
                inputs = inputs_of(self._folder, self._entries[number])
        self._name(reason, inputs or {})

    def follow(self) -> None:
        """Reach everything that the reached were made from."""
        for reason, waiting in self._waiting.items():
            while waiting:
                for number in self._keepers(self._by_content.get(waiting.pop(), ())):
                    self.reasons[number] = reason
                    self._name(reason, inputs_of(self._folder, self._entries[number]))

    def _name(self, reason: str, inputs: Inputs) -> None:
        for stage, digests in inputs.items():
            for digest in digests or ():
                content = (stage, _bytes(digest))
                if content not in self._named:
                    self._named.add(content)
                    self._waiting.setdefault(reason, []).append(content)

    def _keepers(self, numbers: Sequence[int]) -> list[int]:
        """Of artifacts of one content, those that are to be reached besides those that are."""
        by_origin: dict[bytes, list[int]] = {}
        for number in numbers:
            by_origin.setdefault(self._entries[number].origin, []).append(number)
        return [
            max(same, key=lambda number: (self._entries[number].used_s, self._entries[number].key))
            for same in by_origin.values()
            if self.reasons.keys().isdisjoint(same)
        ]


def _bytes(digest: str) -> bytes:
    try:
        return bytes.fromhex(digest)
    except ValueError:
        return b""
