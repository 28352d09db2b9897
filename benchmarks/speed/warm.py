"""What it takes when there is nothing to do: a rerun with everything cached, and ``faceline --help``."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.speed.running import analyze, python, run
from benchmarks.speed.tables import number, table

TIMES = 7


def measure(footage: Path, folder: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Rerun an analysis, and ask for help, `TIMES` times each.

    Args:
        footage: what is analysed.
        folder: store and results; what is there already is used.
        overrides: of faceline.
    """
    analyze(footage, folder, overrides)
    reruns = []
    for _ in range(TIMES):
        again = analyze(footage, folder, overrides)
        if any(stage["state"] != "cached" for stage in again.run["stages"]):
            raise RuntimeError("the rerun was not fully cached")
        reruns.append(again.cost)
    helps = [run(python("flows.cli", "--help")) for _ in range(TIMES)]
    return {
        "duration_s": again.duration_s,
        "faces": again.run["counts"]["faces"],
        **{
            f"{name}_{figure}": statistics.median(getattr(cost, figure) for cost in costs)
            for name, costs in (("rerun", reruns), ("help", helps))
            for figure in ("wall_s", "cpu_s")
        },
    }


def told(result: Mapping[str, Any]) -> list[str]:
    """The figures as lines."""
    rows = [
        [
            f"rerun of {result['duration_s']:.0f} s with {result['faces']} faces",
            number(result["rerun_wall_s"], 2),
            number(result["rerun_cpu_s"], 2),
        ],
        ["faceline --help", number(result["help_wall_s"], 2), number(result["help_cpu_s"], 2)],
    ]
    return table([f"median of {TIMES}", "wall s", "CPU s"], rows)
