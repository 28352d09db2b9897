"""Where the CPU time of one run goes: by stage and by kind of process, beside what decoding and networks alone take."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.speed import floor
from benchmarks.speed.running import Cost, analyze, python, run, stage_spans
from benchmarks.speed.tables import number, table


def measure(footage: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """One run from an empty store, and the floor under it."""
    scratch = Path(tempfile.mkdtemp(prefix="faceline-bench-"))
    try:
        analysis = analyze(footage, scratch, overrides)
        run_json = scratch / "results" / footage.stem / "run.json"
        alone = run(python("benchmarks.speed.floor", str(footage), str(run_json), str(analysis.store)))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return {
        "footage": footage.name,
        "duration_s": analysis.duration_s,
        "frames": analysis.frames,
        "wall_s": analysis.cost.wall_s,
        "cpu_s": analysis.cost.cpu_s,
        "models": analysis.models,
        "timeline": timeline(analysis.cost),
        "floor": json.loads(alone.lines[-1][1]),
    }


def timeline(cost: Cost) -> list[dict[str, Any]]:
    """Stretches of a run: what comes before the first stage, each stage from first start to last end, and the rest.

    Each has ``start_s, end_s``, ``seconds`` (of the stage, summed over segments and trials) and ``cpu_s``: CPU seconds
    of everything that ran in that stretch, by kind of process. Stages that ran side by side share it.
    """
    stages: dict[str, list[tuple[float, float]]] = {}
    for name, start, end in stage_spans(cost.lines):
        stages.setdefault(name.split(" · ")[0], []).append((start, end))
    if not stages:
        return [_stretch(cost, "whole run", 0.0, cost.wall_s, cost.wall_s)]
    first = min(start for spans in stages.values() for start, _ in spans)
    last = max(end for spans in stages.values() for _, end in spans)
    middle = [
        _stretch(cost, name, min(s for s, _ in spans), max(e for _, e in spans), sum(e - s for s, e in spans))
        for name, spans in stages.items()
    ]
    return [
        _stretch(cost, "(before the first stage)", 0.0, first, first),
        *middle,
        _stretch(cost, "(after the last stage)", last, cost.wall_s, cost.wall_s - last),
    ]


def _stretch(cost: Cost, name: str, start: float, end: float, seconds: float) -> dict[str, Any]:
    before, after = cpu_until(cost, start), cpu_until(cost, end)
    spent = {kind: after.get(kind, 0.0) - before.get(kind, 0.0) for kind in after}
    return {"name": name, "start_s": start, "end_s": end, "seconds": seconds, "cpu_s": spent}


def cpu_until(cost: Cost, at: float) -> Mapping[str, float]:
    """CPU seconds so far by kind of process, as last seen at that time."""
    seen = [spent for seconds, spent in cost.cpu_at if seconds <= at]
    return seen[-1] if seen else {}


def told(result: Mapping[str, Any]) -> list[str]:
    """The figures as lines."""
    kinds = sorted({kind for part in result["timeline"] for kind in part["cpu_s"]})
    rows = [
        [
            part["name"], number(part["start_s"]), number(part["end_s"]), number(part["seconds"]),
            number(sum(part["cpu_s"].values())), *(number(part["cpu_s"].get(kind, 0.0)) for kind in kinds),
        ]
        for part in result["timeline"]
    ]  # fmt: skip
    return [
        f"{result['footage']}: {result['frames']} sampled frames, wall {result['wall_s']:.1f} s, CPU "
        f"{result['cpu_s']:.1f} s",
        *table(["stage", "from s", "to s", "seconds", "CPU s meanwhile", *kinds], rows),
        "",
        "Decoding once, and each network alone as often as this run needed it:",
        *floor.told(result["floor"], result["cpu_s"]),
    ]
