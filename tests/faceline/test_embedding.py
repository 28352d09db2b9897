"""Choice of the faces to embed, and the embed stage around a toy embedder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceline import embedding
from faceline.embedding import (
    BETWEEN,
    EMBED,
    EMBEDDED,
    EMBEDDED_SCHEMA,
    LOW_QUALITY,
    NO_CROP,
    EmbedderFacts,
    EmbedParams,
    choose_faces,
    embedder_facts,
)
from faceline.errors import ArtifactError
from faceline.stage import MemoryInputs, Runtime, collect
from faceline.weights import ResolvedModel


def choose(
    quality: list[float], *, fps: float = 10.0, track: list[int] | None = None, **params: Any
) -> tuple[list[int], list[str]]:
    """Indices that are embedded, and all states, of faces at a steady rate."""
    count = len(quality)
    state = choose_faces(
        np.array(track or [0] * count),
        np.arange(count) / fps,
        np.array(quality),
        np.isfinite(quality),
        EmbedParams(**{"interval_s": 0.5, **params}),
    )
    return np.flatnonzero(state == EMBEDDED).tolist(), state.tolist()


def test_the_best_face_of_each_interval_is_taken() -> None:
    chosen, _ = choose([0.5, 0.9, 0.6, 0.5, 0.5, 0.5, 0.5, 0.8, 0.7, 0.5], min_faces=1)
    assert chosen == [1, 7]


def test_of_equals_the_earlier_is_taken() -> None:
    assert choose([0.5] * 10, min_faces=1)[0] == [0, 5]


def test_short_tracklets_are_filled_up_with_their_next_best_faces() -> None:
    chosen, _ = choose([0.5, 0.9, 0.6, 0.4, 0.8], min_faces=3)
    assert chosen == [1, 2, 4]
    assert choose([0.5, 0.9], min_faces=4)[0] == [0, 1]


def test_poor_faces_only_fill_up() -> None:
    chosen, states = choose([0.05, 0.9, 0.01, 0.02, 0.05], min_faces=2)
    assert chosen == [0, 1]
    assert states == [EMBEDDED, EMBEDDED, LOW_QUALITY, LOW_QUALITY, LOW_QUALITY]


def test_faces_without_a_crop_are_never_taken() -> None:
    chosen, states = choose([float("nan"), 0.5, float("nan")])
    assert chosen == [1]
    assert states == [NO_CROP, EMBEDDED, NO_CROP]


def test_interval_zero_takes_every_good_face() -> None:
    assert choose([0.5, 0.9, 0.05, 0.5, 0.5], interval_s=0, min_faces=1)[0] == [0, 1, 3, 4]


def test_no_faces() -> None:
    assert choose([]) == ([], [])


tracks = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 40), st.one_of(st.just(float("nan")), st.floats(0, 1))),
    max_size=40,
    unique_by=lambda row: row[:2],
)


@settings(max_examples=80, deadline=None)
@given(rows=tracks, interval_s=st.sampled_from([0.0, 0.3, 1.0]), min_faces=st.integers(1, 5), seed=st.integers(0, 99))
def test_choice_by_definition(rows: list[tuple[int, int, float]], interval_s: float, min_faces: int, seed: int) -> None:
    """Against a slow oracle, in any order of rows."""
    params = EmbedParams(interval_s=interval_s, min_faces=min_faces, min_quality=0.2)
    rows = sorted(rows, key=lambda row: (row[1], row[0]))
    expected: set[int] = set()
    for track in {row[0] for row in rows}:
        here = [i for i, row in enumerate(rows) if row[0] == track and not np.isnan(row[2])]
        best_first = sorted(here, key=lambda i: (-rows[i][2], rows[i][1]))
        taken: list[int] = []
        used: set[int] = set()
        for i in best_first:
            interval = i if interval_s == 0 else int(np.floor(rows[i][1] / 10 / interval_s))
            if rows[i][2] >= 0.2 and interval not in used:
                used.add(interval)
                taken.append(i)
        taken += [i for i in best_first if i not in taken][: max(0, min_faces - len(taken))]
        expected |= set(taken)
    order = np.random.default_rng(seed).permutation(len(rows))
    columns = np.array(rows, np.float64).reshape(-1, 3)[order]
    state = choose_faces(
        columns[:, 0].astype(int), columns[:, 1] / 10, columns[:, 2], np.isfinite(columns[:, 2]), params
    )
    assert {int(order[i]) for i in np.flatnonzero(state == EMBEDDED)} == expected


# --- the stage -------------------------------------------------------------------------------------------------------


class Toy:
    """Embeds a face as its mean colour; remembers the sizes of its batches."""

    name, dimension, input_px, same_person_threshold, same_person_tracklets = "toy", 3, 8, 1.0, 1.0

    def __init__(self, faces_per_call: int = 1) -> None:
        self.faces_per_call, self.precision = faces_per_call, ""
        self.batches: list[int] = []
        self.prepared: list[tuple[np.ndarray, np.ndarray]] = []

    def at(self, precision: str) -> Toy:
        self.precision = precision
        return self

    def prepare(self, crop_rgb: np.ndarray, crop_matrix: np.ndarray, box_px: np.ndarray) -> np.ndarray:
        self.prepared.append((crop_matrix, box_px))
        return cv2.resize(crop_rgb, (8, 8))

    def embed(self, batch: np.ndarray) -> np.ndarray:
        self.batches.append(len(batch))
        return batch.reshape(len(batch), -1, 3).mean(axis=1).astype(np.float32)


MODEL = ResolvedModel("identity", "toy", "0" * 64, Path("toy"), "test")


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Toy:
    network = Toy()
    monkeypatch.setattr(embedding, "open_embedder", lambda model, device, threads, precision: network.at(precision))
    monkeypatch.setattr(embedding, "embedder_facts", lambda name: EmbedderFacts(3, 1.0, 1.0))
    return network


def aligned(colours: list[tuple[int, int, int] | None], quality: float = 0.8) -> dict[tuple[str, str], pa.Table]:
    """align's tables for one tracklet at 10 faces a second: a crop of one colour each, or none."""
    count = len(colours)
    has = [colour is not None for colour in colours]
    crops = []
    for colour in colours:
        picture = np.full((160, 160, 3), colour or 0, np.uint8)
        crops.append(cv2.imencode(".png", picture[..., ::-1])[1].tobytes() if colour else None)
    matrices = [[2.0, 0.0, float(i), 0.0, 2.0, 0.0] if there else None for i, there in enumerate(has)]
    faces = pa.table(
        {
            "segment": pa.array([4] * count, pa.int32()),
            "face": pa.array(range(count), pa.int64()),
            "track": pa.array([0] * count, pa.int64()),
            "time_s": pa.array([i / 10 for i in range(count)], pa.float64()),
            "quality": pa.array([quality if there else None for there in has], pa.float32()),
            "crop_matrix": pa.array(matrices, pa.list_(pa.float64(), 6)),
            **{
                name: pa.array([float(i) for i in range(count)], pa.float32())
                for name in ("x_px", "y_px", "w_px", "h_px")
            },
        }
    )
    return {
        ("align", "faces"): faces,
        ("align", "crops"): pa.table({"crop": pa.array(crops, pa.binary())}),
    }


