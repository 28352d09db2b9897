"""Everything a report tells about one footage: the stages' tables joined, one row per face."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from faceline.report.reasons import masks_of, score_reasons
from faceline.stage import Inputs

EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")

_BOX = ("x_px", "y_px", "w_px", "h_px")
_POSE = ("yaw_deg", "pitch_deg", "roll_deg")
_ALIGN = ("segment", "face", "frame", "time_s", *_BOX, "detected", "state", *_POSE, "quality")
_EXPRESSION_KEYS = {"segment", "face", "frame", "time_s", "track", "emotion_state", "measures_state", *EMOTIONS}

NO_FACE = "no_face"
"""State of a box interpolated between two detections in which no face was found: it counts as no face anywhere."""


def face_keys(table: pa.Table) -> np.ndarray:
    """The row key (segment, face) of every row as one int64, so that tables join by sorting: segment in the high bits.

    Faces of a segment number far fewer than 2**40.
    """
    segment = np.asarray(table["segment"].to_numpy(), dtype=np.int64)
    face = np.asarray(table["face"].to_numpy(), dtype=np.int64)
    return (segment << 40) | face


def positions(wanted: np.ndarray, keys: np.ndarray) -> pa.Array:
    """Where each wanted key stands among ``keys`` (int64, null where it does not), ready for `pyarrow.Table.take`."""
    if len(keys) == 0:
        return pa.nulls(len(wanted), pa.int64())
    order = np.argsort(keys, kind="stable")
    at = np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)
    found = order[at]
    return pa.array(found, pa.int64(), mask=keys[found] != wanted)


def ordinals(faces: pa.Table) -> np.ndarray:
    """The ``ordinal`` column as int64 (the frames that faces lie in were all sampled)."""
    return np.asarray(faces["ordinal"].fill_null(-1).to_numpy(), dtype=np.int64)


def floats(table: pa.Table, column: str) -> np.ndarray:
    """A numeric or boolean column as float64, NaN where missing."""
    return np.asarray(table[column].cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)


@dataclass(frozen=True)
class Findings:
    """The stages' tables joined for reporting.

    Attributes:
        frames: sample's frames, in time order.
        facts: sample's facts, one row per segment.
        faces: one row per face (never a ``no_face`` box), ordered by time, frame, track. Columns: ``segment, face,
            frame, time_s, ordinal`` (position of the frame among the sampled ones), ``track`` (footage-wide),
            ``person`` (null = unknown), boxes in upright frame pixels, pose,
            quality, emotions, measures, ``comp_1`` …, ``score_<model>`` …, ``score, threshold, is_anomaly, event``, and
            the reasons ``state, embed_state, emotion_state, measures_state``, and ``reason``, why there is no score.
            Missing is null or NaN.
        people: one row per person.
        events: all events: those that count, the most unusual first, then those that something beside expression
            explains.
        drivers: one row per event and measure that departs in it.
        verdicts: one row per person: what was found, or why nothing could be.
        trials: one row per person and trial.
        comparison: per person, how well ways to choose among the trials find planted anomalies.
        measures: names of the expression measures among ``faces``' columns.
        components: ``comp_1`` … ``comp_k``.
        scores: ``score_<model>`` …
    """

    frames: pa.Table
    facts: pa.Table
    faces: pa.Table
    people: pa.Table
    events: pa.Table
    drivers: pa.Table
    verdicts: pa.Table
    trials: pa.Table
    comparison: pa.Table
    measures: tuple[str, ...]
    components: tuple[str, ...]
    scores: tuple[str, ...]

    @cached_property
    def persons(self) -> tuple[int, ...]:
        """Numbers of the persons, ascending."""
        return tuple(sorted(self.people["person"].to_pylist()))

    @cached_property
    def step_s(self) -> float:
        """The usual distance of two sampled frames in seconds; 0 when there are fewer than two."""
        steps = np.diff(floats(self.frames, "time_s"))
        steps = steps[steps > 0]
        return float(np.median(steps)) if len(steps) else 0.0

    @cached_property
    def mean_step_s(self) -> float:
        """The mean distance of two sampled frames, which at 10 of 25 frames per second lie 0.08 and 0.12 s apart."""
        time_s = floats(self.frames, "time_s")
        return float(time_s.max() - time_s.min()) / (len(time_s) - 1) if len(time_s) > 1 else 0.0

    def faces_of(self, person: int | None) -> pa.Table:
        """The faces of one person, in time order; of nobody known for ``None``."""
        column = self.faces["person"]
        return self.faces.filter(pc.is_null(column) if person is None else pc.equal(column, person))

    def events_of(self, person: int) -> pa.Table:
        """The events of one person, in the order of `events`."""
        return self.events.filter(pc.equal(self.events["person"], person))

    @cached_property
    def drivers_of(self) -> dict[int, list[dict[str, Any]]]:
        """The rows of `drivers` by event, in their order."""
        rows: dict[int, list[dict[str, Any]]] = {}
        for row in self.drivers.sort_by([("event", "ascending"), ("order", "ascending")]).to_pylist():
            rows.setdefault(row["event"], []).append(row)
        return rows


def load(inputs: Inputs) -> Findings:
    """Read and join what the stages sample, align, embed, emote, cluster and gridsearch found."""
    aligned = inputs.table("align", "faces", _ALIGN)
    persons = inputs.table("cluster", "persons", ("segment", "face", "track", "person"))
    expressions = inputs.table("emote", "expressions")
    embedded = inputs.table("embed", "embedded", ("segment", "face", "state"))
    scored = inputs.table("gridsearch", "scores")
    measures = tuple(name for name in expressions.column_names if name not in _EXPRESSION_KEYS)
    scores = tuple(name for name in scored.column_names if name.startswith("score_"))

    frames = inputs.table("sample", "frames").sort_by([("time_s", "ascending"), ("frame", "ascending")])

    faces = aligned.filter(pc.fill_null(pc.not_equal(aligned["state"], NO_FACE), True))
    keys = face_keys(faces)
    ordinal = positions(np.asarray(faces["frame"].to_numpy()), np.asarray(frames["frame"].to_numpy()))
    faces = faces.append_column("ordinal", ordinal)

    at = positions(keys, face_keys(persons))
    faces = _append(faces, persons.select(["track", "person"]).take(at))
    components, values = _components(inputs.array("cluster", "components"), at)
    faces = _append(faces, values)
    at = positions(keys, face_keys(embedded))
    faces = faces.append_column("embed_state", embedded["state"].take(at))
    at = positions(keys, face_keys(expressions))
    faces = _append(faces, expressions.select([*EMOTIONS, *measures, "emotion_state", "measures_state"]).take(at))
    at = positions(keys, face_keys(scored))
    faces = _append(faces, scored.select([*scores, "score", "threshold", "event"]).take(at))
    # What was not scored is not known to be usual.
    is_anomaly = pc.if_else(pc.is_finite(faces["score"]), scored["is_anomaly"].take(at), None)
    faces = faces.append_column("is_anomaly", is_anomaly)
    faces = faces.append_column("reason", score_reasons(faces, masks_of(inputs.facts)))

    order = [(name, "ascending") for name in ("time_s", "frame", "track", "segment", "face")]
    return Findings(
        frames=frames,
        facts=inputs.table("sample", "facts").sort_by("segment"),
        faces=faces.sort_by(order).combine_chunks(),
        people=inputs.table("cluster", "people").sort_by("person"),
        events=ranked(inputs.table("gridsearch", "events")),
        drivers=inputs.table("gridsearch", "drivers"),
        verdicts=inputs.table("gridsearch", "verdicts").sort_by("person"),
        trials=inputs.table("gridsearch", "trials"),
        comparison=inputs.table("gridsearch", "comparison"),
        measures=measures,
        components=components,
        scores=scores,
    )


def ranked(events: pa.Table) -> pa.Table:
    """Events by rank; what something beside expression explains stands behind all others, whatever its rank."""
    return events.sort_by([("explained", "ascending"), ("rank", "ascending"), ("event", "ascending")])


def _append(left: pa.Table, right: pa.Table) -> pa.Table:
    for name in right.column_names:
        left = left.append_column(name, right[name])
    return left


def _components(values: np.ndarray, at: pa.Array) -> tuple[tuple[str, ...], pa.Table]:
    """The UMAP components of the rows at ``at`` (row-aligned with cluster's persons) as named columns."""
    names = tuple(f"comp_{i + 1}" for i in range(values.shape[1] if values.ndim == 2 else 0))
    columns = {}
    for i, name in enumerate(names):
        column = pa.array(np.asarray(values[:, i], dtype=np.float64), from_pandas=True)
        columns[name] = column.take(at)
    return names, pa.table(columns)
