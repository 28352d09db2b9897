"""The align stage: landmarks, head pose, quality and crops of every face that detection found.

Rows stand in the order of detection's faces, one for one, so that arrays of later stages line up by position. A face
that cannot be aligned keeps its row, with nulls and a state that says why.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import groupby
from queue import SimpleQueue
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa
from pydantic import Field

from faceline.cropping import (
    CROP_SIZE_PX,
    encode_jpeg,
    fer_crop,
    fer_gray,
    matrix_from_mesh,
    matrix_from_points,
    scale_of,
    warp,
)
from faceline.errors import FootageError
from faceline.pose import fit_heads, yaw_from_points
from faceline.quality import crop_statistics, quality
from faceline.stage import Chunk, Inputs, Payload, Runtime, Stage, StageParams
from faceline.video import read_frames

if TYPE_CHECKING:
    from faceline.adapters.facemesh import LandmarkModel

_CHUNK_FACES = 256
"""Faces per written chunk: about 5 MB."""

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
    min_presence: float = Field(
        0.9, ge=0.0, le=1.0, description="The landmark network's own face score below which it found no face."
    )


FACES_SCHEMA = pa.schema(
    [
        ("segment", pa.int32()),
        ("face", pa.int64()),
        ("frame", pa.int64()),
        ("time_s", pa.float64()),
        ("track", pa.int64()),
        ("x_px", pa.float32()),
        ("y_px", pa.float32()),
        ("w_px", pa.float32()),
        ("h_px", pa.float32()),
        ("confidence", pa.float32()),
        ("detected", pa.bool_()),
        ("points_px", pa.list_(pa.float32(), 10)),
        ("state", pa.string()),
        ("yaw_deg", pa.float32()),
        ("pitch_deg", pa.float32()),
        ("roll_deg", pa.float32()),
        ("sharpness", pa.float32()),
        ("luma_mean", pa.float32()),
        ("contrast", pa.float32()),
        ("eye_distance_px", pa.float32()),
        ("quality", pa.float32()),
        ("crop_matrix", pa.list_(pa.float64(), 6)),
    ]
)
CROPS_SCHEMA = pa.schema(
    [("segment", pa.int32()), ("face", pa.int64()), ("crop", pa.binary()), ("fer_crop", pa.binary())]
)
_DETECTED_COLUMNS = FACES_SCHEMA.names[: FACES_SCHEMA.names.index("state")]


@dataclass(frozen=True)
class AlignedFace:
    """What alignment makes of one face; everything but the state may be missing.

    Attributes:
        state: ``ok``; ``no_mesh`` (crop by the detector's five points only); ``no_face`` (a box put between two
            detections in which no face is found); ``too_small``; ``outside`` (of the frame).
        landmarks: float32 [478, 3], frame px.
        angles_deg: yaw, pitch, roll; see `faceline.pose`.
        sharpness, luma_mean, contrast: see `faceline.quality.CropStatistics`.
        eye_distance_px: distance of the outer eye corners in frame pixels, in space, so that turning the head does
            not shorten it; without a mesh, what the crop's scale implies.
        quality: 0..1, see `faceline.quality.quality`.
        crop_matrix: float64 [2, 3], frame px → crop px.
        crop: JPEG bytes of the 160×160 RGB crop.
        fer_crop: the 64×64 gray picture for the emotion network, 4096 bytes.
    """

    state: str
    landmarks: np.ndarray | None = None
    angles_deg: tuple[float, float, float] | None = None
    sharpness: float | None = None
    luma_mean: float | None = None
    contrast: float | None = None
    eye_distance_px: float | None = None
    quality: float | None = None
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
    """

    box_px: np.ndarray
    points_px: np.ndarray
    detected: bool


class FramePicture(Protocol):
    """What alignment needs of a decoded frame (`faceline.video.Frame`)."""

    @property
    def index(self) -> int:
        """0-based index of the frame in the footage."""
        ...

    def rgb(self) -> np.ndarray:
        """The upright picture, uint8 [H, W, 3], RGB, full resolution."""
        ...


class Picture:
    """A frame's pixels with what its faces share, made when first asked for."""

    def __init__(self, rgb: np.ndarray) -> None:
        self.rgb = rgb
        self._fer_gray: np.ndarray | None = None

    @property
    def fer_gray(self) -> np.ndarray:
        """The padded gray frame of `faceline.cropping.fer_gray`."""
        if self._fer_gray is None:
            self._fer_gray = fer_gray(self.rgb)
        return self._fer_gray


