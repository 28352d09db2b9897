"""From all trials of a footage to one score per face and ranked events: choose, combine, cut, explain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from faceline.anomaly.confounds import CONFOUNDS, confound_flags
from faceline.anomaly.drivers import departures, measure_words, top_features
from faceline.anomaly.events import Cutting, Event, EventParams, cut_events
from faceline.anomaly.features import build_blocks, table_columns
from faceline.anomaly.rows import MaskParams, PersonRows, people_rows
from faceline.anomaly.selection import Choice, agreement, choose, combine, objective
from faceline.anomaly.trial import SUMMARY_SCHEMA
from faceline.stage import Chunk, Inputs, Payload, Runtime, Stage, StageParams

TRIALS_SCHEMA = pa.schema(
    [
        *SUMMARY_SCHEMA,
        ("agreement", pa.float64()),
        ("objective", pa.float64()),
        ("rank", pa.int32()),
        ("chosen", pa.bool_()),
    ]
)

BRIEF_MODELS = ("iforest", "ocsvm", "lof")
"""Models whose score columns always exist; further ones add theirs behind them."""

EVENTS_SCHEMA = pa.schema(
    [
        ("event", pa.int64()),
        ("person", pa.int32()),
        ("rank", pa.int32()),
        ("start_s", pa.float64()),
        ("peak_s", pa.float64()),
        ("end_s", pa.float64()),
        ("score", pa.float64()),
        ("p_value", pa.float64()),
        ("quality", pa.float32()),
        ("top_features", pa.string()),
        ("flags", pa.string()),
        ("frame", pa.int64()),
        ("segment", pa.int32()),
        ("face", pa.int64()),
        ("faces", pa.int64()),
    ]
)


def scores_schema(models: Sequence[str]) -> pa.Schema:
    """Schema of scores.parquet when trials of these models were run."""
    names = [*BRIEF_MODELS, *sorted(set(models) - set(BRIEF_MODELS))]
    return pa.schema(
        [
            ("segment", pa.int32()),
            ("face", pa.int64()),
            ("frame", pa.int64()),
            ("time_s", pa.float64()),
            ("track", pa.int64()),
            ("person", pa.int32()),
            *((f"score_{name}", pa.float32()) for name in names),
            ("score", pa.float32()),
            ("threshold", pa.float32()),
            ("is_anomaly", pa.bool_()),
            ("event", pa.int64()),
        ]
    )


class GridsearchParams(StageParams):
    """How trials become one score, and scores events."""

    select: Literal["best", "ensemble", "models", "all"] = Field(
        "ensemble",
        description="what the final score is: that of the best trial, or the mean of the best trials (ensemble), of"
        " each model's best (models), or of all",
    )
    share: float = Field(
        1 / 3, gt=0, le=1, description="share of the trials, from the best down, that select=ensemble averages"
    )
    events: EventParams = Field(default_factory=EventParams, description="how scores become events")
    min_departure: float = Field(
        3.0,
        ge=0,
        description="an event has to show: some emotion or measure departs by so many baseline units near its peak;"
        " what only embeddings or components notice is light or focus more often than expression. 0 takes all",
    )
    masks: MaskParams = Field(
        default_factory=MaskParams, description="which faces may carry an event; as in the trials"
    )


@dataclass(frozen=True)
class _Finding:
    """An event and what departed in it, by column."""

    event: Event
    departures: dict[str, float]


@dataclass(frozen=True)
class _Findings:
    """What was found for one person, in positions of that person's rows."""

    rows: PersonRows
    trials: list[dict[str, object]]
    per_model: dict[str, np.ndarray]
    score: np.ndarray
    threshold: float
    found: tuple[_Finding, ...]


def compute(params: GridsearchParams, inputs: Inputs, runtime: Runtime) -> Iterator[Chunk]:
    """Choose, combine, cut and rank; yields the three tables whole."""
    people = people_rows(inputs, params.masks)
    summary = inputs.table("trial", "summary").to_pylist()
    models = sorted({str(row["model"]) for row in summary})
    score_of = _ScoresByTrial(inputs)
    findings = []
    for done, rows in enumerate(people):
        mine = [s for s in summary if s["person"] == rows.person]
        findings.append(_search(rows, mine, score_of, params, inputs))
        runtime.progress(done + 1, len(people))
    events, event_of_row = _ranked_events(findings, inputs)
    trials = [row for found in findings for row in found.trials]
    yield {
        "trials": pa.Table.from_pylist(trials, TRIALS_SCHEMA),
        "scores": _scores_table(findings, event_of_row, inputs, models),
        "events": pa.Table.from_pylist(events, EVENTS_SCHEMA),
    }


