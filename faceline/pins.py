"""Pins: results that are kept until somebody says otherwise, whatever becomes of configurations.

A pin is ``_pins/<name>.json`` in the store: which artifacts a results folder was made of (its ``run.json`` lists them),
of what footage, since when. A pin that cannot be read stops a cleaner: nobody knows what it was to keep.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from faceline.errors import ArtifactError, FacelineError, UsageError
from faceline.folders import Folder
from faceline.keys import digest_of
from faceline.store import Store

PINS = "_pins"
_FORMAT = 1
_NAME = re.compile(r"\w[\w.-]{0,99}", re.ASCII)
_STAGE = re.compile(r"[a-z][a-z0-9_]*")
_KEY = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Pin:
    """A result that is kept.

    Attributes:
        name: of the pin.
        results: the results folder as it was named, for people.
        footage: path of the footage when it was analysed.
        sha256: of the footage.
        at: when it was pinned, ISO 8601 in UTC.
        artifacts: stage and key of everything that it was made of.
        bytes: size of these when it was pinned; those that were gone count nothing.
    """

    name: str
    results: str
    footage: str
    sha256: str
    at: str
    artifacts: tuple[tuple[str, str], ...]
    bytes: int

    def gone(self, store: Store) -> list[tuple[str, str]]:
        """Those of its artifacts that are not in the store, or not whole."""
        return [(stage, key) for stage, key in self.artifacts if store.inspect(stage, key).state != "ok"]


def check_name(name: str) -> None:
    """Refuse what cannot be the name of a pin: `UsageError`."""
    if not _NAME.fullmatch(name):
        cure = "use letters, digits, '.', '-' and '_', at most 100; name=NAME chooses another"
        raise UsageError(f"{name!r} cannot be the name of a pin", cure=cure)


def name_for(results: Path) -> str:
    """The name of a pin that a results folder suggests: its own, with ``_`` for what no name may hold."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", results.absolute().name).lstrip(".-")[:100] or "result"


def read_result(results: Path) -> dict[str, Any]:
    """``run.json`` of a results folder.

    Raises:
        UsageError: there is none, or it is not whole.
    """
    try:
        body = json.loads((results / "run.json").read_text(encoding="utf-8"))
        list(artifacts_of(body))
        str(body["footage"]["path"]), str(body["footage"]["sha256"])
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(
            "is no results folder: it has no run.json", where=str(results), cure="check the path"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        cure = "run `faceline analyze` with the same options again"
        raise UsageError("run.json cannot be read", where=str(results), cure=cure) from error
    else:
        return dict(body)


def results_below(folder: Path) -> list[Path]:
    """All results folders in a folder, or it alone if it is one; `UsageError` if there are none.

    Links to folders are followed, as they are where results are written.
    """

    def unreadable(error: OSError) -> None:
        # What is passed over would not be kept.
        raise UsageError(
            f"cannot be read: {error.strerror}",
            where=str(error.filename or folder),
            cure="make it readable, or name the results folders that are to be kept one by one",
        ) from error

    found, seen = [], set()
    for path, folders, files in os.walk(folder, onerror=unreadable, followlinks=True):
        state = Path(path).stat()
        if (state.st_dev, state.st_ino) in seen:
            folders.clear()  # A link led back.
            continue
        seen.add((state.st_dev, state.st_ino))
        if "run.json" in files:
            found.append(Path(path))
    found.sort()
    if not found:
        raise UsageError("there are no results", where=str(folder), cure="check the path")
    return found


def artifacts_of(run: dict[str, Any]) -> list[tuple[str, str]]:
    """Stage and key of everything that ``run.json`` lists, each once; `ValueError` for what is no key."""
    found = dict.fromkeys((str(line["stage"]), str(line["key"])) for line in run["stages"])
    if not found or not all(_STAGE.fullmatch(stage) and _KEY.fullmatch(key) for stage, key in found):
        raise ValueError("run.json lists no artifacts")
    return list(found)


def pin(store: Store, results: Path, name: str, run: dict[str, Any]) -> Pin:
    """Keep everything that a result was made of. Call it within `faceline.runs.running`.

    Args:
        store: where its artifacts lie.
        results: the results folder.
        name: of the pin.
        run: its `read_result`.

    Raises:
        UsageError: the name is no name, or belongs to a pin of other artifacts; or the store has nothing of the result.
    """
    check_name(name)
    artifacts = tuple(artifacts_of(run))
    before = read_pin(store.folder, name)
    if before is not None and set(before.artifacts) != set(artifacts):
        cure = f"choose another with name=NAME, or `faceline unpin {name}` first"
        raise UsageError(f"there is a pin {name} already, of another result ({before.footage})", cure=cure)
    there = [(stage, key) for stage, key in artifacts if store.inspect(stage, key).state != "absent"]
    if not there:
        raise UsageError(
            "the store holds nothing of this result", where=store.root, cure="name its store: store.root=DIR"
        )
    footage = run["footage"]
    made = Pin(
        name,
        str(results.absolute()).encode("utf-8", "backslashreplace").decode(),
        str(footage["path"]),
        str(footage["sha256"]),
        datetime.now(UTC).isoformat(timespec="seconds"),
        artifacts,
        sum(store.folder.bytes_below(f"{stage}/{key}") for stage, key in there),
    )
    body: dict[str, Any] = {"format": _FORMAT, **asdict(made), "artifacts": [list(each) for each in artifacts]}
    body["check"] = digest_of(body)
    store.folder.put(f"{PINS}/{name}.json", (json.dumps(body, ensure_ascii=False, indent=1) + "\n").encode("utf-8"))
    # A cleaner that looked before the pin was there sees the uses.
    for stage, key in there:
        store.use(stage, key)
    return made


def read_pin(folder: Folder, name: str) -> Pin | None:
    """The pin of that name; None if there is none; `ArtifactError` if it cannot be read."""
    try:
        data = folder.read(f"{PINS}/{name}.json")
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        body = json.loads(data)
        check = body.pop("check")
        if check != digest_of(body) or body.pop("format") != _FORMAT:
            raise ValueError("altered, or of another version")
        artifacts = tuple((str(stage), str(key)) for stage, key in body.pop("artifacts"))
        return Pin(artifacts=artifacts, **body)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(
            f"the pin cannot be read: {error}",
            where=f"{folder.url}/{PINS}/{name}.json",
            cure=f"`faceline unpin {name}`, and pin the result again",
        ) from error


def read_pins(folder: Folder) -> list[Pin]:
    """All pins, by name; `ArtifactError` if one cannot be read."""
    return [found for name in pin_names(folder) if (found := read_pin(folder, name)) is not None]


def pin_names(folder: Folder) -> Sequence[str]:
    """Names of all pins, readable or not."""
    names = (name for name in folder.names(PINS) if name.endswith(".json") and not name.startswith("."))
    return [name.removesuffix(".json") for name in names]


def unpin(folder: Folder, name: str) -> None:
    """Let go of what a pin keeps; `FacelineError` if there is no such pin."""
    if name not in pin_names(folder):
        known = ", ".join(pin_names(folder)) or "none"
        raise FacelineError(f"there is no pin {name}", where=folder.url, cure=f"pins here: {known}")
    folder.remove(f"{PINS}/{name}.json")
