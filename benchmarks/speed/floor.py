"""The floor under a run: what decoding alone and each network alone take, in CPU time per picture or face.

What a run takes beyond this is what surrounds the networks. Everything here runs on one thread, in one process; of
several batch sizes the cheapest counts.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.running import Analysis, Cost
from benchmarks.speed.tables import number, table

BATCHES = (1, 8, 32)
PICTURES = 32
DECODED = 300
LOOKED_AT_PX = 640


def cpu_ms(work: Callable[[], Any], units: int, *, repeats: int = 2) -> float:
    """Least CPU milliseconds per unit over several repetitions, after one that does not count."""
    work()
    best = float("inf")
    for _ in range(repeats):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return 1000 * best / units


def per_batch(call: Callable[[np.ndarray], Any], inputs: np.ndarray) -> dict[str, Any]:
    """CPU time per input at each of `BATCHES`, and the cheapest."""
    found = {size: cpu_ms(lambda size=size: _in_batches(call, inputs, size), len(inputs)) for size in BATCHES}
    best = min(found, key=found.__getitem__)
    return {"cpu_ms": found[best], "batch": best, "by_batch": found}


def _in_batches(call: Callable[[np.ndarray], Any], inputs: np.ndarray, size: int) -> None:
    for start in range(0, len(inputs), size):
        call(inputs[start : start + size])


def measure(footage: Path, analysis: Analysis) -> dict[str, Any]:
    """Every part: ``cpu_ms`` per unit, and ``units`` in this run.

    A part that cannot be measured has ``failed``, with the reason, instead of ``cpu_ms``.
    """
    from faceline.threads import share_cores

    share_cores()
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "decoding": lambda: {"cpu_ms": _decoding(footage), "batch": 1},
        "detector": lambda: _detector(footage, analysis),
        "face mesh, one pass": lambda: _mesh(footage, analysis),
        "emotions": lambda: _emotions(),
        **{f"embedder {name}": lambda name=name: _embedder(name) for name in ("vggface2", "dlib")},
        "blendshapes": lambda: _blendshapes(analysis),
    }
    used = analysis.models
    units = _units(analysis)
    result: dict[str, Any] = {}
    for name, part in parts.items():
        try:
            result[name] = part()
        except Exception as error:
            result[name] = {"failed": f"{type(error).__name__}: {error}"}
        if name.startswith("embedder "):
            counted = units["embedder"] if used.get("identity") == name.split()[1] else 0
        else:
            counted = units[name]
        result[name]["units"] = counted
    return result


def _units(analysis: Analysis) -> dict[str, int]:
    """How often the run at least needed each part."""
    detected = analysis.table("detect", "faces", ["frame", "detected"]).to_pylist()
    states = analysis.table("align", "faces", ["state"])["state"].to_pylist()
    embedded = analysis.table("embed", "embedded", ["state"])["state"].to_pylist()
    expressions = analysis.table("emote", "expressions", ["emotion_state", "measures_state"]).to_pylist()
    absent = analysis.models.get("blendshapes", "none") == "none"
    # One picture in every interval is searched, whether or not there is a face in it.
    searches = math.ceil(float(analysis.run["footage"]["duration_s"]) / analysis.run["config"]["detect"]["interval_s"])
    return {
        "decoding": int(analysis.run["footage"]["frames_decoded"]),
        "detector": max(searches, len({row["frame"] for row in detected if row["detected"]})),
        "face mesh, one pass": sum(state == "ok" for state in states),
        "embedder": sum(state == "embedded" for state in embedded),
        "emotions": sum(row["emotion_state"] == "ok" for row in expressions),
        "blendshapes": 0 if absent else sum(row["measures_state"] == "ok" for row in expressions),
    }


def _decoding(footage: Path) -> float:
    import av

    counted = 0

    def decode() -> None:
        nonlocal counted
        counted = 0
        with av.open(str(footage)) as container:
            for _ in container.decode(video=0):
                counted += 1
                if counted == DECODED:
                    return

    decode()
    return cpu_ms(decode, counted)


def _faces(footage: Path, analysis: Analysis) -> list[tuple[np.ndarray, Mapping[str, Any]]]:
    """Pictures with a face, spread over the footage: uint8 RGB at full size, and the face's row of detect."""
    from faceline.video import open_footage, read_frames

    rows = analysis.table("detect", "faces").to_pylist()
    by_frame = {row["frame"]: row for row in rows}
    frames = sorted(by_frame)
    if not frames:
        raise ValueError("no face was found in this footage")
    chosen = {frames[int(i)] for i in np.linspace(0, len(frames) - 1, min(PICTURES, len(frames)))}
    with read_frames(open_footage(footage), wanted=frozenset(chosen)) as reader:
        return [(frame.rgb(), by_frame[frame.index]) for frame in reader]


