"""Stage *detect*: every face in the sampled frames, linked into tracklets.

The detector runs on key frames only. Between two key frames of one shot whose faces correspond one to one, boxes and
points are interpolated and corrected by following the faces' pictures; everywhere else the frames between are halved
and looked at until they do, so that a face that comes or goes is located to one sampled frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from faceline.errors import FootageChangedError
from faceline.faces import Detections, FaceDetector, without_duplicates
from faceline.following import Sight, followed
from faceline.keyframes import FoundFaces, find_faces, key_frames
from faceline.stage import Chunk, Inputs, Payload, Runtime, Stage, StageParams
from faceline.tracking import Tracker
from faceline.video import read_frames

__all__ = ["DETECT", "FACES_SCHEMA", "DetectParams", "Detections", "FaceDetector"]

FACES_SCHEMA = pa.schema(
    [
        pa.field("segment", pa.int32(), nullable=False),
        pa.field("face", pa.int64(), nullable=False),
        pa.field("frame", pa.int64(), nullable=False),
        pa.field("time_s", pa.float64(), nullable=False),
        pa.field("track", pa.int64(), nullable=False),
        pa.field("x_px", pa.float32(), nullable=False),
        pa.field("y_px", pa.float32(), nullable=False),
        pa.field("w_px", pa.float32(), nullable=False),
        pa.field("h_px", pa.float32(), nullable=False),
        pa.field("confidence", pa.float32(), nullable=False),
        pa.field("detected", pa.bool_(), nullable=False),
        pa.field("points_px", pa.list_(pa.float32(), 10), nullable=False),
    ]
)

#: Pictures are searched for faces down to this side, whatever the size in the full picture: below, the detector's
#: time grows with the square while what it finds is too coarse for any expression.
SMALLEST_SEARCHED_PX = 20.0

#: Sampled frames held in memory at once; a span between two key frames is never cut by it.
_WINDOW_FRAMES = 64


class DetectParams(StageParams):
    """How faces are found and linked."""

    interval_s: float = Field(
        default=0.5,
        ge=0,
        le=10,
        description="Seconds between frames on which the detector always runs; 0 runs it on every sampled frame.",
    )
    max_side_px: int = Field(
        default=640, ge=64, le=8192, description="Longer side in pixels to which frames are shrunk for the detector."
    )
    min_face_px: float = Field(
        default=20.0,
        ge=12,
        le=4096,
        description="Side in pixels of the full picture of the smallest face to look for. Faces smaller than 20 "
        "pixels of the shrunk picture are not looked for; raise max_side_px to find them.",
    )
    min_confidence: float = Field(
        default=0.85, ge=0, le=1, description="Least probability of a face, on average over three looks at it."
    )
    thresholds: tuple[float, float, float] = Field(
        default=(0.6, 0.7, 0.7), description="Least probabilities after the detector's three networks."
    )
    pyramid_factor: float = Field(
        default=0.709, gt=0.3, lt=0.95, description="Step between the picture sizes that the detector searches."
    )
    interpolate_iou: float = Field(
        default=0.35,
        gt=0,
        le=1,
        description="Least overlap of a face's boxes in two key frames for the face to be followed between them.",
    )
    track_iou: float = Field(
        default=0.25, gt=0, le=1, description="Least overlap of expected and found box within a tracklet."
    )
    track_gap_s: float = Field(
        default=0.6, ge=0, le=10, description="Seconds for which a tracklet may lose its face and go on."
    )


def _compute(params: DetectParams, inputs: Inputs, runtime: Runtime) -> Iterator[Chunk]:
    footage, segment = inputs.footage, inputs.segment
    frames = inputs.table("sample", "frames", ["frame", "time_s", "cut"])
    index = frames["frame"].to_numpy()
    time_s = frames["time_s"].to_numpy()
    cut = frames["cut"].to_numpy(zero_copy_only=False)
    is_key = key_frames(time_s, cut, params.interval_s)
    yield {"faces": FACES_SCHEMA.empty_table()}
    if not len(index):
        return
    scale = min(1.0, params.max_side_px / max(footage.width_px, footage.height_px))
    detector = _detector(params, inputs, runtime, max(SMALLEST_SEARCHED_PX, params.min_face_px * scale))
    tracker = Tracker(min_iou=params.track_iou, gap_s=params.track_gap_s)
    eyes = _FootageEyes(detector, (footage.width_px, footage.height_px), params.min_confidence, runtime.batch_size)
    read = first_face = start = 0
    known: dict[int, Detections] = {}
    with read_frames(footage, segment, wanted=frozenset(index.tolist())) as frames:
        for frame in frames:
            if frame.index != index[read]:
                break
            eyes.pictures[read - start] = frame.rgb(params.max_side_px)
            read += 1
            is_last = read == len(index)
            if not is_last and (not is_key[read - 1] or read - start < _WINDOW_FRAMES):
                continue
            window = slice(start, read)
            found = find_faces(time_s[window], is_key[window], cut[window], eyes, params.interpolate_iou, known)
            # The last frame opens the next window, so that spans are the same wherever windows end.
            ready = found if is_last else found[:-1]
            table = _table(segment.index, first_face, index[window], time_s[window], cut[window], ready, tracker)
            first_face += table.num_rows
            yield {"faces": table}
            last, start = read - 1 - start, read - 1
            known = {0: found[-1].faces}
            eyes.keep_only(last)
            runtime.progress(read, len(index))
    if read < len(index):
        raise FootageChangedError(
            f"frame {index[read]} was sampled, but cannot be read again",
            where=str(footage.path),
            cure="run again; if that does not help, the file is damaged",
        )


@dataclass
class _FootageEyes:
    """`Eyes` for the frames held in memory: ``pictures`` by position, shrunk, uint8 RGB."""

    detector: FaceDetector
    size_px: tuple[int, int]
    min_confidence: float
    batch_size: int
    pictures: dict[int, np.ndarray] = field(default_factory=dict)
    _grays: dict[int, np.ndarray] = field(default_factory=dict)

    def keep_only(self, position: int) -> None:
        """Forget all pictures but this one, which becomes the first."""
        self.pictures, self._grays = {0: self.pictures[position]}, {}

    def look(self, positions: list[int]) -> list[Detections]:
        found: list[Detections] = []
        for start in range(0, len(positions), self.batch_size):
            batch = [self.pictures[i] for i in positions[start : start + self.batch_size]]
            x, y = self._enlargement(batch[0])
            found += [
                without_duplicates(faces.scaled(x, y), self.min_confidence) for faces in self.detector.detect(batch)
            ]
        return found

    def follow(
        self, before: tuple[int, Detections], expected: tuple[int, Detections], after: tuple[int, Detections]
    ) -> Detections | None:
        enlargement = np.array(self._enlargement(self.pictures[expected[0]]), np.float32)
        first, middle, last = (
            Sight(self._gray(i), faces.boxes_px / np.tile(enlargement, 2)) for i, faces in (before, expected, after)
        )
        share = (expected[0] - before[0]) / (after[0] - before[0])
        offsets = followed(first, middle, last, share)
        return None if offsets is None else expected[1].moved(offsets.astype(np.float32) * enlargement)

    def _gray(self, position: int) -> np.ndarray:
        import cv2

        if position not in self._grays:
            self._grays[position] = cv2.cvtColor(self.pictures[position], cv2.COLOR_RGB2GRAY)
        return self._grays[position]

    def _enlargement(self, picture: np.ndarray) -> tuple[float, float]:
        return self.size_px[0] / picture.shape[1], self.size_px[1] / picture.shape[0]


def _detector(params: DetectParams, inputs: Inputs, runtime: Runtime, min_face_px: float) -> FaceDetector:
    from faceline.adapters.mtcnn import MtcnnDetector

    return MtcnnDetector(
        inputs.models["detector"].path,
        min_face_px=min_face_px,
        thresholds=params.thresholds,
        pyramid_factor=params.pyramid_factor,
        device=runtime.device,
        threads=runtime.threads,
    )


def _table(
    segment: int,
    first_face: int,
    index: np.ndarray,
    time_s: np.ndarray,
    cut: np.ndarray,
    found: Sequence[FoundFaces],
    tracker: Tracker,
) -> pa.Table:
    """Rows of successive frames; moves the tracker on."""
    counts = [len(entry.faces) for entry in found]
    total = sum(counts)
    tracks = [tracker.update(float(time_s[i]), entry.faces.boxes_px, cut=bool(cut[i])) for i, entry in enumerate(found)]
    if not total:
        return FACES_SCHEMA.empty_table()
    boxes = np.concatenate([entry.faces.boxes_px for entry in found]).astype(np.float32)
    points = np.concatenate([entry.faces.points_px for entry in found]).astype(np.float32)
    columns: dict[str, Any] = {
        "segment": np.full(total, segment, np.int32),
        "face": np.arange(first_face, first_face + total, dtype=np.int64),
        "frame": np.repeat(index[: len(found)], counts),
        "time_s": np.repeat(time_s[: len(found)], counts),
        "track": np.concatenate(tracks),
        **{name: boxes[:, i] for i, name in enumerate(("x_px", "y_px", "w_px", "h_px"))},
        "confidence": np.concatenate([entry.faces.confidence for entry in found]).astype(np.float32),
        "detected": np.repeat([entry.detected for entry in found], counts),
        "points_px": pa.FixedSizeListArray.from_arrays(pa.array(points.ravel()), 10),
    }
    return pa.table(columns, schema=FACES_SCHEMA)


DETECT = Stage(
    name="detect",
    version=1,
    scope="segment",
    params=DetectParams,
    inputs=("sample",),
    outputs=(
        Payload(
            "faces",
            "parquet",
            "One row per face of a sampled frame, by time, then from left to right. `face`: row number in the segment; "
            "`track`: tracklet, 0-based within the segment; boxes and points in pixels of the upright full picture, "
            "may exceed its edge; `detected`: false where box and points are interpolated between two frames in which "
            "the face was detected; `points_px`: x, y of both eyes, nose tip, both mouth corners, left of the picture "
            "first.",
        ),
    ),
    compute=_compute,
    reads_footage=True,
    roles=lambda params: ("detector",),
)
