"""The faults. Each makes a place, does its harm at a moment that its random generator chooses, and says what it hit.

A fault that came too late, when the run was over, gives None and is tried again: it would prove nothing.
"""

from __future__ import annotations

import contextlib
import functools
import os
import random
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.faults.place import Ended, Left, Place, PrefectServer, Running, small_disk


@dataclass(frozen=True)
class Known:
    """What undisturbed runs do.

    Attributes:
        clips: the clip, and where a fault needs it (`NEEDS_OTHER`) another one that takes its place.
        left: what a run on each leaves.
        seconds: wall time of one.
        whole: a place where a run has ended, to be copied.
        data_bytes: what its store and results take on a disk.
    """

    clips: tuple[Path, ...]
    left: tuple[Left, ...]
    seconds: float
    whole: Place
    data_bytes: int

    def place(self, folder: Path) -> Place:
        """A fresh place with the clip."""
        return Place.make(folder, self.clips[0], self.whole.options)


@dataclass
class Struck:
    """A fault that hit.

    Attributes:
        place: where.
        moment: when, or what was hit, in words.
        runs: how the runs that it hit ended; None for killed on purpose.
        verb: how the next run is started.
        clip: which of the clips lies there now.
        mend: what is to be done before the next run.
        held: what has to be there until everything is checked.
        problems: what was not as it should be.
    """

    place: Place
    moment: str
    runs: tuple[Ended | None, ...] = ()
    verb: str = "archive"
    clip: int = 0
    mend: Callable[[], None] = lambda: None
    held: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    problems: list[str] = field(default_factory=list)


Fault = Callable[[Path, Known, random.Random], Struck | None]


def run_killed(folder: Path, known: Known, rng: random.Random) -> Struck | None:
    """The run's own process is killed."""
    place = known.place(folder)
    running, after_s = place.start("archive"), _moment(known, rng)
    if not running.runs_until(after_s):
        return None
    running.kill()
    return Struck(place, f"{after_s:.1f} s", (None,))


def worker_killed(folder: Path, known: Known, rng: random.Random) -> Struck | None:
    """A worker process is killed; the run may mend that by itself, or end with a line that says so."""
    place = known.place(folder)
    running, after_s = place.start("archive"), _moment(known, rng)
    running.runs_until(after_s)
    workers = _first_workers(running)
    if not workers:
        return None
    worker = rng.choice(workers)
    worker.kill()
    return _struck(place, f"{after_s:.1f} s", running.ended())


def _first_workers(running: Running) -> list[psutil.Process]:
    while running.is_running:
        if workers := running.workers():
            return workers
        time.sleep(0.05)
    return []


def server_killed(folder: Path, known: Known, rng: random.Random) -> Struck | None:
    """The Prefect server that the run reports to is killed; it is there again for the next run."""
    place = known.place(folder)
    server = PrefectServer(folder / "server")
    with contextlib.ExitStack() as held:
        held.callback(server.kill)
        server.start()
        place.api_url = server.api_url
        running, after_s = place.start("archive"), _moment(known, rng)
        if not running.runs_until(after_s):
            return None
        server.kill()
        struck = _struck(place, f"{after_s:.1f} s", running.ended())
        struck.mend, struck.held = server.start, held.pop_all()
    return struck


def disk_full(folder: Path, known: Known, rng: random.Random) -> Struck | None:
    """The disk is full at some point of the run; for the next one there is room."""
    place = known.place(folder)
    size_bytes = int(known.data_bytes * rng.uniform(0.02, 0.9))
    with contextlib.ExitStack() as held:
        disk = held.enter_context(small_disk(place.store.parent, size_bytes))
        ended = place.run("archive")
        if ended.code == 0:
            return None
        struck = _struck(place, f"{size_bytes / 2**20:.1f} MiB", ended)
        if "No space left" not in ended.text and "disk" not in ended.text.lower():
            struck.problems.append(f"does not say that the disk is full: {ended.last_line}")
        struck.mend, struck.held = functools.partial(disk.enlarge, known.data_bytes * 20), held.pop_all()
    return struck


def artifact_truncated(folder: Path, known: Known, rng: random.Random) -> Struck | None:
    """A file of an artifact is cut short while nobody looks; the next run notices by itself."""
    place = _copy_of(known.whole, folder)
    victim = _any_file(place, rng)
    size = rng.randrange(victim.stat().st_size)
    os.truncate(victim, size)
    return Struck(place, f"{_named(place, victim)} cut to {size} bytes", verb="analyze")


def artifact_flipped(folder: Path, known: Known, rng: random.Random) -> Struck | None:
    """A bit of an artifact's file flips, and neither size nor time shows it; ``verify`` finds it and sets it aside."""
    place = _copy_of(known.whole, folder)
    victim = _any_file(place, rng)
    state, content = victim.stat(), bytearray(victim.read_bytes())
    position = rng.randrange(len(content))
    content[position] ^= 1 << rng.randrange(8)
    with victim.open("r+b") as file:
        file.write(content)
    os.utime(victim, ns=(state.st_atime_ns, state.st_mtime_ns))
    struck = Struck(place, f"{_named(place, victim)} at {position}", verb="analyze")
    verified = place.command("verify").ended()
    if verified.code != 1 or "Traceback" in verified.text:
        struck.problems.append(f"verify ends with {verified.code}: {verified.last_line}")
    return struck


def footage_replaced(folder: Path, known: Known, rng: random.Random) -> Struck | None:
    """Other footage takes the file's place while it is worked on, renamed over it or written into it."""
    place = known.place(folder)
    running, after_s = place.start("archive"), _moment(known, rng)
    if not running.runs_until(after_s):
        return None
    renamed = rng.random() < 0.5
    if renamed:
        beside = place.clip.with_suffix(".new")
        shutil.copyfile(known.clips[1], beside)
        beside.replace(place.clip)
    else:
        shutil.copyfile(known.clips[1], place.clip)
    how = "renamed over" if renamed else "written into"
    struck = _struck(place, f"{after_s:.1f} s, {how}", running.ended())
    struck.clip = 1
    return struck


def two_at_once(folder: Path, known: Known, rng: random.Random) -> Struck | None:
    """The same command twice at the same time; of two archives the second is told that there is one."""
    place = known.place(folder)
    verb = rng.choice(("analyze", "archive"))
    first = place.start(verb)
    after_s = rng.uniform(0, 0.8) * known.seconds
    if not first.runs_until(after_s):
        return None
    second = place.start(verb)
    ends = first.ended(), second.ended()
    struck = Struck(place, f"{verb}, {after_s:.1f} s apart", ends, verb)
    codes = sorted(ended.code for ended in ends)
    refused = verb == "archive" and codes == [0, 1] and any("another run works on" in ended.text for ended in ends)
    if codes != [0, 0] and not refused:
        struck.problems.append(f"exit codes {codes}: {'; '.join(ended.last_line for ended in ends)}")
    return struck


FAULTS: Mapping[str, Fault] = {
    "run": run_killed,
    "worker": worker_killed,
    "server": server_killed,
    "disk": disk_full,
    "truncated": artifact_truncated,
    "flipped": artifact_flipped,
    "replaced": footage_replaced,
    "twice": two_at_once,
}

NEEDS_OTHER = frozenset({"replaced"})
"""Faults for which there has to be a second clip, and a run on it to compare with."""

TITLES = {
    "run": "kill -9 of the run",
    "worker": "kill -9 of a worker",
    "server": "kill -9 of the Prefect server",
    "disk": "disk full",
    "truncated": "artifact truncated",
    "flipped": "bit of an artifact flipped",
    "replaced": "footage replaced meanwhile",
    "twice": "two identical runs at once",
}


def aftermath(struck: Struck, known: Known) -> list[str]:
    """The run after a fault; what is then not as an undisturbed run leaves it."""
    place, problems = struck.place, list(struck.problems)
    with struck.held:
        problems += [f"left running: {words}" for words in place.lingering()]
        struck.mend()
        ended = place.run(struck.verb)
        if ended.code != 0:
            problems.append(f"the next run ends with {ended.code}: {ended.last_line}")
        for name, command in (("verify", ["verify"]), ("verify of the results", ["verify", str(place.results)])):
            if (verified := place.command(*command).ended()).code != 0:
                problems.append(f"{name} ends with {verified.code}: {verified.last_line}")
        return problems + differences(place.left(), known, struck.clip)


def differences(left: Left, known: Known, clip: int) -> list[str]:
    """How what is left differs from what undisturbed runs leave."""
    problems = []
    right = {named: digest for left in known.left for named, digest in left.artifacts.items()}
    for (stage, key), digest in left.artifacts.items():
        if (stage, key) not in right:
            problems.append(f"{stage} {key[:12]}: no undisturbed run makes this artifact")
        elif right[stage, key] != digest:
            problems.append(f"{stage} {key[:12]}: other content than undisturbed")
    expected = known.left[clip]
    if list(left.used) != list(expected.used):
        problems.append("the results were made of other artifacts")
    names = {*left.results, *expected.results}
    unlike = sorted(name for name in names if left.results.get(name) != expected.results.get(name))
    if unlike:
        problems.append(f"{len(unlike)} files of the results differ: {', '.join(unlike[:3])}")
    return problems


def _moment(known: Known, rng: random.Random) -> float:
    return rng.uniform(0.02, 0.95) * known.seconds


def _struck(place: Place, moment: str, ended: Ended) -> Struck:
    struck = Struck(place, moment, (ended,))
    if ended.code not in (0, 1, 3):
        struck.problems.append(f"the run ends with {ended.code}: {ended.last_line}")
    if "Traceback" in ended.text:
        struck.problems.append("the run shows a traceback")
    return struck


def _copy_of(whole: Place, folder: Path) -> Place:
    place = Place.make(folder, whole.clip, whole.options)
    shutil.copytree(whole.store, place.store)
    shutil.copytree(whole.output, place.output)
    return place


def _any_file(place: Place, rng: random.Random) -> Path:
    files = sorted(
        path
        for path in place.store.rglob("*")
        if path.is_file() and path.stat().st_size and not path.relative_to(place.store).parts[0].startswith(("_", "."))
    )
    return rng.choice(files)


def _named(place: Place, path: Path) -> str:
    stage, key, *rest = path.relative_to(place.store).parts
    return f"{stage}/{key[:8]}/{'/'.join(rest)}"
