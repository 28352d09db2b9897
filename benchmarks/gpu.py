"""``make bench-gpu``: the networks on the GPU against the CPU, by batch size and precision, then a whole run on either.

Per network and number of pictures: pictures per second, and the largest difference from what the CPU gives for the
same pictures (for embeddings also of any distance between two). Then ``faceline analyze`` from an empty store with
``runtime.device`` cpu and cuda. The last line is one JSON object. Without a usable GPU it says so and ends with 2.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from faceline.devices import Device, find_device
from faceline.errors import ModelError
from faceline.threads import share_cores
from faceline.weights import resolve

ROOT = Path(__file__).resolve().parents[1]
BATCHES = (8, 32, 128, 512)
FRAME_PX = (360, 640)

Network = Callable[[np.ndarray], np.ndarray]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--footage", type=Path, help="clip of the whole runs; by default as in make bench")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--seconds", type=float, default=2.0, help="time for each measurement")
    args = parser.parse_args(arguments)
    device = find_device("cuda")
    if device.missing:
        print(f"there is no GPU to measure: {device.missing}", file=sys.stderr)
        return 2
    print(f"GPU: {device.name}")
    share_cores()
    results = {"device": device.name, "networks": networks(args.batches, args.seconds), "runs": runs(args.footage)}
    print(json.dumps(results))
    return 0


def networks(batches: Sequence[int], seconds: float, device: Device | None = None) -> list[dict[str, Any]]:
    """A row per network, precision and batch size: pictures per second and differences from the CPU's numbers."""
    kind = "cuda" if device is None else device.kind
    rows = []
    print(f"{'network':10} {'precision':9} {'batch':>5} {'per second':>10} {'difference':>10} {'of distances':>12}")
    for name in ("mtcnn", "vggface2", "dlib", "fer"):
        try:
            reference = opened(name, "cpu", "fp32")
        except ModelError as error:
            print(f"{name:10} left out: {error}")
            continue
        few = pictures(name, min(batches))
        truth = reference(few)
        for precision in ("fp32", "fp16") if name in ("vggface2", "dlib") and kind == "cuda" else ("fp32",):
            network = opened(name, kind, precision)
            found = network(few)
            row = {"network": name, "precision": precision, "difference": largest(found - truth)}
            row["of_distances"] = largest(distances(found) - distances(truth)) if name in ("vggface2", "dlib") else None
            for batch in batches:
                rate = per_second(network, pictures(name, batch), seconds)
                rows.append({**row, "batch": batch, "per_second": rate})
                of_distances = "" if row["of_distances"] is None else f"{row['of_distances']:.1e}"
                print(
                    f"{name:10} {precision:9} {batch:5} {rate:10.1f} {row['difference']:10.1e} {of_distances:>12}",
                    flush=True,
                )
    return rows


def opened(name: str, device: str, precision: str) -> Network:
    """A network as a function of uint8 pictures; for MTCNN the boxes of the surest face of each frame."""
    if name == "mtcnn":
        from faceline.adapters.mtcnn import MtcnnDetector

        detector = MtcnnDetector(resolve("detector").path, device=device)

        def boxes(frames: np.ndarray) -> np.ndarray:
            found = [faces.boxes_px[:1] for faces in detector.detect(list(frames))]
            return np.concatenate([box if len(box) else np.full((1, 4), np.nan) for box in found])

        return boxes
    if name == "fer":
        from faceline.adapters.fer_cnn import FerCnn

        return FerCnn(resolve("emotion").path, device).scores
    from faceline.embedding import open_embedder

    return open_embedder(resolve("identity", name), device, precision=precision).embed  # type: ignore[arg-type]


def pictures(name: str, count: int) -> np.ndarray:
    """uint8 pictures as the network takes them: a public-domain portrait in many places and lights."""
    import cv2
    from skimage.data import astronaut

    height, width = {"mtcnn": FRAME_PX, "vggface2": (160, 160), "dlib": (150, 150), "fer": (64, 64)}[name]
    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        left, top, side = rng.integers(110, 150), rng.integers(0, 30), rng.integers(170, 230)
        wide = min(int(side * width / height), 512 - left)
        part = cv2.resize(astronaut()[top : top + side, left : left + wide], (width, height))
        lit = np.clip(part * rng.uniform(0.6, 1.2), 0, 255).astype(np.uint8)
        made.append(cv2.cvtColor(lit, cv2.COLOR_RGB2GRAY) if name == "fer" else lit)
    return np.stack(made)


def per_second(network: Network, given: np.ndarray, seconds: float) -> float:
    """Pictures per second of wall time, copies to and from the device included; the first two calls do not count."""
    network(given)
    network(given)
    calls, began_s = 0, time.perf_counter()
    while not calls or time.perf_counter() - began_s < seconds:
        network(given)
        calls += 1
    return calls * len(given) / (time.perf_counter() - began_s)


def distances(vectors: np.ndarray) -> np.ndarray:
    """Euclidean distances [n, n]."""
    return np.linalg.norm(vectors[:, None] - vectors[None], axis=2)


def largest(differences: np.ndarray) -> float:
    """Largest magnitude; NaN where all is missing."""
    return float(np.nanmax(np.abs(differences)))


def runs(footage: Path | None) -> dict[str, dict[str, float]]:
    """Wall seconds of a whole analysis on either device, and of the stages that run on it."""
    from benchmarks.bench import default_footage

    clip = footage or default_footage()
    results = {}
    with tempfile.TemporaryDirectory(prefix="faceline-gpu-") as folder:
        for device in ("cpu", "cuda"):
            place = Path(folder) / device
            command = [sys.executable, "-m", "flows.cli", "analyze", f"footage={clip}", f"output={place / 'results'}",
                       f"store.root={place / 'store'}", f"runtime.device={device}"]  # fmt: skip
            began_s = time.perf_counter()
            subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
            seconds = {"whole": round(time.perf_counter() - began_s, 2)}
            run = json.loads((place / "results" / "run.json").read_text())
            if run["runtime"]["device"] != device:
                raise RuntimeError(f"the run on {device} took {run['runtime']['device']}")
            for stage in ("detect", "embed", "emote"):
                seconds[stage] = round(sum(s["seconds"] for s in run["stages"] if s["stage"] == stage), 2)
            results[device] = seconds
            print(f"analyze on {device}: " + ", ".join(f"{name} {value} s" for name, value in seconds.items()))
    return results


if __name__ == "__main__":
    sys.exit(main())
