"""Why a face has no score: every face of a person is counted exactly once."""

from __future__ import annotations

import csv
import io

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faceline.anomaly.rows import MaskParams
from faceline.report import tables
from faceline.report.findings import load
from faceline.report.reasons import left_out, masks_of, score_reasons
from faceline.stage import MemoryInputs
from tests.faceline.report import factory


def _faces(**columns: list[object]) -> pa.Table:
    one = {"person": 1, "state": "ok", "quality": 0.9, "yaw_deg": 0.0, "pitch_deg": 0.0, "score": 1.0}
    count = len(next(iter(columns.values())))
    return pa.table({name: columns.get(name, [value] * count) for name, value in one.items()})


def test_the_first_reason_counts() -> None:
    faces = _faces(
        person=[1, None, 1, 1, 1, 1, 1, 2, 1],
        state=["ok", "ok", "too_small", "outside", "no_mesh", "ok", "ok", "ok", "odd_state"],
        quality=[0.9, 0.9, None, None, 0.1, 0.9, 0.9, 0.9, 0.9],
        yaw_deg=[0.0, 0.0, None, None, 60.0, -60.0, 0.0, 0.0, 0.0],
        score=[1.0, None, None, None, None, None, None, None, None],
    )
    assert score_reasons(faces, MaskParams()).to_pylist() == [
        None,
        "of nobody known",
        "too small",
        "outside the frame",
        "too poor a picture",
        "turned too far",
        "a blink, or too little usable around it",
        "person not judged",
        "odd state",
    ]


def test_the_limits_are_those_of_the_run() -> None:
    facts = {"params": {"gridsearch": {"masks": {"min_quality": 0.5}}}}
    assert masks_of(facts).min_quality == 0.5
    for unstated in ({}, {"params": {}}, {"params": {"gridsearch": {}}}, {"params": "text"}):
        assert masks_of(unstated) == MaskParams()
    faces = _faces(quality=[0.4, 0.9], score=[None, 1.0])
    assert score_reasons(faces, masks_of(facts)).to_pylist() == ["too poor a picture", None]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    unknown=st.integers(0, 9),
    no_face=st.integers(0, 9),
    no_crop=st.integers(0, 9),
    seed=st.integers(0, 10_000),
    unscored=st.floats(0, 1),
)
def test_the_counts_of_a_person_add_up(unknown: int, no_face: int, no_crop: int, seed: int, unscored: float) -> None:
    script = factory.Script(
        length_s=6, persons=(((0, 6),), ((1, 4),)), events=((1, 2, 3),), segment_s=2.5, pictures=False, seed=seed,
        unknown_every=unknown, no_face_every=no_face, no_crop_every=no_crop,
    )  # fmt: skip
    inputs = factory.make(script)
    payloads = dict(inputs.payloads)
    rng = np.random.default_rng(seed)
    scores = inputs.table("gridsearch", "scores")
    gone = pa.array(rng.random(scores.num_rows) < unscored)
    at = scores.column_names.index("score")
    payloads["gridsearch", "scores"] = scores.set_column(
        at, "score", pc.if_else(gone, pa.scalar(None, pa.float32()), scores["score"])
    )
    aligned = inputs.table("align", "faces")
    yaw = pa.array(rng.normal(0, 40, aligned.num_rows), pa.float32())
    payloads["align", "faces"] = aligned.set_column(aligned.column_names.index("yaw_deg"), "yaw_deg", yaw)
    findings = load(MemoryInputs(payloads, facts=inputs.facts))
    for person in findings.persons:
        faces = findings.faces_of(person)
        scored = int(np.isfinite(faces["score"].to_numpy()).sum())
        assert faces.num_rows == scored + sum(count for _, count in left_out(faces))
        rows = list(csv.DictReader(io.StringIO(tables.person_csv(findings, person).decode())))
        assert len(rows) == faces.num_rows
        assert all(bool(row["score"]) != bool(row["reason"]) for row in rows)


def test_no_faces_have_no_reasons() -> None:
    assert score_reasons(_faces(score=[None]).slice(0, 0), MaskParams()).to_pylist() == []