def _search(
    rows: PersonRows,
    summary: list[dict[str, object]],
    score_of: _ScoresByTrial,
    params: GridsearchParams,
    inputs: Inputs,
) -> _Findings:
    summary = sorted(summary, key=lambda s: str(s["trial"]))
    names, models = [str(s["trial"]) for s in summary], [str(s["model"]) for s in summary]
    scores = score_of.matrix(names, rows)
    scored = np.isfinite(scores).any(axis=1)
    agree = agreement(scores, models)
    parts = np.column_stack([_floats(summary, "injection"), _floats(summary, "stability"), agree])
    value = objective(parts, scored)
    choice = choose(value, models, names, params.select, params.share)
    if choice.chosen:
        score = combine(scores[list(choice.chosen)])
        score[~rows.usable] = np.nan
        cutting = cut_events(score, rows.time_s, rows.stretch, rows.interval_s, params.events)
    else:
        score, cutting = np.full(len(rows), np.nan), Cutting((), float("nan"))
    firsts: dict[str, np.ndarray] = {}
    for i in choice.order:
        firsts.setdefault(models[i], scores[i])
    # A face too small for a mesh has no expressions to show: then there is nothing to ask for.
    blocks = build_blocks(inputs, rows, "expressions") if cutting.events else []
    found = [_Finding(event, departures(event, blocks, rows)) for event in cutting.events]
    shown = tuple(
        f for f in found if not blocks or max(map(abs, f.departures.values()), default=0) >= params.min_departure
    )
    return _Findings(rows, _trial_rows(summary, agree, value, choice), firsts, score, cutting.threshold, shown)


def _trial_rows(
    summary: list[dict[str, object]], agree: np.ndarray, value: np.ndarray, choice: Choice
) -> list[dict[str, object]]:
    """Rows of trials.parquet; trials without scores have neither objective nor rank."""
    place = {trial: i + 1 for i, trial in enumerate(choice.order)}
    return [
        row
        | {
            "agreement": _null(agree[i]),
            "objective": _null(value[i]),
            "rank": place.get(i),
            "chosen": i in choice.chosen,
        }
        for i, row in enumerate(summary)
    ]


class _ScoresByTrial:
    """All trials' scores, looked up by trial and (segment, face)."""

    def __init__(self, inputs: Inputs) -> None:
        faces = inputs.table("align", "faces", ("segment", "face"))
        keys = _keys(faces)
        order = np.argsort(keys, kind="stable")
        table = inputs.table("trial", "scores", ("trial", "segment", "face", "score"))
        trial = table["trial"].combine_chunks().dictionary_encode()
        self._names = {name: i for i, name in enumerate(trial.dictionary.to_pylist())}
        codes = trial.indices.to_numpy()
        by_trial = np.argsort(codes, kind="stable")
        bounds = np.searchsorted(codes[by_trial], np.arange(len(self._names) + 1))
        self._rows = [by_trial[bounds[i] : bounds[i + 1]] for i in range(len(self._names))]
        self._position = order[np.searchsorted(keys[order], _keys(table))] if len(keys) else np.zeros(0, np.int64)
        self._score = table["score"].to_numpy(zero_copy_only=False).astype(np.float64)
        self._faces = len(keys)

    def matrix(self, names: Sequence[str], rows: PersonRows) -> np.ndarray:
        """float64 [trials, n] of a person's rows, NaN where a trial has no score."""
        out = np.full((len(names), len(rows)), np.nan)
        whole = np.full(self._faces, np.nan)
        for i, name in enumerate(names):
            if name in self._names:
                mine = self._rows[self._names[name]]
                whole[:] = np.nan
                whole[self._position[mine]] = self._score[mine]
                out[i] = whole[rows.index]
        return out


