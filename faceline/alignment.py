"""The align stage: landmarks, head pose, quality and crops of every face that detection found.

Rows stand in the order of detection's faces, one for one, so that arrays of later stages line up by position. A face
that cannot be aligned keeps its row, with nulls and a state that says why.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pyarrow as pa

from faceline.aligning import AlignedFace, AlignParams, align_frames
from faceline.pose import fit_heads
from faceline.quality import quality
from faceline.stage import Chunk, Inputs, Payload, Runtime, Stage
from faceline.video import read_frames

_CHUNK_FACES = 256
"""Faces per written chunk: about 5 MB."""

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


def _chunk(detected: pa.Table, aligned: list[AlignedFace]) -> Chunk:
    missing = np.full((478, 3), np.nan, dtype=np.float32)
    meshes = [missing if face.landmarks is None else face.landmarks for face in aligned]
    landmarks = np.stack(meshes) if meshes else np.zeros((0, 478, 3), dtype=np.float32)
    # One call for all: a head by itself takes twenty times as long.
    angles = fit_heads(landmarks).angles_deg
    added = {
        "state": [face.state for face in aligned],
        "quality": [_quality(face, turn) for face, turn in zip(aligned, angles.tolist(), strict=True)],
        "eye_distance_px": [face.eye_distance_px for face in aligned],
        "crop_matrix": [None if face.crop_matrix is None else face.crop_matrix.ravel().tolist() for face in aligned],
    }
    for name in ("sharpness", "luma_mean", "contrast"):
        added[name] = [None if face.statistics is None else getattr(face.statistics, name) for face in aligned]
    # Missing is null, in Arrow's terms as well.
    turns = {name: angles[:, i] for i, name in enumerate(("yaw_deg", "pitch_deg", "roll_deg"))}
    columns = {name: detected[name] for name in _DETECTED_COLUMNS}
    table = pa.table(
        [
            columns[column.name].cast(column.type)
            if column.name in columns
            else pa.array(turns[column.name], column.type, from_pandas=True)
            if column.name in turns
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
    return {"faces": table, "crops": crops, "landmarks": landmarks}


def _quality(face: AlignedFace, angles_deg: list[float]) -> float | None:
    """Quality of a face with the given yaw, pitch and roll, or, without a mesh, with what its five points tell."""
    if face.statistics is None or face.eye_distance_px is None:
        return None
    yaw, pitch = angles_deg[:2] if face.points_yaw_deg is None else (face.points_yaw_deg, 0.0)
    return quality(face.statistics, face.eye_distance_px, yaw, pitch)


def _compute(params: AlignParams, inputs: Inputs, runtime: Runtime) -> Iterator[Chunk]:
    from faceline.adapters.facemesh import FaceMesh

    detected = inputs.table("detect", "faces", _DETECTED_COLUMNS)
    total = detected.num_rows
    if total == 0:
        yield _chunk(detected, [])
        return

    def open_model() -> FaceMesh:
        return FaceMesh(passes=params.mesh_passes, min_presence=params.min_presence)

    done, batch = 0, list[AlignedFace]()
    with read_frames(inputs.footage, inputs.segment, wanted=_stamps(detected, inputs.footage.time_base)) as frames:
        threads = max(1, runtime.threads)
        for face in align_frames(detected, frames, open_model, params, threads=threads, residents=runtime.residents):
            batch.append(face)
            if len(batch) == _CHUNK_FACES or done + len(batch) == total:
                yield _chunk(detected.slice(done, len(batch)), batch)
                done += len(batch)
                batch = []
                runtime.progress(done, total)


def _stamps(detected: pa.Table, time_base: Fraction) -> dict[int, int]:
    """Presentation stamps of the frames with faces: with these, pictures between them need not be decoded."""
    frames, times_s = detected["frame"].to_pylist(), detected["time_s"].to_pylist()
    # A time is a stamp times the time base, rounded to 16 digits: what is nearest is exact.
    return {frame: round(Fraction(time_s) / time_base) for frame, time_s in zip(frames, times_s, strict=True)}


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
