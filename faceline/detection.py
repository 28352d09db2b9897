"""Stage *detect*: every face in the sampled frames, linked into tracklets.

The detector searches key frames only, and of those that look like one in which it found nobody, none. Between two key
frames of one shot whose faces correspond one to one, boxes and points are interpolated and corrected by following the
faces' pictures, and, where key frames are far apart, measured anew by the detector's last network; everywhere else the
frames between are halved and searched until they do, so that a face that comes or goes is located to one sampled frame.
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
from faceline.picture import Frame
from faceline.stage import Chunk, Inputs, Payload, Runtime, Stage, StageParams
from faceline.stillness import StillWatch
from faceline.tracking import Tracker, overlaps
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

#: Decoded pictures are kept until it is known whether the detector has to see them, if those of a window take no more
#: than this; larger ones are shrunk as they come.
_HELD_BYTES = 256 * 2**20

#: Least overlap of a face's expected box with the one that measuring it anew gives; below, its place is in doubt.
_LEAST_AGREEMENT_IOU = 0.5


_NOBODY = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32))


class DetectParams(StageParams):
    """How faces are found and linked."""

    interval_s: float = Field(
        default=1.0,
        ge=0,
        le=10,
        description="Seconds between frames that the detector always searches; 0 searches every sampled frame, and "
        "refine_s and still_change then do nothing.",
    )
    refine_s: float = Field(
        default=0.5,
        ge=0,
        le=10,
        description="Known faces are measured anew by the detector's last network wherever they would otherwise be "
        "interpolated and followed over more seconds than this; 0 never does.",
    )
    still_change: float = Field(
        default=6.0,
        ge=0,
        le=255,
        description="A frame due for a search is taken to show nobody, like the last one searched, where no block of "
        "8x8 pixels of the shrunk picture has changed its luma (0 to 255) by this much on average in any sampled frame "
        "since; 0 searches all that are due.",
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
    frames = inputs.table("sample", "frames", ["frame", "pts", "time_s", "cut"])
    index = frames["frame"].to_numpy()
    stamps = dict(zip(index.tolist(), frames["pts"].to_pylist(), strict=True))
    time_s = frames["time_s"].to_numpy()
    cut = frames["cut"].to_numpy(zero_copy_only=False)
    is_key = key_frames(time_s, cut, params.interval_s)
    yield {"faces": FACES_SCHEMA.empty_table()}
    if not len(index):
        return
    scale = min(1.0, params.max_side_px / max(footage.width_px, footage.height_px))
    detector = _detector(params, inputs, runtime, max(SMALLEST_SEARCHED_PX, params.min_face_px * scale))
    tracker = Tracker(min_iou=params.track_iou, gap_s=params.track_gap_s)
    eyes = _FootageEyes(detector, (footage.width_px, footage.height_px), params, runtime.batch_size)
    watch = StillWatch(params.still_change if params.interval_s > 0 else 0.0)
    is_still = np.zeros(len(index), bool)
    read = first_face = start = 0
    known: dict[int, Detections] = {}
    # Whether the frame that still ones look like, the last key frame that is not still, showed nobody.
    is_empty = False
    with read_frames(footage, segment, wanted=stamps) as frames:
        for frame in frames:
            if frame.index != index[read]:
                break
            eyes.hold(read - start, frame)
            if params.interval_s > 0:
                gray = eyes.gray(read - start)
                is_still[read] = watch.is_still(gray, is_key=bool(is_key[read]), cut=bool(cut[read]))
            read += 1
            is_last = read == len(index)
            if not is_last and (not is_key[read - 1] or read - start < _WINDOW_FRAMES):
                continue
            window = slice(start, read)
            is_empty = eyes.look_ahead(is_key[window], is_still[window], is_empty, known)
            found = find_faces(
                time_s[window], is_key[window], cut[window], eyes, params.interpolate_iou, known, params.refine_s
            )
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
    """`Eyes` for the frames held in memory, by position: decoded, or shrunk to uint8 RGB where they have been seen."""

    detector: FaceDetector
    size_px: tuple[int, int]
    params: DetectParams
    batch_size: int
    _frames: dict[int, Frame] = field(default_factory=dict)
    _pictures: dict[int, np.ndarray] = field(default_factory=dict)
    _grays: dict[int, np.ndarray] = field(default_factory=dict)

    def hold(self, position: int, frame: Frame) -> None:
        """Take in the next frame."""
        self._frames[position] = frame
        if 3 * self.size_px[0] * self.size_px[1] // 2 * _WINDOW_FRAMES > _HELD_BYTES:
            self._picture(position)
            self.gray(position)
            del self._frames[position]

    def keep_only(self, position: int) -> None:
        """Forget all frames but this one, which becomes the first."""
        for held in (self._frames, self._pictures, self._grays):
            kept = held.get(position)
            held.clear()
            if kept is not None:
                held[0] = kept  # type: ignore[assignment]

    def look_ahead(
        self, is_key: np.ndarray, is_still: np.ndarray, is_empty: bool, known: dict[int, Detections]
    ) -> bool:
        """Search the key frames of a window, except those that look like one without faces; adds to ``known``.

        Returns:
            Whether the last key frame that is not still shows nobody; ``is_empty`` is that of the window before.
        """
        keys = [i for i in np.flatnonzero(is_key).tolist() if i not in known]
        heads = [i for i in keys if not is_still[i]]
        known.update(zip(heads, self.look(heads), strict=True))
        due: list[int] = []
        for i in keys:
            if not is_still[i]:
                is_empty = len(known[i]) == 0
            elif is_empty:
                known[i] = _NOBODY
            else:
                due.append(i)
        known.update(zip(due, self.look(due), strict=True))
        return is_empty

    def look(self, positions: list[int]) -> list[Detections]:
        found: list[Detections] = []
        for start in range(0, len(positions), self.batch_size):
            batch = [self._picture(i) for i in positions[start : start + self.batch_size]]
            x, y = self._enlargement(batch[0])
            found += [
                without_duplicates(faces.scaled(x, y), self.params.min_confidence)
                for faces in self.detector.detect(batch)
            ]
        return found

    def refine(self, expected: list[tuple[int, Detections]]) -> list[Detections | None]:
        found: list[Detections | None] = []
        for start in range(0, len(expected), self.batch_size):
            part = expected[start : start + self.batch_size]
            batch = [self._picture(i) for i, _ in part]
            x, y = self._enlargement(batch[0])
            measured = self.detector.refine(batch, [faces.scaled(1 / x, 1 / y).boxes_px for _, faces in part])
            for (_, before), now in zip(part, measured, strict=True):
                faces = now.scaled(x, y)
                agreement = np.diagonal(overlaps(before.boxes_px, faces.boxes_px))
                faces = without_duplicates(faces, self.params.min_confidence)
                is_sure = len(faces) == len(before) and agreement.min(initial=1.0) >= _LEAST_AGREEMENT_IOU
                found.append(faces if is_sure else None)
        return found

    def follow(
        self, before: tuple[int, Detections], expected: tuple[int, Detections], after: tuple[int, Detections]
    ) -> Detections | None:
        enlargement = np.array(self._enlargement(self.gray(expected[0])), np.float32)
        first, middle, last = (
            Sight(self.gray(i), faces.boxes_px / np.tile(enlargement, 2)) for i, faces in (before, expected, after)
        )
        share = (expected[0] - before[0]) / (after[0] - before[0])
        offsets = followed(first, middle, last, share)
        return None if offsets is None else expected[1].moved(offsets.astype(np.float32) * enlargement)

    def gray(self, position: int) -> np.ndarray:
        """Luma of a frame, shrunk like the pictures that the detector sees."""
        if position not in self._grays:
            self._grays[position] = self._frames[position].gray(self.params.max_side_px)
        return self._grays[position]

    def _picture(self, position: int) -> np.ndarray:
        if position not in self._pictures:
            self._pictures[position] = self._frames[position].rgb(self.params.max_side_px)
        return self._pictures[position]

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
