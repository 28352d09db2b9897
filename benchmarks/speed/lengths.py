"""How cost grows with the length of footage, and what an hour of mixed footage costs."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.speed.footage import MIXED, find_clip, lengthened, made_footage, mixed
from benchmarks.speed.running import Analysis, analyze
from benchmarks.speed.tables import number, table, times

TIMES = (1, 4, 16)
BASE_S = 30.0


def figures(analysis: Analysis) -> dict[str, Any]:
    """What one run cost."""
    cost, hours = analysis.cost, analysis.face_hours
    counts = analysis.run["counts"]
    return {
        "duration_s": analysis.duration_s,
        "wall_s": cost.wall_s,
        "cpu_s": cost.cpu_s,
        "rss_mb": cost.rss_mb,
        "pss_mb": cost.pss_mb,
        "real_time": analysis.duration_s / cost.wall_s,
        "artifact_bytes": analysis.artifact_bytes,
        "face_hours": hours,
        "bytes_per_face_hour": analysis.artifact_bytes / hours if hours else None,
        "stages": analysis.stage_s,
        "counts": dict(counts),
        "models": analysis.models,
    }


def one_run(footage: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Figures of one run from an empty store, shared memory counted once as well."""
    scratch = Path(tempfile.mkdtemp(prefix="faceline-bench-"))
    try:
        return figures(analyze(footage, scratch, overrides, pss=True))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def growth(runs: Sequence[Mapping[str, Any]], figure: str) -> float | None:
    """By how much more a second of footage costs between the two longest runs than between the two shortest.

    Fixed costs fall out; 1 is linear. None with fewer than three lengths, or where the shorter ones cost the same.
    """
    ordered = sorted(runs, key=lambda run: run["duration_s"])
    if len(ordered) < 3:
        return None

    def slope(a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
        return (b[figure] - a[figure]) / (b["duration_s"] - a["duration_s"])

    early, late = slope(ordered[0], ordered[1]), slope(ordered[-2], ordered[-1])
    return late / early if early > 0 else None


def measure(clip: Path, overrides: Sequence[str], *, base_s: float = BASE_S) -> dict[str, Any]:
    """Cost at 1, 4 and 16 times ``base_s`` of a clip."""
    runs = []
    for factor in TIMES:
        runs.append({"times": factor, **one_run(lengthened(clip, base_s * factor), overrides)})
        print(f"  {factor}x: {runs[-1]['wall_s']:.1f} s", file=sys.stderr, flush=True)
    return {"clip": clip.name, "runs": runs, "growth": {f: growth(runs, f) for f in ("wall_s", "cpu_s", "rss_mb")}}


def measure_mixed(overrides: Sequence[str], clips: Sequence[Path], *, minutes: float) -> dict[str, Any]:
    """So many minutes of footage that goes through clips in turn, run to the end.

    Args:
        overrides: of faceline.
        clips: empty for `MIXED`, or the demo's footage where none of them is there.
        minutes: length of the footage.
    """
    found = clips or [path for path in (find_clip(name) for name in MIXED) if path is not None] or [made_footage()]
    footage = mixed(60 * minutes, found)
    return {"clips": [clip.name for clip in found], "runs": [{"times": 1, **one_run(footage, overrides)}]}


def told(result: Mapping[str, Any]) -> list[str]:
    """Figures of one or several lengths as lines."""
    runs = result["runs"]
    lines = table(
        ["footage", "wall s", "CPU s", "real time", "CPU s per minute", "RSS MB", "PSS MB", "artifacts MB",
         "MB per face-hour", "faces", "persons", "events"],
        [
            [
                _name(r), number(r["wall_s"]), number(r["cpu_s"]), times(r["real_time"]),
                number(60 * r["cpu_s"] / r["duration_s"], 2), number(r["rss_mb"], 0), number(r["pss_mb"], 0),
                number(r["artifact_bytes"] / 1e6), _mb(r["bytes_per_face_hour"]), str(r["counts"]["faces"]),
                str(r["counts"]["persons"]), str(r["counts"]["events"]),
            ]
            for r in runs
        ],
    )  # fmt: skip
    stages = list(runs[0]["stages"])
    rows = [[_name(r), *(number(r["stages"][s]) for s in stages)] for r in runs]
    lines += ["", "Wall seconds of each stage, summed over segments and trials:", *table(["footage", *stages], rows)]
    if grown := result.get("growth"):
        lines += [
            "",
            f"A further second of footage, late against early: wall {times(grown['wall_s'])}, CPU "
            f"{times(grown['cpu_s'])} (1 is linear); growth of peak memory {times(grown['rss_mb'])}",
        ]
    return lines


def _name(run: Mapping[str, Any]) -> str:
    length = f"{run['duration_s']:.0f} s"
    return f"{run['label']} ({length})" if "label" in run else length


def _mb(value: float | None) -> str:
    return number(None if value is None else value / 1e6, 0)
