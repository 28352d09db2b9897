"""The emote stage: emotion scores from the crops, expression measures and, optionally, blendshapes from the landmarks.

All describe what a face looks like, not what its owner feels. Rows stand in the order of align's faces. What cannot
be trusted (no mesh, a turned-away or unreadable face) is null, with the reason beside it; it is never zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from pydantic import Field

from faceline.adapters.fer_cnn import EMOTIONS
from faceline.blendshapes import BLENDSHAPES
from faceline.measures import MEASURE_NAMES, compute_measures
from faceline.stage import Chunk, Inputs, Payload, Runtime, Stage, StageParams

if TYPE_CHECKING:
    from faceline.adapters.blendshapes import BlendshapeModel
    from faceline.adapters.fer_cnn import EmotionModel

EMOTION_NAMES: tuple[str, ...] = EMOTIONS
"""Columns of the emotion scores, in the order of the network's outputs."""

_CHUNK_FACES = 1024
"""Faces read and written at a time: about 10 MB."""

_CROP_SIDE_PX = 64


class EmoteParams(StageParams):
    """Parameters of the emote stage."""

    max_yaw_deg: float = Field(
        45.0,
        gt=0.0,
        le=90.0,
        description="Faces turned further than this to a side have no measures and no scores (turned_away).",
    )
    max_pitch_deg: float = Field(
        40.0, gt=0.0, le=90.0, description="The same for faces that look further up or down than this."
    )
    min_quality: float = Field(
        0.2,
        ge=0.0,
        le=1.0,
        description="Faces of a lower quality (0..1) have no measures and no scores (low_quality).",
    )


EXPRESSIONS_SCHEMA = pa.schema(
    [
        ("segment", pa.int32()),
        ("face", pa.int64()),
        ("frame", pa.int64()),
        ("time_s", pa.float64()),
        ("track", pa.int64()),
        *((name, pa.float32()) for name in EMOTION_NAMES),
        *((name, pa.float32()) for name in MEASURE_NAMES),
        ("emotion_state", pa.string()),
        ("measures_state", pa.string()),
    ]
)
_KEY_COLUMNS = ("segment", "face", "frame", "time_s", "track")
_FACE_COLUMNS = (*_KEY_COLUMNS, "state", "yaw_deg", "pitch_deg", "quality")


def score_crops(crops: Sequence[bytes | None], model: EmotionModel, batch_size: int) -> np.ndarray:
    """Emotion scores, float32 [n, 7], of 64×64 gray crops given as 4096 bytes each; NaN where there is no crop."""
    scores = np.full((len(crops), len(EMOTION_NAMES)), np.nan, dtype=np.float32)
    rows = [row for row, crop in enumerate(crops) if crop is not None]
    for start in range(0, len(rows), max(1, batch_size)):
        part = rows[start : start + max(1, batch_size)]
        pictures = np.stack(
            [np.frombuffer(crops[row] or b"", dtype=np.uint8).reshape(_CROP_SIDE_PX, _CROP_SIDE_PX) for row in part]
        )
        scores[part] = model.scores(pictures)
    return scores


def states(faces: pa.Table, params: EmoteParams) -> tuple[list[str], list[str]]:
    """Why each face has no emotion scores, and why it has no measures (``ok`` when it has); see `EMOTE`."""
    emotion: list[str] = []
    measures: list[str] = []
    columns = (faces[name].to_pylist() for name in ("state", "yaw_deg", "pitch_deg", "quality"))
    for state, yaw, pitch, quality in zip(*columns, strict=True):
        reason = "ok"
        if state not in ("ok", "no_mesh"):
            reason = str(state)
        elif abs(yaw or 0.0) > params.max_yaw_deg or abs(pitch or 0.0) > params.max_pitch_deg:
            reason = "turned_away"
        elif (quality or 0.0) < params.min_quality:
            reason = "low_quality"
        emotion.append(reason)
        measures.append("no_mesh" if state == "no_mesh" else reason)
    return emotion, measures


def score_meshes(landmarks: np.ndarray, trusted: np.ndarray, model: BlendshapeModel | None) -> np.ndarray:
    """Blendshape scores of meshes.

    Args:
        landmarks: float32 [n, 478, 3], frame px.
        trusted: bool [n].
        model: the network, or None where there is none.

    Returns:
        float32 [n, 52]; NaN where a mesh is not trusted. Without a model [n, 0].
    """
    if model is None:
        return np.zeros((len(landmarks), 0), dtype=np.float32)
    scores = np.full((len(landmarks), len(BLENDSHAPES)), np.nan, dtype=np.float32)
    if trusted.any():
        scores[trusted] = model.scores(landmarks[trusted])
    return scores


