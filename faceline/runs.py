"""Runs that live: each registers itself in the store before its first look into it, so that a cleaner knows of it.

``_runs/<UTC time>-<host>-<process>-<number>.json`` says who runs, where, on what, since when. On a local root the file
is held by a lock of the operating system, which lets go of it when the process dies, however it dies. Every minute the
file is written again: that beat tells other machines that the run lives, where locks do not reach them (object stores,
some network mounts). A run of another machine, or one without a lock, counts as dead after an hour without a beat.

On an object store nothing keeps a cleaner from removing what a run has just found. There, runs and cleaners exclude
each other: each puts its own flag first and then looks for the other's. A run waits until the cleaner is out of the
way; the cleaner removes nothing while a run lives, and stops as soon as one begins.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from faceline.errors import FacelineError, StoreError
from faceline.folders import FILE_MODE, Folder, folder_at, make_private_dirs

log = logging.getLogger(__name__)

RUNS = "_runs"
BEAT_S = 60.0
"""Time between two beats of a run."""

LOST_S = 3600.0
"""After so long without a beat, a run that no lock vouches for is dead."""

CLEANER_BEAT_S = 10.0
CLEANER_LOST_S = 300.0
"""The same for a cleaner of an object store, which runs wait for: it looks at its own last beat before it removes
anything, and gives up long before others would take it for dead."""

WAIT_S = 1.0
LEAVE_S = 5.0
"""How long the end of a run, or of a cleaner, waits for a store that does not answer."""
_CLEANER = "cleaner-"


@dataclass(frozen=True)
class Run:
    """A registered run.

    Attributes:
        name: its name in the store.
        host: name of the machine.
        pid: id of the process there.
        started: start of the process, whole seconds since the epoch.
        verb: what it does, such as ``analyze``.
        what: on what, such as the footage's name.
        began_s: when it began, by the clock of the store, seconds since the epoch.
        beat_s: its last beat.
        locked: whether a lock tells that it lives.
        kernel: id of the running system, among whose processes that lock is known; empty where there is none.
    """

    name: str
    host: str
    pid: int
    started: int
    verb: str
    what: str
    began_s: float
    beat_s: float
    locked: bool = False
    kernel: str = ""

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.began_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
        what = f" of {self.what}" if self.what else ""
        return f"{self.verb}{what}, process {self.pid} on {self.host}, since {since}"


@dataclass
class _Held:
    """A registration of this process; several users of one store share it."""

    leave: Callable[[], None]
    users: int = 1


_held: dict[str, _Held] = {}
_holding = threading.Lock()


@contextlib.contextmanager
def running(root: str | Path, verb: str, what: str = "") -> Iterator[None]:
    """For the block, whatever this process uses of a store is kept by cleaners. To be entered before the first look.

    Blocks of one process over one store may overlap; the first to begin registers, the last to end lets go.

    Args:
        root: path or URL of the store.
        verb: what runs, such as ``analyze``.
        what: on what; for people only.

    Raises:
        FacelineError: the run cannot be registered.
    """
    folder = folder_at(root)
    with _holding:
        held = _held.get(folder.url)
        if held is None:
            try:
                _held[folder.url] = _begin(folder, verb, what)
            except OSError as error:
                raise FacelineError(
                    f"the run cannot be registered in the store: {error.strerror or error}",
                    where=folder.url,
                    cure="make the store writable, or name another with store.root=DIR",
                ) from error
        else:
            held.users += 1
    try:
        yield
    finally:
        with _holding:
            held = _held[folder.url]
            held.users -= 1
            if not held.users:
                del _held[folder.url]
                held.leave()


def _begin(folder: Folder, verb: str, what: str) -> _Held:
    run = _this_run(verb, what)
    path = folder.local_path(f"{RUNS}/{run.name}.json")
    if path is not None:
        descriptor = _lock_new(path, run)

        def beat() -> None:
            try:
                os.utime(path)
            except FileNotFoundError:
                # Somebody took it for dead: a machine that slept, say. The lock went with the file.
                _put(folder, replace(run, beat_s=time.time()))

        def end() -> None:
            try:
                path.unlink(missing_ok=True)
            finally:
                os.close(descriptor)
    else:
        # Asked first: writing is tried again for minutes, and a store that is out of reach is to be told at once.
        folder.names(RUNS)
        _put(folder, run)

        def beat() -> None:
            _put(folder, replace(run, beat_s=time.time()))

        def end() -> None:
            folder.remove(f"{RUNS}/{run.name}.json")

    leave = _beating(folder, beat, BEAT_S, end)
    if path is None:
        try:
            _wait_for_cleaners(folder)
        except BaseException:
            leave()
            raise
    return _Held(leave)


def _this_run(verb: str, what: str) -> Run:
    now_s, host = time.time(), socket.gethostname()
    stamp = datetime.fromtimestamp(now_s, UTC).strftime("%Y%m%dT%H%M%SZ")
    short = hashlib.sha256(host.encode()).hexdigest()[:12]
    what = what.encode("utf-8", "backslashreplace").decode()
    name = f"{stamp}-{short}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    return Run(name, host, os.getpid(), _process_started(), verb, what, now_s, now_s, kernel=_kernel())


def _kernel() -> str:
    """Id of this boot of this machine. Names of machines are less: two may share one, and containers choose theirs."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except (OSError, ValueError):
        return ""


