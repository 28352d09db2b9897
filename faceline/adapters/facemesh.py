"""MediaPipe's face mesh: 478 landmarks of the one face in a given box.

The refined mesh network ("Attention Mesh", Grishchenko et al., 2020) of MediaPipe 0.10.21 is run through MediaPipe's
own graph for it (`FaceLandmarkCpu`), on a square that we cut around the box and turn upright, rather than through
`FaceMesh`, which first searches each picture with a second face detector and keeps the last face in mind. So the box
decides which face is meant, and a result depends on its frame and box alone, or, where the same face's mesh shortly
before is given, on that too (and so on what came before that in the tracklet). Two passes (the second square is
placed by the first mesh) cost about as much as one call of `FaceMesh` in static mode; where the mesh before places
the first square, one does.
"""

from __future__ import annotations

from dataclasses import dataclass
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

_GRAPH = """
input_stream: "IMAGE:image"
input_stream: "ROI:roi"
input_side_packet: "WITH_ATTENTION:with_attention"
output_stream: "LANDMARKS:landmarks"
node {
  calculator: "FaceLandmarkCpu"
  input_stream: "IMAGE:image"
  input_stream: "ROI:roi"
  input_side_packet: "WITH_ATTENTION:with_attention"
  output_stream: "LANDMARKS:landmarks"
}
"""


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
        self._primed = False
        try:
            with without_noise():
                self._graph, self._whole = _open_graph(min_presence)
                # The graph starts in other threads; one blank picture waits for them.
                self._process(np.zeros((_INPUT_PX, _INPUT_PX, 3), dtype=np.uint8))
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

    def _process(self, patch: np.ndarray) -> Any:
        return self._graph.process({"image": patch, "roi": self._whole})

    def _run(self, rgb: np.ndarray, square: np.ndarray) -> np.ndarray | None:
        """Mesh, float64 [478, 3] in pixels of ``rgb``, of the face in the square given by its corners [3, 2]."""
        side = float(np.hypot(*(square[1] - square[0])))
        if not np.isfinite(side) or side < 1.0:
            return None
        corners = np.array([(0.0, 0.0), (_INPUT_PX, 0.0), (0.0, _INPUT_PX)])
        matrix = fit_similarity(square, corners)
        patch = warp(rgb, matrix, _INPUT_PX)
        if self._primed:
            result = self._process(patch)
        else:  # the first face found makes MediaPipe write one more warning
            with without_noise():
                result = self._process(patch)
        if result.landmarks is None:
            return None
        self._primed = True
        mesh = np.array([(p.x, p.y, p.z) for p in result.landmarks.landmark], dtype=np.float64) * _INPUT_PX
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
    pairs = [(33, 133), (362, 263), (4, 4), (61, 61), (291, 291)]
    return np.array([(mesh[a, :2] + mesh[b, :2]) / 2 for a, b in pairs], dtype=np.float64)


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


def _open_graph(min_presence: float) -> tuple[Any, Any]:
    from google.protobuf import text_format
    from mediapipe.framework import calculator_pb2
    from mediapipe.framework.formats import rect_pb2
    from mediapipe.python.solution_base import SolutionBase

    graph = SolutionBase(
        graph_config=text_format.Parse(_GRAPH, calculator_pb2.CalculatorGraphConfig()),
        side_inputs={"with_attention": True},
        outputs=["landmarks"],
        calculator_params={"facelandmarkcpu__ThresholdingCalculator.threshold": min_presence},
    )
    whole = rect_pb2.NormalizedRect(x_center=0.5, y_center=0.5, width=1.0, height=1.0, rotation=0.0)
    return graph, whole
