"""Where a store lies: a folder of this machine, or one behind an fsspec URL; the few file operations it needs.

Names are relative, with ``/``. A local folder keeps the strong promises (fsync, atomic rename, private modes); a remote
one has those of its object store: a single object appears whole or not at all, and nothing else is assumed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Collection, Mapping
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

    def open(self, name: str, size: int | None = None) -> BinaryIO:
        """The file, open for reading and seekable; a size that is known already spares a question."""
        ...

    def read(self, name: str, *, recent: bool = False) -> bytes:
        """A small file, whole; with ``recent`` perhaps as it was up to half a minute ago, where asking is dear."""
        ...

    def size(self, name: str) -> int | None:
        """Size in bytes; None if there is no such file."""
        ...

    def sizes(self, name: str, files: Collection[str]) -> dict[str, int | None]:
        """Sizes of these files below ``name``, as `size` gives them, asked for together."""
        ...

    def near(self, name: str, sha256: str, size: int, *, check: bool) -> tuple[LocalFolder, str]:
        """Where a file with this content lies on this machine: folder and name, to be opened now.

        Args:
            name: the file.
            sha256, size: of the content that it has to have.
            check: whether this reader has not hashed it before; local files are left to the caller.

        Raises:
            ValueError: the file has other content; says which, in words.
        """
        ...

    def names(self, name: str = "", *, recent: bool = False) -> list[str]:
        """Names of the files and folders directly below, sorted; empty if there is no such folder."""
        ...

    def put(self, name: str, data: bytes) -> None:
        """Write a small file, replacing what was there, so that readers see the old bytes or the new ones."""
        ...

    def upload(self, files: Mapping[str, Path]) -> None:
        """Copy local files, by name; nothing is known of those already copied when one fails."""
        ...

    def move(self, source: str, target: str) -> None:
        """Move a folder; the target must not exist."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file or a whole folder; nothing happens if it is not there.

        Raises:
            OSError: not all of it could be removed; the rest is gone.
        """
        ...

    def bytes_below(self, name: str) -> int:
        """Size of a file, or of all files in a folder and its folders; 0 if it is not there."""
        ...

    def modified_s(self, name: str) -> float | None:
        """When a file (or a local folder) was last written, seconds since the epoch; None if that cannot be told."""
        ...


def folder_at(root: str | Path) -> Folder:
    """The folder that a path or URL names; it need not exist yet."""
    text = str(root)
    if "://" not in text:
        return LocalFolder(Path(text))
    if text.startswith("file://"):
        return LocalFolder(Path(text.removeprefix("file://")))
    from faceline.remote import remote_folder  # Local stores never need it.

    return remote_folder(text)


def make_private_dirs(path: Path) -> None:
    """Make ``path`` and what is missing above it, readable by its owner only whatever the umask says."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        try:
            folder.mkdir(DIR_MODE)
            folder.chmod(DIR_MODE)
        except FileExistsError:
            # Somebody else may have made it meanwhile; a file in its place is another matter.
            if not folder.is_dir():
                raise


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

    def open(self, name: str, size: int | None = None) -> BinaryIO:
        # As text: paths are put together and looked at some thousand times where a whole archive is planned.
        return open(f"{self.url}/{name}", "rb")  # noqa: PTH123

    def read(self, name: str, *, recent: bool = False) -> bytes:
        return (self.path / name).read_bytes()

    def sizes(self, name: str, files: Collection[str]) -> dict[str, int | None]:
        return {file: self.size(f"{name}/{file}") for file in files}

    def near(self, name: str, sha256: str, size: int, *, check: bool) -> tuple[LocalFolder, str]:
        return self, name

    def size(self, name: str) -> int | None:
        try:
            return (self.path / name).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def names(self, name: str = "", *, recent: bool = False) -> list[str]:
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

    def upload(self, files: Mapping[str, Path]) -> None:
        for name, source in files.items():
            self.put(name, source.read_bytes())

    def move(self, source: str, target: str) -> None:
        make_private_dirs((self.path / target).parent)
        (self.path / source).rename(self.path / target)
        sync_dir((self.path / target).parent)
        sync_dir((self.path / source).parent)

    def remove(self, name: str) -> None:
        path = self.path / name
        if path.is_dir() and not path.is_symlink():
            failed: list[OSError] = []

            def note(function: object, place: str, error: Any) -> None:
                # Another cleaner may be at it, too.
                if isinstance(error[1], OSError) and not isinstance(error[1], FileNotFoundError):
                    failed.append(error[1])

            shutil.rmtree(path, onerror=note)
            if failed:
                raise failed[0]
        else:
            path.unlink(missing_ok=True)

    def bytes_below(self, name: str) -> int:
        return _bytes_below(self.path / name)

    def modified_s(self, name: str) -> float | None:
        try:
            return (self.path / name).stat().st_mtime
        except (FileNotFoundError, NotADirectoryError):
            return None


def _bytes_below(path: str | Path) -> int:
    total = 0
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    total += _bytes_below(entry.path)
                else:
                    # What goes meanwhile counts as gone.
                    with contextlib.suppress(FileNotFoundError):
                        total += entry.stat(follow_symlinks=False).st_size
    except NotADirectoryError:
        return Path(path).lstat().st_size
    except FileNotFoundError:
        return 0
    return total
