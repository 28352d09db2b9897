"""What lies in a store besides artifacts and has had its day: found here, and removed one by one.

Each kind is decided by what makes it dead (a process that has gone, a lock that nobody holds), and by its age only
where nothing better tells.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from faceline.artifacts import FORMAT, MANIFEST
from faceline.drafts import parse_draft_name
from faceline.folders import Folder
from faceline.latest import Pointer, read_pointer
from faceline.reach import side_by_side
from faceline.runs import dead_runs
from faceline.store import Store
from faceline.sweeping import FOREIGN_AGE_S
from faceline.uses import USED, Uses

DAY_S = 86400.0


@dataclass(frozen=True)
class Leftover:
    """Something that can go.

    Attributes:
        kind: what it is, in words.
        name: where it lies below the root.
        size_bytes: of all its files.
        check: asked once more just before it is removed.
    """

    kind: str
    name: str
    size_bytes: int
    check: Callable[[], bool] = field(default=lambda: True, compare=False, repr=False)

    def remove(self, folder: Folder) -> bool:
        """Remove it unless it is needed again; whether it went."""
        if not self.check():
            return False
        folder.remove(self.name)
        return True


@dataclass(frozen=True)
class Ages:
    """From which age on something is left over, seconds.

    Attributes:
        damaged_s: artifacts that were set aside.
        logs_s: logs of runs.
    """

    damaged_s: float = 30 * DAY_S
    logs_s: float = 90 * DAY_S


def leftovers(store: Store, ages: Ages, uses: Uses, now_s: float) -> Iterator[Leftover]:
    """Everything that is left over, but for pointers, which only those who know what is reached can tell."""
    folder = store.folder
    if folder.local_path("") is not None:
        yield from _drafts(store, now_s)
        yield from _locks(folder)
        yield from _temporaries(folder, now_s)
    else:
        yield from _uploads(folder, now_s)
        yield from (Leftover("earlier signs of use", name, 0) for name in uses.outdated)
    yield from _damaged(folder, ages.damaged_s, now_s)
    yield from _logs(folder, ages.logs_s, now_s)
    yield from (Leftover("records of dead runs", name, folder.bytes_below(name)) for name in dead_runs(folder))


def _drafts(store: Store, now_s: float) -> Iterator[Leftover]:
    for stage in _stages(store.folder):
        for name in store.folder.names(stage):
            parsed = parse_draft_name(name)
            if parsed is None:
                continue
            key, owner = parsed
            place = f"{stage}/{name}"
            if owner.is_here():
                dead = not owner.is_alive()
            else:
                modified_s = store.folder.modified_s(place)
                dead = modified_s is not None and now_s - modified_s >= FOREIGN_AGE_S

            def check(stage: str = stage, key: str = key) -> bool:
                return not _is_held(store.folder, f"_locks/{stage}-{key}.lock")

            if dead and check():
                yield Leftover("drafts of dead processes", place, store.folder.bytes_below(place), check)


def _stages(folder: Folder) -> Iterator[str]:
    return (name for name in folder.names() if not name.startswith(("_", ".")))


def _locks(folder: Folder) -> Iterator[Leftover]:
    for name in folder.names("_locks"):
        place = f"_locks/{name}"
        if name.endswith(".lock") and not _is_held(folder, place):
            yield _FreeLock("locks that nobody holds", place, 0)


def _is_held(folder: Folder, name: str) -> bool:
    path = folder.local_path(name)
    if path is None:
        return False
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


class _FreeLock(Leftover):
    """A lock's file, removed while it is held, so that nobody else can come to hold a file without a name."""

    def remove(self, folder: Folder) -> bool:
        path = folder.local_path(self.name)
        assert path is not None
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return True


def _temporaries(folder: Folder, now_s: float) -> Iterator[Leftover]:
    """Small files that a process was writing when it died."""
    groups = [f"_latest/{group}" for group in folder.names("_latest")]
    for place in ("_runs", "_pins", "_locks", *groups):
        for name in folder.names(place):
            if name.startswith(".") and name.endswith(".tmp"):
                yield from _if_older("files half written", folder, f"{place}/{name}", DAY_S, now_s)