def run(payloads: dict[tuple[str, str], pa.Table], params: EmbedParams, batch_size: int = 32) -> dict[str, Any]:
    inputs = MemoryInputs(payloads, models={"identity": MODEL})
    return collect(EMBED.compute(params, inputs, Runtime(batch_size=batch_size)))


def test_rows_are_those_of_align_with_vectors_where_embedded(toy: Toy) -> None:
    colours: list[tuple[int, int, int] | None] = [(10 * i, 100, 200) for i in range(12)]
    colours[3] = None
    result = run(aligned(colours), EmbedParams(interval_s=0.5, min_faces=1))
    assert result["embedded"].schema == EMBEDDED_SCHEMA
    assert result["embedded"]["segment"].to_pylist() == [4] * 12
    assert result["embedded"]["face"].to_pylist() == list(range(12))
    states = result["embedded"]["state"].to_pylist()
    assert states == [EMBEDDED, BETWEEN, BETWEEN, NO_CROP, BETWEEN, EMBEDDED, *[BETWEEN] * 4, EMBEDDED, BETWEEN]
    vectors = result["embeddings"]
    assert vectors.shape == (12, 3) and vectors.dtype == np.float32
    assert np.allclose(vectors[[0, 5, 10]], [[0, 100, 200], [50, 100, 200], [100, 100, 200]])  # RGB, not BGR
    assert np.isnan(np.delete(vectors, [0, 5, 10], axis=0)).all()
    matrix, box_px = toy.prepared[1]
    assert matrix.tolist() == [[2, 0, 5], [0, 2, 0]] and box_px.tolist() == [5, 5, 5, 5]


