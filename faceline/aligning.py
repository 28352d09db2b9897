"""Aligning faces one by one: mesh, head pose, quality and crop, with the same face's mesh before as a guide."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import groupby
from queue import SimpleQueue
from typing import Protocol

import numpy as np
import pyarrow as pa
from pydantic import Field

from faceline.adapters.facemesh import Glimpse, LandmarkModel
from faceline.ahead import ahead
from faceline.cropping import (
    CROP_SIZE_PX,
    encode_jpeg,
    fer_crop,
    matrix_from_mesh,
    matrix_from_points,
    scale_of,
    warp,
)
from faceline.errors import FootageError
from faceline.pose import yaw_from_points
from faceline.quality import CropStatistics, crop_statistics
from faceline.residents import Residents
from faceline.stage import StageParams

_OUTER_EYE_CORNERS = (33, 263)
_CHIP_EYE_DISTANCE_PX = 0.739 / 1.9 * CROP_SIZE_PX
"""Distance of the outer eye corners in a crop that fits its template exactly."""


class AlignParams(StageParams):
    """Parameters of the align stage."""

    min_face_px: float = Field(
        24.0, ge=8.0, le=1000.0, description="Faces whose box is narrower or lower than this are left out (too_small)."
    )
    min_visible: float = Field(
        0.4, ge=0.0, le=1.0, description="Share of a face's box that must lie inside the frame, else it is 'outside'."
    )
    mesh_passes: int = Field(
        2,
        ge=1,
        le=3,
        description="Runs of the landmark network per face; each further one places its window by the mesh before.",
    )
    follow_s: float = Field(
        0.43,
        ge=0.0,
        le=5.0,
        description="A face that its tracklet showed at most this many seconds before takes one run, in the window of "
        "the mesh there, moved with the box; 0 searches every face anew.",
    )
    min_presence: float = Field(
        0.9, ge=0.0, le=1.0, description="The landmark network's own face score below which it found no face."
    )


@dataclass(frozen=True)
class AlignedFace:
    """What alignment makes of one face; everything but the state may be missing.

    Attributes:
        state: ``ok``; ``no_mesh`` (crop by the detector's five points only); ``no_face`` (a box put between two
            detections in which no face is found); ``too_small``; ``outside`` (of the frame).
        landmarks: float32 [478, 3], frame px.
        points_yaw_deg: without a mesh, the rough yaw that the detector's five points tell; NaN where they do not.
        statistics: of the crop.
        eye_distance_px: distance of the outer eye corners in frame pixels, in space, so that turning the head does
            not shorten it; without a mesh, what the crop's scale implies.
        crop_matrix: float64 [2, 3], frame px → crop px.
        crop: JPEG bytes of the 160×160 RGB crop.
        fer_crop: the 64×64 gray picture for the emotion network, 4096 bytes.
    """

    state: str
    landmarks: np.ndarray | None = None
    points_yaw_deg: float | None = None
    statistics: CropStatistics | None = None
    eye_distance_px: float | None = None
    crop_matrix: np.ndarray | None = None
    crop: bytes | None = None
    fer_crop: bytes | None = None


@dataclass(frozen=True)
class DetectedFace:
    """A face as detection hands it over.

    Attributes:
        box_px: float64 [4], x, y, width, height in frame pixels.
        points_px: float64 [5, 2], MTCNN's points; NaN where unknown.
        detected: False when the box was put between two detections.
        track: number of its tracklet in the segment.
        time_s: presentation time of its frame.
    """

    box_px: np.ndarray
    points_px: np.ndarray
    detected: bool
    track: int = 0
    time_s: float = 0.0


class FramePicture(Protocol):
    """What alignment needs of a decoded frame (`faceline.video.Frame`)."""

    @property
    def index(self) -> int:
        """0-based index of the frame in the footage."""
        ...

    def rgb(self) -> np.ndarray:
        """The upright picture, uint8 [H, W, 3], RGB, full resolution."""
        ...


def place_mesh(
    rgb: np.ndarray, face: DetectedFace, model: LandmarkModel, params: AlignParams, before: Glimpse | None = None
) -> np.ndarray | str | None:
    """Landmarks of a face, float32 [478, 3]; None where there are none; or the state of a face not to be looked at."""
    if not np.isfinite(face.box_px).all() or face.box_px[2:].min() < params.min_face_px:
        return "too_small"
    if visible_share(face.box_px, rgb.shape) < params.min_visible:
        return "outside"
    return model.find(rgb, face.box_px, face.points_px, before)


def describe_face(rgb: np.ndarray, face: DetectedFace, mesh: np.ndarray | str | None) -> AlignedFace:
    """Crops and figures of a face in ``rgb``, uint8 [H, W, 3], whose mesh `place_mesh` has placed."""
    if isinstance(mesh, str):
        return AlignedFace(mesh)
    if mesh is None and not face.detected:
        return AlignedFace("no_face")
    try:
        matrix = matrix_from_points(face.points_px) if mesh is None else matrix_from_mesh(mesh)
    except ValueError:  # points unknown, or all in one place
        return AlignedFace("no_face")
    crop = warp(rgb, matrix)
    fer = fer_crop(rgb, face.box_px)
    if mesh is None:
        points_yaw_deg = yaw_from_points(face.points_px)
        eyes_px = _CHIP_EYE_DISTANCE_PX / scale_of(matrix)
    else:
        points_yaw_deg = None
        right, left = _OUTER_EYE_CORNERS
        eyes_px = float(np.linalg.norm(mesh[right].astype(np.float64) - mesh[left]))
    return AlignedFace(
        state="no_mesh" if mesh is None else "ok",
        landmarks=mesh,
        points_yaw_deg=points_yaw_deg,
        statistics=crop_statistics(crop),
        eye_distance_px=eyes_px,
        crop_matrix=matrix,
        crop=encode_jpeg(crop),
        fer_crop=None if fer is None else fer.tobytes(),
    )


def visible_share(box_px: np.ndarray, frame_shape: tuple[int, ...]) -> float:
    """Share of a box (x, y, width, height) that lies inside a frame of shape (H, W, …); 0 for an empty box."""
    x, y, w, h = (float(v) for v in box_px)
    if w <= 0 or h <= 0:
        return 0.0
    across = max(0.0, min(x + w, frame_shape[1]) - max(x, 0.0))
    down = max(0.0, min(y + h, frame_shape[0]) - max(y, 0.0))
    return across * down / (w * h)


def align_frames(
    faces: pa.Table,
    frames: Iterable[FramePicture],
    open_model: Callable[[], LandmarkModel],
    params: AlignParams,
    *,
    threads: int = 1,
    residents: Residents | None = None,
) -> Iterator[AlignedFace]:
    """Align all faces, streaming through the frames once.

    Args:
        faces: detection's faces, frames in ascending order.
        frames: the frames on which there are faces, in the same order.
        open_model: makes a landmark model; called once per thread at most.
        params: the stage's parameters.
        threads: faces worked on at the same time; does not change the result.
        residents: where models are borrowed; None opens and closes them.

    Yields:
        One `AlignedFace` per row of ``faces``, in order.

    Raises:
        FootageError: when a frame with faces is not delivered.
    """
    key = ("facemesh", params.mesh_passes, params.min_presence)
    with _workers(residents or Residents(), key, open_model, threads) as (pool, models):

        def place(picture: np.ndarray, face: DetectedFace, before: Glimpse | None) -> np.ndarray | str | None:
            model = models.get()
            try:
                return place_mesh(picture, face, model, params, before)
            finally:
                models.put(model)

        seen = _Seen(params.follow_s)
        # A face waits for its own mesh in the frame before; crops are cut meanwhile. Few frames are held at a time.
        cutting: deque[list[Future[AlignedFace]]] = deque()
        # Colours are converted ahead.
        for picture, group in ahead(_frames_with_faces(faces, frames), 1):
            placing = [pool.submit(place, picture, face, seen.before(face)) for face in group]
            meshes = [future.result() for future in placing]
            for face, mesh in zip(group, meshes, strict=True):
                seen.note(face, mesh)
            cutting.append(
                [pool.submit(describe_face, picture, face, mesh) for face, mesh in zip(group, meshes, strict=True)]
            )
            if len(cutting) > threads:
                yield from (future.result() for future in cutting.popleft())
        while cutting:
            yield from (future.result() for future in cutting.popleft())


class _Seen:
    """The latest mesh of every tracklet."""

    def __init__(self, follow_s: float) -> None:
        self._follow_s = follow_s
        self._latest: dict[int, tuple[float, Glimpse]] = {}

    def before(self, face: DetectedFace) -> Glimpse | None:
        """The face's own mesh shortly before, if there is one."""
        time_s, glimpse = self._latest.get(face.track, (-math.inf, None))
        # A millionth forgives the rounding of timestamps to the container's clock.
        return glimpse if face.time_s - time_s <= self._follow_s + 1e-6 and self._follow_s > 0 else None

    def note(self, face: DetectedFace, mesh: np.ndarray | str | None) -> None:
        """Keep what came of a face; one without a mesh is searched for anew next time."""
        if isinstance(mesh, np.ndarray):
            self._latest[face.track] = (face.time_s, Glimpse(mesh, face.box_px))
        else:
            self._latest.pop(face.track, None)


