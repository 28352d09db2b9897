"""The latest key of each place: what a stage was last run with for a footage, so that a rerun can say what changed.

A place is found again by the footage's content, and failing that by its path, so that edited footage is told apart
from footage never seen. Losing pointers loses no result; but a cleaner (`faceline.collecting`) takes what none reaches.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faceline.folders import Folder
from faceline.keys import KeyParts, canonical_json, digest_of


@dataclass(frozen=True)
class Place:
    """Where a key was used.

    Attributes:
        stage: name of the stage.
        footage: SHA-256 of the footage, or None for a stage run on none.
        path: path of the footage, or None; kept as a digest only.
        segment: index of the segment, or None.
        trial: id of the trial, or None.
    """

    stage: str
    footage: str | None = None
    path: str | None = None
    segment: int | None = None
    trial: str | None = None

    @classmethod
    def of(cls, stage: str, footage: Any, segment: Any = None, trial: str | None = None) -> Place:
        """The place of a stage's run; ``footage`` and ``segment`` may be None."""
        path = getattr(footage, "path", None)
        return cls(
            stage,
            footage.sha256 if footage is not None else None,
            str(Path(path).absolute()) if path is not None else None,
            segment.index if segment is not None else None,
            trial,
        )

    def pointers(self) -> list[str]:
        """Names of its pointer files, the most telling first."""
        name = self.stage
        if self.segment is not None:
            name += f".segment-{self.segment}"
        if self.trial is not None:
            name += f".trial-{_short_digest(self.trial)}"
        folders = [self.footage or "-"]
        if self.path is not None:
            folders.append(path_group(self.path))
        return [f"_latest/{folder}/{name}.json" for folder in folders]


def places_of(footage: Any) -> list[str]:
    """Folders in which the pointers of a footage's places lie, as `Place.pointers` names them."""
    pointers = Place.of("-", footage).pointers()
    return [pointer.rpartition("/")[0] for pointer in pointers]


def _short_digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


@dataclass(frozen=True)
class Latest:
    """What a place was last run with, and when (seconds since the epoch)."""

    parts: KeyParts
    at_s: float


def remember(folder: Folder, place: Place, parts: KeyParts, at_s: float) -> None:
    """Point ``place`` at ``parts``."""
    body: dict[str, Any] = {"parts": parts.to_plain(), "at_s": at_s}
    body["check"] = digest_of(body)
    data = canonical_json(body).encode("utf-8")
    for name in place.pointers():
        folder.put(name, data)


def recall(folder: Folder, place: Place) -> Latest | None:
    """What ``place`` points at; None if nothing does, or the pointer is no good."""
    for name in place.pointers():
        # Whatever is wrong with a pointer, it is no reason to fail.
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            body = json.loads(folder.read(name, recent=True))
            check = body.pop("check")
            if check == digest_of(body):
                return Latest(KeyParts.from_plain(body["parts"]), float(body["at_s"]))
    return None


def points_at(folder: Folder, place: Place, key: str) -> bool:
    """Whether all pointers of ``place`` are sound and point at ``key``."""
    found = (read_pointer(folder, name, recent=True) for name in place.pointers())
    return all(pointer is not None and pointer.key == key for pointer in found)


@dataclass(frozen=True)
class Pointer:
    """A pointer as a cleaner sees it.

    Attributes:
        name: its file.
        group: the folder it lies in: digest of a footage, ``path-`` and the digest of a path, or ``-``.
        at_s: when it was written, seconds since the epoch; 0 if it is torn.
        stage, key: what it points at; empty if it is torn.
        footage: SHA-256 of the footage, where the stage reads it.
        inputs: input stage → content digests of the artifacts that were read.
    """

    name: str
    group: str
    at_s: float = 0.0
    stage: str = ""
    key: str = ""
    footage: str | None = None
    inputs: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def is_torn(self) -> bool:
        """Whether it points nowhere."""
        return not self.key


def pointer_groups(folder: Folder) -> list[str]:
    """Names of the groups of a store's pointers, see `Pointer`."""
    return folder.names("_latest")


def pointers(folder: Folder, *groups: str) -> Iterator[Pointer]:
    """Every pointer of these groups, or of all; torn ones too. Key parts that other versions have do not matter."""
    for group in groups or pointer_groups(folder):
        for file_name in folder.names(f"_latest/{group}"):
            if not file_name.startswith("."):
                pointer = read_pointer(folder, f"_latest/{group}/{file_name}")
                if pointer is not None:
                    yield pointer


def read_pointer(folder: Folder, name: str, *, recent: bool = False) -> Pointer | None:
    """The pointer in a file; None if there is no such file. For ``recent`` see `Folder.read`."""
    group = name.split("/")[1]
    try:
        body = json.loads(folder.read(name, recent=recent))
        check = body.pop("check")
        if check == digest_of(body):
            parts = body["parts"]
            key = digest_of(parts, "key")
            return Pointer(name, group, float(body["at_s"]), parts["stage"], key, parts["footage"], parts["inputs"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    return Pointer(name, group)


def path_group(path: str | Path) -> str:
    """The group of the pointers of a path."""
    return f"path-{_short_digest(str(Path(path).absolute()))}"
