"""Putting a finished folder in the place of an old one, so that at no instant there is none."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from faceline.folders import make_private_dirs

_log = logging.getLogger(__name__)
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_MOST_NAME_BYTES = 200
"""Of a folder's name: file systems allow 255, and the folder being built has more around it."""


@contextlib.contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Give an empty private folder beside ``folder``; when the block ends well, it takes ``folder``'s place.

    If the block fails, or the process dies at any instant, ``folder`` is what it was. What a killed process left
    behind is swept away by the next one; a lock on the folder being built, which dies with its process, tells them
    apart.

    Raises:
        OSError: the place cannot be written.
    """
    make_private_dirs(folder.parent)
    with _alone_in(folder.parent):
        recover(folder)
        _sweep(folder)
        building = Path(tempfile.mkdtemp(prefix=_prefix(folder, "new"), dir=folder.parent))
        lock = os.open(building, os.O_RDONLY)
        with contextlib.suppress(OSError):  # Some network file systems cannot lock; then nothing is swept there.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield building
        with _alone_in(folder.parent):
            put_in_place(building, folder)
    finally:
        # After an exchange the name `building` holds the old folder.
        shutil.rmtree(building, ignore_errors=True)
        os.close(lock)


@contextlib.contextmanager
def _alone_in(parent: Path) -> Iterator[None]:
    """Hold the parent folder for a moment, so that nobody sweeps what has just been made or moves what is moved."""
    lock = os.open(parent, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def put_in_place(new: Path, folder: Path) -> None:
    """Move ``new`` to ``folder``; an old folder of that name goes to ``new``, or is removed."""
    if not folder.exists():
        new.rename(folder)
        return
    if _exchange(new, folder):
        return
    # Two steps where the file system cannot exchange; `recover` mends a death between them.
    aside = Path(tempfile.mkdtemp(prefix=_prefix(folder, "old"), dir=folder.parent)) / folder.name
    folder.rename(aside)
    try:
        new.rename(folder)
    except BaseException:
        aside.rename(folder)
        aside.parent.rmdir()
        raise
    shutil.rmtree(aside.parent, ignore_errors=True)


def recover(folder: Path) -> None:
    """Bring back the old folder that a process set aside and, killed at once, never replaced."""
    for parent in sorted(folder.parent.glob(f"{_glob(_prefix(folder, 'old'))}*")):
        aside = parent / folder.name
        if aside.is_dir() and not folder.exists():
            aside.rename(folder)
            _log.warning("brought back %s, which an interrupted run had set aside", folder)
        shutil.rmtree(parent, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step (Linux ``renameat2``); False where this cannot be done."""
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is None:
        return False
    if function(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM):
        return False
    raise OSError(code, os.strerror(code), str(other))


def _sweep(folder: Path) -> None:
    for left in folder.parent.glob(f"{_glob(_prefix(folder, 'new'))}*"):
        try:
            lock = os.open(left, os.O_RDONLY)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)
        except OSError:
            pass  # Being built by a living process.
        finally:
            os.close(lock)


def _prefix(folder: Path, what: str) -> str:
    name = folder.name
    if len(os.fsencode(name)) > _MOST_NAME_BYTES:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return f".{name}.{what}-"


def _glob(text: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in text)
