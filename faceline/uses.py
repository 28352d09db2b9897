"""When artifacts were last used, and how those who use them and those who remove them keep out of each other's way.

The sign of a use has to be durable and cheap, for every hit leaves one:

- On a local root it is the modification time of the artifact's ``manifest.json``, set at every hit (microseconds).
- On an object store, whose objects cannot be touched, it is an empty object ``_used/<UTC day>/<stage>-<key>``, put by a
  process at most once a day; the day is in its name, so that a listing tells all signs. What was used counts as used
  until the end of that day.

On a local root, whoever uses an artifact sets its sign while holding the gate with others of its kind, and whoever
removes one compares the sign and renames the artifact while holding the gate alone: a use comes before, and is seen,
or after, and finds nothing. An object store has no gate; there `faceline.runs` keeps the two apart.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import time
from collections.abc import Container, Iterator
from datetime import UTC, datetime, timedelta

from faceline.artifacts import MANIFEST
from faceline.errors import StoreError
from faceline.folders import FILE_MODE, Folder, make_private_dirs

log = logging.getLogger(__name__)

USED = "_used"
GATE = "_runs/gate.lock"

_said_today: set[tuple[str, str]] = set()
_warned: set[str] = set()


@contextlib.contextmanager
def gate(folder: Folder, *, alone: bool) -> Iterator[None]:
    """Hold the store's gate, ``alone`` or beside others that do not ask to be; waits for it. No gate on object stores.

    Raises:
        OSError: it cannot be held, such as on a file system without locks.
    """
    path = folder.local_path(GATE)
    if path is None:
        yield
        return
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, FILE_MODE)
    except FileNotFoundError:
        make_private_dirs(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, FILE_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def mark_used(folder: Folder, stage: str, key: str) -> bool:
    """Leave the sign that an artifact is used now; whether it is there to be used (always true on an object store).

    Where signs cannot be left (a store that may only be read), the log says so once.
    """
    manifest = folder.local_path(f"{stage}/{key}/{MANIFEST}")
    try:
        if manifest is None:
            _put_mark(folder, stage, key)
            return True
        with gate(folder, alone=False):
            os.utime(manifest)
        return True
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, StoreError) as error:
        if folder.url not in _warned:
            _warned.add(folder.url)
            log.warning("%s: it cannot be noted what is used, so a cleaner may take it: %s", folder.url, error)
        return manifest is None or manifest.exists()


def _put_mark(folder: Folder, stage: str, key: str) -> None:
    day = f"{USED}/{datetime.now(UTC):%Y-%m-%d}"
    mark = f"{day}/{stage}-{key}"
    if (folder.url, mark) in _said_today:
        return
    # One listing for all that was used today already.
    if f"{stage}-{key}" not in folder.names(day, recent=True):
        folder.put(mark, b"")
    # This set grows with one day's artifacts only.
    if any(name.partition("/")[2][:10] != mark.partition("/")[2][:10] for _, name in list(_said_today)[:1]):
        _said_today.clear()
    _said_today.add((folder.url, mark))


class Uses:
    """The last uses of a store's artifacts, as they are when asked (local), or were when this was made (object store).

    Args:
        folder: root of the store.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._marks: dict[tuple[str, str], str] = {}
        self.outdated: list[str] = []
        if folder.local_path("") is None:
            self._list()

    def _list(self) -> None:
        days = [day for day in self._folder.names(USED) if _end_of(day) is not None]
        for day in sorted(days):
            for name in self._folder.names(f"{USED}/{day}"):
                stage, _, key = name.rpartition("-")
                before = self._marks.get((stage, key))
                if before is not None:
                    self.outdated.append(f"{USED}/{before}/{name}")
                self._marks[stage, key] = day

    def last_s(self, stage: str, key: str) -> float | None:
        """Seconds since the epoch of the last use; None if there is nothing to tell it by."""
        if self._folder.local_path("") is not None:
            manifest_s = self._folder.modified_s(f"{stage}/{key}/{MANIFEST}")
            return self._folder.modified_s(f"{stage}/{key}") if manifest_s is None else manifest_s
        marked_s = _end_of(self._marks.get((stage, key), ""))
        return _created_s(self._folder, stage, key) if marked_s is None else marked_s

    def used_since(self, stage: str, key: str, last_s: float) -> bool:
        """Whether there was a use after the one of ``last_s``. Clocks may be set back: any other time is a new use."""
        now_s = self.last_s(stage, key)
        return now_s is not None and now_s != last_s

    def mark(self, stage: str, key: str) -> str | None:
        """Name of the object that is an artifact's sign on an object store."""
        day = self._marks.get((stage, key))
        return None if day is None else f"{USED}/{day}/{stage}-{key}"

    def orphans(self, stored: Container[tuple[str, str]]) -> Iterator[str]:
        """Names of signs whose artifacts are gone."""
        return (
            f"{USED}/{day}/{stage}-{key}" for (stage, key), day in self._marks.items() if (stage, key) not in stored
        )


def _end_of(day: str) -> float | None:
    try:
        return (datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC) + timedelta(days=1)).timestamp()
    except ValueError:
        return None


def _created_s(folder: Folder, stage: str, key: str) -> float | None:
    """When an artifact without a mark was committed, as its manifest says."""
    try:
        created = json.loads(folder.read(f"{stage}/{key}/{MANIFEST}"))["created"]
        return datetime.fromisoformat(created).timestamp()
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return time.time()
