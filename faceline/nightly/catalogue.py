"""Which content each file of an archive holds, without reading again what has not changed.

A file's digest is remembered with its size, times and inode, as version control systems do it. A file that was written
to, or whose state changed, less than `UNSURE_S` before it was hashed is hashed again next time: clocks may be too
coarse to show a later change, and who copies a file may set its time of writing back.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceline.folders import Folder

UNSURE_S = 2.0
_VERSION = 1


@dataclass(frozen=True)
class Seen:
    """A file as it was hashed.

    Attributes:
        size_bytes, mtime_ns, ctime_ns, inode: its state; any difference means that it has to be hashed again.
        sha256: digest (hex) of its bytes.
    """

    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    sha256: str

    def fits(self, state: os.stat_result) -> bool:
        """Whether the file's state is still the one that was hashed."""
        known = (self.size_bytes, self.mtime_ns, self.ctime_ns, self.inode)
        return known == (state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)


class Unsteady(OSError):
    """The file changed while it was hashed."""


class Catalogue:
    """Digests of files by their path below an archive's folder; may be used by several threads.

    Args:
        folder: where it is kept.
        name: name of its file; one that is torn or of another version counts as empty: digests are made anew.
    """

    def __init__(self, folder: Folder, name: str = "catalogue.json") -> None:
        self._folder, self._name = folder, name
        self._lock = threading.Lock()
        self._files = _read(folder, name)
        self._stored = dict(self._files)
        self._hashed: dict[str, str] = {}

    @property
    def files(self) -> Mapping[str, str]:
        """Path → digest of everything known."""
        with self._lock:
            return {path: seen.sha256 for path, seen in self._files.items()}

    def hashed(self) -> Mapping[str, str]:
        """Path → digest of what was hashed since this was asked last."""
        with self._lock:
            hashed, self._hashed = self._hashed, {}
        return hashed

    def known(self, path: str, state: os.stat_result) -> str | None:
        """The digest of a file in this state; None if it has to be hashed."""
        with self._lock:
            seen = self._files.get(path)
        return seen.sha256 if seen is not None and seen.fits(state) else None

    def identify(self, path: str, file: Path) -> str:
        """The digest of a file, hashed where it is not known.

        Args:
            path: its path below the archive's folder, by which it is remembered.
            file: the file.

        Raises:
            Unsteady: it changed meanwhile.
            OSError: it cannot be read.
        """
        before = file.stat()
        if (digest := self.known(path, before)) is not None:
            return digest
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        after = file.stat()
        seen = Seen(after.st_size, after.st_mtime_ns, after.st_ctime_ns, after.st_ino, digest)
        if not seen.fits(before):
            raise Unsteady("it changed while it was read")
        with self._lock:
            self._hashed[path] = digest
        if _settled(after, time.time()):
            with self._lock:
                self._files[path] = seen
        else:
            # What it holds is known, and that it may change unseen: the state is not trusted next time.
            with self._lock:
                self._files[path] = Seen(-1, 0, 0, 0, digest)
        return digest

    def forget_all_but(self, paths: set[str]) -> dict[str, str]:
        """Forget files that are no longer there; path → digest of those."""
        with self._lock:
            gone = {path: seen.sha256 for path, seen in self._files.items() if path not in paths}
            for path in gone:
                del self._files[path]
        return gone

    def save(self) -> None:
        """Keep what is known, if it is more or less than what is kept."""
        with self._lock:
            files = dict(self._files)
        if files == self._stored:
            return
        rows = {path: [s.size_bytes, s.mtime_ns, s.ctime_ns, s.inode, s.sha256] for path, s in sorted(files.items())}
        # ASCII: names that are no text keep their bytes as lone surrogates, which UTF-8 could not take.
        self._folder.put(self._name, json.dumps({"version": _VERSION, "files": rows}, indent=0).encode("ascii"))
        self._stored = files


def _settled(state: os.stat_result, now_s: float) -> bool:
    # Writing sets both times, so a time of writing in the future (a camera's clock) hides nothing. One of change in the
    # future is of a server whose clock is ahead: what is recent there cannot be told.
    return now_s - state.st_ctime >= UNSURE_S and abs(now_s - state.st_mtime) >= UNSURE_S


def _read(folder: Folder, name: str) -> dict[str, Seen]:
    try:
        with folder.open(name) as file:
            body: Any = json.loads(file.read())
        if body["version"] != _VERSION:
            return {}
        return {str(path): _seen(row) for path, row in body["files"].items()}
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return {}


def _seen(row: Any) -> Seen:
    size_bytes, mtime_ns, ctime_ns, inode, sha256 = row
    return Seen(int(size_bytes), int(mtime_ns), int(ctime_ns), int(inode), str(sha256))
