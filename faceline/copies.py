"""Copies of remote payloads on this machine: bounded, private, named by their content, shared by its processes.

A payload on an object store is downloaded once, and then mapped and read like one of a local store. Nothing here is
precious, and nothing is trusted more than a local store is: each reader hashes a copy before its first use.
Copies of which this machine has more than it may keep go again, those unused for longest first; whoever has one open or
mapped keeps it until then, since the system removes a file's name only.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import logging
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from faceline.errors import StoreError
from faceline.folders import FILE_MODE, LocalFolder, make_private_dirs

log = logging.getLogger(__name__)

CACHE_VARIABLE = "FACELINE_CACHE"
"""Names the folder of copies, drafts and locks."""

SIZE_VARIABLE = "FACELINE_CACHE_GIB"
DEFAULT_GIB = 8.0
"""Kept at most: what some twelve hours of a face take (docs/adr/0007-speed.md), a day's footage for most."""

IN_USE_S = 60.0
"""What was asked for within so many seconds is never removed: it may be about to be opened."""

FETCHING_S = 3600.0
"""A copy that is being fetched is left alone for so long: a store that hesitates may not write to it for minutes."""

KEPT_S = 7 * 24 * 3600.0
"""What nobody asked for in so many seconds goes, however much room there is: faces of people do not lie about."""

_BLOCK_BYTES = 1 << 20


def cache_folder() -> Path:
    """The folder of copies: ``FACELINE_CACHE``, else one in the user's cache folder."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_cache_dir("faceline")) / "payloads"


def cache_bytes() -> int:
    """Most bytes of copies: ``FACELINE_CACHE_GIB``.

    Raises:
        StoreError: it is no number, or below 0.
    """
    text = os.environ.get(SIZE_VARIABLE, "")
    try:
        gib = float(text) if text else DEFAULT_GIB
        if not 0 <= gib < 2**20:
            raise ValueError
    except ValueError:
        raise StoreError(f"{SIZE_VARIABLE}={text!r} is no size", cure=f"give GiB, {DEFAULT_GIB:g} by default") from None
    return int(gib * 2**30)


class Copies:
    """Copies below ``folder``, at most ``most_bytes`` of them and what is in use.

    Args:
        folder: where they lie; made when the first comes.
        most_bytes: how much is kept.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self.folder = LocalFolder(folder / "copies")
        self._most_bytes = most_bytes
        # Every process looks when it adds its first copy, and then after each sixteenth of what may be kept.
        self._until_look = 0

    def name_of(self, sha256: str) -> str:
        """Name of a copy below ``folder``; hexadecimal digits only, whatever a forged manifest says."""
        if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
            raise ValueError("a digest is no SHA-256")
        return f"{sha256[:2]}/{sha256}"

    def has(self, sha256: str, size: int, *, check: bool) -> bool:
        """Whether a copy is there; from now on it is in use.

        Args:
            check: hash it as well; one that is not what it should be is removed.
        """
        path = self.folder.local_path(self.name_of(sha256))
        try:
            state = path.stat()
            os.utime(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        if state.st_size == size and (not check or _is_sound(path, sha256)):
            return True
        log.warning("the copy %s is damaged and is fetched anew", path)
        path.unlink(missing_ok=True)
        return False

    def add(self, sha256: str, size: int, fill: Callable[[Path], None]) -> str:
        """Have ``fill`` write a file, and keep it as the copy of this content.

        Returns:
            What is wrong with what came, in words; empty when it is what it should be, and only then it is kept.

        Raises:
            StoreError: there is no room for it.
            FileNotFoundError: there is no such file to fetch.
        """
        target = self.folder.local_path(self.name_of(sha256))
        temporary = target.with_name(f".{uuid.uuid4().hex}.tmp")
        try:
            self._make_room(size)
            make_private_dirs(target.parent)
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, FILE_MODE))
            fill(temporary)
            actual_size = temporary.stat().st_size
            if actual_size != size:
                return f"has {actual_size} bytes, expected {size}"
            actual = _sha256(temporary)
            if actual != sha256:
                return f"has SHA-256 {actual[:12]}…, expected {sha256[:12]}…"
            temporary.replace(target)
            return ""
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno is None:
                raise
            raise StoreError(
                f"no copy of a payload can be kept on this machine: {error.strerror}",
                where=str(self.folder.path),
                cure=f"make room there, or name another folder with {CACHE_VARIABLE}",
            ) from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def keep(self, source: Path, sha256: str, size: int) -> None:
        """Take over a file that was just written here, by another name of it; nothing happens where that cannot be."""
        target = self.folder.local_path(self.name_of(sha256))
        with contextlib.suppress(OSError):
            self._make_room(size)
            make_private_dirs(target.parent)
            os.link(source, target)

    def _make_room(self, size: int) -> None:
        self._until_look -= size
        if self._until_look > 0:
            return
        self._until_look = self._most_bytes // 16
        self.tidy(self._most_bytes - min(size, self._most_bytes))

    def tidy(self, most_bytes: int) -> None:
        """Remove what is too old, and the oldest beyond ``most_bytes``; nothing that is in use."""
        now = time.time()
        found: list[tuple[float, int, Path]] = []
        for group in self.folder.names():
            with contextlib.suppress(OSError), os.scandir(self.folder.path / group) as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError):
                        state = entry.stat(follow_symlinks=False)
                        found.append((state.st_mtime, state.st_size, Path(entry.path)))
        total = sum(size for _, size, _ in found)
        for used, size, path in sorted(found):
            if now - used < IN_USE_S or (total <= most_bytes and now - used < KEPT_S):
                break
            if path.name.startswith(".") and now - used < FETCHING_S:
                continue
            with contextlib.suppress(OSError):
                path.unlink()
                total -= size


def _is_sound(path: Path, sha256: str) -> bool:
    try:
        return _sha256(path) == sha256
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return False  # A bad sector of this machine says nothing about what the store holds.


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


@functools.lru_cache(maxsize=4)
def _copies_in(folder: Path, most_bytes: int) -> Copies:
    return Copies(folder, most_bytes)


def copies_here() -> Copies:
    """The copies of this machine."""
    return _copies_in(cache_folder(), cache_bytes())