@contextmanager
def _workers(
    residents: Residents, key: Hashable, open_model: Callable[[], LandmarkModel], threads: int
) -> Iterator[tuple[ThreadPoolExecutor, SimpleQueue[LandmarkModel]]]:
    models: SimpleQueue[LandmarkModel] = SimpleQueue()
    with ExitStack() as stack:
        for _ in range(threads):
            models.put(stack.enter_context(residents.lend(key, open_model)))
        pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="align")
        stack.callback(pool.shutdown, wait=True, cancel_futures=True)
        yield pool, models


def _frames_with_faces(
    faces: pa.Table, frames: Iterable[FramePicture]
) -> Generator[tuple[np.ndarray, list[DetectedFace]], None, None]:
    index = faces["frame"].to_numpy()
    if len(index) and (np.diff(index) < 0).any():
        raise ValueError("faces must be in ascending order of their frames")
    boxes = np.stack([faces[name].to_numpy().astype(np.float64) for name in ("x_px", "y_px", "w_px", "h_px")], axis=1)
    points = _points(faces["points_px"])
    detected = faces["detected"].to_numpy(zero_copy_only=False)
    track, time_s = faces["track"].to_numpy(), faces["time_s"].to_numpy()
    rest = iter(frames)
    for number, rows in groupby(range(len(index)), key=lambda row: int(index[row])):
        frame = next((frame for frame in rest if frame.index >= number), None)
        if frame is None or frame.index != number:
            raise FootageError(
                f"frame {number}, on which faces were found, could not be decoded again",
                cure="check the file and its storage, then run again",
            )
        yield (
            frame.rgb(),
            [
                DetectedFace(boxes[r], points[r].reshape(5, 2), bool(detected[r]), int(track[r]), float(time_s[r]))
                for r in rows
            ],
        )


def _points(column: pa.ChunkedArray) -> np.ndarray:
    rows = [[math.nan] * 10 if row is None else row for row in column.to_pylist()]
    return np.array(rows, dtype=np.float64).reshape(len(rows), 10)