def _uploads(folder: Folder, now_s: float) -> Iterator[Leftover]:
    """On an object store: payloads without a manifest, and those that a later manifest no longer names."""

    def look_at(place: str) -> list[Leftover]:
        # The names first: what a later manifest names was not among them.
        attempts = [name for name in folder.names(place) if name != MANIFEST]
        named = _named_attempts(folder, place)
        strays = [] if named is None else [f"{place}/{attempt}" for attempt in attempts if attempt not in named]
        return [left for name in strays for left in _if_older("unfinished uploads", folder, name, DAY_S, now_s)]

    places = (f"{stage}/{key}" for stage in _stages(folder) for key in folder.names(stage))
    for found in side_by_side(folder, look_at, places):
        yield from found


def _named_attempts(folder: Folder, place: str) -> set[str] | None:
    """Which folders the manifest names, none where there is no manifest; None where it does not say."""
    try:
        body = json.loads(folder.read(f"{place}/{MANIFEST}"))
        if body["format"] != FORMAT:
            return None  # Another version wrote it; what its paths mean is not known.
        return {str(payload["path"]).partition("/")[0] for payload in body["payloads"].values()}
    except FileNotFoundError:
        return set()
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _damaged(folder: Folder, age_s: float, now_s: float) -> Iterator[Leftover]:
    for name in folder.names("_damaged"):
        place = f"_damaged/{name}"
        try:
            at_s = float(json.loads(folder.read(f"{place}/damage.json"))["at_s"])
        except (OSError, ValueError, KeyError, TypeError):
            at_s = folder.modified_s(place) or now_s
        if now_s - at_s >= age_s:
            yield Leftover("damaged artifacts set aside", place, folder.bytes_below(place))


def _logs(folder: Folder, age_s: float, now_s: float) -> Iterator[Leftover]:
    for name in folder.names("_logs"):
        if name.endswith(".log"):
            yield from _if_older("logs", folder, f"_logs/{name}", age_s, now_s)


def _if_older(kind: str, folder: Folder, name: str, age_s: float, now_s: float) -> Iterator[Leftover]:
    modified_s = _newest_s(folder, name)
    if modified_s is not None and now_s - modified_s >= age_s:
        yield Leftover(kind, name, folder.bytes_below(name))


def _newest_s(folder: Folder, name: str) -> float | None:
    """When a file, or the newest file in a folder of an object store, was written."""
    modified_s = folder.modified_s(name)
    if folder.local_path("") is not None:
        return modified_s
    inside = [_newest_s(folder, f"{name}/{inner}") for inner in folder.names(name) if inner != name.rpartition("/")[2]]
    known = [s for s in [modified_s, *inside] if s is not None]
    return max(known, default=None)


def pointer_left(folder: Folder, pointer: Pointer, kind: str) -> Leftover:
    """A pointer that is to go, unless it is written anew before."""
    return _OldPointer(kind, pointer.name, folder.size(pointer.name) or 0, seen=pointer)


@dataclass(frozen=True)
class _OldPointer(Leftover):
    """A pointer, taken out of its place before it is looked at once more: a run may be writing a new one."""

    seen: Pointer | None = None

    def remove(self, folder: Folder) -> bool:
        path = folder.local_path(self.name)
        if path is None:
            return super().remove(folder) if read_pointer(folder, self.name) == self.seen else False
        taken = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        try:
            path.rename(taken)
        except FileNotFoundError:
            return False
        gone = replace(read_pointer(folder, str(taken.relative_to(path.parents[2]))) or Pointer("", ""), name=self.name)
        if gone != self.seen:
            with contextlib.suppress(FileExistsError):  # There is one that is newer still.
                os.link(taken, path)
        taken.unlink()
        return gone == self.seen


def tidy(folder: Folder) -> None:
    """Remove folders of pointers and marks that have become empty (on a local root; elsewhere there are none)."""
    for parent in ("_latest", USED):
        for name in folder.names(parent):
            path = folder.local_path(f"{parent}/{name}")
            if path is not None:
                with contextlib.suppress(OSError):
                    path.rmdir()
