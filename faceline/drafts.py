"""Drafts: an artifact while it is being written, in a temporary folder that says whose it is.

The folder lies beside the finished artifacts (or in the machine's temporary folder when the store is remote), so that
the last step is one rename. Nobody reads a draft; one whose process is gone is swept away.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
import socket
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceline.folders import create_private, make_private_dirs, sync_dir
from faceline.payloads import PayloadWriter, StoredPayload, writer_of
from faceline.stage import Chunk, Payload


@dataclass(frozen=True)
class Owner:
    """Which process a draft belongs to.

    Attributes:
        host: digest of the machine's name.
        pid: process id on that machine.
        started: start of the process, whole seconds since the epoch; tells apart two processes that share an id.
    """

    host: str
    pid: int
    started: int

    @staticmethod
    def this_process() -> Owner:
        """The process that asks."""
        return _owner(os.getpid())

    def is_here(self) -> bool:
        """Whether the process belongs to this machine, so that its life can be told."""
        return self.host == _host_digest()

    def is_alive(self) -> bool:
        """Whether the process still runs; only meaningful when `is_here`."""
        import psutil

        try:
            return abs(psutil.Process(self.pid).create_time() - self.started) <= 2
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:
            return True


@functools.lru_cache(maxsize=1)  # A cleaner asks once for each artifact; a forked process is another one.
def _owner(pid: int) -> Owner:
    import psutil  # A tenth of a second that a cached run does without.

    return Owner(_host_digest(), pid, int(psutil.Process(pid).create_time()))


def _host_digest() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:12]


def draft_name(key: str, owner: Owner) -> str:
    """A fresh name for a draft of ``key``; `parse_draft_name` reads it back."""
    return f".{key}.{owner.host}.{owner.pid}.{owner.started}.{uuid.uuid4().hex[:8]}.tmp"


def parse_draft_name(name: str) -> tuple[str, Owner] | None:
    """Key and owner of a draft folder's name; None for any other name."""
    parts = name.split(".")
    if len(parts) != 7 or parts[0] or parts[6] != "tmp" or not (parts[3].isdigit() and parts[4].isdigit()):
        return None
    return parts[1], Owner(parts[2], int(parts[3]), int(parts[4]))


class Draft:
    """Payloads of one artifact in the making.

    Args:
        stage: name of the stage, for messages.
        outputs: the payloads that it declared.
        path: the temporary folder; made here.
    """

    def __init__(self, stage: str, outputs: Sequence[Payload], path: Path) -> None:
        self.path = path
        self._stage = stage
        self._declared = {payload.name: payload for payload in outputs}
        self._writers: dict[str, PayloadWriter] = {}
        make_private_dirs(path)

    def append(self, chunk: Chunk) -> None:
        """Add a chunk: each value goes to the end of its payload.

        Raises:
            TypeError, ValueError: a payload that was not declared, or a value that does not fit it.
        """
        if not isinstance(chunk, Mapping):
            raise TypeError(f"stage {self._stage} yielded {type(chunk).__name__}, not a mapping of payloads")
        for name, value in chunk.items():
            if name not in self._declared:
                raise ValueError(f"stage {self._stage} yielded {name!r}, declared are {', '.join(self._declared)}")
            if name not in self._writers:
                self._writers[name] = writer_of(self._declared[name], self.path)
            self._writers[name].append(value)

    def finish(self) -> dict[str, StoredPayload]:
        """Bring every payload to disk and describe them, in declared order.

        Raises:
            ValueError: a declared payload never appeared.
        """
        missing = [name for name in self._declared if name not in self._writers]
        if missing:
            raise ValueError(f"stage {self._stage} never yielded its payload {', '.join(missing)}")
        return {name: self._writers[name].finish() for name in self._declared}

    def write_manifest(self, name: str, data: bytes) -> None:
        """Write the last file, and make all names in the draft durable."""
        with create_private(self.path / name) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        for folder, _, _ in os.walk(self.path):
            sync_dir(Path(folder))

    def discard(self) -> None:
        """Remove what is left of the draft; nothing happens when it has been renamed into place."""
        for writer in self._writers.values():
            with contextlib.suppress(Exception):
                writer.close()
        shutil.rmtree(self.path, ignore_errors=True)


def runtime_facts(runtime: Any) -> dict[str, Any]:
    """What the manifest keeps of a `Runtime`: how the stage was executed."""
    return {"device": runtime.device, "batch_size": runtime.batch_size, "threads": runtime.threads}