def test_batches_are_bounded_and_change_nothing(toy: Toy) -> None:
    payloads = aligned([(i, 2 * i, 3 * i) for i in range(1, 60)])
    whole = run(payloads, EmbedParams(interval_s=0), batch_size=64)
    assert toy.batches == [59]
    toy.batches.clear()
    parts = run(payloads, EmbedParams(interval_s=0), batch_size=7)
    assert max(toy.batches) == 7 and sum(toy.batches) == 59
    assert np.array_equal(whole["embeddings"], parts["embeddings"])


def test_batches_are_whole_calls_of_the_network(toy: Toy) -> None:
    """A call that is not full is filled up and costs as much, so that 20 faces at a time are 3 calls of 8, not 2.5."""
    toy.faces_per_call = 8
    run(aligned([(i, i, i) for i in range(1, 60)]), EmbedParams(interval_s=0), batch_size=20)
    assert toy.batches == [24, 24, 11]


def test_the_network_gets_the_precision_that_the_key_holds(toy: Toy) -> None:
    for precision in ("fp32", "bf16", "fp16"):
        run(aligned([(1, 2, 3)]), EmbedParams(precision=precision))
        assert toy.precision == precision


def test_rows_stay_in_line_over_several_batches_of_rows(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    payloads = aligned([(i, i, i) if i % 3 else None for i in range(1, 50)])
    whole = run(payloads, EmbedParams(min_faces=1))
    monkeypatch.setattr(embedding, "_ROWS_AT_ONCE", 11)
    parts = run(payloads, EmbedParams(min_faces=1))
    assert whole["embedded"].equals(parts["embedded"])
    assert np.array_equal(whole["embeddings"], parts["embeddings"], equal_nan=True)


def test_a_segment_without_faces_has_empty_payloads_and_loads_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("a network was loaded")

    monkeypatch.setattr(embedding, "open_embedder", refuse)
    inputs = MemoryInputs(aligned([]), models={"identity": ResolvedModel("identity", "dlib", "", Path(), "")})
    result = collect(EMBED.compute(EmbedParams(), inputs, Runtime()))
    assert result["embedded"].num_rows == 0 and result["embedded"].schema == EMBEDDED_SCHEMA
    assert result["embeddings"].shape == (0, 128)


def test_a_missing_or_broken_crop_is_an_error_not_a_row_of_zeros(toy: Toy) -> None:
    payloads = aligned([(1, 2, 3), (4, 5, 6)])
    for crops, complaint in [([None, None], "missing"), ([b"no picture", b"none"], "unreadable")]:
        payloads["align", "crops"] = pa.table({"crop": pa.array(crops, pa.binary())})
        with pytest.raises(ArtifactError, match=complaint):
            run(payloads, EmbedParams())
    payloads["align", "crops"] = aligned([(1, 2, 3)])["align", "crops"]
    with pytest.raises(ArtifactError, match="1 crops belong to 2 faces"):
        run(payloads, EmbedParams())


def test_facts_are_those_of_the_adapters() -> None:
    from faceline.adapters.dlib_resnet import DlibResnet
    from faceline.adapters.vggface2 import VGGFace2

    for name, adapter in (("dlib", DlibResnet), ("vggface2", VGGFace2)):
        facts = embedder_facts(name)
        assert adapter.name == name
        assert facts.dimension == adapter.dimension
        assert facts.same_person_threshold == adapter.same_person_threshold
        assert facts.same_person_tracklets == adapter.same_person_tracklets < facts.same_person_threshold