def _chunk(
    faces: pa.Table,
    crops: Sequence[bytes | None],
    landmarks: np.ndarray,
    models: tuple[EmotionModel | None, BlendshapeModel | None],
    params: EmoteParams,
    batch_size: int,
) -> Chunk:
    model, blendshape_model = models
    emotion_state, measures_state = states(faces, params)
    wanted = [crop if state == "ok" else None for crop, state in zip(crops, emotion_state, strict=True)]
    emotion_state = [
        "no_crop" if state == "ok" and crop is None else state
        for state, crop in zip(emotion_state, wanted, strict=True)
    ]
    empty = np.full((len(crops), len(EMOTION_NAMES)), np.nan, dtype=np.float32)
    scores = empty if model is None else score_crops(wanted, model, batch_size)
    trusted = np.array([state == "ok" for state in measures_state], dtype=bool)
    measures = np.full((len(crops), len(MEASURE_NAMES)), np.nan, dtype=np.float32)
    if trusted.any():
        measures[trusted] = compute_measures(landmarks[trusted])
    columns: list[pa.ChunkedArray | pa.Array] = [faces[name] for name in _KEY_COLUMNS]
    # from_pandas turns NaN into null: missing is missing.
    columns += [pa.array(column, pa.float32(), from_pandas=True) for column in (*scores.T, *measures.T)]
    columns += [pa.array(emotion_state, pa.string()), pa.array(measures_state, pa.string())]
    return {
        "expressions": pa.table(columns, schema=EXPRESSIONS_SCHEMA),
        "blendshapes": score_meshes(landmarks, trusted, blendshape_model),
    }


def _compute(params: EmoteParams, inputs: Inputs, runtime: Runtime) -> Iterator[Chunk]:
    faces = inputs.table("align", "faces", _FACE_COLUMNS)
    landmarks = inputs.array("align", "landmarks")
    chosen = inputs.models.get("blendshapes")
    with_blendshapes = chosen is not None and not chosen.absent
    total = faces.num_rows
    if total == 0:
        # As wide as the other segments', so that they can be joined.
        width = len(BLENDSHAPES) if with_blendshapes else 0
        chunk = _chunk(faces, [], landmarks, (None, None), params, runtime.batch_size)
        yield {**chunk, "blendshapes": np.zeros((0, width), dtype=np.float32)}
        return

    from faceline.adapters.fer_cnn import FerCnn

    with ExitStack() as opened:
        emotion, how = inputs.models["emotion"], (runtime.device, runtime.threads)
        model = opened.enter_context(
            runtime.residents.lend(("emotion", emotion.sha256, *how), lambda: FerCnn(emotion.path, *how))
        )
        blendshape_model = None
        if chosen is not None and with_blendshapes:
            from faceline.adapters.blendshapes import Blendshapes

            key = ("blendshapes", chosen.sha256, runtime.threads)
            blendshape_model = opened.enter_context(
                runtime.residents.lend(key, lambda: Blendshapes(chosen.path, runtime.threads))
            )
        done = 0
        for batch in inputs.batches("align", "crops", ("fer_crop",), batch_size=_CHUNK_FACES):
            crops = batch.column("fer_crop").to_pylist()
            rows = slice(done, done + len(crops))
            meshes = np.asarray(landmarks[rows])
            models = (model, blendshape_model)
            yield _chunk(faces.slice(done, len(crops)), crops, meshes, models, params, runtime.batch_size)
            done += len(crops)
            runtime.progress(done, total)
    if done != total:
        raise ValueError(f"align gave {total} faces but {done} crops")


EMOTE = Stage(
    name="emote",
    version=1,
    scope="segment",
    params=EmoteParams,
    inputs=("align",),
    outputs=(
        Payload(
            "expressions",
            "parquet",
            "One row per face of align, in its order: seven emotion scores (0..1, they sum to 1; null where "
            "emotion_state is not ok) and the expression measures (null where measures_state is not ok). States: ok, "
            "no_mesh, no_face, too_small, outside, no_crop, turned_away, low_quality.",
        ),
        Payload(
            "blendshapes",
            "npy",
            "The same rows: float32 [n, 52], scores 0..1 in the order of faceline.blendshapes.BLENDSHAPES, NaN where "
            "measures_state is not ok; [n, 0] when no network of blendshapes was used.",
        ),
    ),
    compute=_compute,
    roles=lambda params: ("emotion", "blendshapes"),
)
