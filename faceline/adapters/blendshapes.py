"""MediaPipe's blendshapes: 52 expression scores of a face from its 478 landmarks.

The network ("Blendshape V2", an MLP mixer; Grishchenko et al., "Blendshapes GHUM", 2023) lies in the bundle
``face_landmarker.task``. It is run through MediaPipe 0.10.21's own graph for it (`FaceBlendshapesGraph`) on landmarks
that are there already, rather than through `FaceLandmarker`, which would search each picture for faces once more and
would score a mesh of its own. A face takes about 1.3 ms of one core (2.5 GHz, busy machine), most of it in the graph.

Given the same landmarks, the scores are `FaceLandmarker`'s to 2e-5. Its mesh is a newer one than that of the align
stage, though: on 93 frames of six clips, scores from the two meshes differ by 0.004 (median), 0.13 (95 %) and 0.58 (at
most), and go together over the frames of a clip with a correlation of 0.90 (median of the 45 channels that move; least,
below 0.5, for ``mouth_left``, ``mouth_right``, ``mouth_frown_left``, ``mouth_frown_right`` and ``jaw_left``).
So a score says little by itself, and more against the same person's usual score.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from faceline.adapters.noise import without_noise
from faceline.batches import side_by_side
from faceline.blendshapes import BLENDSHAPES
from faceline.errors import ModelError

LANDMARKS = 478
_NETWORK = "face_blendshapes.tflite"
"""The network's name inside the bundle."""

_PICTURE_PX = 256
"""Side of the picture that the graph believes the landmarks to lie in. It takes them in units of the picture and the
picture's size; the network then takes place and size out of them itself."""

_GRAPH = """
num_threads: 1
input_stream: "LANDMARKS:landmarks"
input_stream: "IMAGE:image"
output_stream: "BLENDSHAPES:blendshapes"
node {
  calculator: "ImagePropertiesCalculator"
  input_stream: "IMAGE:image"
  output_stream: "SIZE:size"
}
node {
  calculator: "mediapipe.tasks.vision.face_landmarker.FaceBlendshapesGraph"
  input_stream: "LANDMARKS:landmarks"
  input_stream: "IMAGE_SIZE:size"
  output_stream: "BLENDSHAPES:blendshapes"
}
"""

_LANDMARK = np.dtype([("begin", "u1", 2), ("x_tag", "u1"), ("x", "<f4"), ("y_tag", "u1"), ("y", "<f4")])
"""One entry of a serialised ``NormalizedLandmarkList``. Written as bytes, a face takes 0.1 ms; field by field, 1 ms."""


class BlendshapeModel(Protocol):
    """Scores the expression of meshes."""

    def scores(self, landmarks: np.ndarray) -> np.ndarray:
        """Blendshape scores.

        Args:
            landmarks: float32 [n, 478, 3], MediaPipe's refined mesh in pixels of any picture; only x and y count.

        Returns:
            float32 [n, 52], 0..1, in the order of `faceline.blendshapes.BLENDSHAPES`.
        """
        ...

    def close(self) -> None:
        """Free the model's resources."""
        ...


