"""MediaPipe's face mesh: 478 landmarks of the one face in a given box.

The refined mesh network ("Attention Mesh", Grishchenko et al., 2020) of MediaPipe 0.10.21 is run by MediaPipe's own
calculators, on a square that we cut around the box and turn upright, rather than through `FaceMesh`, which first
searches each picture with a second face detector and keeps the last face in mind. So the box
decides which face is meant, and a result depends on its frame and box alone, or, where the same face's mesh shortly
before is given, on that too (and so on what came before that in the tracklet). Two passes (the second square is
placed by the first mesh) cost about as much as one call of `FaceMesh` in static mode; where the mesh before places
the first square, one does.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from faceline.adapters.noise import without_noise
from faceline.cropping import fit_similarity, invert, scale_of, transform, warp
from faceline.errors import ModelError

LANDMARKS = 478
_INPUT_PX = 192
"""Side of the network's input picture."""

_BOX_TO_SQUARE = 1.335
_BOX_SHIFT_DOWN = 0.057
"""Where the mesh's square lies relative to MTCNN's box, in units of the box's longer side: the median over 92 faces,
with a spread of 4 % in size and 1.3 % in place. The square is the mesh's extent times `_MESH_TO_SQUARE`."""

_MESH_TO_SQUARE = 1.5
"""As in MediaPipe's own tracking (`FaceLandmarkLandmarksToRoi`)."""

_FIVE = np.array([(33, 362, 4, 61, 291), (133, 263, 4, 61, 291)])
"""Mesh points that stand midway about MTCNN's eye centres, nose tip and mouth corners."""

_MODEL_FILE = "modules/face_landmark/face_landmark_with_attention.tflite"

_GRAPH = """
executor { type: "ApplicationThreadExecutor" }
input_stream: "image"
input_side_packet: "model_blob"
output_stream: "landmarks"
node {
  calculator: "TensorConverterCalculator"
  input_stream: "IMAGE:image"
  output_stream: "TENSORS:input_tensors"
  options { [mediapipe.TensorConverterCalculatorOptions.ext] { output_tensor_float_range { min: 0 max: 1 } } }
}
node {
  calculator: "TfLiteCustomOpResolverCalculator"
  output_side_packet: "OP_RESOLVER:op_resolver"
}
node {
  calculator: "TfLiteModelCalculator"
  input_side_packet: "MODEL_BLOB:model_blob"
  output_side_packet: "MODEL:model"
}
node {
  calculator: "InferenceCalculator"
  input_stream: "TENSORS:input_tensors"
  output_stream: "TENSORS:output_tensors"
  input_side_packet: "MODEL:model"
  input_side_packet: "OP_RESOLVER:op_resolver"
  options { [mediapipe.InferenceCalculatorOptions.ext] { delegate { xnnpack { num_threads: 1 } } } }
}
node {
  calculator: "SplitTensorVectorCalculator"
  input_stream: "output_tensors"
  output_stream: "landmark_tensors"
  output_stream: "face_flag_tensor"
  options { [mediapipe.SplitVectorCalculatorOptions.ext] { ranges { begin: 0 end: 6 } ranges { begin: 6 end: 7 } } }
}
node {
  calculator: "TensorsToFloatsCalculator"
  input_stream: "TENSORS:face_flag_tensor"
  output_stream: "FLOAT:face_presence_score"
  options { [mediapipe.TensorsToFloatsCalculatorOptions.ext] { activation: SIGMOID } }
}
node {
  calculator: "ThresholdingCalculator"
  input_stream: "FLOAT:face_presence_score"
  output_stream: "FLAG:face_presence"
  options { [mediapipe.ThresholdingCalculatorOptions.ext] { threshold: %s } }
}
node {
  calculator: "GateCalculator"
  input_stream: "landmark_tensors"
  input_stream: "ALLOW:face_presence"
  output_stream: "ensured_landmark_tensors"
}
node {
  calculator: "TensorsToFaceLandmarksWithAttention"
  input_stream: "TENSORS:ensured_landmark_tensors"
  output_stream: "LANDMARKS:landmarks"
}
"""
"""MediaPipe's ``FaceLandmarkCpu`` less what a picture of the network's own size does without: resampling it (its
`ImageToTensorCalculator` warps even where nothing moves, 0.3 ms of a face's 4.4), and projecting the landmarks from it.
Without the projection's rounding the mesh differs by at most 3e-6 px of the picture. The calling thread runs it, so
that a face neither waits for another thread nor wakes one."""