def _detector(footage: Path, analysis: Analysis) -> dict[str, Any]:
    import cv2

    from faceline.adapters.mtcnn import MtcnnDetector
    from faceline.weights import resolve

    pictures = []
    for rgb, _ in _faces(footage, analysis):
        scale = min(1.0, LOOKED_AT_PX / max(rgb.shape[:2]))
        size = (round(rgb.shape[1] * scale), round(rgb.shape[0] * scale))
        pictures.append(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA))
    detector = MtcnnDetector(resolve("detector").path, min_face_px=20.0)
    return per_batch(lambda batch: detector.detect(list(batch)), np.stack(pictures))


def _mesh(footage: Path, analysis: Analysis) -> dict[str, Any]:
    from faceline.adapters.facemesh import FaceMesh

    faces = [
        (rgb, np.array([row[n] for n in ("x_px", "y_px", "w_px", "h_px")]), np.array(row["points_px"]).reshape(5, 2))
        for rgb, row in _faces(footage, analysis)
    ]
    model = FaceMesh(passes=1)
    found = cpu_ms(lambda: [model.find(rgb, box, points) for rgb, box, points in faces], len(faces))
    model.close()
    return {"cpu_ms": found, "batch": 1}


def _embedder(name: str) -> dict[str, Any]:
    from faceline.embedding import open_embedder
    from faceline.weights import resolve

    embedder = open_embedder(resolve("identity", name))
    noise = np.random.default_rng(0).integers(0, 256, (32, embedder.input_px, embedder.input_px, 3), dtype=np.uint8)
    return per_batch(embedder.embed, noise)


def _emotions() -> dict[str, Any]:
    from faceline.adapters.fer_cnn import FerCnn
    from faceline.weights import resolve

    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 64), dtype=np.uint8)
    return per_batch(FerCnn(resolve("emotion").path).scores, noise)


def _blendshapes(analysis: Analysis) -> dict[str, Any]:
    from faceline.adapters.blendshapes import Blendshapes
    from faceline.weights import resolve

    model = resolve("blendshapes")
    if model.absent:
        raise ValueError("there are no weights for them")
    entry = next(s for s in analysis.run["stages"] if s["stage"] == "align")
    landmarks = np.load(analysis.store / "align" / entry["key"] / "landmarks.npy", mmap_mode="r")
    whole = np.array(landmarks[np.isfinite(landmarks).all(axis=(1, 2))][:64])
    if not len(whole):
        raise ValueError("no face of the first segment has a mesh")
    network = Blendshapes(model.path)
    try:
        return per_batch(network.scores, whole)
    finally:
        network.close()


def told(result: Mapping[str, Any], cpu_s: float) -> list[str]:
    """The figures as lines, beside the CPU time of the run that they belong to."""
    rows, total = [], 0.0
    for name, part in result.items():
        if "failed" in part:
            rows.append([name, "", "", str(part["units"]), "", part["failed"]])
            continue
        seconds = part["cpu_ms"] * part["units"] / 1000
        total += seconds
        batch = f"at {part['batch']}" if part["batch"] != 1 or "by_batch" in part else ""
        rows.append([name, number(part["cpu_ms"], 2), batch, str(part["units"]), number(seconds), ""])
    rows.append(["together", "", "", "", number(total), ""])
    rows.append(["the run", "", "", "", number(cpu_s), ""])
    return table(["", "CPU ms each", "best batch", "needed", "CPU s", ""], rows)


def main(arguments: Sequence[str]) -> int:
    """``FOOTAGE RUN_JSON STORE``: print the parts as JSON."""
    footage, run_json, store = (Path(a) for a in arguments)
    nothing = Cost(0.0, 0.0, 0.0, None, ())
    analysis = Analysis(nothing, json.loads(run_json.read_text(encoding="utf-8")), store)
    result = measure(footage, analysis)
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
