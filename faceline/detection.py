"""Stage *detect*: every face in the sampled frames, linked into tracklets.

The detector searches key frames only, and of those that look like one in which it found nobody, none. Between two key
frames of one shot whose faces correspond one to one, boxes and points are interpolated and corrected by following the
faces' pictures, and, where key frames are far apart, measured anew by the detector's last network; everywhere else the
frames between are halved and searched until they do, so that a face that comes or goes is located to one sampled frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from faceline.anchoring import Anchoring, TrackedFaces
from faceline.between import find_between
from faceline.changes import ChangeWatch
from faceline.errors import FootageChangedError
from faceline.eyes import HELD_BYTES, FootageEyes, Scale
from faceline.faces import Detections, FaceDetector, most_confident
from faceline.keyframes import LONGEST_SPAN_FRAMES, FoundFaces, fine_frames, key_frames, spaced
from faceline.searching import search
from faceline.stage import Chunk, Inputs, Payload, Runtime, Stage, StageParams
from faceline.tracking import Tracker
from faceline.video import read_frames

__all__ = ["DETECT", "FACES_SCHEMA", "DetectParams", "Detections", "FaceDetector"]

LEFT_OUT_SCHEMA = pa.schema(
    [
        pa.field("segment", pa.int32(), nullable=False),
        pa.field("frame", pa.int64(), nullable=False),
        pa.field("time_s", pa.float64(), nullable=False),
        pa.field("faces", pa.int64(), nullable=False),
    ]
)

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

#: A face smaller than this in a coarse picture is not reliably found there.
_COARSE_FACE_PX = 28.0

#: Sampled frames held in memory at once, if they are small; a span between two key frames is never cut by it.
_WINDOW_FRAMES = 32


class DetectParams(StageParams):
    """How faces are found and linked."""

    interval_s: float = Field(
        default=1.0,
        ge=0,
        le=10,
        description="Seconds between frames that the detector always searches; 0 searches every sampled frame finely, "
        "and refine_s, fine_interval_s, small_interval_s, least_change and watch_s then do nothing.",
    )
    refine_s: float = Field(
        default=0.4,
        ge=0,
        le=10,
        description="Known faces are measured anew by the detector's last network wherever they would otherwise be "
        "interpolated and followed over more seconds than this; 0 never does.",
    )
    max_side_px: int = Field(
        default=640, ge=64, le=8192, description="Longer side in pixels to which frames are shrunk for the detector."
    )
    fine_side_px: int = Field(
        default=1280,
        ge=64,
        le=8192,
        description="The same for fine searches, never less than max_side_px: the first of a shot, those every "
        "fine_interval_s, all others until the next of these if it finds a face that is small at max_side_px, and "
        "parts of pictures.",
    )
    fine_interval_s: float = Field(
        default=10.0,
        ge=0,
        le=3600,
        description="Seconds between searches that are fine whatever is known; a small face that comes may be missed "
        "for so long. 0 makes those of all key frames fine.",
    )
    small_interval_s: float = Field(
        default=0.2,
        ge=0,
        le=10,
        description="Like interval_s where faces are small: there are usually many, and they come and go.",
    )
    least_change: float = Field(
        default=25.0,
        ge=0,
        le=255,
        description="After a search that finds nobody, frames are searched only where a block of 16x16 pixels of the "
        "shrunk picture has changed its luma (0 to 255) by this much on average; 0 searches at intervals whatever "
        "has changed.",
    )
    watch_s: float = Field(
        default=0.3,
        ge=0,
        le=10,
        description="Least seconds between such searches of parts; 0 does it at every sampled frame.",
    )
    min_face_px: float = Field(
        default=24.0,
        ge=12,
        le=4096,
        description="Side in pixels of the full picture of the smallest face to look for. Faces smaller than 20 "
        "pixels of the shrunk picture are not looked for in it.",
    )
    min_confidence: float = Field(
        default=0.6, ge=0, le=1, description="Least probability of a face, on average over three looks at it."
    )
    extend_confidence: float = Field(
        default=0.3,
        ge=0,
        le=1,
        description="Least probability of a face whose tracklet has three of min_confidence within extend_s; at or "
        "above min_confidence it does nothing.",
    )
    extend_s: float = Field(
        default=1.0,
        ge=0,
        le=10,
        description="Seconds within which a tracklet's faces of min_confidence vouch for its less probable ones.",
    )
    max_faces: int = Field(
        default=256,
        ge=1,
        le=10_000,
        description="Most faces of a frame, the most probable ones; how many more were found is kept in left_out. Time "
        "and memory of later stages grow with it; where it is reached, more frames are searched.",
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
    is_fine = fine_frames(time_s, cut, is_key, params.fine_interval_s if params.interval_s > 0 else 0.0)
    is_crowd_key = spaced(time_s, is_key, params.small_interval_s)
    is_watched = spaced(time_s, is_key, params.watch_s)
    yield {"faces": FACES_SCHEMA.empty_table(), "left_out": LEFT_OUT_SCHEMA.empty_table()}
    if not len(index):
        return
    watch = ChangeWatch(params.least_change if params.interval_s > 0 else 0.0)
    rows = _Rows(segment.index, index, time_s, params)
    # A window ends with a key frame, so that up to a span more is held.
    held_frames = min(_WINDOW_FRAMES, HELD_BYTES // max(1, footage.picture_bytes) - LONGEST_SPAN_FRAMES)
    read = start = 0
    known: dict[int, Detections] = {}
    changed: dict[int, np.ndarray | None] = {}
    with ExitStack() as lent, read_frames(footage, segment, wanted=stamps) as frames:
        eyes = _eyes(params, inputs, runtime, lent)
        for frame in frames:
            if frame.index != index[read]:
                break
            eyes.hold(read - start, frame)
            if is_watched[read]:
                boxes = watch.changed(
                    eyes.gray(read - start), is_key=bool(is_key[read]), starts_anew=bool(is_fine[read] or cut[read])
                )
                changed[read - start] = None if boxes is None else eyes.in_full(boxes)
            read += 1
            is_last = read == len(index)
            if not is_last and (not is_key[read - 1] or read - start < held_frames):
                continue
            window = slice(start, read)
            fine = [i for i in np.flatnonzero(is_fine[window]).tolist() if i not in known]
            for i, faces in zip(fine, eyes.look(fine, finely=True), strict=True):
                known[i] = faces
                eyes.is_fine[i] = params.interval_s == 0 or _has_small(faces, params, eyes)
            keys = np.flatnonzero(is_key[window]).tolist()
            crowded = [i for i in np.flatnonzero(is_crowd_key[window]).tolist() if eyes.looks_finely(i)]
            changed.update({i: None for i in crowded if i not in known})
            seen = search(sorted({*keys, *crowded}), changed, eyes, known)
            found = find_between(time_s[window], cut[window], eyes, params.interpolate_iou, seen, params.refine_s)
            found, left_out = _limited(found, eyes, params.max_faces)
            # The last frame opens the next window, so that spans are the same wherever windows end.
            ready = found if is_last else found[:-1]
            yield {"faces": rows.table(ready, start, cut, is_last=is_last)}
            if any(left_out[: len(ready)]):
                yield {"left_out": rows.left_out(left_out[: len(ready)], start)}
            last, start = read - 1 - start, read - 1
            known, changed = {0: found[-1].faces}, {0: None}
            eyes.keep_only(last)
            runtime.progress(read, len(index))
    if read < len(index):
        raise FootageChangedError(
            f"frame {index[read]} was sampled, but cannot be read again",
            where=str(footage.path),
            cure="run again; if that does not help, the file is damaged",
        )


def _eyes(params: DetectParams, inputs: Inputs, runtime: Runtime, lent: ExitStack) -> FootageEyes:
    footage = inputs.footage
    size_px = (footage.width_px, footage.height_px)
    detectors: dict[float, FaceDetector] = {}

    def detector(least_px: float) -> FaceDetector:
        if least_px not in detectors:
            detectors[least_px] = _detector(params, inputs, runtime, least_px, lent)
        return detectors[least_px]

    scales = []
    for max_side_px in (params.max_side_px, max(params.max_side_px, params.fine_side_px)):
        least_px = params.min_face_px * min(1.0, max_side_px / max(size_px))
        scales.append(Scale(max_side_px, detector(max(SMALLEST_SEARCHED_PX, least_px))))
    return FootageEyes(
        scales[0],
        scales[1],
        detector(SMALLEST_SEARCHED_PX),
        size_px,
        footage.picture_bytes,
        params.min_face_px,
        min(params.extend_confidence, params.min_confidence),
        runtime.batch_size,
        params.max_faces,
    )


def _has_small(faces: Detections, params: DetectParams, eyes: FootageEyes) -> bool:
    """Whether somebody is there whom a coarse search may miss."""
    sides = faces.boxes_px[faces.confidence >= params.min_confidence, 2:].min(axis=1, initial=np.inf)
    scale = min(1.0, params.max_side_px / max(eyes.size_px))
    return scale < 1.0 and bool((sides * scale < _COARSE_FACE_PX).any())


def _detector(
    params: DetectParams, inputs: Inputs, runtime: Runtime, min_face_px: float, lent: ExitStack
) -> FaceDetector:
    model = inputs.models["detector"]
    how: dict[str, Any] = {
        "min_face_px": min_face_px,
        "thresholds": params.thresholds,
        "pyramid_factor": params.pyramid_factor,
        "device": runtime.device,
        "threads": runtime.threads,
    }

    def load() -> FaceDetector:
        from faceline.adapters.mtcnn import MtcnnDetector

        return MtcnnDetector(model.path, **how)

    return lent.enter_context(runtime.residents.lend(("detector", model.name, model.sha256, *how.values()), load))


def _limited(found: list[FoundFaces], eyes: FootageEyes, most: int) -> tuple[list[FoundFaces], list[int]]:
    """Faces of each frame, at most so many, and how many were left out of each, those of earlier looks included."""
    limited, counts = [], []
    for i, entry in enumerate(found):
        faces, left_out = most_confident(entry.faces, most)
        limited.append(entry if not left_out else replace(entry, faces=faces))
        counts.append(left_out + eyes.left_out.get(i, 0))
        if left_out:
            eyes.left_out[i] = counts[-1]
    return limited, counts


class _Rows:
    """Rows of the table of faces, frame by frame."""

    def __init__(self, segment: int, index: np.ndarray, time_s: np.ndarray, params: DetectParams) -> None:
        tracker = Tracker(min_iou=params.track_iou, gap_s=params.track_gap_s)
        self._anchoring = Anchoring(tracker, params.min_confidence, params.extend_s)
        self._segment, self._index, self._time_s = segment, index, time_s
        self._next_face = 0

    def left_out(self, counts: Sequence[int], start: int) -> pa.Table:
        """Rows of the frames from ``start`` on of which faces were left out."""
        at = start + np.flatnonzero(counts)
        columns: dict[str, Any] = {
            "segment": np.full(len(at), self._segment, np.int32),
            "frame": self._index[at],
            "time_s": self._time_s[at],
            "faces": np.array(counts, np.int64)[at - start],
        }
        return pa.table(columns, schema=LEFT_OUT_SCHEMA)

    def table(self, found: Sequence[FoundFaces], start: int, cut: np.ndarray, *, is_last: bool) -> pa.Table:
        """Rows of what is settled once the frames from ``start`` on are known."""
        settled: list[TrackedFaces] = []
        for i, entry in enumerate(found, start):
            settled += self._anchoring.add(i, float(self._time_s[i]), entry, cut=bool(cut[i]))
        if is_last:
            settled += self._anchoring.finish()
        entries = [entry for entry in settled if len(entry.found.faces)]
        if not entries:
            return FACES_SCHEMA.empty_table()
        counts = [len(entry.found.faces) for entry in entries]
        total, first = sum(counts), self._next_face
        self._next_face += total
        at = np.repeat([entry.position for entry in entries], counts)
        boxes = np.concatenate([entry.found.faces.boxes_px for entry in entries]).astype(np.float32)
        points = np.concatenate([entry.found.faces.points_px for entry in entries]).astype(np.float32)
        columns: dict[str, Any] = {
            "segment": np.full(total, self._segment, np.int32),
            "face": np.arange(first, first + total, dtype=np.int64),
            "frame": self._index[at],
            "time_s": self._time_s[at],
            "track": np.concatenate([entry.tracks for entry in entries]),
            **{name: boxes[:, i] for i, name in enumerate(("x_px", "y_px", "w_px", "h_px"))},
            "confidence": np.concatenate([entry.found.faces.confidence for entry in entries]).astype(np.float32),
            "detected": np.repeat([entry.found.detected for entry in entries], counts),
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
        Payload(
            "left_out",
            "parquet",
            "One row per frame in which more faces were found than `max_faces`, by time: how many of them, at most, "
            "would be among the faces otherwise. Usually empty.",
        ),
    ),
    compute=_compute,
    reads_footage=True,
    roles=lambda params: ("detector",),
)