_LANDMARK = np.dtype({"names": ["x", "y", "z"], "formats": ["<f4"] * 3, "offsets": [3, 8, 13], "itemsize": 17})
"""One entry of a serialised ``NormalizedLandmarkList``. Read as bytes, a face takes 0.02 ms; field by field, 0.5 ms."""

_TAG_PLACES, _TAGS = [0, 1, 2, 7, 12], np.array([0x0A, 15, 0x0D, 0x15, 0x1D], dtype=np.uint8)
"""What stands between the numbers: field 1 of the list, 15 bytes long; within it fields 1 to 3, four bytes each."""


@dataclass(frozen=True)
class Glimpse:
    """The same face a moment ago: its landmarks, float32 [478, 3], and the box it was in, [4] (both frame px)."""

    mesh: np.ndarray
    box_px: np.ndarray


class LandmarkModel(Protocol):
    """Finds the landmarks of one face."""

    def find(
        self, rgb: np.ndarray, box_px: np.ndarray, points_px: np.ndarray, before: Glimpse | None = None
    ) -> np.ndarray | None:
        """Landmarks of the face in the box.

        Args:
            rgb: uint8 [H, W, 3], RGB, upright, full resolution.
            box_px: float [4], x, y, width, height in pixels of ``rgb``; may exceed its edge.
            points_px: float [5, 2], MTCNN's eye centres, nose tip and mouth corners; NaN where unknown.
            before: the same face in a frame shortly before, which says where to look better than the box does.

        Returns:
            float32 [478, 3]: x, y in pixels of ``rgb``, z in the same scale (smaller is nearer); None when the model
            finds no face there, or another than the one in the box.
        """
        ...

    def close(self) -> None:
        """Free the model's resources."""
        ...


class FaceMesh:
    """`LandmarkModel` with MediaPipe's refined face mesh. One instance serves one thread at a time.

    Args:
        passes: how often the network runs on a face; from the second on its square is placed by the mesh before.
            On five clips two passes lowered the frame-to-frame noise of the eye opening by a third. A face with a
            glimpse takes one pass.
        min_presence: the network's own face score, 0..1, below which there is no face. Of 175 faces in ten clips,
            0.9 loses two of 20 px that MediaPipe's default of 0.5 keeps; the latter also finds faces in prints.

    Raises:
        ModelError: if MediaPipe cannot be loaded or does not carry the network.
    """

    def __init__(self, *, passes: int = 2, min_presence: float = 0.9) -> None:
        if passes < 1:
            raise ValueError(f"passes must be at least 1, got {passes}")
        self._passes = passes
        try:
            with without_noise():
                self._graph = _Graph(min_presence)
                # The network is loaded with the first picture, and says so.
                self._graph.landmarks(np.zeros((_INPUT_PX, _INPUT_PX, 3), dtype=np.uint8))
        except (ImportError, FileNotFoundError, RuntimeError, ValueError) as error:
            raise ModelError(
                f"the face mesh cannot be started ({error})",
                where="landmarks",
                cure="install mediapipe 0.10.21, the last release that carries its models",
            ) from error

    def find(
        self, rgb: np.ndarray, box_px: np.ndarray, points_px: np.ndarray, before: Glimpse | None = None
    ) -> np.ndarray | None:
        """See `LandmarkModel.find`."""
        box = np.asarray(box_px, dtype=np.float64)
        points = np.asarray(points_px, dtype=np.float64).reshape(5, 2)
        if before is not None:
            mesh = self._run(rgb, _square_from_mesh(_moved(before, box)))
            if mesh is not None and belongs(mesh, box, points):
                return mesh.astype(np.float32)
        square = _square_from_box(box, points)
        mesh = None
        for _ in range(self._passes):
            mesh = self._run(rgb, square)
            if mesh is None:
                return None
            square = _square_from_mesh(mesh)
        if mesh is None or not belongs(mesh, box, points):
            return None
        return mesh.astype(np.float32)

    def close(self) -> None:
        """Stop the graph and free it."""
        self._graph.close()

    def _run(self, rgb: np.ndarray, square: np.ndarray) -> np.ndarray | None:
        """Mesh, float64 [478, 3] in pixels of ``rgb``, of the face in the square given by its corners [3, 2]."""
        side = float(np.hypot(*(square[1] - square[0])))
        if not np.isfinite(side) or side < 1.0:
            return None
        corners = np.array([(0.0, 0.0), (_INPUT_PX, 0.0), (0.0, _INPUT_PX)])
        matrix = fit_similarity(square, corners)
        # Without the blur it takes half the time, but the eye opening of a talking head was a quarter noisier.
        found = self._graph.landmarks(warp(rgb, matrix, _INPUT_PX))
        if found is None:
            return None
        mesh = found.astype(np.float64) * _INPUT_PX
        if mesh.shape != (LANDMARKS, 3) or not np.isfinite(mesh).all():
            return None
        mesh[:, :2] = transform(invert(matrix), mesh[:, :2])
        mesh[:, 2] /= scale_of(matrix)
        return mesh


