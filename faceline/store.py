"""The store: keyed artifacts below one root, committed whole or not at all, trusted only when they can be.

Layout::

    <root>/<stage>/<key>/          payloads and manifest.json
    <root>/_latest/…               which key was last used where: explains reruns, and is what a cleaner keeps
    <root>/_damaged/<stage>-<key>-<n>/   artifacts set aside, with damage.json
    <root>/_locks/                 one lock file per key being computed
    <root>/_runs/, _pins/, _used/  who runs, what is kept, what was used when; see `runs`, `pins`, `uses`

On a local root a commit is a rename of a folder that is already on disk in full, and a lock, which the operating
system lets go of when its holder dies, makes a second process wait for the first. On an object store there is neither:
payloads go to a folder of the attempt, the manifest that names it is one object and goes last, and two machines that
compute the same key do so harmlessly twice (the processes of one machine wait for each other there, too). Drafts and
locks of a remote store lie in the folder of copies of the machine (`faceline.copies`).
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import importlib.metadata
import json
import logging
import platform
import re
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import faceline
from faceline.artifacts import MANIFEST, Artifact, ArtifactRef, Manifest
from faceline.copies import cache_folder, copies_here
from faceline.drafts import Draft, Owner, draft_name
from faceline.errors import ArtifactError, StoreError
from faceline.folders import folder_at, make_private_dirs, sync_dir
from faceline.keys import KeyParts
from faceline.stage import Payload
from faceline.sweeping import sweep_stage
from faceline.uses import Uses, gate, mark_used

log = logging.getLogger(__name__)

KEY = re.compile(r"[0-9a-f]{64}")
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


_RECENT_S = 30.0
_MOST_SOUND = 20_000
_LOOKS_AT_ONCE = 16
_sound: dict[tuple[str, str, str], tuple[float, Finding]] = {}
"""Root, stage and key of remote artifacts → when (`time.monotonic`) they were found sound, and what was found."""


@dataclass(frozen=True)
class Damage:
    """Why an artifact was set aside, and when (seconds since the epoch)."""

    reason: str
    at_s: float


class _Busy(Exception):
    """The key is held by somebody."""


class Store:
    """Artifacts below ``root``: a path, or an fsspec URL such as ``s3://bucket/prefix``."""

    def __init__(self, root: str | Path) -> None:
        self.folder = folder_at(root)
        self.root = self.folder.url

    def __repr__(self) -> str:
        return f"Store({self.root!r})"

    def inspect(self, stage: str, key: str, *, deep: bool = False, recent: bool = False) -> Finding:
        """Look at an artifact without touching it: the manifest and all sizes, with ``deep`` all digests.

        Args:
            stage, key: where it lies.
            deep: read all of it.
            recent: of a remote store, what this process found or made within half a minute counts where it was sound;
                its payloads are hashed before they are used in any case.
        """
        if recent and not deep and (seen := self._seen(stage, key)) is not None:
            return seen
        before, finding = None, self._look(stage, key, deep=deep)
        # What looks torn may have been taken away, or made anew, between two looks at its files.
        while finding.state == "damaged" and (before is None or before.problems != finding.problems):
            before, finding = finding, self._look(stage, key, deep=deep)
        return self._note(finding) if finding.state == "ok" else finding

    def _look(self, stage: str, key: str, *, deep: bool) -> Finding:
        place = f"{stage}/{key}"
        try:
            manifest = Manifest.from_bytes(self.folder.read(f"{place}/{MANIFEST}"), key)
        except (FileNotFoundError, NotADirectoryError):
            # A local folder appears by one rename; without its manifest it has lost something. On an object store
            # the manifest is what makes it an artifact.
            path = self.folder.local_path(place)
            if path is not None and path.is_dir():
                return Finding(stage, key, "damaged", (f"{MANIFEST} is missing",))
            return Finding(stage, key, "absent")
        except ValueError as error:
            return Finding(stage, key, "damaged", (str(error),))
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            # As of a payload: a sector that cannot be read is as good as a torn file.
            return Finding(stage, key, "damaged", (f"{MANIFEST} cannot be read: {error.strerror}",))
        try:
            problems = tuple(Artifact(self.folder, self._ref(manifest), manifest=manifest).problems(deep=deep))
        except ArtifactError as error:
            return Finding(stage, key, "damaged", (error.what,))
        return Finding(stage, key, "damaged" if problems else "ok", problems, manifest)

    def _note(self, finding: Finding) -> Finding:
        if self.is_remote:
            now = time.monotonic()
            if len(_sound) > _MOST_SOUND:
                for place, (at_s, _) in list(_sound.items()):
                    if now - at_s > _RECENT_S:
                        _sound.pop(place, None)
            _sound[self.root, finding.stage, finding.key] = (now, finding)
        return finding

    def _seen(self, stage: str, key: str) -> Finding | None:
        at_s, finding = _sound.get((self.root, stage, key), (-_RECENT_S, None))
        return finding if time.monotonic() - at_s < _RECENT_S else None

    @property
    def is_remote(self) -> bool:
        """Whether it lies behind a URL."""
        return self.folder.local_path("") is None

    def foresee(self, *folders: str) -> None:
        """Look together at all that the pointers in these folders point at, so that a plan need not ask one by one.

        Of pointers of one name, those in the first of the folders count. Nothing happens on a local store, where asking
        costs next to nothing.
        """
        if not self.is_remote:
            return
        names: dict[str, str] = {}
        for folder in folders:
            for name in self.folder.names(folder, recent=True):
                names.setdefault(name, f"{folder}/{name}")
        self.folder.names("_damaged", recent=True)

        def look(name: str) -> None:
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                parts = KeyParts.from_plain(json.loads(self.folder.read(name, recent=True))["parts"])
                self.inspect(parts.stage, parts.key, recent=True)

        with ThreadPoolExecutor(_LOOKS_AT_ONCE, "foresee") as pool:
            for done in [pool.submit(look, name) for name in names.values()]:
                done.result()

    def _ref(self, manifest: Manifest, segment: int | None = None, trial: str | None = None) -> ArtifactRef:
        parts = manifest.parts
        return ArtifactRef(parts.stage, parts.key, manifest.digest, self.root, segment, trial, manifest.rows)

    def ref(self, finding: Finding, *, segment: int | None = None, trial: str | None = None) -> ArtifactRef:
        """The reference to a sound artifact; `ValueError` for any other finding."""
        if finding.state != "ok" or finding.manifest is None:
            raise ValueError(f"{finding.stage}/{finding.key} is {finding.state}")
        return self._ref(finding.manifest, segment, trial)

    def use(self, stage: str, key: str) -> bool:
        """Note that an artifact is used now, so that no cleaner takes it while this run lives (`faceline.runs`).

        Gives whether it is there (on an object store always true: there, `running` alone keeps cleaners away).
        """
        return mark_used(self.folder, stage, key)

    def read(self, ref: ArtifactRef) -> Artifact:
        """A reader; damage that it meets sets the artifact aside, so that the next run computes it anew."""
        seen = self._seen(ref.stage, ref.key)
        manifest = seen.manifest if seen is not None and seen.manifest is not None else None
        if manifest is not None and manifest.digest != ref.digest:
            manifest = None
        return Artifact(self.folder, ref, on_damage=self._on_damage, manifest=manifest)

    def _on_damage(self, ref: ArtifactRef) -> None:
        try:
            self.repair(ref.stage, ref.key)
        except (OSError, StoreError) as error:  # The reader's own error says more than that healing failed too.
            log.warning("%s %s could not be set aside: %s", ref.stage, ref.key[:12], error)

    @contextlib.contextmanager
    def lock(self, stage: str, key: str, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold the key, waiting as long as another process holds it; on a remote store, another of this machine.

        Args:
            waiting: called about once a second while waiting; may raise to give up.
        """
        path = self.lock_path(stage, key)
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

    def lock_path(self, stage: str, key: str) -> Path:
        """The lock file of a key, on this machine."""
        path = self.folder.local_path(f"_locks/{stage}-{key}.lock")
        if path is None:
            of_root = hashlib.sha256(self.root.encode()).hexdigest()[:12]
            path = cache_folder() / "locks" / f"{of_root}-{stage}-{key}.lock"
        return path

    @contextlib.contextmanager
    def draft(self, stage: str, key: str, outputs: Sequence[Payload]) -> Iterator[Draft]:
        """An empty draft, gone again at the end unless it was committed. Hold the key's lock around it."""
        path = self.drafts(stage) / draft_name(key, Owner.this_process())
        sweep_stage(self, stage, held_key=key)
        draft = Draft(stage, outputs, path)
        try:
            yield draft
        finally:
            draft.discard()

    def drafts(self, stage: str) -> Path:
        """Where this machine keeps the stage's drafts."""
        return self.folder.local_path(stage) or cache_folder() / "drafts" / stage

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
        there = self._what_is_there(parts.stage, parts.key)
        if there.state == "ok" and there.manifest is not None and there.manifest.digest == manifest.digest:
            if self.use(parts.stage, parts.key):
                return there.manifest
            there = replace(there, state="absent")
        if self.is_remote:
            self.use(parts.stage, parts.key)
            return self._upload(draft, manifest)
        draft.write_manifest(MANIFEST, manifest.to_bytes())
        place = f"{parts.stage}/{parts.key}"
        if there.state == "damaged":
            self.set_aside(parts.stage, parts.key, "; ".join(there.problems))
        elif there.state == "ok":
            self._discard(parts.stage, parts.key)
        self.folder.move(f"{parts.stage}/{draft.path.name}", place)
        return manifest

    def _what_is_there(self, stage: str, key: str) -> Finding:
        """What a commit finds. A store that does not answer just now is no reason to lose what was computed: writing is
        patient, and replaces whatever is there."""
        try:
            return self.inspect(stage, key)
        except StoreError as error:
            if not self.is_remote or not error.can_pass:
                raise
            log.warning("%s %s is stored without a look at what is there: %s", stage, key[:12], error.what)
            return Finding(stage, key, "absent")

    def _upload(self, draft: Draft, manifest: Manifest) -> Manifest:
        place, attempt = f"{manifest.parts.stage}/{manifest.parts.key}", uuid.uuid4().hex[:12]
        payloads = {name: replace(p, path=f"{attempt}/{p.path}") for name, p in manifest.payloads.items()}
        manifest = replace(manifest, payloads=payloads)
        files = {path: file for payload in payloads.values() for path, file in payload.stored_files().items()}
        local = {path: draft.path / path.removeprefix(f"{attempt}/") for path in files}
        _sound.pop((self.root, manifest.parts.stage, manifest.parts.key), None)
        try:
            self.folder.upload({f"{place}/{path}": source for path, source in local.items()})
            self.folder.put(f"{place}/{MANIFEST}", manifest.to_bytes())
        except Exception:
            # Whatever it was that failed, this may fail as well; a cleaner finds it, and what an interrupt leaves.
            with contextlib.suppress(OSError, StoreError):
                self.folder.remove(f"{place}/{attempt}")
            raise
        copies = copies_here()
        for path, source in local.items():
            copies.keep(source, files[path].sha256, files[path].size)
        self._note(Finding(manifest.parts.stage, manifest.parts.key, "ok", (), manifest))
        return manifest

    def set_aside(self, stage: str, key: str, reason: str) -> None:
        """Move a damaged artifact out of the way, with the reason. Hold the key's lock around it."""
        number = 1 + max((n for n, _ in self._set_aside_names(stage, key)), default=0)
        target = f"_damaged/{stage}-{key}-{number}"
        _sound.pop((self.root, stage, key), None)
        with contextlib.suppress(FileNotFoundError):
            self._move_aside(stage, key, target)
            note = {"stage": stage, "key": key, "reason": reason, "at_s": time.time()}
            self.folder.put(f"{target}/damage.json", json.dumps(note, ensure_ascii=False).encode("utf-8"))
            log.warning("%s %s is damaged and was set aside in %s: %s", stage, key[:12], target, reason)

    def _move_aside(self, stage: str, key: str, target: str) -> None:
        attempt = self.attempt_of(stage, key) if self.is_remote else None
        if attempt is None:
            self.folder.move(f"{stage}/{key}", target)
            return
        # No more than the manifest names: beside it, another machine may be uploading a sound one.
        self.folder.move(f"{stage}/{key}/{MANIFEST}", f"{target}/{MANIFEST}")
        with contextlib.suppress(FileNotFoundError):
            self.folder.move(f"{stage}/{key}/{attempt}", f"{target}/{attempt}")

    def attempt_of(self, stage: str, key: str) -> str | None:
        """The folder of an object store in which the payloads lie; None where the manifest does not say."""
        try:
            manifest = Manifest.from_bytes(self.folder.read(f"{stage}/{key}/{MANIFEST}"), key)
        except (FileNotFoundError, ValueError):
            return None
        folders = {payload.path.partition("/")[0] for payload in manifest.payloads.values() if "/" in payload.path}
        return folders.pop() if len(folders) == 1 else None

    def _set_aside_names(self, stage: str, key: str, *, recent: bool = False) -> list[tuple[int, str]]:
        prefix = f"{stage}-{key}-"
        names = (name for name in self.folder.names("_damaged", recent=recent) if name.startswith(prefix))
        return sorted((int(name.removeprefix(prefix)), name) for name in names if name.removeprefix(prefix).isdigit())

    def damage(self, stage: str, key: str) -> Damage | None:
        """Why the artifact of this key was last set aside; None if it never was."""
        for _, name in reversed(self._set_aside_names(stage, key, recent=True)):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                note = json.loads(self.folder.read(f"_damaged/{name}/damage.json"))
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
                yield from ((stage, key) for key in self.folder.names(stage) if KEY.fullmatch(key))

    def remove(self, stage: str, key: str) -> None:
        """Delete an artifact. Readers see it whole or not at all."""
        with self.lock(stage, key):
            self._discard(stage, key)

    def _discard(self, stage: str, key: str) -> None:
        if self.is_remote:
            _sound.pop((self.root, stage, key), None)
            self.folder.remove(f"{stage}/{key}/{MANIFEST}")
            self.folder.remove(f"{stage}/{key}")
            return
        # Renamed first: a half-deleted folder would look like a damaged artifact.
        trash = f"{stage}/{draft_name(key, Owner.this_process())}"
        with contextlib.suppress(FileNotFoundError):
            self.folder.move(f"{stage}/{key}", trash)
            try:
                self.folder.remove(trash)
            except OSError as error:  # It is out of its place, and a cleaner's business from now on.
                log.warning("%s/%s cannot be removed: %s", self.root, trash, error)

    def condemn(self, stage: str, key: str, used_s: float, uses: Uses) -> str | None:
        """Take an artifact out of its place, in one step, unless somebody has used it or is at work on it.

        Args:
            used_s: the artifact's last use as the caller knows it; if there has been one since, it stays.
            uses: where later uses show; on an object store read after its runs were kept away.

        Returns:
            where it lies now, for `clear`; None if it stays, or has gone already.
        """
        path = self.folder.local_path(f"{stage}/{key}")
        if path is None:
            if uses.used_since(stage, key, used_s):
                return None
            # Nothing but its own payloads goes later: should this cleaner sleep before that, until runs wait for it no
            # longer, a run may have put a new artifact beside them.
            attempt = self.attempt_of(stage, key)
            _sound.pop((self.root, stage, key), None)
            self.folder.remove(f"{stage}/{key}/{MANIFEST}")
            return f"{stage}/{key}" if attempt is None else f"{stage}/{key}/{attempt}"

        def give_up() -> None:
            raise _Busy

        trash = f"{stage}/{draft_name(key, Owner.this_process())}"
        with (
            contextlib.suppress(_Busy, FileNotFoundError),
            self.lock(stage, key, give_up),
            gate(self.folder, alone=True),
        ):
            if not uses.used_since(stage, key, used_s):
                path.rename(self.folder.local_path(trash) or path)
                return trash
        return None

    def clear(self, condemned: Sequence[str]) -> dict[str, OSError]:
        """Delete what was condemned, once it is sure that not even a power cut brings it back half.

        Returns:
            what could not be deleted, and why.
        """
        failed: dict[str, OSError] = {}
        for stage in {name.partition("/")[0] for name in condemned}:
            if (folder := self.folder.local_path(stage)) is not None:
                sync_dir(folder)
        for name in condemned:
            try:
                self.folder.remove(name)
            except OSError as error:
                failed[name] = error
        return failed


@functools.cache
def library_versions() -> dict[str, str]:
    """Versions of Python and of the installed libraries that compute results."""
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions
