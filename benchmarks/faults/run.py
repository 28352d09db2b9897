"""Faults survived: kills, a full disk, damage, footage that changes, runs at once; each again and again.

    make faults                                   # each ten times
    make faults ARGS="--times 20 --only run,worker --seed 7"

Every repetition has a place of its own (clip, store, results), is hit by one fault at a random moment of a real run of
the command line, and is followed by one more run. That has to end well; ``verify`` has to find nothing in the store or
in the results; every artifact and every file of the results has to equal, byte by byte, what an undisturbed run leaves
(but for run.json and custody.json, which state times and what was cached); and no process may be left.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.faults.faults import FAULTS, NEEDS_OTHER, TITLES, Known, Struck, aftermath
from benchmarks.faults.place import OPTIONS, Place
from faceline.made.render import render
from faceline.made.script import Burst, short_test_script

Say = Callable[[str], None]

MOST_MISSES = 20
"""Faults of a kind that may come too late in a row before that is an error."""


@dataclass
class Tally:
    """What came of one kind of fault.

    Attributes:
        hit: how often it hit.
        missed: how often it came too late, and was tried again.
        went_on: runs that were hit and ended well all the same.
        problems: what was not as it should be, with the number of the case.
        not_run: why it could not be tried at all.
        seconds: wall time.
    """

    hit: int = 0
    missed: int = 0
    went_on: int = 0
    problems: list[str] = field(default_factory=list)
    not_run: str = ""
    seconds: float = 0.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 1 where something was not as it should be, 2 where a fault could not be tried."""
    options = _options(arguments)
    names = options.only.split(",") if options.only else list(FAULTS)
    if unknown := [name for name in names if name not in FAULTS]:
        raise SystemExit(f"there is no fault {unknown[0]}; there are {', '.join(FAULTS)}")
    with working_folder(options.keep) as folder:
        tallies = run(folder, names, times=options.times, seed=options.seed, jobs=options.jobs, say=_say)
    print_table(tallies)
    if any(tally.problems for tally in tallies.values()):
        return 1
    return 2 if any(tally.not_run for tally in tallies.values()) else 0


def run(
    folder: Path,
    names: Sequence[str],
    *,
    times: int,
    seed: int = 0,
    jobs: int = 1,
    say: Say = lambda text: None,
    options: tuple[str, ...] = OPTIONS,
    check_twice: bool = True,
) -> dict[str, Tally]:
    """Try each fault so many times.

    Args:
        folder: where to work.
        names: the faults, of `FAULTS`.
        times: repetitions of each.
        seed: decides the moments.
        jobs: repetitions at the same time.
        say: told how it goes.
        options: of all runs.
        check_twice: see first whether two undisturbed runs leave the same. Without it, what differs from run to run
            by itself is told as the faults' doing.
    """
    other = not NEEDS_OTHER.isdisjoint(names)
    known = undisturbed(folder / "known", say, options=options, other=other, check_twice=check_twice)
    tallies = {name: Tally() for name in names}
    lock = threading.Lock()

    def one(name: str, number: int) -> None:
        began_s = time.monotonic()
        tally = tallies[name]
        if tally.not_run:
            return
        for attempt in range(MOST_MISSES):
            place = folder / f"{name}-{number}-{attempt}"
            try:
                struck = FAULTS[name](place, known, random.Random(f"{seed} {name} {number} {attempt}"))
            except OSError as error:
                with lock:
                    tally.not_run = str(error)
                return
            if struck is not None:
                break
            with lock:
                tally.missed += 1
            Place(place).lingering()
            shutil.rmtree(place, ignore_errors=True)
        else:
            with lock:
                tally.problems.append(f"{name} {number}: never came in time")
            return
        problems = aftermath(struck, known)
        with lock:
            _count(tally, struck, problems, name, number, time.monotonic() - began_s)
        say(f"{name} {number} ({struck.moment}): {_ends(struck)}{'; '.join(problems) or 'as undisturbed'}")
        if not problems:
            shutil.rmtree(place, ignore_errors=True)

    with ThreadPoolExecutor(max_workers=jobs) as pool:
        for future in [pool.submit(one, name, number) for name in names for number in range(times)]:
            future.result()
    return tallies


def _count(tally: Tally, struck: Struck, problems: Sequence[str], name: str, number: int, seconds: float) -> None:
    tally.hit += 1
    tally.seconds += seconds
    tally.went_on += bool(struck.runs) and all(ended is not None and ended.code == 0 for ended in struck.runs)
    tally.problems += [f"{name} {number} ({struck.moment}): {problem}" for problem in problems]


def _ends(struck: Struck) -> str:
    codes = ["killed" if ended is None else str(ended.code) for ended in struck.runs]
    return f"exit {', '.join(codes)}; " if codes else ""


def undisturbed(
    folder: Path, say: Say = lambda text: None, *, options: tuple[str, ...], other: bool, check_twice: bool
) -> Known:
    """What runs leave that nothing happens to: on the clip, on the other if there is to be one, on the clip again."""
    script = short_test_script()
    clips = {"first": folder / "clip.mp4"}
    render(script, clips["first"])
    if other:
        clips["other"] = folder / "other.mp4"
        burst = Burst(kind="smile", start_s=2.5, onset_s=0.2, hold_s=0.6, offset_s=0.3)
        render(script.model_copy(update={"name": "other", "seed": 4, "bursts": (burst,)}), clips["other"])
    places, lefts, seconds = [], [], []
    for name, clip in (*clips.items(), *([("again", clips["first"])] if check_twice else [])):
        place = Place.make(folder / name, clip, options)
        began_s = time.monotonic()
        ended = place.run("archive")
        seconds.append(time.monotonic() - began_s)
        if ended.code != 0:
            raise RuntimeError(f"an undisturbed run ends with {ended.code}:\n{ended.text}")
        places.append(place)
        lefts.append(place.left())
    if check_twice and lefts[0] != lefts[-1]:
        raise RuntimeError("two undisturbed runs leave different things; nothing can be compared with them")
    data_bytes = sum(path.stat().st_size for path in (places[0].folder / "data").rglob("*") if path.is_file())
    say(f"undisturbed: {', '.join(f'{each:.1f}' for each in seconds)} s; {data_bytes / 2**20:.1f} MiB")
    return Known(tuple(clips.values()), tuple(lefts[: len(clips)]), min(seconds), places[0], data_bytes)


@contextlib.contextmanager
def working_folder(keep: str) -> Iterator[Path]:
    """A folder for all of it: a temporary one, or the one that is named, which is kept."""
    if keep:
        folder = Path(keep).resolve()
        folder.mkdir(parents=True)
        yield folder
    else:
        with tempfile.TemporaryDirectory(prefix="faceline-faults-") as name:
            yield Path(name)


def print_table(tallies: dict[str, Tally]) -> None:
    """Print what came of each fault."""
    print(f"\n{'fault':32}{'times':>6}{'run went on':>13}{'survived':>10}{'too late':>10}{'s each':>8}")
    for name, tally in tallies.items():
        bad = len({problem.partition(":")[0] for problem in tally.problems})
        each = f"{tally.seconds / tally.hit:.0f}" if tally.hit else "–"
        print(f"{TITLES[name]:32}{tally.hit:6}{tally.went_on:13}{tally.hit - bad:10}{tally.missed:10}{each:>8}")
    for name, tally in tallies.items():
        if tally.not_run:
            print(f"NOT RUN {name}: {tally.not_run}")
        for problem in tally.problems:
            print(f"PROBLEM {problem}")


def _say(text: str) -> None:
    print(text, flush=True)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults.run", description="Survive faults.")
    parser.add_argument("--times", type=int, default=10, metavar="N", help="repetitions of each fault")
    parser.add_argument("--only", default="", metavar="NAME,…", help=f"some of {', '.join(FAULTS)}")
    parser.add_argument("--seed", type=int, default=0, help="decides the moments")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="repetitions at the same time")
    parser.add_argument("--keep", default="", metavar="DIR", help="a new folder to work in; what failed stays there")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
