"""From all trials of a footage to one score per face and ranked events: choose, combine, cut, explain, audit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from faceline.anomaly.confounds import Surroundings
from faceline.anomaly.drivers import drivers_of, measure_words, top_features
from faceline.anomaly.rows import people_rows
from faceline.anomaly.search import Finding, Findings, GridsearchParams, null, search_person
from faceline.anomaly.trial import SUMMARY_SCHEMA
from faceline.anomaly.trialscores import TrialScores
from faceline.stage import Chunk, Inputs, Payload, Runtime, Stage

__all__ = ["GRIDSEARCH", "GridsearchParams"]

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
        ("expected_false", pa.float64()),
        ("quality", pa.float32()),
        ("top_features", pa.string()),
        ("survival", pa.float32()),
        ("flags", pa.string()),
        ("explained", pa.bool_()),
        ("frame", pa.int64()),
        ("segment", pa.int32()),
        ("face", pa.int64()),
        ("faces", pa.int64()),
    ]
)

DRIVERS_SCHEMA = pa.schema(
    [
        ("event", pa.int64()),
        ("column", pa.string()),
        ("words", pa.string()),
        ("departure", pa.float64()),
        ("score_lost", pa.float64()),
        ("order", pa.int32()),
    ]
)

VERDICTS_SCHEMA = pa.schema(
    [
        ("person", pa.int32()),
        ("state", pa.string()),
        ("reason", pa.string()),
        ("judged_s", pa.float64()),
        ("threshold", pa.float64()),
        ("expected_false", pa.float64()),
        ("reported", pa.int32()),
        ("explained", pa.int32()),
        ("unsupported", pa.int32()),
        ("unstable", pa.int32()),
        ("dropped", pa.int32()),
    ]
)

COMPARISON_SCHEMA = pa.schema([("person", pa.int32()), ("strategy", pa.string()), ("injection", pa.float64())])


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


def compute(params: GridsearchParams, inputs: Inputs, runtime: Runtime) -> Iterator[Chunk]:
    """Search person by person, rank the events of all; yields the tables whole."""
    people = people_rows(inputs, params.masks)
    summary = inputs.table("trial", "summary").to_pylist()
    models = sorted({str(row["model"]) for row in summary})
    trial_scores, surroundings = TrialScores(inputs), Surroundings.of(inputs)
    findings = []
    for done, rows in enumerate(people):
        mine = [s for s in summary if s["person"] == rows.person]
        findings.append(search_person(rows, mine, trial_scores, surroundings, params, inputs))
        runtime.progress(done + 1, len(people))
    ranked = _ranked(findings)
    verdicts = [{"person": f.rows.person, **_nulled(vars(f.verdict))} for f in findings]
    comparison = [
        {"person": f.rows.person, "strategy": way, "injection": null(value)}
        for f in findings
        for way, value in f.comparison.items()
    ]
    yield {
        "trials": pa.Table.from_pylist([row for f in findings for row in f.trials], TRIALS_SCHEMA),
        "scores": _scores_table(findings, ranked, inputs, models),
        "events": pa.Table.from_pylist(_event_rows(ranked, inputs), EVENTS_SCHEMA),
        "drivers": pa.Table.from_pylist(_driver_rows(ranked), DRIVERS_SCHEMA),
        "verdicts": pa.Table.from_pylist(verdicts, VERDICTS_SCHEMA),
        "comparison": pa.Table.from_pylist(comparison, COMPARISON_SCHEMA),
    }


def _ranked(findings: Sequence[Findings]) -> list[tuple[Findings, Finding]]:
    """All events of all persons, the most unusual first; those with another explanation after all others."""
    found = [(f, one) for f in findings for one in f.found]
    found.sort(
        key=lambda pair: (
            pair[1].audit.explained,
            pair[1].event.p_value,
            -pair[1].event.score,
            pair[0].rows.person,
            pair[1].event.peak,
        )
    )
    return found


def _event_rows(ranked: Sequence[tuple[Findings, Finding]], inputs: Inputs) -> list[dict[str, object]]:
    """Rows of events.parquet."""
    faces = inputs.table("align", "faces", ("segment", "face", "frame"))
    words = measure_words() if ranked else {}
    rows: list[dict[str, object]] = []
    for number, (person, found) in enumerate(ranked, start=1):
        event, mine = found.event, person.rows
        peak = int(mine.index[event.peak])
        rows.append(
            {
                "event": number,
                "person": mine.person,
                "rank": number,
                "start_s": float(mine.time_s[event.start]),
                "peak_s": float(mine.time_s[event.peak]),
                "end_s": float(mine.time_s[event.end]),
                "score": event.score,
                "p_value": event.p_value,
                "expected_false": event.expected,
                "quality": null(mine.quality[event.peak]),
                "top_features": top_features(found.departures, words),
                "survival": null(found.survival),
                "flags": ", ".join(found.audit.flags),
                "explained": found.audit.explained,
                "frame": faces["frame"][peak].as_py(),
                "segment": faces["segment"][peak].as_py(),
                "face": faces["face"][peak].as_py(),
                "faces": int(_scored(person, found).sum()),
            }
        )
    return rows


def _driver_rows(ranked: Sequence[tuple[Findings, Finding]]) -> list[dict[str, object]]:
    """Rows of drivers.parquet: the largest departures of each event."""
    words = measure_words() if ranked else {}
    rows: list[dict[str, object]] = []
    for number, (_, found) in enumerate(ranked, start=1):
        for order, column in enumerate(drivers_of(found.departures), start=1):
            rows.append(
                {
                    "event": number,
                    "column": column,
                    "words": words.get(column, column.replace("_", " ")),
                    "departure": found.departures[column],
                    "score_lost": null(found.score_lost.get(column, float("nan"))),
                    "order": order,
                }
            )
    return rows


def _scored(person: Findings, found: Finding) -> np.ndarray:
    return np.isfinite(person.score[found.event.start : found.event.end + 1])


def _scores_table(
    findings: Sequence[Findings],
    ranked: Sequence[tuple[Findings, Finding]],
    inputs: Inputs,
    models: Sequence[str],
) -> pa.Table:
    """One row per face of the footage, in align's order; faces of nobody have neither person nor scores."""
    faces = inputs.table("align", "faces", ("segment", "face", "frame", "time_s"))
    schema = scores_schema(models)
    n = faces.num_rows
    columns_f = {name: np.full(n, np.nan) for name in schema.names if name.startswith("score") or name == "threshold"}
    anomaly, event_number = np.zeros(n, dtype=bool), np.full(n, -1, dtype=np.int64)
    for person in findings:
        index = person.rows.index
        columns_f["score"][index] = person.score
        columns_f["threshold"][index] = person.verdict.threshold
        for model, score in person.per_model.items():
            columns_f[f"score_{model}"][index] = score
    for number, (person, found) in enumerate(ranked, start=1):
        inside = person.rows.index[found.event.start : found.event.end + 1][_scored(person, found)]
        anomaly[inside] = not found.audit.explained
        event_number[inside] = number
    persons = inputs.table("cluster", "persons", ("track", "person"))
    columns: dict[str, object] = {
        **{name: faces[name] for name in faces.column_names},
        **{name: persons[name] for name in persons.column_names},
        **{name: pa.array(values, mask=~np.isfinite(values)) for name, values in columns_f.items()},
        "is_anomaly": pa.array(anomaly),
        "event": pa.array(event_number, mask=event_number < 0),
    }
    return pa.table([_cast(columns[f.name], f.type) for f in schema], schema=schema)


def _cast(column: object, kind: pa.DataType) -> object:
    return column.cast(kind)  # type: ignore[attr-defined]


def _nulled(values: dict[str, object]) -> dict[str, object]:
    return {k: None if isinstance(v, float) and np.isnan(v) else v for k, v in values.items()}


GRIDSEARCH = Stage(
    name="gridsearch",
    version=1,
    scope="footage",
    params=GridsearchParams,
    inputs=("sample", "align", "embed", "emote", "cluster", "trial"),
    outputs=(
        Payload("trials", "parquet", "one row per person and trial: label-free parts, objective, rank, chosen"),
        Payload(
            "scores",
            "parquet",
            "one row per face: each model's best score, the final score, threshold, event (its rank)",
        ),
        Payload(
            "events",
            "parquet",
            "one row per event, most unusual first; flags names causes beside expression, and events that these "
            "explain come last",
        ),
        Payload("drivers", "parquet", "per event: what departed most, by how much, and what the score loses without"),
        Payload("verdicts", "parquet", "one row per person: events, no anomaly or insufficient data; the threshold"),
        Payload("comparison", "parquet", "the choice among trials beside a random trial and the ensemble of all"),
    ),
    compute=compute,
)
"""The stage; sees all trials of the footage."""
