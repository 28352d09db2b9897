"""What Prefect and the store take of a run: the same stages with and without Prefect, and a clock around the store.

The clock runs in a third run, whose stages run in threads of one process.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.speed.footage import lengthened
from benchmarks.speed.running import Cost, analyze, python, run
from benchmarks.speed.tables import number, share, table


def measure(clip: Path, overrides: Sequence[str], *, minutes: float, rounds: int) -> dict[str, Any]:
    """Measure on a clip lengthened to so many minutes, from empty stores, both ways in turn."""
    footage = lengthened(clip, 60 * minutes)
    with_prefect, without = [], []
    for round_ in range(rounds):
        scratch = Path(tempfile.mkdtemp(prefix="faceline-bench-"))
        try:
            whole = analyze(footage, scratch / "prefect", overrides)
            with_prefect.append((whole.cost.wall_s, whole.cost.cpu_s))
            direct, clocked = (
                _direct(footage, scratch / name, overrides, *more)
                for name, more in (("direct", ()), ("clocked", ("--clock",)))
            )
            without.append((direct.wall_s, direct.cpu_s, json.loads(clocked.lines[-1][1])))
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        print(
            f"  round {round_ + 1}: {with_prefect[-1][0]:.1f} s with Prefect, {without[-1][0]:.1f} s without",
            file=sys.stderr,
            flush=True,
        )
    return {"clip": clip.name, "duration_s": whole.duration_s, **figures(with_prefect, without)}


def _direct(footage: Path, folder: Path, overrides: Sequence[str], *options: str) -> Cost:
    arguments = [f"footage={footage}", f"output={folder / 'results'}", f"store.root={folder / 'store'}"]
    return run(python("benchmarks.speed.direct", *options, *arguments, *overrides))


def figures(
    with_prefect: Sequence[tuple[float, float]],
    without: Sequence[tuple[float, float, Mapping[str, Mapping[str, float]]]],
) -> dict[str, Any]:
    """Medians over the rounds.

    Args:
        with_prefect: wall and CPU seconds of each round.
        without: wall and CPU seconds of each round, and what the store took.
    """
    wall, cpu = (statistics.median(values) for values in zip(*with_prefect, strict=True))
    kinds = list(without[0][2])
    store = {
        kind: {f: statistics.median(w[2][kind][f] for w in without) for f in ("wall_s", "cpu_s")} for kind in kinds
    }
    direct_wall, direct_cpu = (statistics.median(w[i] for w in without) for i in (0, 1))
    store_wall, store_cpu = (sum(spent[f] for spent in store.values()) for f in ("wall_s", "cpu_s"))
    return {
        "wall_s": wall,
        "cpu_s": cpu,
        "direct_wall_s": direct_wall,
        "direct_cpu_s": direct_cpu,
        "store": store,
        "prefect_wall_share": (wall - direct_wall) / wall,
        "prefect_cpu_share": (cpu - direct_cpu) / cpu,
        "store_wall_share": store_wall / wall,
        "store_cpu_share": store_cpu / cpu,
    }


def told(result: Mapping[str, Any]) -> list[str]:
    """The figures as lines."""
    rows = [
        ["whole run with Prefect", number(result["wall_s"]), "", number(result["cpu_s"]), ""],
        ["the same without Prefect", number(result["direct_wall_s"]), "", number(result["direct_cpu_s"]), ""],
        [
            "Prefect: the difference",
            number(result["wall_s"] - result["direct_wall_s"]),
            share(result["prefect_wall_share"]),
            number(result["cpu_s"] - result["direct_cpu_s"]),
            share(result["prefect_cpu_share"]),
        ],
        [
            "the store (wall summed over threads)",
            number(sum(s["wall_s"] for s in result["store"].values())),
            share(result["store_wall_share"]),
            number(sum(s["cpu_s"] for s in result["store"].values())),
            share(result["store_cpu_share"]),
        ],
        *([f"  {kind}", number(s["wall_s"]), "", number(s["cpu_s"]), ""] for kind, s in result["store"].items()),
    ]
    title = f"{result['clip']} lengthened to {result['duration_s']:.0f} s"
    return [title, *table(["", "wall s", "share", "CPU s", "share of CPU"], rows)]
