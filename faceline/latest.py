"""The latest key of each place: what a stage was last run with for a footage, so that a rerun can say what changed.

A place is found again by the footage's content, and failing that by its path, so that edited footage is told apart
from footage never seen. Pointers only explain: losing them loses no result.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass
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
            folders.append(f"path-{_short_digest(self.path)}")
        return [f"_latest/{folder}/{name}.json" for folder in folders]


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
            with folder.open(name) as file:
                body = json.loads(file.read())
            check = body.pop("check")
            if check == digest_of(body):
                return Latest(KeyParts.from_plain(body["parts"]), float(body["at_s"]))
    return None


def latest_artifacts(folder: Folder) -> set[tuple[str, str]]:
    """Stage and key of everything that some place points at: what a cleaner must keep."""
    kept: set[tuple[str, str]] = set()
    for group in folder.names("_latest"):
        for name in folder.names(f"_latest/{group}"):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                with folder.open(f"_latest/{group}/{name}") as file:
                    parts = KeyParts.from_plain(json.loads(file.read())["parts"])
                kept.add((parts.stage, parts.key))
    return kept
