"""``make bench``: how fast, how large and how exact faceline is, beside the straightforward script.

Parts can be chosen (``--only``). Every part prints a table and replaces its figures in one JSON file, so that a part
can be measured again by itself. docs/benchmark.md defines every figure.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.speed import exact, lengths, overhead, profile, ratio, recall, warm
from benchmarks.speed.footage import FOLDER, ROOT, chosen_clips, data_folder, lengthened, made_footage
from benchmarks.speed.running import analyze
from benchmarks.speed.script import Asked

LEAST_S = 120.0
"""Shorter clips are also measured at this length: in a few seconds of footage, starting up is most of the time."""


@dataclass(frozen=True)
class Bench:
    """What is measured on what.

    Attributes:
        args: the command line.
        clips: label → file.
        identities: the weights of each embedder that is measured, the default one first.
    """

    args: argparse.Namespace
    clips: Mapping[str, Path]
    identities: Sequence[Any]

    @property
    def overrides(self) -> list[str]:
        """Of every run: the rate, the first embedder, and what the command line says."""
        return self.overrides_for(self.identities[0])

    def overrides_for(self, identity: Any) -> list[str]:
        """The same for another embedder."""
        return [f"sample.fps={self.args.fps:g}", f"embedder={identity.name}", *self.args.overrides]

    @property
    def one(self) -> Path:
        """The clip for parts that need only one: the first."""
        return next(iter(self.clips.values()))

    @property
    def kept(self) -> Path:
        """Store and results that stay between runs, for parts that measure no time."""
        return FOLDER / "kept"


def part_ratio(bench: Bench) -> dict[str, Any]:
    items = []
    for position, identity in enumerate(bench.identities):
        with Asked(identity, seek=not bench.args.no_seek) as script:
            if position == 0:
                _warm_up(bench)
            for label, clip in bench.clips.items():
                versions = _versions(label, clip, bench.args.least)
                # Of the other embedders only the longer versions: they differ in one stage.
                for name, footage in versions if position == 0 else versions[-1:]:
                    print(f"ratio: {name}, {identity.name}", file=sys.stderr, flush=True)
                    script.run(footage, [0, 1, 2])  # The first calls of every network are slow.
                    found = ratio.measure(
                        footage,
                        script,
                        bench.overrides_for(identity),
                        rounds=bench.args.rounds if position == 0 else bench.args.other_rounds,
                        frames_each=bench.args.frames,
                    )
                    items.append({"label": name, "clip": clip.name, "embedder": identity.name, **found})
    return {"items": items, "script_seeks": not bench.args.no_seek}


def _versions(label: str, clip: Path, least_s: float) -> list[tuple[str, Path]]:
    """A clip as it is, and, where that is shorter than ``least_s``, at that length."""
    from faceline.video import open_footage

    if open_footage(clip).duration_s >= least_s:
        return [(label, clip)]
    return [(label, clip), (f"{label}, {least_s:g} s", lengthened(clip, least_s))]


def _warm_up(bench: Bench) -> None:
    """A run that does not count: it fills the disk's caches and Prefect's database."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="faceline-bench-") as scratch:
        analyze(lengthened(bench.one, 3.0), Path(scratch), bench.overrides)


def part_recall(bench: Bench) -> dict[str, Any]:
    clips = {}
    with Asked(bench.identities[0]) as script:
        for label, clip in bench.clips.items():
            print(f"recall: {label}", file=sys.stderr, flush=True)
            analysis = analyze(clip, bench.kept, bench.overrides)
            sampled = ratio.sampled_frames(analysis)
            frames = ratio.shares(sampled, 1, bench.args.recall_frames)[0]
            clips[label] = recall.measure(analysis, clip, frames, script.run(clip, frames))
    return {"clips": clips}


def part_memory(bench: Bench) -> dict[str, Any]:
    runs = []
    for label, clip in bench.clips.items():
        print(f"memory: {label}", file=sys.stderr, flush=True)
        _, footage = _versions(label, clip, bench.args.least)[-1]
        runs.append({"times": 1, "label": label, **lengths.one_run(footage, bench.overrides)})
    return {"runs": runs}


def part_length(bench: Bench) -> dict[str, Any]:
    print("length", file=sys.stderr, flush=True)
    return lengths.measure(bench.one, bench.overrides, base_s=bench.args.base)


def part_overhead(bench: Bench) -> dict[str, Any]:
    print("overhead", file=sys.stderr, flush=True)
    return overhead.measure(bench.one, bench.overrides, minutes=bench.args.minutes, rounds=bench.args.overhead_rounds)


def part_warm(bench: Bench) -> dict[str, Any]:
    print("warm", file=sys.stderr, flush=True)
    return warm.measure(bench.one, bench.kept, bench.overrides)


def part_exact(bench: Bench) -> dict[str, Any]:
    clips = dict(bench.clips)
    if not bench.args.clips:
        # The one that surely has events.
        clips.setdefault("made", made_footage())
    found = {}
    for label, clip in clips.items():
        print(f"exact: {label}", file=sys.stderr, flush=True)
        found[label] = exact.measure(clip, bench.kept, bench.overrides)
    return {"clips": found}


def part_profile(bench: Bench) -> dict[str, Any]:
    print("profile", file=sys.stderr, flush=True)
    return profile.measure(bench.one, bench.overrides)


def part_hour(bench: Bench) -> dict[str, Any]:
    print("hour", file=sys.stderr, flush=True)
    named = list(bench.clips.values()) if bench.args.clips else []
    return lengths.measure_mixed(bench.overrides, named, minutes=bench.args.hour_minutes)


def told_memory(result: Mapping[str, Any]) -> list[str]:
    return lengths.told({"runs": result["runs"]})


PARTS: Mapping[str, tuple[str, Callable[[Bench], dict[str, Any]], Callable[[Mapping[str, Any]], list[str]]]] = {
    "ratio": ("Speed, and the straightforward script", part_ratio, ratio.told),
    "recall": ("Faces found", part_recall, recall.told),
    "memory": ("Memory and size", part_memory, told_memory),
    "length": ("Growth with length", part_length, lengths.told),
    "overhead": ("Prefect and the store", part_overhead, overhead.told),
    "warm": ("Nothing to do", part_warm, warm.told),
    "exact": ("Exact against fast", part_exact, exact.told),
    "profile": ("Where the time goes", part_profile, profile.told),
    "hour": ("An hour of mixed footage", part_hour, lengths.told),
}
"""Name → title, what measures it, what tells it."""

USUAL = ("ratio", "recall", "memory", "length", "overhead", "warm", "exact")
"""Parts that are measured unless others are named."""


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.run", description=__doc__)

    def number(name: str, default: float, words: str) -> None:
        parser.add_argument(name, type=type(default), default=default, help=f"{words} (default: %(default)g)")

    parser.add_argument("--only", default="", help=f"parts, with commas between, of: {', '.join(PARTS)}")
    parser.add_argument("--hour", action="store_true", help="the part hour, which takes long")
    parser.add_argument("--profile", action="store_true", help="the part profile")
    parser.add_argument("--clips", nargs="+", default=[], metavar="CLIP", help="paths, or names of real clips")
    parser.add_argument("--embedders", default="", help="with commas between; all whose weights are there")
    number("--fps", 10.0, "sampled frames per second")
    number("--rounds", 3, "of the ratio; figures are medians over them")
    number("--other-rounds", 1, "the same for all embedders but the first")
    number("--frames", 25, "of the script in each round, at most")
    number("--recall-frames", 120, "on which faces are counted, at most, per clip")
    number("--least", LEAST_S, "seconds to which shorter clips are lengthened")
    parser.add_argument("--no-seek", action="store_true", help="let the script decode forward instead of seeking")
    number("--base", lengths.BASE_S, "seconds that 1x stands for in length")
    number("--minutes", 10.0, "of the footage for overhead")
    number("--overhead-rounds", 1, "of overhead")
    number("--hour-minutes", 60.0, "of the mixed footage of the part hour")
    parser.add_argument("--json", type=Path, default=FOLDER / "results.json", help="where figures are kept")
    parser.add_argument("overrides", nargs="*", help="further faceline overrides, such as gridsearch=small")
    args = parser.parse_intermixed_args(argv)
    named = [part for part in PARTS if getattr(args, part, False) is True]
    named += args.only.split(",") if args.only else [] if named else list(USUAL)
    if strange := set(named) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(strange))}")
    args.parts = [part for part in PARTS if part in named]
    return args


def identities(names: str) -> list[Any]:
    """The embedders' weights: those that are named, or all that are there; `ModelError` for a named one that is not."""
    from faceline.errors import ModelError
    from faceline.weights import choices, resolve

    if names:
        return [resolve("identity", name) for name in names.split(",")]
    found = []
    for name in choices("identity"):
        try:
            found.append(resolve("identity", name))
        except ModelError:
            print(f"{name}: its weights are not here, so it is left out", flush=True)
    return found


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    import faceline

    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = names[0] if names else processor
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return {
        "processor": processor,
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "faceline": faceline.__version__,
        "commit": commit.stdout.strip() or None,
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def save(path: Path, part: str, figures: Mapping[str, Any]) -> None:
    """Replace one part's figures in the file of all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    whole[part] = figures
    building = path.with_name(f".{path.name}.part")
    building.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    building.replace(path)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, tell and keep."""
    args = arguments(argv)
    if (data_folder() / "models").is_dir():
        os.environ.setdefault("FACELINE_MODELS", str(data_folder() / "models"))
    try:
        bench = Bench(args, chosen_clips(args.clips), identities(args.embedders))
    except FileNotFoundError as missing:
        print(f"{missing} (overrides come before --clips, or after another option)", file=sys.stderr)
        return 2
    print("clips: " + ", ".join(f"{label} ({path.name})" for label, path in bench.clips.items()))
    print("embedders: " + ", ".join(f"{identity.name} ({identity.source})" for identity in bench.identities))
    for part in args.parts:
        title, measure, told = PARTS[part]
        on = machine()
        began = time.perf_counter()
        result = measure(bench)
        seconds = time.perf_counter() - began
        settings = {name: value for name, value in vars(args).items() if name not in ("json", "parts", "clips")}
        save(args.json, part, {"machine": on, "settings": settings, "seconds": round(seconds, 1), **result})
        print("\n".join(["", f"{title} ({part}, measured in {seconds:.0f} s)", "", *told(result)]), flush=True)
    print(f"\nfigures: {args.json}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
