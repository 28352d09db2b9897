"""The store: keyed artifacts below one root, committed whole or not at all, trusted only when they can be.

Layout::

    <root>/<stage>/<key>/          payloads and manifest.json
    <root>/_latest/…               which key was last used where; explains reruns, and may be lost
    <root>/_damaged/<stage>-<key>-<n>/   artifacts set aside, with damage.json
    <root>/_locks/                 one lock file per key being computed

On a local root a commit is a rename of a folder that is already on disk in full, and a lock, which the operating
system lets go of when its holder dies, makes a second process wait for the first. On an object store there is neither:
payloads go to a folder of the attempt, the manifest that names it is one object and goes last, and two machines that
compute the same key do so harmlessly twice.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import json
import logging
import platform
import re
import socket
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import faceline
from faceline.artifacts import MANIFEST, Artifact, ArtifactRef, Manifest
from faceline.drafts import Draft, Owner, draft_name, parse_draft_name
from faceline.folders import folder_at, make_private_dirs
from faceline.keys import KeyParts
from faceline.stage import Payload

log = logging.getLogger(__name__)

_KEY = re.compile(r"[0-9a-f]{64}")
_FOREIGN_DRAFT_AGE_S = 7 * 24 * 3600.0
_LIBRARIES = (
    *("av", "facenet-pytorch", "fer", "mediapipe", "numpy", "opencv-contrib-python-headless"),
    *("pyarrow", "scikit-image", "scikit-learn", "scipy", "torch", "torchvision"),
)


@dataclass(frozen=True)
class Finding:
    """What lies at a key.

    Attributes:
        state: ``ok``, ``damaged``, or ``absent``.
        problems: what is wrong, in words; empty unless damaged.
        manifest: the manifest, when it is whole.
    """

    stage: str
    key: str
    state: Literal["ok", "damaged", "absent"]
    problems: tuple[str, ...] = ()
    manifest: Manifest | None = None


@dataclass(frozen=True)
class Damage:
    """Why an artifact was set aside, and when (seconds since the epoch)."""

    reason: str
    at_s: float


class Store:
    """Artifacts below ``root``: a path, or an fsspec URL such as ``s3://bucket/prefix``."""

    def __init__(self, root: str | Path) -> None:
        self.folder = folder_at(root)
        self.root = self.folder.url

    def __repr__(self) -> str:
        return f"Store({self.root!r})"

    def inspect(self, stage: str, key: str, *, deep: bool = False) -> Finding:
        """Look at an artifact without touching it: the manifest and all sizes, with ``deep`` all digests."""
        place = f"{stage}/{key}"
        try:
            with self.folder.open(f"{place}/{MANIFEST}") as file:
                manifest = Manifest.from_bytes(file.read(), key)
        except (FileNotFoundError, NotADirectoryError):
            # A local folder appears by one rename; without its manifest it has lost something. On an object store
            # the manifest is what makes it an artifact.
            path = self.folder.local_path(place)
            if path is not None and path.is_dir():
                return Finding(stage, key, "damaged", (f"{MANIFEST} is missing",))
            return Finding(stage, key, "absent")
        except ValueError as error:
            return Finding(stage, key, "damaged", (str(error),))
        artifact = Artifact(self.folder, self._ref(manifest))
        problems = tuple(artifact.problems(deep=deep))
        return Finding(stage, key, "damaged" if problems else "ok", problems, manifest)

    def _ref(self, manifest: Manifest, segment: int | None = None, trial: str | None = None) -> ArtifactRef:
        parts = manifest.parts
        return ArtifactRef(parts.stage, parts.key, manifest.digest, self.root, segment, trial, manifest.rows)

    def ref(self, finding: Finding, *, segment: int | None = None, trial: str | None = None) -> ArtifactRef:
        """The reference to a sound artifact; `ValueError` for any other finding."""
        if finding.state != "ok" or finding.manifest is None:
            raise ValueError(f"{finding.stage}/{finding.key} is {finding.state}")
        return self._ref(finding.manifest, segment, trial)

    def read(self, ref: ArtifactRef) -> Artifact:
        """A reader; damage that it meets sets the artifact aside, so that the next run computes it anew."""
        return Artifact(self.folder, ref, on_damage=self._on_damage)

    def _on_damage(self, ref: ArtifactRef) -> None:
        try:
            self.repair(ref.stage, ref.key)
        except OSError as error:  # The reader's own error says more than that healing failed too.
            log.warning("%s %s could not be set aside: %s", ref.stage, ref.key[:12], error)

    @contextlib.contextmanager
    def lock(self, stage: str, key: str, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold the key, waiting as long as another process holds it; no lock on an object store.

        Args:
            stage, key: what to hold.
            waiting: called about once a second while waiting; may raise to give up.
        """
        path = self.folder.local_path(f"_locks/{stage}-{key}.lock")
        if path is None:
            yield
            return
        import filelock

        make_private_dirs(path.parent)
        lock = filelock.FileLock(path, mode=0o600)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            log.info("%s %s is being computed by another process; waiting", stage, key[:12])
            while not lock.is_locked:
                waiting()
                with contextlib.suppress(filelock.Timeout):
                    lock.acquire(timeout=1.0)
        try:
            yield
        finally:
            # Still held, and whoever waits checks that the file it gets hold of still has a name.
            path.unlink(missing_ok=True)
            lock.release()

    @contextlib.contextmanager
    def draft(self, stage: str, key: str, outputs: Sequence[Payload]) -> Iterator[Draft]:
        """An empty draft, gone again at the end unless it was committed. Hold the key's lock around it."""
        path = self.folder.local_path(f"{stage}/{draft_name(key, Owner.this_process())}")
        if path is None:
            path = Path(tempfile.mkdtemp(prefix="faceline-"))
        else:
            self._sweep_stage(stage, held_key=key)
        draft = Draft(stage, outputs, path)
        try:
            yield draft
        finally:
            draft.discard()

    def commit(
        self, draft: Draft, parts: KeyParts, *, runtime: Mapping[str, Any], timings: Mapping[str, float]
    ) -> Manifest:
        """Make a draft the artifact of its key; afterwards all of it is on disk, or nothing is there.

        A sound artifact that is already there and has the same content stays; one with other content is replaced.

        Raises:
            ValueError: a declared payload never appeared.
        """
        start_s = time.perf_counter()
        payloads = draft.finish()
        manifest = Manifest(
            parts=parts,
            payloads=payloads,
            faceline=faceline.__version__,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            host=socket.gethostname(),
            runtime=dict(runtime),
            libraries=library_versions(),
            timings={**timings, "write_s": round(time.perf_counter() - start_s, 3)},
        )
        there = self.inspect(parts.stage, parts.key)
        if there.state == "ok" and there.manifest is not None and there.manifest.digest == manifest.digest:
            return there.manifest
        if self.folder.local_path("") is None:
            return self._upload(draft, manifest)
        draft.write_manifest(MANIFEST, manifest.to_bytes())
        place = f"{parts.stage}/{parts.key}"
        if there.state == "damaged":
            self.set_aside(parts.stage, parts.key, "; ".join(there.problems))
        elif there.state == "ok":
            self._discard(parts.stage, parts.key)
        self.folder.move(f"{parts.stage}/{draft.path.name}", place)
        return manifest

    def _upload(self, draft: Draft, manifest: Manifest) -> Manifest:
        place, attempt = f"{manifest.parts.stage}/{manifest.parts.key}", uuid.uuid4().hex[:12]
        payloads = {name: replace(p, path=f"{attempt}/{p.path}") for name, p in manifest.payloads.items()}
        manifest = replace(manifest, payloads=payloads)
        try:
            for payload in payloads.values():
                for name in payload.stored_files():
                    self.folder.upload(draft.path / name.removeprefix(f"{attempt}/"), f"{place}/{name}")
            self.folder.put(f"{place}/{MANIFEST}", manifest.to_bytes())
        except BaseException:
            self.folder.remove(f"{place}/{attempt}")
            raise
        return manifest

    def set_aside(self, stage: str, key: str, reason: str) -> None:
        """Move a damaged artifact out of the way, with the reason. Hold the key's lock around it."""
        number = 1 + max((n for n, _ in self._set_aside_names(stage, key)), default=0)
        target = f"_damaged/{stage}-{key}-{number}"
        with contextlib.suppress(FileNotFoundError):
            self.folder.move(f"{stage}/{key}", target)
            note = {"stage": stage, "key": key, "reason": reason, "at_s": time.time()}
            self.folder.put(f"{target}/damage.json", json.dumps(note, ensure_ascii=False).encode("utf-8"))
            log.warning("%s %s is damaged and was set aside in %s: %s", stage, key[:12], target, reason)

    def _set_aside_names(self, stage: str, key: str) -> list[tuple[int, str]]:
        prefix = f"{stage}-{key}-"
        names = (name for name in self.folder.names("_damaged") if name.startswith(prefix))
        return sorted((int(name.removeprefix(prefix)), name) for name in names if name.removeprefix(prefix).isdigit())

    def damage(self, stage: str, key: str) -> Damage | None:
        """Why the artifact of this key was last set aside; None if it never was."""
        for _, name in reversed(self._set_aside_names(stage, key)):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                with self.folder.open(f"_damaged/{name}/damage.json") as file:
                    note = json.loads(file.read())
                return Damage(str(note["reason"]), float(note["at_s"]))
        return None

    def repair(self, stage: str, key: str) -> Finding:
        """Look at every byte of an artifact and set it aside if it is damaged."""
        with self.lock(stage, key):
            finding = self.inspect(stage, key, deep=True)
            if finding.state == "damaged":
                self.set_aside(stage, key, "; ".join(finding.problems))
        return finding

    def verify(self, *, deep: bool = True, repair: bool = False) -> Iterator[Finding]:
        """Check every artifact, one after the other.

        Args:
            deep: hash all payloads again; else manifests and sizes only.
            repair: set damaged artifacts aside, so that the next run computes them anew and says so.
        """
        for stage, key in self.artifacts():
            finding = self.inspect(stage, key, deep=deep)
            if finding.state == "damaged" and repair:
                finding = self.repair(stage, key)
            if finding.state != "absent":
                yield finding

    def artifacts(self) -> Iterator[tuple[str, str]]:
        """Stage and key of everything stored, sound or not."""
        for stage in self.folder.names():
            if not stage.startswith(("_", ".")):
                yield from ((stage, key) for key in self.folder.names(stage) if _KEY.fullmatch(key))

    def remove(self, stage: str, key: str) -> None:
        """Delete an artifact. Readers see it whole or not at all."""
        with self.lock(stage, key):
            self._discard(stage, key)

    def _discard(self, stage: str, key: str) -> None:
        if self.folder.local_path("") is None:
            self.folder.remove(f"{stage}/{key}/{MANIFEST}")
            self.folder.remove(f"{stage}/{key}")
            return
        # Renamed first: a half-deleted folder would look like a damaged artifact.
        trash = f"{stage}/{draft_name(key, Owner.this_process())}"
        with contextlib.suppress(FileNotFoundError):
            self.folder.move(f"{stage}/{key}", trash)
            self.folder.remove(trash)

    def sweep(self) -> int:
        """Remove what dead processes left half-written; returns how many leftovers went.

        A leftover of another machine goes after a week, since nobody here can tell whether its process lives.
        """
        return sum(self._sweep_stage(stage) for stage in self.folder.names() if not stage.startswith(("_", ".")))

    def _sweep_stage(self, stage: str, held_key: str = "") -> int:
        swept = 0
        for name in self.folder.names(stage):
            parsed = parse_draft_name(name)
            path = self.folder.local_path(f"{stage}/{name}")
            if parsed is None or path is None:
                continue
            key, owner = parsed
            if owner.is_here() and owner.is_alive():
                continue
            with contextlib.suppress(FileNotFoundError):
                if not owner.is_here() and time.time() - path.stat().st_mtime < _FOREIGN_DRAFT_AGE_S:
                    continue
                if key == held_key or not self._is_locked(stage, key):
                    log.info("removing what a dead process left of %s %s", stage, key[:12])
                    self.folder.remove(f"{stage}/{name}")
                    swept += 1
        return swept

    def _is_locked(self, stage: str, key: str) -> bool:
        import filelock

        path = self.folder.local_path(f"_locks/{stage}-{key}.lock")
        if path is None or not path.exists():
            return False
        try:
            with filelock.FileLock(path, timeout=0, mode=0o600):
                path.unlink(missing_ok=True)
                return False
        except filelock.Timeout:
            return True


@functools.cache
def library_versions() -> dict[str, str]:
    """Versions of Python and of the installed libraries that compute results."""
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions
