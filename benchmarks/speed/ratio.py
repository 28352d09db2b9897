"""faceline against the straightforward script: frames per second of both, in rounds that alternate."""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.running import Analysis, analyze, covered_s, stage_spans
from benchmarks.speed.script import Asked
from benchmarks.speed.tables import number, share, table, times


def shares(frames: Sequence[int], rounds: int, most: int) -> list[list[int]]:
    """Different frames for every round, at most so many, evenly spread over all of them."""
    each = min(most, len(frames) // rounds)
    if each < 1:
        raise ValueError(f"{len(frames)} frames are too few for {rounds} rounds")
    chosen = ((np.arange(each * rounds) + 0.5) * len(frames) / (each * rounds)).astype(int)
    return [[int(frames[i]) for i in chosen[first::rounds]] for first in range(rounds)]


def sampled_frames(analysis: Analysis) -> list[int]:
    """Indices of the frames that faceline sampled, so that both sides work on the same ones."""
    return analysis.table("sample", "frames", ["frame"])["frame"].to_pylist()


def measure(footage: Path, script: Asked, overrides: Sequence[str], *, rounds: int, frames_each: int) -> dict[str, Any]:
    """Measure one clip: in every round a whole run from an empty store, then the script on its share of the frames.

    Args:
        footage: the clip.
        script: the script, its models loaded and warm.
        overrides: of faceline.
        rounds: how many.
        frames_each: frames of the script in a round, at most.
    """
    scratch = Path(tempfile.mkdtemp(prefix="faceline-bench-"))
    analyses: list[Analysis] = []
    answers: list[dict[str, Any]] = []
    try:
        for round_ in range(rounds):
            analysis = analyze(footage, scratch / str(round_), overrides)
            frames = sampled_frames(analysis)
            answers.append(script.run(footage, shares(frames, rounds, frames_each)[round_]))
            analyses.append(analysis)
            shutil.rmtree(scratch / str(round_), ignore_errors=True)
            print(f"  round {round_ + 1}: {analysis.cost.wall_s:.1f} s", file=sys.stderr, flush=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return figures(analyses, answers, script.start_s)


def figures(
    analyses: Sequence[Analysis], answers: Sequence[Mapping[str, Any]], script_start_s: float
) -> dict[str, Any]:
    """Medians over the rounds; counts and models of the first one.

    Args:
        analyses: faceline's run of each round.
        answers: the script's, in the same order.
        script_start_s: what the script took to load its models, once; not in its answers.
    """
    first = analyses[0]
    ours = [a.frames / a.cost.wall_s for a in analyses]
    theirs = [s["frames"] / s["seconds"] for s in answers]
    our_cpu = [a.cost.cpu_s / a.frames for a in analyses]
    their_cpu = [s["cpu_s"] / s["frames"] for s in answers]
    per_round = [f / t for f, t in zip(ours, theirs, strict=True)]
    whole = [script_start_s + first.frames / t for t in theirs]
    stage_s = {name: statistics.median(a.stage_s.get(name, 0.0) for a in analyses) for name in first.stage_s}
    wall_s = statistics.median(a.cost.wall_s for a in analyses)
    outside = [a.cost.wall_s - covered_s(stage_spans(a.cost.lines)) for a in analyses if stage_spans(a.cost.lines)]
    return {
        "duration_s": first.duration_s,
        "frames": first.frames,
        "faces": first.run["counts"]["faces"],
        "models": first.models,
        "script_fps": statistics.median(theirs),
        "fps": statistics.median(ours),
        "ratio": statistics.median(per_round),
        "ratios": per_round,
        "whole_ratio": statistics.median(w / a.cost.wall_s for w, a in zip(whole, analyses, strict=True)),
        "script_start_s": script_start_s,
        "cpu_ratio": statistics.median(t / o for o, t in zip(our_cpu, their_cpu, strict=True)),
        "cpu_ms_per_frame": 1000 * statistics.median(our_cpu),
        "script_cpu_ms_per_frame": 1000 * statistics.median(their_cpu),
        "wall_s": wall_s,
        "cpu_s": statistics.median(a.cost.cpu_s for a in analyses),
        "real_time": first.duration_s / wall_s,
        "outside_stages_s": statistics.median(outside) if outside else None,
        "rss_mb": max(a.cost.rss_mb for a in analyses),
        "frames_with_face": first.run["counts"]["frames_with_face"] / first.frames,
        "script_frames_with_face": sum(s["frames_with_face"] for s in answers) / sum(s["frames"] for s in answers),
        "stages": {
            name: {
                "seconds": seconds,
                "fps": first.frames / seconds if seconds else None,
                "real_time": first.duration_s / seconds if seconds else None,
            }
            for name, seconds in stage_s.items()
        },
    }


def told(result: Mapping[str, Any]) -> list[str]:
    """The figures as lines: both sides, then the stages."""
    items = result["items"]
    lines = table(
        ["footage", "embedder", "length", "frames", "script/s", "faceline/s", "ratio", "rounds", "whole", "CPU ratio",
         "real time", "wall s", "CPU s", "outside s", "RSS MB"],
        [
            [
                i["label"], i["embedder"], f"{i['duration_s']:.0f} s", str(i["frames"]), number(i["script_fps"], 2),
                number(i["fps"], 2), times(i["ratio"]), " ".join(number(r) for r in i["ratios"]),
                times(i["whole_ratio"]), times(i["cpu_ratio"]), times(i["real_time"]), number(i["wall_s"]),
                number(i["cpu_s"]), number(i["outside_stages_s"]), number(i["rss_mb"], 0),
            ]
            for i in items
        ],
    )  # fmt: skip
    stages = list(dict.fromkeys(stage for i in items for stage in i["stages"]))
    for title, of in (
        ("Wall seconds of each stage, summed over segments and trials:", lambda s: number(s["seconds"])),
        ("Sampled frames per second of each stage:", lambda s: number(s["fps"], 0)),
        ("Real-time factor of each stage:", lambda s: times(s["real_time"])),
    ):
        rows = [
            [i["label"], i["embedder"], *(of(i["stages"][s]) if s in i["stages"] else "–" for s in stages)]
            for i in items
        ]
        lines += ["", title, *table(["footage", "embedder", *stages], rows)]
    lines += [
        "",
        "Share of frames with a face: "
        + "; ".join(
            f"{i['label']} {share(i['frames_with_face'])} (script {share(i['script_frames_with_face'])} of its share)"
            for i in items
        ),
        "Weights: " + "; ".join(dict.fromkeys(_weights(i["models"]) for i in items)),
    ]
    return lines


def _weights(models: Mapping[str, str]) -> str:
    return ", ".join(f"{role} {name}" for role, name in models.items())
