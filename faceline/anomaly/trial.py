"""One trial of the grid search: one model, one feature set, one window; every person scored by their own usual."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pydantic import Field

from faceline.anomaly.baseline import robust_z
from faceline.anomaly.features import Block, FeatureSet, build_blocks
from faceline.anomaly.judge import Judge, Planting
from faceline.anomaly.models import AnyModelParams, IForestParams
from faceline.anomaly.rows import MASK_REASONS, MaskParams, PersonRows, people_rows
from faceline.stage import Chunk, Inputs, Payload, Runtime, Stage, StageParams

SCORES_SCHEMA = pa.schema(
    [
        ("trial", pa.string()),
        ("segment", pa.int32()),
        ("face", pa.int64()),
        ("person", pa.int32()),
        ("time_s", pa.float64()),
        ("score", pa.float32()),
        ("score_reseeded", pa.float32()),
        ("score_halved", pa.float32()),
    ]
)

PLANTED_SCHEMA = pa.schema(
    [
        ("trial", pa.string()),
        ("person", pa.int32()),
        ("row", pa.int64()),
        ("planted", pa.bool_()),
        ("score", pa.float32()),
    ]
)

SUMMARY_SCHEMA = pa.schema(
    [
        ("trial", pa.string()),
        ("model", pa.string()),
        ("features", pa.string()),
        ("window_s", pa.float64()),
        ("params", pa.string()),
        ("person", pa.int32()),
        ("rows", pa.int64()),
        ("scored", pa.int64()),
        ("state", pa.string()),
        ("blocks", pa.string()),
        *((f"masked_{reason}", pa.int64()) for reason in MASK_REASONS),
        ("injection", pa.float64()),
        ("stability", pa.float64()),
    ]
)


class TrialParams(StageParams):
    """One point of the grid: `model` holds the fields of the chosen model, told apart by its name."""

    model: AnyModelParams = Field(default_factory=IForestParams, description="the anomaly model and its parameters")
    features: FeatureSet = Field(
        "expressions",
        description="what is looked at: expressions (emotions, measures, blendshapes), dynamics (how much these"
        " measures move), components, embeddings, or all",
    )
    window_s: float = Field(1.0, gt=0, le=600, description="length of the window around each face, seconds")
    min_coverage: float = Field(0.4, gt=0, le=1, description="least share of a window that usable faces must cover")
    confound_free: bool = Field(
        True, description="take out of each feature what head pose, light and face size explain"
    )
    embedding_components: int = Field(6, ge=1, le=64, description="principal directions kept of the embeddings")
    fit_per_window: int = Field(
        4,
        ge=1,
        description="windows per window length that a model is fitted on: neighbouring windows overlap almost entirely,"
        " and a model fitted on all of them takes one long moment for many usual ones",
    )
    min_rows: int = Field(30, ge=8, description="a person with fewer scored windows gets no scores")
    masks: MaskParams = Field(default_factory=MaskParams, description="which faces may carry an anomaly")
    seed: int = Field(0, ge=0, description="of the model, of the planted anomalies")


def trial_id(params: TrialParams) -> str:
    """Readable and unique: model, features, window, and eight digits of a hash over all parameters."""
    digest = hashlib.sha256(canonical(params).encode()).hexdigest()[:8]
    return f"{params.model.name}-{params.features}-{params.window_s:g}s-{digest}"


def canonical(params: TrialParams) -> str:
    """All parameters as JSON with sorted keys."""
    return json.dumps(params.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))


def compute(params: TrialParams, inputs: Inputs, runtime: Runtime) -> Iterator[Chunk]:
    """Score every person; yields `scores` and `summary` person by person."""
    trial = trial_id(params)
    people = people_rows(inputs, params.masks)
    faces = inputs.table("align", "faces", ("segment", "face"))
    segment, face = faces["segment"].to_numpy(), faces["face"].to_numpy()
    yield {
        "scores": SCORES_SCHEMA.empty_table(),
        "summary": SUMMARY_SCHEMA.empty_table(),
        "planted": PLANTED_SCHEMA.empty_table(),
    }
    for done, rows in enumerate(people):
        result = score_person(inputs, rows, params)
        scores = {
            "trial": [trial] * len(rows),
            "segment": segment[rows.index],
            "face": face[rows.index],
            "person": np.full(len(rows), rows.person),
            "time_s": rows.time_s,
            "score": _nulls(result.score),
            "score_reseeded": _nulls(result.reseeded),
            "score_halved": _nulls(result.halved),
        }
        summary = {
            "trial": trial,
            "model": params.model.name,
            "features": params.features,
            "window_s": params.window_s,
            "params": canonical(params),
            "person": rows.person,
            "rows": len(rows),
            "scored": int(np.isfinite(result.score).sum()),
            "state": result.state,
            "blocks": "+".join(b.name for b in result.blocks),
            "injection": result.injection,
            "stability": result.stability,
        } | {f"masked_{reason}": rows.masked[reason] for reason in MASK_REASONS}
        yield {
            "scores": _table(scores, SCORES_SCHEMA),
            "summary": pa.Table.from_pylist([_null_nan(summary)], SUMMARY_SCHEMA),
            "planted": _planted_table(trial, rows.person, result.planted),
        }
        runtime.progress(done + 1, len(people))


@dataclass(frozen=True)
class PersonScores:
    """What a trial says of one person.

    Attributes:
        score: float64 [n], robust z (median 0, MAD 1), NaN where there is none.
        reseeded: the same with another seed.
        halved: the same with every other face left out; NaN for those.
        state: "ok", or why there are no scores.
        blocks: the feature blocks that were looked at.
        injection, stability: label-free parts of the objective; NaN where they could not be measured.
        planted: scores of footage with anomalies planted into it, others than those of `injection`.
    """

    score: np.ndarray
    reseeded: np.ndarray
    halved: np.ndarray
    state: str
    blocks: Sequence[Block] = ()
    injection: float = float("nan")
    stability: float = float("nan")
    planted: Planting | None = None

    @classmethod
    def none(cls, rows: PersonRows, reason: str, blocks: Sequence[Block] = ()) -> PersonScores:
        """No scores, and why."""
        nothing = np.full(len(rows), np.nan)
        return cls(nothing, nothing, nothing, reason, blocks)


def score_person(inputs: Inputs, rows: PersonRows, params: TrialParams) -> PersonScores:
    """Fit the trial's model on a person's own windows and score them."""
    if rows.usable.sum() < params.min_rows:
        return PersonScores.none(rows, "too few usable faces")
    blocks = build_blocks(
        inputs,
        rows,
        params.features,
        confound_free=params.confound_free,
        embedding_components=params.embedding_components,
    )
    if not blocks:
        return PersonScores.none(rows, f"too few faces with {params.features}")
    judge = Judge(params.model, blocks, rows, params.window_s, params.min_coverage, params.fit_per_window, params.seed)
    x = judge.x
    known = np.isfinite(x).all(axis=1)
    if known.sum() < params.min_rows:
        return PersonScores.none(rows, "too few covered windows", blocks)
    score = np.full(len(rows), np.nan)
    score[known] = judge.score(judge.fit(x, known), x, np.flatnonzero(known))
    # Where nothing is drawn at random, another seed gives the same.
    reseeded = judge.reseeded() if params.model.seeded else score
    return PersonScores(
        robust_z(score),
        robust_z(reseeded),
        robust_z(judge.halved()),
        "ok",
        blocks,
        judge.injection(),
        judge.stability(),
        judge.planted(other_seed=1),
    )


def _planted_table(trial: str, person: int, planted: Planting | None) -> pa.Table:
    if planted is None:
        return PLANTED_SCHEMA.empty_table()
    count = len(planted.row)
    columns = {
        "trial": [trial] * count,
        "person": np.full(count, person),
        "row": planted.row,
        "planted": planted.truth,
        "score": planted.score,
    }
    return _table(columns, PLANTED_SCHEMA)


def _nulls(score: np.ndarray) -> pa.Array:
    return pa.array(score, mask=~np.isfinite(score))


def _table(columns: dict[str, object], schema: pa.Schema) -> pa.Table:
    return pa.table({f.name: pa.array(columns[f.name]).cast(f.type) for f in schema}, schema=schema)


def _null_nan(row: dict[str, object]) -> dict[str, object]:
    return {k: None if isinstance(v, float) and np.isnan(v) else v for k, v in row.items()}


TRIAL = Stage(
    name="trial",
    version=1,
    scope="trial",
    params=TrialParams,
    inputs=("sample", "align", "embed", "emote", "cluster"),
    outputs=(
        Payload(
            "scores",
            "parquet",
            "one row per face of a known person: robust z of the score, null where masked; the same with another seed, "
            "and with every other face left out",
        ),
        Payload("summary", "parquet", "one row per person: the trial, how much was scored, state, label-free parts"),
        Payload("planted", "parquet", "scores of windows with and without planted anomalies, to compare choices"),
    ),
    compute=compute,
)
"""The stage; one artifact per trial."""