def align_face(picture: Picture, face: DetectedFace, model: LandmarkModel, params: AlignParams) -> AlignedFace:
    """Align one face of a frame; depends on nothing else than the arguments."""
    if not np.isfinite(face.box_px).all() or face.box_px[2:].min() < params.min_face_px:
        return AlignedFace("too_small")
    if visible_share(face.box_px, picture.rgb.shape) < params.min_visible:
        return AlignedFace("outside")
    mesh = model.find(picture.rgb, face.box_px, face.points_px)
    if mesh is None and not face.detected:
        return AlignedFace("no_face")
    try:
        matrix = matrix_from_points(face.points_px) if mesh is None else matrix_from_mesh(mesh)
    except ValueError:  # points unknown, or all in one place
        return AlignedFace("no_face")
    crop = warp(picture.rgb, matrix)
    statistics = crop_statistics(crop)
    fer = fer_crop(picture.fer_gray, face.box_px)
    if mesh is None:
        angles = None
        eyes_px = _CHIP_EYE_DISTANCE_PX / scale_of(matrix)
        worth = quality(statistics, eyes_px, yaw_from_points(face.points_px), 0.0)
    else:
        yaw, pitch, roll = (float(v) for v in fit_heads(mesh[None]).angles_deg[0])
        angles = (yaw, pitch, roll)
        right, left = _OUTER_EYE_CORNERS
        eyes_px = float(np.linalg.norm(mesh[right].astype(np.float64) - mesh[left]))
        worth = quality(statistics, eyes_px, yaw, pitch)
    return AlignedFace(
        state="no_mesh" if mesh is None else "ok",
        landmarks=mesh,
        angles_deg=angles,
        sharpness=statistics.sharpness,
        luma_mean=statistics.luma_mean,
        contrast=statistics.contrast,
        eye_distance_px=eyes_px,
        quality=worth,
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
) -> Iterator[AlignedFace]:
    """Align all faces, streaming through the frames once.

    Args:
        faces: detection's faces, frames in ascending order.
        frames: the frames on which there are faces, in the same order.
        open_model: makes a landmark model; called once per thread.
        params: the stage's parameters.
        threads: faces worked on at the same time; does not change the result.

    Yields:
        One `AlignedFace` per row of ``faces``, in order.

    Raises:
        FootageError: when a frame with faces is not delivered.
    """
    with _workers(open_model, threads) as (pool, models):

        def work(picture: Picture, face: DetectedFace) -> AlignedFace:
            model = models.get()
            try:
                return align_face(picture, face, model, params)
            finally:
                models.put(model)

        # As many frames are held as keep all threads busy; more would only cost memory.
        pending: deque[list[Future[AlignedFace]]] = deque()
        for picture, group in _frames_with_faces(faces, frames):
            pending.append([pool.submit(work, picture, face) for face in group])
            if len(pending) > threads:
                yield from (future.result() for future in pending.popleft())
        while pending:
            yield from (future.result() for future in pending.popleft())


@contextmanager
def _workers(
    open_model: Callable[[], LandmarkModel], threads: int
) -> Iterator[tuple[ThreadPoolExecutor, SimpleQueue[LandmarkModel]]]:
    models: SimpleQueue[LandmarkModel] = SimpleQueue()
    with ExitStack() as stack:
        for _ in range(threads):
            model = open_model()
            stack.callback(model.close)
            models.put(model)
        pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="align")
        stack.callback(pool.shutdown, wait=True, cancel_futures=True)
        yield pool, models


def _frames_with_faces(faces: pa.Table, frames: Iterable[FramePicture]) -> Iterator[tuple[Picture, list[DetectedFace]]]:
    index = faces["frame"].to_numpy()
    if len(index) and (np.diff(index) < 0).any():
        raise ValueError("faces must be in ascending order of their frames")
    boxes = np.stack([faces[name].to_numpy().astype(np.float64) for name in ("x_px", "y_px", "w_px", "h_px")], axis=1)
    points = _points(faces["points_px"])
    detected = faces["detected"].to_numpy(zero_copy_only=False)
    rest = iter(frames)
    for number, rows in groupby(range(len(index)), key=lambda row: int(index[row])):
        frame = next((frame for frame in rest if frame.index >= number), None)
        if frame is None or frame.index != number:
            raise FootageError(
                f"frame {number}, on which faces were found, could not be decoded again",
                cure="check the file and its storage, then run again",
            )
        yield (
            Picture(frame.rgb()),
            [DetectedFace(boxes[row], points[row].reshape(5, 2), bool(detected[row])) for row in rows],
        )


