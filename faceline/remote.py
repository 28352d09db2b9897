"""A store behind an fsspec URL (``s3://bucket/prefix``, ``memory://…``): what object stores promise, and nothing more.

One object appears whole or not at all, and is seen by whoever asks after it was written. There is no rename, no lock
and no folder. Requests cost tens of milliseconds each, so files are asked for together where many are wanted, and what
only explains is remembered for half a minute. Credentials come from where the backend looks for them (environment,
profile, role of the machine), never from the URL, and are written nowhere.

Trouble of the store is no damage of an artifact: it is told as `StoreError`, within half a minute where a request is
not answered (a minute where the answer breaks off), and after two to five minutes for what has been computed and only
waits to be stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import io
import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from faceline.backends import BUCKETS, CONTACT_S, S3, check_url, code_of, missing_bucket, open_filesystem, trouble
from faceline.copies import copies_here
from faceline.errors import StoreError
from faceline.folders import LocalFolder

log = logging.getLogger(__name__)

AT_ONCE = 16
"""Requests of one call under way at the same time."""

RECENT_S = 30.0
"""For so long is known what was asked with ``recent``."""

PATIENCE_S = 120.0
"""How long writing is tried again: what waits to be written may have taken hours."""

_PAUSES_S = (1.0, 2.0, 4.0, 8.0, 15.0)
_LOOK_S = 0.5
"""How often who writes looks whether to give up."""
_READ_BYTES = 8 << 20
_SMALL_BYTES = 64 << 10
"""What is no larger is sent in a moment over any line."""
_OF_THIS_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_S3_PARTS = {"chunksize": 8 << 20, "max_concurrency": 4}
"""Files from 16 MiB on are sent in parts. s3fs would hold ten parts of 50 MiB at a time."""
_S3_FETCH = {"chunksize": 16 << 20, "max_concurrency": 4}

T = TypeVar("T")


def remote_folder(url: str) -> RemoteFolder:
    """The folder behind a URL; one for all threads of this process.

    Raises:
        UsageError: the URL holds credentials, names no bucket, or its backend is not installed.
    """
    return _folder_of(url if url.endswith("://") else url.rstrip("/"), os.getpid())


@functools.lru_cache(maxsize=8)
def _folder_of(url: str, process: int) -> RemoteFolder:
    # A forked process has no use for its parent's connections, and none of the threads that serve them.
    del process
    return RemoteFolder(url)


def forget_folders() -> None:
    """Connect anew: with other credentials, or to another address."""
    _folder_of.cache_clear()


class RemoteFolder:
    """A folder behind an fsspec URL.

    All methods raise `StoreError` when the store cannot be used; a missing file is a `FileNotFoundError`.
    """

    def __init__(self, url: str) -> None:
        protocol = check_url(url)
        self.url = url
        self._has_folders = protocol not in BUCKETS
        self._is_s3 = protocol in S3
        self._fs = open_filesystem(protocol, url)
        self._protocol = protocol
        self._path = str(self._fs._strip_protocol(url)).rstrip("/")
        self._meeting = threading.Lock()
        self._met = not self._is_s3
        self._refusal: tuple[float, StoreError] | None = None
        self._lock = threading.Lock()
        self._recent: dict[tuple[str, str], tuple[float, Any]] = {}

    @functools.cached_property
    def _sender(self) -> Any:
        """For what may take long to send; of its own, so that no question waits behind it."""
        return open_filesystem(self._protocol, self.url, sending=True) if self._is_s3 else self._fs

    def _at(self, name: str) -> str:
        return f"{self._path}/{name}" if name else self._path

    def local_path(self, name: str) -> None:
        del name

    # Reading.

    def open(self, name: str, size: int | None = None) -> BinaryIO:
        size = self.size(name) if size is None else size
        if size is None:
            raise FileNotFoundError(2, "No such file", name)
        return cast(BinaryIO, io.BufferedReader(_Ranges(self, name, size), _READ_BYTES))

    def range(self, name: str, start: int, end: int) -> bytes:
        """Bytes ``start`` to ``end`` of a file."""
        with self._telling():
            return cast(bytes, self._fs.cat_file(self._at(name), start=start, end=end))

    def read(self, name: str, *, recent: bool = False) -> bytes:
        def get() -> bytes | None:
            folder, _, file = name.rpartition("/")
            # One listing says of all that may be asked for here whether it is there at all.
            if recent and file not in self.names(folder, recent=True):
                return None
            # With more connections s3fs would ask for the size of each file first.
            options = {"max_concurrency": 1} if self._is_s3 else {}
            try:
                with self._telling():
                    return cast(bytes, self._fs.cat_file(self._at(name), **options))
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None

        data = self._once("file", name, get) if recent else get()
        if data is None:
            raise FileNotFoundError(2, "No such file", name)
        return data

    def size(self, name: str) -> int | None:
        try:
            with self._telling():
                found = self._fs.info(self._at(name))
        except FileNotFoundError:
            return None
        return int(found["size"]) if found["type"] == "file" else None

    def sizes(self, name: str, files: Collection[str]) -> dict[str, int | None]:
        below = os.path.commonpath([os.path.dirname(file) for file in files]) if files else ""  # noqa: PTH120
        found = {path: int(facts["size"]) for path, facts in self._listing(f"{name}/{below}".rstrip("/")).items()}
        return {file: found.get(f"{name}/{file}") for file in files}

    def names(self, name: str = "", *, recent: bool = False) -> list[str]:
        def get() -> list[str]:
            try:
                with self._telling():
                    entries = self._fs.ls(self._at(name), detail=False)
            except (FileNotFoundError, NotADirectoryError):
                return []
            own = self._at(name).strip("/")
            paths = (str(entry).strip("/") for entry in entries)
            return sorted({path.rpartition("/")[2] for path in paths if path != own})

        return self._once("names", name, get) if recent else get()

    def written(self, name: str) -> dict[str, float]:
        """All files below ``name`` and when they were written (seconds since the epoch, 0 where it is not known)."""
        times: dict[str, float] = {}
        for path, facts in self._listing(name).items():
            when = facts.get("LastModified") or facts.get("created") or facts.get("mtime") or 0.0
            times[path] = when.timestamp() if hasattr(when, "timestamp") else float(when)
        return times

    def _listing(self, name: str) -> dict[str, Mapping[str, Any]]:
        try:
            with self._telling():
                found = self._fs.find(self._at(name), detail=True)
        except FileNotFoundError:
            return {}
        start = len(self._at("").strip("/"))
        return {str(path).strip("/")[start:].lstrip("/"): facts for path, facts in found.items()}

    def near(self, name: str, sha256: str, size: int, *, check: bool) -> tuple[LocalFolder, str]:
        copies = copies_here()
        if not copies.has(sha256, size, check=check):

            def fetch(path: Path) -> None:
                options = _S3_FETCH if self._is_s3 else {}
                with self._telling():
                    self._fs.get_file(self._at(name), str(path), **options)

            # Once more before anybody calls the artifact damaged: this may have been the way here.
            wrong = copies.add(sha256, size, fetch) and copies.add(sha256, size, fetch)
            if wrong:
                raise ValueError(wrong)
        return copies.folder, copies.name_of(sha256)

    # Writing.

    def put(self, name: str, data: bytes) -> None:
        through = self._fs if len(data) <= _SMALL_BYTES else self._sender
        self._patiently(name, threading.Event(), through, "pipe_file", self._at(name), data)
        self._note("file", name, data)
        self._learn(name)

    def upload(self, files: Mapping[str, Path]) -> None:
        options = _S3_PARTS if self._is_s3 else {}

        def send(stop: threading.Event, name: str, source: Path) -> None:
            self._patiently(name, stop, self._sender, "put_file", str(source), self._at(name), **options)

        self._together(send, files.items())

    def _patiently(
        self, name: str, stop: threading.Event, through: Any, how: str, *arguments: Any, **options: Any
    ) -> None:
        """Write one object, again after trouble that can pass, for `PATIENCE_S`: half-way it does not exist."""
        until_s = time.monotonic() + PATIENCE_S
        for pause_s in (*_PAUSES_S, *[_PAUSES_S[-1]] * 100):
            try:
                with self._telling():
                    if self._has_folders:
                        self._fs.makedirs(self._at(name).rpartition("/")[0], exist_ok=True)
                    self._write(stop, through, how, *arguments, **options)
                return
            except StoreError as error:
                if not error.can_pass or time.monotonic() + pause_s > until_s:
                    raise
                log.warning("%s; tried again in %.0f s", error.what, pause_s)
                if stop.wait(pause_s):
                    raise

    def _write(self, stop: threading.Event, through: Any, how: str, *arguments: Any, **options: Any) -> None:
        """Let the backend write, and take the request back when ``stop`` says so or this thread is interrupted."""
        if not self._is_s3:
            getattr(through, how)(*arguments, **options)
            return
        done = asyncio.run_coroutine_threadsafe(getattr(through, f"_{how}")(*arguments, **options), through.loop)
        try:
            while not stop.is_set() and not wait([done], timeout=_LOOK_S).done:
                pass
            if not done.done():
                raise ConnectionError("it was given up")
            done.result()
        finally:
            done.cancel()

    def move(self, source: str, target: str) -> None:
        # Object stores copy and delete one by one. The manifest goes first: without it the rest is no artifact.
        files = sorted(self._listing(source), key=lambda name: not name.endswith("/manifest.json"))
        if not files:
            raise FileNotFoundError(2, "No such folder", source)
        for name in files:
            destination = target + name.removeprefix(source)
            self._forget(destination)
            ends = self._at(name), self._at(destination)
            self._patiently(destination, threading.Event(), self._sender, "cp_file", *ends)
            if name.endswith("/manifest.json"):
                self._delete([name])
        self._delete([name for name in files if not name.endswith("/manifest.json")])

    def _delete(self, files: Sequence[str]) -> None:
        for name in files:
            self._forget(name)
        for start in range(0, len(files), 1000):
            with contextlib.suppress(FileNotFoundError), self._telling():
                self._fs.rm([self._at(name) for name in files[start : start + 1000]])

    def remove(self, name: str) -> None:
        self._forget(name)
        self._delete([path for path in self._listing(name) if path == name or path.startswith(f"{name}/")])
        if self._has_folders:
            with contextlib.suppress(FileNotFoundError), self._telling():
                self._fs.rm(self._at(name), recursive=True)
            # As on an object store, a folder goes with the last that was in it.
            above = name.rpartition("/")[0]
            if above and not self.names(above):
                with contextlib.suppress(FileNotFoundError), self._telling():
                    self._fs.rmdir(self._at(above))

    def bytes_below(self, name: str) -> int:
        return sum(int(facts.get("size") or 0) for facts in self._listing(name).values())

    def modified_s(self, name: str) -> float | None:
        return self.written(name).get(name)

    # Many at once, and of late.

    def _together(self, work: Callable[..., Any], arguments: Iterable[tuple[Any, ...]]) -> None:
        """Do all of them, or as little more as can be when one fails or somebody interrupts."""
        given, stop = list(arguments), threading.Event()
        if len(given) == 1:
            work(stop, *given[0])
            return
        with ThreadPoolExecutor(AT_ONCE, "store") as pool:
            try:
                for done in [pool.submit(work, stop, *each) for each in given]:
                    done.result()
            except BaseException:
                stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _once(self, kind: str, name: str, get: Callable[[], T]) -> T:
        with self._lock:
            at_s, value = self._recent.get((kind, name), (-RECENT_S, None))
        if time.monotonic() - at_s < RECENT_S:
            return cast(T, value)
        return self._note(kind, name, get())

    def _note(self, kind: str, name: str, value: T) -> T:
        now = time.monotonic()
        with self._lock:
            if len(self._recent) > 20_000:
                self._recent = {key: kept for key, kept in self._recent.items() if now - kept[0] < RECENT_S}
            self._recent[kind, name] = (now, value)
        return value

    def _learn(self, name: str) -> None:
        """Add a new file to the listings that are remembered."""
        with self._lock:
            while name:
                folder, _, last = name.rpartition("/")
                at_s, names = self._recent.get(("names", folder), (0.0, None))
                if names is not None and last not in names:
                    self._recent["names", folder] = (at_s, sorted([*names, last]))
                name = folder

    def _forget(self, name: str) -> None:
        """What is remembered of a file, and of the folders that it is in."""
        with self._lock:
            self._recent.pop(("file", name), None)
            while name:
                name = name.rpartition("/")[0]
                self._recent.pop(("names", name), None)

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """Give what a backend raises as `StoreError`; a missing or misplaced file as it is."""
        if not self._met:
            self._meet()
        try:
            yield
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            if code_of(error) == "NoSuchBucket":
                raise missing_bucket(self.url) from error
            raise
        except (StoreError, MemoryError):
            raise
        except OSError as error:
            # What this machine itself says: of a file that it has, or of its disk.
            if (error.filename is not None and error.errno is not None) or error.errno in _OF_THIS_MACHINE:
                raise
            raise trouble(self.url, error) from error
        except Exception as error:
            raise trouble(self.url, error) from error

    def _meet(self) -> None:
        """Ask the bucket once, with little patience: a wrong name, key or address is told at once."""
        from fsspec.asyn import sync

        with self._meeting:
            if self._met:
                return
            if self._refusal is not None and time.monotonic() - self._refusal[0] < RECENT_S / 2:
                raise self._refusal[1]
            bucket, _, prefix = self._path.partition("/")
            ask = functools.partial(self._fs._call_s3, "list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=1)
            try:
                sync(self._fs.loop, ask, timeout=CONTACT_S)
            except Exception as error:
                refusal = trouble(self.url, error)
                self._refusal = (time.monotonic(), refusal)
                raise refusal from error
            self._met = True


class _Ranges(io.RawIOBase):
    """An object as a file: each read asks for a range of it."""

    def __init__(self, folder: RemoteFolder, name: str, size: int) -> None:
        self._folder, self._name, self._size, self._place = folder, name, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def readinto(self, buffer: Any) -> int:
        end = min(self._place + len(buffer), self._size)
        if end <= self._place:
            return 0
        data = self._folder.range(self._name, self._place, end)
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)
