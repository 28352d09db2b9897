"""Faces found: by the straightforward script, by faceline, and by YuNet as a third opinion, on the same frames."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.footage import data_folder
from benchmarks.speed.matching import LEAST_IOU, clusters
from benchmarks.speed.running import Analysis
from benchmarks.speed.tables import share, table

YUNET = "face_detection_yunet_2026may.onnx"
YUNET_SCORE = 0.8
"""Least score of YuNet's faces. What it alone sees lowers everybody's recall against the union, not against faces that
two agree on."""

Boxes = Mapping[int, np.ndarray]
"""Frame → boxes [n, 4]: x1, y1, x2, y2 in pixels of the upright picture; every frame that was looked at is there."""


@dataclass(frozen=True)
class Seen:
    """What one source found.

    Attributes:
        faces: its boxes.
        frames_with_face: share of the frames with at least one box.
        recall: share of all faces that anybody found.
        agreed_recall: share of the faces that at least two found; None with fewer than three sources, where it would
            be 1 by its definition, and where there are no such faces.
    """

    faces: int
    frames_with_face: float
    recall: float | None
    agreed_recall: float | None


def count(sources: Mapping[str, Boxes], least_iou: float = LEAST_IOU) -> dict[str, Any]:
    """Recall of every source against the union of all of them.

    Args:
        sources: name → boxes, for the same frames.

    Returns:
        ``frames``, ``union`` (faces that anybody found), ``agreed`` (faces that at least two found), and by name
        `Seen` as a mapping under ``sources``.

    Raises:
        ValueError: the sources looked at different frames.
    """
    names = list(sources)
    frames = sorted(sources[names[0]])
    if any(sorted(boxes) != frames for boxes in sources.values()):
        raise ValueError("the sources looked at different frames")
    found = [face for frame in frames for face in clusters([sources[n][frame] for n in names], least_iou)]
    agreed = [face for face in found if len(face) > 1]
    seen = {}
    for number, name in enumerate(names):
        seen[name] = Seen(
            faces=sum(len(boxes) for boxes in sources[name].values()),
            frames_with_face=float(np.mean([len(boxes) > 0 for boxes in sources[name].values()])) if frames else 0.0,
            recall=_share(number, found),
            agreed_recall=_share(number, agreed) if len(names) > 2 else None,
        )
    return {
        "frames": len(frames),
        "union": len(found),
        "agreed": len(agreed),
        "sources": {name: asdict(one) for name, one in seen.items()},
    }


def _share(source: int, faces: Sequence[Mapping[int, int]]) -> float | None:
    return sum(source in face for face in faces) / len(faces) if faces else None


def find_yunet() -> Path | None:
    """The third opinion's weights, in ``FACELINE_MODELS`` or among the real data; None where there are none."""
    folders = [Path(named)] if (named := os.environ.get("FACELINE_MODELS")) else []
    return next((f / YUNET for f in [*folders, data_folder() / "models"] if (f / YUNET).is_file()), None)


def by_faceline(analysis: Analysis, frames: Sequence[int]) -> dict[int, np.ndarray]:
    """Faces of a run on these frames; boxes in which it found no face after all are left out."""
    rows = analysis.table("align", "faces", ["frame", "state", "x_px", "y_px", "w_px", "h_px"]).to_pylist()
    found: dict[int, list[list[float]]] = {frame: [] for frame in frames}
    for row in rows:
        if row["frame"] in found and row["state"] != "no_face":
            x, y = row["x_px"], row["y_px"]
            found[row["frame"]].append([x, y, x + row["w_px"], y + row["h_px"]])
    return {frame: np.array(boxes, float).reshape(-1, 4) for frame, boxes in found.items()}


def by_script(answer: Mapping[str, Any], frames: Sequence[int], size_px: tuple[int, int]) -> dict[int, np.ndarray]:
    """The script's answer for these frames, in pixels of an upright picture of ``size_px`` (width, height)."""
    scale = np.tile(np.array(size_px, float) / np.array(answer["size_px"], float), 2)
    return {f: np.array(b, float).reshape(-1, 4) * scale for f, b in zip(frames, answer["boxes"], strict=True)}


def by_yunet(footage: Path, frames: Sequence[int], weights: Path) -> dict[int, np.ndarray]:
    """YuNet's faces on these frames, at full size."""
    import cv2

    from faceline.video import open_footage, read_frames

    opened = open_footage(footage)
    size = (opened.width_px, opened.height_px)
    detector = cv2.FaceDetectorYN.create(str(weights), "", size, YUNET_SCORE, 0.3, 5000)
    found: dict[int, np.ndarray] = {}
    with read_frames(opened, wanted=frozenset(frames)) as reader:
        for frame in reader:
            _, rows = detector.detect(cv2.cvtColor(frame.rgb(), cv2.COLOR_RGB2BGR))
            boxes = np.zeros((0, 4)) if rows is None else np.asarray(rows[:, :4], float)
            found[frame.index] = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    return found


def measure(analysis: Analysis, footage: Path, frames: Sequence[int], answer: Mapping[str, Any]) -> dict[str, Any]:
    """Recall on frames of an analysed clip that the script has looked at."""
    from faceline.video import open_footage

    opened = open_footage(footage)
    sources: dict[str, Boxes] = {
        "script": by_script(answer, frames, (opened.width_px, opened.height_px)),
        "faceline": by_faceline(analysis, frames),
    }
    yunet = find_yunet()
    if yunet is not None:
        sources["YuNet"] = by_yunet(footage, frames, yunet)
    return {**count(sources), "reference": YUNET if yunet is not None else None, "iou": LEAST_IOU}


def told(result: Mapping[str, Any]) -> list[str]:
    """The figures as lines."""
    rows = []
    for clip, found in result["clips"].items():
        for number, (name, seen) in enumerate(found["sources"].items()):
            rows.append(
                [
                    clip if number == 0 else "",
                    name,
                    str(seen["faces"]),
                    share(seen["recall"]),
                    share(seen["agreed_recall"]),
                    share(seen["frames_with_face"]),
                    f"{found['frames']} frames, {found['union']} faces, {found['agreed']} agreed" if not number else "",
                ]
            )
    lines = table(["clip", "by", "faces", "of all", "of agreed", "frames with", "counted on"], rows)
    if any(found["reference"] is None for found in result["clips"].values()):
        lines.append(f"Without a third opinion: {YUNET} lies neither in FACELINE_MODELS nor among the real data.")
    return lines