def _points(column: pa.ChunkedArray) -> np.ndarray:
    rows = [[math.nan] * 10 if row is None else row for row in column.to_pylist()]
    return np.array(rows, dtype=np.float64).reshape(len(rows), 10)


def _chunk(detected: pa.Table, aligned: list[AlignedFace]) -> Chunk:
    turns = [face.angles_deg or (None, None, None) for face in aligned]
    added: dict[str, list[object]] = {
        "state": [face.state for face in aligned],
        "yaw_deg": [turn[0] for turn in turns],
        "pitch_deg": [turn[1] for turn in turns],
        "roll_deg": [turn[2] for turn in turns],
        "crop_matrix": [None if face.crop_matrix is None else face.crop_matrix.ravel().tolist() for face in aligned],
    }
    for name in ("sharpness", "luma_mean", "contrast", "eye_distance_px", "quality"):
        added[name] = [getattr(face, name) for face in aligned]
    columns = {name: detected[name] for name in _DETECTED_COLUMNS}
    table = pa.table(
        [
            columns[column.name].cast(column.type)
            if column.name in columns
            else pa.array(added[column.name], column.type)
            for column in FACES_SCHEMA
        ],
        schema=FACES_SCHEMA,
    )
    crops = pa.table(
        [
            table["segment"],
            table["face"],
            pa.array([face.crop for face in aligned], pa.binary()),
            pa.array([face.fer_crop for face in aligned], pa.binary()),
        ],
        schema=CROPS_SCHEMA,
    )
    missing = np.full((478, 3), np.nan, dtype=np.float32)
    meshes = [missing if face.landmarks is None else face.landmarks for face in aligned]
    landmarks = np.stack(meshes) if meshes else np.zeros((0, 478, 3), dtype=np.float32)
    return {"faces": table, "crops": crops, "landmarks": landmarks}


def _compute(params: AlignParams, inputs: Inputs, runtime: Runtime) -> Iterator[Chunk]:
    from faceline.adapters.facemesh import FaceMesh

    detected = inputs.table("detect", "faces", _DETECTED_COLUMNS)
    total = detected.num_rows
    if total == 0:
        yield _chunk(detected, [])
        return

    frames = read_frames(inputs.footage, inputs.segment, wanted=frozenset(detected["frame"].to_pylist()))

    def open_model() -> FaceMesh:
        return FaceMesh(passes=params.mesh_passes, min_presence=params.min_presence)

    done, batch = 0, list[AlignedFace]()
    for face in align_frames(detected, frames, open_model, params, threads=max(1, runtime.threads)):
        batch.append(face)
        if len(batch) == _CHUNK_FACES or done + len(batch) == total:
            yield _chunk(detected.slice(done, len(batch)), batch)
            done += len(batch)
            batch = []
            runtime.progress(done, total)


ALIGN = Stage(
    name="align",
    version=1,
    scope="segment",
    params=AlignParams,
    inputs=("detect",),
    outputs=(
        Payload(
            "faces",
            "parquet",
            "One row per face of detect, in its order: its columns, then state (ok, no_mesh, no_face, too_small, "
            "outside), yaw_deg, pitch_deg, roll_deg (null unless ok), sharpness, luma_mean (0–255), contrast, "
            "eye_distance_px, quality (0–1) and crop_matrix (row-major 2×3, frame px → crop px), null where "
            "there is no crop.",
        ),
        Payload(
            "crops",
            "parquet",
            "The same rows: crop (JPEG of the aligned 160×160 RGB crop) and fer_crop (4096 bytes, uint8 64×64 gray, "
            "cut from the frame as FER does); null where there is none.",
        ),
        Payload("landmarks", "npy", "float32 [n, 478, 3]: x, y in frame px, z in the same scale; NaN without a mesh."),
    ),
    compute=_compute,
    reads_footage=True,
    roles=lambda params: ("landmarks",),
)