def belongs(mesh: np.ndarray, box_px: np.ndarray, points_px: np.ndarray) -> bool:
    """Whether a mesh [478, 3] is of the face that the detector meant.

    The second pass may slide to a neighbouring face. A mesh belongs to the box when its middle lies inside the box,
    its size is like the box's (half to double), and, where the five points are known, when it has its eyes, nose
    and mouth where they are: within 0.6 of the distance between the points' eyes and mouth on average.
    """
    low, high = mesh[:, :2].min(axis=0), mesh[:, :2].max(axis=0)
    middle = (low + high) / 2
    inside = (middle >= box_px[:2]).all() and (middle <= box_px[:2] + box_px[2:]).all()
    ratio = float((high - low).max() / max(float(box_px[2:].max()), 1e-9))
    if not inside or not 0.5 <= ratio <= 2.0:
        return False
    if not np.isfinite(points_px).all():
        return True
    height = float(np.hypot(*(points_px[3:].mean(axis=0) - points_px[:2].mean(axis=0))))
    width = float(np.hypot(*(points_px[1] - points_px[0])))
    apart = np.hypot(*(five_points(mesh) - points_px).T)
    return bool(apart.mean() <= 0.6 * max(height, width))


def five_points(mesh: np.ndarray) -> np.ndarray:
    """The mesh's own version of MTCNN's five points, float64 [5, 2]."""
    return np.asarray((mesh[_FIVE[0], :2] + mesh[_FIVE[1], :2]) / 2, dtype=np.float64)


def _square(centre: np.ndarray, side: float, tilt: float) -> np.ndarray:
    """Top left, top right and bottom left corner [3, 2] of a square turned clockwise by ``tilt`` radians."""
    right = np.array([np.cos(tilt), np.sin(tilt)]) * side
    down = np.array([-np.sin(tilt), np.cos(tilt)]) * side
    corner = centre - right / 2 - down / 2
    return np.stack([corner, corner + right, corner + down])


def _square_from_box(box: np.ndarray, points: np.ndarray) -> np.ndarray:
    side = float(box[2:].max())
    across = points[1] - points[0]
    tilt = float(np.arctan2(across[1], across[0])) if np.isfinite(across).all() and np.hypot(*across) > 0 else 0.0
    down = np.array([-np.sin(tilt), np.cos(tilt)])
    return _square(box[:2] + box[2:] / 2 + down * (_BOX_SHIFT_DOWN * side), _BOX_TO_SQUARE * side, tilt)