def _process_started() -> int:
    """Start of this process, seconds since the epoch, without importing psutil; now where there is no ``/proc``."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        (boot,) = (line.split()[1] for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
        return int(boot) + ticks // os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return int(time.time())


def _lock_new(path: Path, run: Run) -> int:
    """Make a run's file, locked before it has its name; the descriptor that holds the lock."""
    make_private_dirs(path.parent)
    temporary = path.with_name(f".{path.name}.tmp")
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, FILE_MODE)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            locked = True
        except OSError as error:  # A file system without locks: the beat has to do.
            log.info("%s: no locks here: %s", path.parent, error)
            locked = False
        # The clock that also dates the uses.
        began_s = os.fstat(descriptor).st_mtime
        os.write(descriptor, _body(replace(run, began_s=began_s, beat_s=began_s, locked=locked)))
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        os.close(descriptor)
        raise
    return descriptor


def _body(run: Run) -> bytes:
    return json.dumps(asdict(run), ensure_ascii=False, indent=1).encode("utf-8")


def _put(folder: Folder, run: Run) -> None:
    folder.put(f"{RUNS}/{run.name}.json", _body(run))


def _beating(folder: Folder, beat: Callable[[], None], every_s: float, end: Callable[[], None]) -> Callable[[], None]:
    """Beat from now on; gives what stops it and then calls ``end``.

    An object store that does not answer is waited for no longer than `LEAVE_S`: what is left of the registration there
    goes as soon as it answers this process, and grows old by itself where that has ended.
    """
    stop = threading.Event()
    beats = threading.Thread(target=_keep_beating, args=(beat, every_s, stop), name="run-beat", daemon=True)
    beats.start()

    def leave() -> None:
        # No beat may come after the end.
        beats.join()
        try:
            end()
        except (OSError, StoreError) as error:
            log.warning("%s: what says that this process lives stays, and grows old by itself: %s", folder.url, error)

    def leave_soon() -> None:
        stop.set()
        if folder.local_path("") is not None:
            leave()
            return
        leaving = threading.Thread(target=leave, name="run-end", daemon=True)
        leaving.start()
        leaving.join(LEAVE_S)
        if leaving.is_alive():
            log.warning("%s does not answer; not waited for: what says that this process lives may stay", folder.url)

    return leave_soon


def _keep_beating(beat: Callable[[], None], every_s: float, stop: threading.Event) -> None:
    while not stop.wait(every_s):
        try:
            beat()
        except Exception as error:  # The next beat may succeed, and an hour is long.
            log.warning("the run could not say that it lives: %s", error)


# ------------------------------------------------------------------------------------------------ who lives


def live_runs(folder: Folder) -> list[Run]:
    """Runs that live, the oldest first. One whose file cannot be read lives as long as its lock or its beat says."""
    return sorted((run for run, lives in _runs(folder) if lives), key=lambda run: run.began_s)


def dead_runs(folder: Folder) -> list[str]:
    """Names of the files that dead runs and dead cleaners have left."""
    dead = [f"{RUNS}/{run.name}.json" for run, lives in _runs(folder) if not lives]
    return dead + [name for name, beat_s in _cleaners(folder) if time.time() - beat_s > CLEANER_LOST_S]


