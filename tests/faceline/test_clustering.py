"""The cluster stage: tables and arrays in line with align's faces, over several segments, the same bytes every time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from faceline.clustering import CLUSTER, PEOPLE_SCHEMA, PERSONS_SCHEMA, ClusterParams, footage_wide_tracks
from faceline.embedding import BETWEEN, EMBEDDED
from faceline.stage import MemoryInputs, Runtime, collect
from faceline.weights import ResolvedModel

MODEL = ResolvedModel("identity", "vggface2", "0" * 64, Path("weights"), "test")
DIMENSION = 12


def footage(*runs: tuple[int, int, int, int, int], every: int = 2) -> MemoryInputs:
    """align's and embed's payloads for runs of (segment, track, who, first frame, faces); who −1 = an empty box."""
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    vectors = []
    for segment, track, who, start, count in runs:
        for i in range(count):
            vector = np.eye(DIMENSION)[who] + 0.08 * rng.standard_normal(DIMENSION)
            embedded = who >= 0 and i % every == 0
            vectors.append(vector / np.linalg.norm(vector) if embedded else np.full(DIMENSION, np.nan))
            rows.append(
                {
                    "segment": segment,
                    "frame": start + i,
                    "time_s": (start + i) / 10,
                    "track": track,
                    "x_px": 100.0 * track,
                    "y_px": 0.0,
                    "w_px": 50.0,
                    "h_px": 50.0,
                    "quality": None if who < 0 else 0.5 + 0.4 * (i == 4),
                    "state": "no_face" if who < 0 else "ok",
                    "embedded": EMBEDDED if embedded else BETWEEN,
                }
            )
    order = sorted(range(len(rows)), key=lambda i: (rows[i]["segment"], rows[i]["frame"], rows[i]["track"]))
    rows, vectors = [rows[i] for i in order], [vectors[i] for i in order]
    counter: dict[int, int] = {}
    for row in rows:
        row["face"] = counter.get(row["segment"], 0)
        counter[row["segment"]] = row["face"] + 1
    schema = pa.schema(
        [
            ("segment", pa.int32()), ("face", pa.int64()), ("frame", pa.int64()), ("time_s", pa.float64()),
            ("track", pa.int64()), ("x_px", pa.float32()), ("y_px", pa.float32()), ("w_px", pa.float32()),
            ("h_px", pa.float32()), ("quality", pa.float32()), ("state", pa.string()),
        ]
    )  # fmt: skip
    faces = pa.Table.from_pylist([{name: row[name] for name in schema.names} for row in rows], schema=schema)
    embedded = pa.table({"state": pa.array([row["embedded"] for row in rows], pa.string())})
    array = np.array(vectors, np.float32).reshape(len(rows), DIMENSION)
    payloads = {("align", "faces"): faces, ("embed", "embedded"): embedded, ("embed", "embeddings"): array}
    return MemoryInputs(payloads, models={"identity": MODEL})


def run(inputs: MemoryInputs, **params: Any) -> dict[str, Any]:
    params.setdefault("components_min_faces", 1000)  # a second per person, for the tests that look at them only
    return collect(CLUSTER.compute(ClusterParams(**params), inputs, Runtime()))


TWO_PEOPLE = ((0, 0, 0, 0, 40), (0, 1, 1, 10, 30), (1, 0, 0, 60, 30), (1, 1, 2, 70, 2))


def test_persons_are_found_across_segments_in_line_with_the_faces() -> None:
    inputs = footage(*TWO_PEOPLE)
    faces = inputs.table("align", "faces")
    result = run(inputs)
    persons = result["persons"]
    assert persons.schema == PERSONS_SCHEMA
    for name in ("segment", "face", "frame", "time_s"):
        assert persons[name].equals(faces[name])
    assert sorted(set(persons["track"].to_pylist())) == [0, 1, 2, 3]
    who = {(0, 0): 1, (0, 1): 2, (1, 0): 1, (1, 1): None}
    keys = zip(faces["segment"].to_pylist(), faces["track"].to_pylist(), strict=True)
    assert persons["person"].to_pylist() == [who[key] for key in keys]
    embedded = np.isfinite(inputs.array("embed", "embeddings")[:, 0])
    known = np.array([number is not None for number in persons["person"].to_pylist()])
    assert np.array_equal(np.asarray(persons["distance"].is_valid()), embedded & known)


def test_people_are_counted_and_have_a_portrait() -> None:
    result = run(footage(*TWO_PEOPLE))
    people = result["people"]
    assert people.schema == PEOPLE_SCHEMA
    assert people.select(["person", "faces", "tracks", "first_s", "last_s"]).to_pylist() == [
        {"person": 1, "faces": 70, "tracks": 2, "first_s": 0.0, "last_s": 8.9},
        {"person": 2, "faces": 30, "tracks": 1, "first_s": 1.0, "last_s": 3.9},
    ]
    for row in people.to_pylist():
        mask = [
            (s, f) == (row["segment"], row["face"])
            for s, f in zip(
                result["persons"]["segment"].to_pylist(), result["persons"]["face"].to_pylist(), strict=True
            )
        ]
        portrait = result["persons"].filter(pa.array(mask)).to_pylist()
        assert [entry["person"] for entry in portrait] == [row["person"]]


def test_components_stand_where_a_person_is_embedded_and_nowhere_else() -> None:
    inputs = footage(*TWO_PEOPLE)
    result = run(inputs, components=2, components_min_faces=10)
    components = result["components"]
    assert components.shape == (102, 2) and components.dtype == np.float32
    expected = np.asarray(result["persons"]["distance"].is_valid())
    assert np.array_equal(np.isfinite(components).all(axis=1), expected)
    assert np.array_equal(np.isfinite(components).any(axis=1), expected)


def test_a_person_with_few_embedded_faces_has_no_components() -> None:
    result = run(footage(*TWO_PEOPLE), components_min_faces=20)
    person = np.array([number or 0 for number in result["persons"]["person"].to_pylist()])
    assert np.isfinite(result["components"][person == 1]).any()
    assert np.isnan(result["components"][person == 2]).all()


def test_the_same_input_gives_the_same_bytes() -> None:
    first, second = (run(footage(*TWO_PEOPLE), components_min_faces=20) for _ in range(2))
    assert first["persons"].equals(second["persons"]) and first["people"].equals(second["people"])
    assert first["components"].tobytes() == second["components"].tobytes()


def test_the_seed_moves_the_components_only() -> None:
    first, second = (run(footage(*TWO_PEOPLE), components_min_faces=20, seed=seed) for seed in (0, 1))
    assert first["persons"].equals(second["persons"])
    assert first["components"].tobytes() != second["components"].tobytes()


def test_footage_without_faces_has_empty_payloads() -> None:
    result = run(footage())
    assert result["persons"].schema == PERSONS_SCHEMA and result["persons"].num_rows == 0
    assert result["people"].schema == PEOPLE_SCHEMA and result["people"].num_rows == 0
    assert result["components"].shape == (0, 3)


def test_footage_of_nothing_but_false_alarms_has_no_person() -> None:
    result = run(footage((0, 0, 0, 0, 2), (0, 1, 1, 50, 3), (0, 2, 2, 90, 1)))
    assert result["people"].num_rows == 0
    assert result["persons"]["person"].null_count == 6
    assert np.isnan(result["components"]).all()


def test_empty_boxes_count_for_nobody() -> None:
    result = run(footage((0, 0, 0, 0, 30), (0, 0, -1, 30, 5)))
    assert result["people"]["faces"].to_pylist() == [30]
    assert result["people"]["last_s"].to_pylist() == [2.9]


def test_tracks_are_numbered_through_the_footage() -> None:
    assert footage_wide_tracks(np.array([1, 0, 0, 1, 0]), np.array([0, 5, 2, 3, 5])).tolist() == [2, 1, 0, 3, 1]
    assert footage_wide_tracks(np.empty(0, np.int32), np.empty(0, np.int64)).tolist() == []


def test_the_stage_declares_what_it_yields() -> None:
    assert {payload.name for payload in CLUSTER.outputs} == set(run(footage(*TWO_PEOPLE)))
    assert CLUSTER.roles(ClusterParams()) == ("identity",)


@pytest.mark.parametrize("wrong", [{"link": 0}, {"components": 0}, {"person_min_s": -1}, {"persons": 3}])
def test_parameters_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ClusterParams(**wrong)