def _moved(before: Glimpse, box: np.ndarray) -> np.ndarray:
    """The mesh of a moment ago [478, 3] as if its face had moved and grown with its box."""
    old = np.asarray(before.box_px, dtype=np.float64)
    growth = float(box[2:].max() / max(float(old[2:].max()), 1e-9))
    mesh = before.mesh.astype(np.float64) * growth
    mesh[:, :2] += (box[:2] + box[2:] / 2) - (old[:2] + old[2:] / 2) * growth
    return mesh


def _square_from_mesh(mesh: np.ndarray) -> np.ndarray:
    across = mesh[263, :2] - mesh[33, :2]
    tilt = float(np.arctan2(across[1], across[0]))
    turn = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
    upright = mesh[:, :2] @ turn.T
    low, high = upright.min(axis=0), upright.max(axis=0)
    return _square((low + high) / 2 @ turn, _MESH_TO_SQUARE * float((high - low).max()), tilt)


class _Graph:
    """MediaPipe's graph, one picture at a time; of earlier pictures it keeps nothing but their number."""

    def __init__(self, min_presence: float) -> None:
        from google.protobuf import text_format

        from faceline.adapters import mediapipe_core

        mediapipe_core.lay_out()
        import mediapipe

        # The graph's text names the options of these calculators.
        from mediapipe.calculators.core import split_vector_calculator_pb2  # noqa: F401
        from mediapipe.calculators.tensor import (
            inference_calculator_pb2,  # noqa: F401
            tensor_converter_calculator_pb2,  # noqa: F401
            tensors_to_floats_calculator_pb2,  # noqa: F401
        )
        from mediapipe.calculators.util import thresholding_calculator_pb2  # noqa: F401
        from mediapipe.framework import calculator_pb2
        from mediapipe.python import CalculatorGraph, packet_creator

        network = (Path(mediapipe.__file__).parent / _MODEL_FILE).read_bytes()
        config = text_format.Parse(_GRAPH % min_presence, calculator_pb2.CalculatorGraphConfig())
        self._number = 0
        self._found: Any = None
        self._graph = CalculatorGraph(graph_config=config)
        self._graph.observe_output_stream("landmarks", self._keep)
        self._graph.start_run({"model_blob": packet_creator.create_string(network)})

    def _keep(self, stream: str, packet: Any) -> None:
        del stream
        self._found = packet

    def landmarks(self, patch: np.ndarray) -> np.ndarray | None:
        """Landmarks, float32 [n, 3] in units of the side of ``patch``, uint8 [192, 192, 3] RGB; None without a face."""
        from mediapipe.python import ImageFormat, packet_creator
        from mediapipe.python.packet_getter import _packet_getter

        self._number += 1
        self._found = None
        picture = packet_creator.create_image_frame(patch, image_format=ImageFormat.SRGB)
        self._graph.add_packet_to_input_stream("image", picture.at(self._number))
        self._graph.wait_until_idle()
        found, self._found = self._found, None
        return None if found is None else _read_landmarks(_packet_getter._get_serialized_proto(found))

    def close(self) -> None:
        self._graph.close()


def _read_landmarks(message: bytes) -> np.ndarray:
    """x, y, z, float32 [n, 3], of a serialised ``NormalizedLandmarkList``."""
    if len(message) % _LANDMARK.itemsize == 0:
        tags = np.frombuffer(message, dtype=np.uint8).reshape(-1, _LANDMARK.itemsize)[:, _TAG_PLACES]
        if (tags == _TAGS).all():
            entries = np.frombuffer(message, dtype=_LANDMARK)
            return np.stack([entries["x"], entries["y"], entries["z"]], axis=1)
    # Written otherwise than by MediaPipe 0.10.21, with further fields for instance.
    from mediapipe.framework.formats.landmark_pb2 import NormalizedLandmarkList

    parsed = NormalizedLandmarkList.FromString(message).landmark
    return np.array([(point.x, point.y, point.z) for point in parsed], dtype=np.float32).reshape(-1, 3)
