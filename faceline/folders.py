"""Where a store lies: a folder of this machine, or one behind an fsspec URL; the few file operations it needs.

Names are relative, with ``/``. A local folder keeps the strong promises (fsync, atomic rename, private modes); a remote
one has those of its object store: a single object appears whole or not at all, and nothing else is assumed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

DIR_MODE = 0o700
FILE_MODE = 0o600


class Folder(Protocol):
    """File operations below one root; a missing file raises `FileNotFoundError`."""

    url: str

    def local_path(self, name: str) -> Path | None:
        """The file's path on this machine, or None for a remote folder."""
        ...

    def open(self, name: str) -> BinaryIO:
        """The file, open for reading and seekable."""
        ...

    def size(self, name: str) -> int | None:
        """Size in bytes; None if there is no such file."""
        ...

    def names(self, name: str = "") -> list[str]:
        """Names of the files and folders directly below, sorted; empty if there is no such folder."""
        ...

    def put(self, name: str, data: bytes) -> None:
        """Write a small file, replacing what was there, so that readers see the old bytes or the new ones."""
        ...

    def upload(self, source: Path, name: str) -> None:
        """Copy a local file to ``name``."""
        ...

    def move(self, source: str, target: str) -> None:
        """Move a folder; the target must not exist."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file or a whole folder; nothing happens if it is not there."""
        ...


def folder_at(root: str | Path) -> Folder:
    """The folder that a path or URL names; it need not exist yet."""
    text = str(root)
    if "://" not in text:
        return LocalFolder(Path(text))
    if text.startswith("file://"):
        return LocalFolder(Path(text.removeprefix("file://")))
    return RemoteFolder(text)


def make_private_dirs(path: Path) -> None:
    """Make ``path`` and what is missing above it, readable by its owner only whatever the umask says."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):
            folder.mkdir(DIR_MODE)
            folder.chmod(DIR_MODE)


def create_private(path: Path) -> BinaryIO:
    """Create a file that only its owner can read, open for writing and reading; it must not exist yet."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, FILE_MODE)
    return cast(BinaryIO, os.fdopen(descriptor, "w+b"))


def open_private(path: str, flags: int) -> int:
    """For `open` as its opener: files that it makes are their owner's only, and those that are there become so."""
    descriptor = os.open(path, flags, FILE_MODE)
    os.fchmod(descriptor, FILE_MODE)
    return descriptor


def sync_dir(path: Path) -> None:
    """Make the names in a directory survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class LocalFolder:
    """A folder of this machine."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self.url = str(self.path)

    def local_path(self, name: str) -> Path:
        return self.path / name

    def open(self, name: str) -> BinaryIO:
        return (self.path / name).open("rb")

    def size(self, name: str) -> int | None:
        try:
            return (self.path / name).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def names(self, name: str = "") -> list[str]:
        try:
            return sorted(entry.name for entry in (self.path / name).iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def put(self, name: str, data: bytes) -> None:
        target = self.path / name
        make_private_dirs(target.parent)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
        try:
            with create_private(temporary) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_dir(target.parent)

    def upload(self, source: Path, name: str) -> None:
        self.put(name, source.read_bytes())

    def move(self, source: str, target: str) -> None:
        make_private_dirs((self.path / target).parent)
        (self.path / source).rename(self.path / target)
        sync_dir((self.path / target).parent)
        sync_dir((self.path / source).parent)

    def remove(self, name: str) -> None:
        path = self.path / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


class RemoteFolder:
    """A folder behind an fsspec URL (``s3://bucket/prefix``, ``memory://…``); credentials come from the environment."""

    def __init__(self, url: str) -> None:
        import fsspec.core  # Takes a moment, and local stores never need it.

        self.url = url.rstrip("/")
        # Cached listings would hide what other machines have written since.
        filesystem, path = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
        self._fs: Any = filesystem
        self._path = str(path).rstrip("/")

    def _at(self, name: str) -> str:
        return f"{self._path}/{name}" if name else self._path

    def local_path(self, name: str) -> None:
        del name

    def open(self, name: str) -> BinaryIO:
        return cast(BinaryIO, self._fs.open(self._at(name), "rb"))

    def size(self, name: str) -> int | None:
        try:
            found = self._fs.info(self._at(name))
        except FileNotFoundError:
            return None
        return int(found["size"]) if found["type"] == "file" else None

    def names(self, name: str = "") -> list[str]:
        try:
            entries = self._fs.ls(self._at(name), detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(str(entry).rstrip("/").rpartition("/")[2] for entry in entries)

    def put(self, name: str, data: bytes) -> None:
        self._fs.makedirs(self._at(name).rpartition("/")[0], exist_ok=True)
        self._fs.pipe_file(self._at(name), data)

    def upload(self, source: Path, name: str) -> None:
        self._fs.makedirs(self._at(name).rpartition("/")[0], exist_ok=True)
        self._fs.put_file(str(source), self._at(name))

    def move(self, source: str, target: str) -> None:
        # Object stores copy and delete one by one. The manifest goes first: without it the rest is no artifact.
        files = sorted(self._files(source), key=lambda name: not name.endswith("/manifest.json"))
        for name in files:
            destination = target + name.removeprefix(source)
            self._fs.makedirs(self._at(destination).rpartition("/")[0], exist_ok=True)
            self._fs.mv(self._at(name), self._at(destination))
        self.remove(source)

    def _files(self, name: str) -> Iterator[str]:
        for path in self._fs.find(self._at(name)):
            yield name + str(path).removeprefix(self._at(name))

    def remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm(self._at(name), recursive=True)