class Blendshapes:
    """`BlendshapeModel` with MediaPipe's network. One instance serves one thread at a time.

    Each face goes through the network alone, so a row depends neither on the others nor on ``threads``.

    Args:
        path: ``face_landmarker.task``.
        threads: faces worked on at the same time.

    Raises:
        ModelError: if the bundle cannot be read or holds no such network, or MediaPipe cannot run it.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        self._graphs: list[_Graph] = []
        try:
            with zipfile.ZipFile(path) as bundle:
                network = bundle.read(_NETWORK)
            with without_noise():
                for _ in range(max(1, threads)):
                    self._graphs.append(_Graph(network))
                self._check()
        except (ImportError, OSError, KeyError, RuntimeError, ValueError, zipfile.BadZipFile) as error:
            self.close()
            raise ModelError(
                f"the blendshapes network cannot be started ({' '.join(str(error).split())})",
                where=path.name,
                cure="delete it and run 'faceline models fetch face_landmarker', or choose models.blendshapes=none",
            ) from error

    def scores(self, landmarks: np.ndarray) -> np.ndarray:
        """See `BlendshapeModel.scores`."""
        if landmarks.ndim != 3 or landmarks.shape[1:] != (LANDMARKS, 3):
            raise ValueError(f"landmarks of shape [n, {LANDMARKS}, 3] are needed, got {landmarks.shape}")
        if not np.isfinite(landmarks).all():
            raise ValueError("landmarks that are not finite have no blendshapes")
        if len(landmarks) == 0:
            return np.zeros((0, len(BLENDSHAPES)), dtype=np.float32)
        messages = _messages(landmarks)
        parts = np.array_split(np.arange(len(messages)), min(len(self._graphs), len(messages)))

        def run(number: int) -> np.ndarray:
            return self._graphs[number].scores([messages[row] for row in parts[number]])

        return np.concatenate(side_by_side(run, range(len(parts)), len(parts)))

    def close(self) -> None:
        """Stop the graphs and free them."""
        while self._graphs:
            self._graphs.pop().close()

    def _check(self) -> None:
        """Start every graph with one face, and refuse a network that does not answer with 52 numbers."""
        angles = np.linspace(0, 2 * np.pi, LANDMARKS, endpoint=False)
        circle = np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
        found = self.scores(np.repeat(circle[None].astype(np.float32), len(self._graphs), axis=0))
        if not np.isfinite(found).all():
            raise ValueError("its scores are no numbers")


class _Graph:
    """MediaPipe's graph with one thread of its own. Faces are queued, so that it does not wait between them."""

    def __init__(self, network: bytes) -> None:
        from google.protobuf import text_format

        from faceline.adapters import mediapipe_core

        mediapipe_core.lay_out()
        from mediapipe.framework import calculator_pb2

        # What the graph gives is found by this message's name.
        from mediapipe.framework.formats import classification_pb2  # noqa: F401
        from mediapipe.python import CalculatorGraph, Image, ImageFormat, packet_creator
        from mediapipe.tasks.cc.vision.face_landmarker.proto import face_blendshapes_graph_options_pb2

        config = text_format.Parse(_GRAPH, calculator_pb2.CalculatorGraphConfig())
        kind = face_blendshapes_graph_options_pb2.FaceBlendshapesGraphOptions
        config.node[1].options.Extensions[kind.ext].base_options.model_asset.file_content = network
        blank = np.zeros((_PICTURE_PX, _PICTURE_PX, 3), dtype=np.uint8)
        self._picture = packet_creator.create_image(Image(image_format=ImageFormat.SRGB, data=blank))
        self._found: dict[int, Any] = {}
        self._next = 0
        self._graph = CalculatorGraph(graph_config=config)
        self._graph.observe_output_stream("blendshapes", self._keep)
        self._graph.start_run()

    def _keep(self, stream: str, packet: Any) -> None:
        del stream
        self._found[packet.timestamp.value] = packet

    def scores(self, messages: list[bytes]) -> np.ndarray:
        """Scores, float32 [n, 52], of serialised faces."""
        from mediapipe.framework.formats import landmark_pb2
        from mediapipe.python import packet_creator, packet_getter

        numbers = range(self._next, self._next + len(messages))
        self._next = numbers.stop
        for number, message in zip(numbers, messages, strict=True):
            face = packet_creator.create_proto(landmark_pb2.NormalizedLandmarkList.FromString(message))
            self._graph.add_packet_to_input_stream("image", self._picture.at(number))
            self._graph.add_packet_to_input_stream("landmarks", face.at(number))
        self._graph.wait_until_idle()
        found, self._found = self._found, {}
        if sorted(found) != list(numbers):
            raise RuntimeError(f"the blendshapes network answered for {len(found)} of {len(messages)} faces")
        rows = [[entry.score for entry in packet_getter.get_proto(found[number]).classification] for number in numbers]
        scores = np.array(rows, dtype=np.float32)
        if scores.shape != (len(messages), len(BLENDSHAPES)):
            raise ValueError(f"the blendshapes network gives {scores.shape[1:]} scores, not {len(BLENDSHAPES)}")
        return scores

    def close(self) -> None:
        self._graph.close()


def _messages(landmarks: np.ndarray) -> list[bytes]:
    """Each face as a serialised ``NormalizedLandmarkList``, its square in the middle of the picture.

    The network would take any place and size, but in float32: a face at x = 3000 px then differs by 1e-4.
    """
    points = landmarks[..., :2].astype(np.float64)
    low, high = points.min(axis=1, keepdims=True), points.max(axis=1, keepdims=True)
    side = np.maximum((high - low).max(axis=2, keepdims=True), 1e-9)
    placed = (points - (low + high) / 2) / side + 0.5
    entries = np.zeros(placed.shape[:2], dtype=_LANDMARK)
    # Field 1 of the list, 10 bytes long; within it fields 1 and 2, four bytes each.
    entries["begin"], entries["x_tag"], entries["y_tag"] = (0x0A, 10), 0x0D, 0x15
    entries["x"], entries["y"] = placed[..., 0], placed[..., 1]
    return [face.tobytes() for face in entries]
