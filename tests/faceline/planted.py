"""Small artifacts, written straight into a store: sound ones, of any age, content and origin."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from faceline.artifacts import MANIFEST, Manifest
from faceline.folders import make_private_dirs
from faceline.keys import KeyParts
from faceline.payloads import StoredPayload, hash_file, listing_digest
from faceline.store import Store

DAY_S = 86400.0


def forked(function: Callable[..., object], *arguments: object) -> None:
    """Call a function in a process that was forked, and end it with nothing of what libraries do at the end.

    What Prefect registers for that ends forks of a process in which it has run with 1, whatever they did.
    """
    try:
        function(*arguments)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


@dataclass(frozen=True)
class Planted:
    """An artifact that was planted."""

    stage: str
    key: str
    digest: str
    parts: KeyParts

    @property
    def place(self) -> tuple[str, str]:
        return self.stage, self.key


def plant(
    store: Store,
    stage: str,
    params: Mapping[str, object],
    *,
    inputs: Mapping[str, Sequence[str]] | None = None,
    content: bytes = b"content",
    footage: str | None = None,
    used_s: float | None = None,
) -> Planted:
    """Put an artifact into a store, last used at ``used_s`` (seconds since the epoch), now by default."""
    given = {name: list(digests) for name, digests in (inputs or {}).items()}
    parts = KeyParts(stage, 1, dict(params), given, footage, {}, {}, {}, {})
    place = f"{stage}/{parts.key}"
    path = store.folder.local_path(place)
    if path is None:
        store.folder.put(f"{place}/attempt/out/a", content)
    else:
        make_private_dirs(path / "attempt" / "out")
        (path / "attempt" / "out" / "a").write_bytes(content)
    with store.folder.open(f"{place}/attempt/out/a") as file:
        hashed = hash_file(file)
    files = {"a": hashed}
    payload = StoredPayload("files", "attempt/out", 1, listing_digest(files), hashed.size, files)
    manifest = Manifest(parts, {"out": payload}, "0", "2020-01-01T00:00:00+00:00", "here", {}, {}, {})
    used_s = time.time() if used_s is None else used_s
    if path is None:
        store.folder.put(f"{place}/{MANIFEST}", manifest.to_bytes())
        day = time.strftime("%Y-%m-%d", time.gmtime(used_s))
        store.folder.put(f"_used/{day}/{stage}-{parts.key}", b"")
    else:
        (path / MANIFEST).write_bytes(manifest.to_bytes())
        os.utime(path / MANIFEST, (used_s, used_s))
    return Planted(stage, parts.key, manifest.digest, parts)
