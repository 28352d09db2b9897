"""Stage *detect*: every face in the sampled frames, linked into tracklets.

The detector runs on key frames only. Between two key frames of one shot whose faces correspond one to one, boxes and
points are interpolated; everywhere else the frames between are halved and looked at until they do, so that a face
that comes or goes is located to one sampled frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from pydantic import Field

from faceline.errors import FootageChangedError
from faceline.stage import Chunk, Inputs, Payload, Runtime, Stage, StageParams
from faceline.tracking import Tracker, matched, overlaps
from faceline.video import read_frames

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

#: Most sampled frames between two key frames; bounds memory at high rates.
_LONGEST_SPAN_FRAMES = 32


class DetectParams(StageParams):
    """How faces are found and linked."""

    interval_s: float = Field(
        default=0.3,
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
        default=0.9, ge=0, le=1, description="Least probability, by the detector's last network, of a face."
    )
    thresholds: tuple[float, float, float] = Field(
        default=(0.6, 0.7, 0.7), description="Least probabilities after the detector's three networks."
    )
    pyramid_factor: float = Field(
        default=0.709, gt=0.3, lt=0.95, description="Step between the picture sizes that the detector searches."
    )
    interpolate_iou: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="Least overlap of a face's boxes in two key frames for interpolation between them.",
    )
    track_iou: float = Field(
        default=0.25, gt=0, le=1, description="Least overlap of expected and found box within a tracklet."
    )
    track_gap_s: float = Field(
        default=0.6, ge=0, le=10, description="Seconds for which a tracklet may lose its face and go on."
    )


@dataclass(frozen=True)
class Detections:
    """Faces of one frame.

    Attributes:
        boxes_px: float32 ``[n, 4]``: x, y of the upper left corner, width, height; may exceed the frame.
        confidence: float32 ``[n]``, 0 to 1.
        points_px: float32 ``[n, 5, 2]``: eye on the left of the picture, eye on the right, nose tip, mouth corner on
            the left, on the right.
    """

    boxes_px: np.ndarray
    confidence: np.ndarray
    points_px: np.ndarray

    def __len__(self) -> int:
        return len(self.confidence)

    def taken(self, order: Sequence[int] | np.ndarray) -> Detections:
        """The faces with these indices, in this order."""
        index = np.asarray(order, np.int64)
        return Detections(self.boxes_px[index], self.confidence[index], self.points_px[index])

    def scaled(self, x: float, y: float) -> Detections:
        """The same faces in a picture ``x`` times as wide and ``y`` times as high."""
        factors = np.array([x, y], np.float32)
        return Detections(self.boxes_px * np.tile(factors, 2), self.confidence, self.points_px * factors)


class FaceDetector(Protocol):
    """Finds faces in pictures."""

    def detect(self, frames_rgb: Sequence[np.ndarray]) -> list[Detections]:
        """Faces of each picture (uint8 RGB ``[H, W, 3]``, all of one size), in its own pixels.

        What is found in a picture must not depend on the others.
        """
        ...


def without_duplicates(found: Detections, min_confidence: float = 0.0) -> Detections:
    """One detection per face, ordered from left to right.

    The less confident of two detections goes if their boxes overlap by half, or if their points coincide (on average
    within a fifth of the smaller box's width); heads that overlap keep their own points.
    """
    kept: list[int] = []
    for index in np.lexsort((found.boxes_px[:, 1], found.boxes_px[:, 0], -found.confidence)).tolist():
        if found.confidence[index] < min_confidence:
            continue
        apart = np.linalg.norm(found.points_px[kept] - found.points_px[index], axis=2).mean(axis=1)
        width = np.minimum(found.boxes_px[kept, 2], found.boxes_px[index, 2])
        iou = overlaps(found.boxes_px[[index]], found.boxes_px[kept])[0]
        if not np.any((iou > 0.5) | (apart < 0.2 * width)):
            kept.append(index)
    return found.taken(sorted(kept, key=lambda i: (float(found.boxes_px[i, 0]), float(found.boxes_px[i, 1]))))


def key_frames(time_s: np.ndarray, cut: np.ndarray, interval_s: float) -> np.ndarray:
    """Which of the sampled frames the detector always sees: bool ``[n]``.

    The first and the last frame of each shot, and between them every frame that lies ``interval_s`` or more, or 32
    sampled frames, after the key frame before it.
    """
    count = len(time_s)
    is_key = np.zeros(count, bool)
    latest = -1
    for i in range(count):
        begins, ends = i == 0 or cut[i], i + 1 == count or cut[i + 1]
        # A millionth forgives the rounding of timestamps to the container's clock.
        is_due = time_s[i] - time_s[latest] >= interval_s - 1e-6 or i - latest >= _LONGEST_SPAN_FRAMES
        if begins or ends or is_due:
            is_key[i] = True
            latest = i
    return is_key


def interpolated(before: Detections, after: Detections, share: float, pairs: Sequence[tuple[int, int]]) -> Detections:
    """Faces ``share`` (0 to 1) of the way between two frames; the confidence is the smaller of the two."""
    a, b = before.taken([i for i, _ in pairs]), after.taken([j for _, j in pairs])
    weight = np.float32(share)
    return Detections(
        a.boxes_px + weight * (b.boxes_px - a.boxes_px),
        np.minimum(a.confidence, b.confidence),
        a.points_px + weight * (b.points_px - a.points_px),
    )


@dataclass(frozen=True)
class FoundFaces:
    """Faces of one sampled frame and whether the detector saw them itself."""

    faces: Detections
    detected: bool


def find_faces(
    time_s: np.ndarray,
    is_key: np.ndarray,
    cut: np.ndarray,
    look: Callable[[list[int]], list[Detections]],
    params: DetectParams,
    known: dict[int, Detections] | None = None,
) -> list[FoundFaces]:
    """Faces of all frames of a stretch that begins and ends with a key frame.

    Args:
        time_s, is_key, cut: the frames' times, key frames, and shot boundaries before them.
        look: runs the detector on frames, given their positions.
        params: for its ``interpolate_iou``.
        known: frames already looked at, by position.
    """
    seen: dict[int, Detections] = dict(known or {})

    def look_at(positions: list[int]) -> None:
        new = [i for i in positions if i not in seen]
        if new:
            seen.update(zip(new, look(new), strict=True))

    keys = np.flatnonzero(is_key).tolist()
    look_at(keys)
    between: dict[int, Detections] = {}
    spans = [(a, b) for a, b in pairwise(keys) if b - a > 1 and not cut[b]]
    while spans:
        halved: list[tuple[int, int]] = []
        for a, b in spans:
            pairs = matched(seen[a].boxes_px, seen[b].boxes_px, params.interpolate_iou, rivalry=0.5)
            if len(pairs) == len(seen[a]) == len(seen[b]):
                for i in range(a + 1, b):
                    length_s = time_s[b] - time_s[a]
                    share = (time_s[i] - time_s[a]) / length_s if length_s > 0 else 0.0
                    between[i] = interpolated(seen[a], seen[b], float(share), pairs)
            else:
                halved.append((a, b))
        look_at([(a + b) // 2 for a, b in halved])
        spans = [
            (low, high) for a, b in halved for low, high in ((a, (a + b) // 2), ((a + b) // 2, b)) if high - low > 1
        ]
    return [FoundFaces(seen[i], True) if i in seen else FoundFaces(between[i], False) for i in range(len(time_s))]


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
    pictures: dict[int, np.ndarray] = {}

    def look(positions: list[int]) -> list[Detections]:
        found: list[Detections] = []
        for start in range(0, len(positions), runtime.batch_size):
            batch = [pictures[i] for i in positions[start : start + runtime.batch_size]]
            height, width = batch[0].shape[:2]
            for faces in detector.detect(batch):
                full = faces.scaled(footage.width_px / width, footage.height_px / height)
                found.append(without_duplicates(full, params.min_confidence))
        return found

    read = first_face = start = 0
    known: dict[int, Detections] = {}
    for frame in read_frames(footage, segment, wanted=frozenset(index.tolist())):
        if frame.index != index[read]:
            break
        pictures[read] = frame.rgb(params.max_side_px)
        read += 1
        is_last = read == len(index)
        if not is_last and (not is_key[read - 1] or read - start < _WINDOW_FRAMES):
            continue
        window = slice(start, read)
        found = find_faces(time_s[window], is_key[window], cut[window], _shifted(look, start), params, known)
        # The last frame opens the next window, so that spans are the same wherever windows end.
        ready = found if is_last else found[:-1]
        table = _table(segment.index, first_face, index[window], time_s[window], cut[window], ready, tracker)
        first_face += table.num_rows
        yield {"faces": table}
        start = read - 1
        known = {0: found[-1].faces}
        pictures = {start: pictures[start]}
        runtime.progress(read, len(index))
    if read < len(index):
        raise FootageChangedError(
            f"frame {index[read]} was sampled, but cannot be read again",
            where=str(footage.path),
            cure="run again; if that does not help, the file is damaged",
        )


def _shifted(look: Callable[[list[int]], list[Detections]], by: int) -> Callable[[list[int]], list[Detections]]:
    return lambda positions: look([by + position for position in positions])


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