def _ranked_events(
    findings: Sequence[_Findings], inputs: Inputs
) -> tuple[list[dict[str, object]], dict[tuple[int, int], int]]:
    """Rows of events.parquet by rank over all persons, and (person, position in the cutting) → event number."""
    found = [(f, i, one.event) for f in findings for i, one in enumerate(f.found)]
    found.sort(key=lambda e: (e[2].p_value, -e[2].score, e[0].rows.person, e[2].peak))
    faces = inputs.table("align", "faces", ("segment", "face", "frame", *CONFOUNDS))
    confounds = dict(zip(CONFOUNDS, table_columns(faces, tuple(CONFOUNDS)).T, strict=True))
    words = measure_words() if found else {}
    rows, numbers = [], {}
    for number, (f, i, event) in enumerate(found, start=1):
        peak = int(f.rows.index[event.peak])
        numbers[f.rows.person, i] = number
        usual = {name: values[f.rows.index] for name, values in confounds.items()}
        rows.append(
            {
                "event": number,
                "person": f.rows.person,
                "rank": number,
                "start_s": float(f.rows.time_s[event.start]),
                "peak_s": float(f.rows.time_s[event.peak]),
                "end_s": float(f.rows.time_s[event.end]),
                "score": event.score,
                "p_value": event.p_value,
                "quality": _null(f.rows.quality[event.peak]),
                "top_features": top_features(f.found[i].departures, words),
                "flags": confound_flags(event, usual),
                "frame": faces["frame"][peak].as_py(),
                "segment": faces["segment"][peak].as_py(),
                "face": faces["face"][peak].as_py(),
                "faces": int(_scored(f, event).sum()),
            }
        )
    return rows, numbers


def _scored(found: _Findings, event: Event) -> np.ndarray:
    return np.isfinite(found.score[event.start : event.end + 1])


def _scores_table(
    findings: Sequence[_Findings],
    event_of_row: dict[tuple[int, int], int],
    inputs: Inputs,
    models: Sequence[str],
) -> pa.Table:
    """One row per face of the footage, in align's order; faces of nobody have neither person nor scores."""
    faces = inputs.table("align", "faces", ("segment", "face", "frame", "time_s"))
    schema = scores_schema(models)
    n = faces.num_rows
    floats = {name: np.full(n, np.nan) for name in schema.names if name.startswith("score") or name == "threshold"}
    anomaly, event_number = np.zeros(n, dtype=bool), np.full(n, -1, dtype=np.int64)
    for found in findings:
        index = found.rows.index
        floats["score"][index] = found.score
        floats["threshold"][index] = found.threshold
        for model, score in found.per_model.items():
            floats[f"score_{model}"][index] = score
        for i, event in enumerate(f.event for f in found.found):
            inside = index[event.start : event.end + 1][_scored(found, event)]
            anomaly[inside] = True
            event_number[inside] = event_of_row[found.rows.person, i]
    persons = inputs.table("cluster", "persons", ("track", "person"))
    columns: dict[str, object] = {
        **{name: faces[name] for name in faces.column_names},
        **{name: persons[name] for name in persons.column_names},
        **{name: pa.array(values, mask=~np.isfinite(values)) for name, values in floats.items()},
        "is_anomaly": pa.array(anomaly),
        "event": pa.array(event_number, mask=event_number < 0),
    }
    return pa.table([_cast(columns[f.name], f.type) for f in schema], schema=schema)


def _cast(column: object, kind: pa.DataType) -> object:
    return column.cast(kind)  # type: ignore[attr-defined]


def _keys(table: pa.Table) -> np.ndarray:
    """(segment, face) as one int64 per row."""
    segment = table["segment"].to_numpy().astype(np.int64)
    return np.asarray(segment * (1 << 40) + table["face"].to_numpy())


def _floats(rows: Sequence[dict[str, object]], name: str) -> np.ndarray:
    return np.array([np.nan if row[name] is None else row[name] for row in rows], dtype=np.float64)


def _null(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


GRIDSEARCH = Stage(
    name="gridsearch",
    version=1,
    scope="footage",
    params=GridsearchParams,
    inputs=("sample", "align", "emote", "cluster", "trial"),
    outputs=(
        Payload("trials", "parquet", "one row per person and trial: label-free parts, objective, rank, chosen"),
        Payload(
            "scores",
            "parquet",
            "one row per face: each model's best score, the final score, threshold, event (its rank)",
        ),
        Payload("events", "parquet", "one row per event, most unusual first; flags names causes beside expression"),
    ),
    compute=compute,
)
"""The stage; sees all trials of the footage."""