def _runs(folder: Folder) -> Iterator[tuple[Run, bool]]:
    for name in folder.names(RUNS):
        if not name.endswith(".json") or name.startswith((".", _CLEANER)):
            continue
        try:
            data = folder.read(f"{RUNS}/{name}")
        except FileNotFoundError:  # It has just ended.
            continue
        run = _read(name.removesuffix(".json"), data, folder.modified_s(f"{RUNS}/{name}"))
        path = folder.local_path(f"{RUNS}/{name}")
        if path is None:
            yield run, time.time() - run.beat_s <= LOST_S
            continue
        lives = _lives(path, run)
        if lives is not None:
            yield run, lives


def _read(name: str, data: bytes, modified_s: float | None) -> Run:
    try:
        body: dict[str, Any] = json.loads(data)
        run = Run(**body)
        return replace(run, name=name, began_s=float(run.began_s), beat_s=float(run.beat_s))
    except (ValueError, TypeError):
        # Whatever it is, it may be using everything.
        return Run(name, "?", 0, 0, "unknown", "", 0.0, time.time() if modified_s is None else modified_s)


def _lives(path: Path, run: Run) -> bool | None:
    """Whether the run of a local root lives; None if it has ended meanwhile."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        beat_s = os.fstat(descriptor).st_mtime
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return time.time() - beat_s <= LOST_S
    finally:
        os.close(descriptor)
    if run.locked and run.kernel and run.kernel == _kernel():
        return False
    return time.time() - beat_s <= LOST_S


# ------------------------------------------------------------------------------------------------ cleaners


def _clock_s() -> float:
    """A clock that also runs while the machine sleeps, and that nobody sets."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class _Turn:
    """A cleaner's turn at an object store; see `cleaning`."""

    def __init__(self, folder: Folder, name: str) -> None:
        self._folder, self._name = folder, name
        self.beat()

    def beat(self) -> None:
        """Say that the cleaner lives."""
        # The time before it: what was on its way for long says little.
        at_s = _clock_s()
        self._folder.put(self._name, json.dumps({"beat_s": time.time()}).encode())
        self._beat_s = at_s

    def may_remove(self) -> bool:
        """Whether something may be removed now: not when a run has begun, or this process slept for too long."""
        return _clock_s() - self._beat_s <= CLEANER_LOST_S / 4 and not live_runs(self._folder)


@contextlib.contextmanager
def cleaning(folder: Folder) -> Iterator[Callable[[], bool]]:
    """For the block, keep runs that begin on an object store waiting; on a local root the gate does better.

    Yields:
        asked before each removal: whether it may take place.
    """
    if folder.local_path("") is not None:
        yield lambda: True
        return
    name = f"{RUNS}/{_CLEANER}{uuid.uuid4().hex}.json"
    turn = _Turn(folder, name)
    leave = _beating(folder, turn.beat, CLEANER_BEAT_S, lambda: folder.remove(name))
    try:
        yield turn.may_remove
    finally:
        leave()


def _cleaners(folder: Folder) -> Iterator[tuple[str, float]]:
    for name in folder.names(RUNS):
        if name.startswith(_CLEANER):
            try:
                beat_s = float(json.loads(folder.read(f"{RUNS}/{name}"))["beat_s"])
            except FileNotFoundError:
                continue
            except (ValueError, KeyError, TypeError):
                beat_s = 0.0
            yield f"{RUNS}/{name}", beat_s


def _wait_for_cleaners(folder: Folder) -> None:
    """Wait until no cleaner of an object store is left but those that have not beaten while this process looked on.

    Flags of these are removed, so that the next run does not wait for them as well.
    """
    seen: dict[tuple[str, float], float] = {}
    said = False
    while True:
        now_s = _clock_s()
        # Whose clock is right does not matter: what counts is that the beats go on.
        since_s = {each: seen.get(each, now_s) for each in _cleaners(folder)}
        lost = [
            name
            for (name, beat_s), first_s in since_s.items()
            if now_s - first_s > CLEANER_LOST_S or time.time() - beat_s > LOST_S
        ]
        if len(lost) == len(since_s):
            for name in lost:
                folder.remove(name)
            return
        if not said:
            log.warning("%s: a cleaner is at work; waiting until it is out of the way", folder.url)
            said = True
        seen = since_s
        time.sleep(WAIT_S)
