"""The emote stage: scores and measures where they can be trusted, nulls with a reason elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from faceline import emotion
from faceline.alignment import CROPS_SCHEMA, FACES_SCHEMA
from faceline.blendshapes import BLENDSHAPES
from faceline.emotion import EMOTE, EMOTION_NAMES, EXPRESSIONS_SCHEMA, EmoteParams, score_crops
from faceline.measures import MEASURE_NAMES, compute_measures
from faceline.stage import MemoryInputs, Runtime, collect
from faceline.weights import ResolvedModel


class FakeFer:
    """Puts the mean gray value of a picture in place of a score, so that a row shows which crop it came from."""

    def __init__(self, *_: object) -> None:
        self.batches: list[int] = []

    def scores(self, crops: np.ndarray) -> np.ndarray:
        assert crops.dtype == np.uint8 and crops.shape[1:] == (64, 64)
        self.batches.append(len(crops))
        scores = np.zeros((len(crops), 7), np.float32)
        scores[:, 0] = crops.mean(axis=(1, 2)) / 255
        scores[:, 6] = 1 - scores[:, 0]
        return scores


class Model:
    sha256 = "ab" * 32
    path = "nowhere"


def aligned(rows: list[dict[str, Any]]) -> dict[tuple[str, str], Any]:
    """Align's payloads; a row without `state` is a good face."""
    rng = np.random.default_rng(0)
    faces, crops, landmarks = [], [], []
    for number, row in enumerate(rows):
        state = row.get("state", "ok")
        face = {field.name: None for field in FACES_SCHEMA}
        face |= {"segment": 1, "face": number, "frame": 2 * number, "time_s": number / 5, "track": 7, "state": state}
        if state == "ok":
            face |= {"yaw_deg": row.get("yaw", 3.0), "pitch_deg": row.get("pitch", -5.0), "roll_deg": 0.0}
        if state in ("ok", "no_mesh"):
            face |= {"quality": row.get("quality", 0.9)}
        faces.append(face)
        has_crop = state in ("ok", "no_mesh") and row.get("crop", True)
        gray = bytes([number % 256]) * 4096
        crops.append({"segment": 1, "face": number, "crop": b"x", "fer_crop": gray if has_crop else None})
        landmarks.append(rng.normal(0, 50, (478, 3)) if state == "ok" else np.full((478, 3), np.nan))
    return {
        ("align", "faces"): pa.Table.from_pylist(faces, schema=FACES_SCHEMA),
        ("align", "crops"): pa.Table.from_pylist(crops, schema=CROPS_SCHEMA),
        ("align", "landmarks"): np.array(landmarks, dtype=np.float32).reshape(-1, 478, 3),
    }


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    def run(rows: list[dict[str, Any]], runtime: Runtime | None = None, **params: float) -> pa.Table:
        monkeypatch.setattr("faceline.adapters.fer_cnn.FerCnn", FakeFer)
        inputs = MemoryInputs(aligned(rows), models={"emotion": Model()})
        return collect(EMOTE.compute(EmoteParams(**params), inputs, runtime or Runtime()))["expressions"]

    return run


CASES = [
    # row, emotion_state, measures_state
    ({}, "ok", "ok"),
    ({"state": "no_mesh"}, "ok", "no_mesh"),
    ({"state": "no_mesh", "quality": 0.05}, "low_quality", "no_mesh"),
    ({"state": "no_face"}, "no_face", "no_face"),
    ({"state": "too_small"}, "too_small", "too_small"),
    ({"state": "outside"}, "outside", "outside"),
    ({"yaw": 46.0}, "turned_away", "turned_away"),
    ({"yaw": -46.0}, "turned_away", "turned_away"),
    ({"yaw": 44.0}, "ok", "ok"),
    ({"pitch": 41.0}, "turned_away", "turned_away"),
    ({"quality": 0.1}, "low_quality", "low_quality"),
    ({"crop": False}, "no_crop", "ok"),
]


def test_what_cannot_be_trusted_is_null_with_the_reason(run: Any) -> None:
    table = run([row for row, *_ in CASES])
    assert table.schema == EXPRESSIONS_SCHEMA
    assert table["emotion_state"].to_pylist() == [state for _, state, _ in CASES]
    assert table["measures_state"].to_pylist() == [state for *_, state in CASES]
    for names, column in ((EMOTION_NAMES, 1), (MEASURE_NAMES, 2)):
        for name in names:
            assert table[name].is_valid().to_pylist() == [case[column] == "ok" for case in CASES], name


def test_rows_stay_in_aligns_order_across_chunks(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{} if number % 3 else {"state": "no_face"} for number in range(25)]
    plain = run(rows)
    monkeypatch.setattr(emotion, "_CHUNK_FACES", 4)
    chunked = run(rows, Runtime(batch_size=3))
    assert chunked.equals(plain)
    assert plain["face"].to_pylist() == list(range(25)) and set(plain["track"].to_pylist()) == {7}
    assert plain["frame"].to_pylist() == [2 * number for number in range(25)]
    expected = [number / 255 if number % 3 else None for number in range(25)]
    assert plain["angry"].to_pylist() == pytest.approx(expected, abs=1e-6)
    landmarks = aligned(rows)["align", "landmarks"]
    np.testing.assert_array_equal(
        np.array([plain[name].to_numpy() for name in MEASURE_NAMES]).T, compute_measures(landmarks)
    )


def test_limits_are_parameters(run: Any) -> None:
    rows = [{"yaw": 30.0}, {"pitch": -30.0}, {"quality": 0.5}]
    assert run(rows)["measures_state"].to_pylist() == ["ok"] * 3
    states = run(rows, max_yaw_deg=20.0, max_pitch_deg=20.0, min_quality=0.6)["measures_state"].to_pylist()
    assert states == ["turned_away", "turned_away", "low_quality"]


def test_no_faces_need_no_model() -> None:
    table = collect(EMOTE.compute(EmoteParams(), MemoryInputs(aligned([])), Runtime()))["expressions"]
    assert table.schema == EXPRESSIONS_SCHEMA and table.num_rows == 0


def test_scores_are_taken_in_batches_of_present_crops() -> None:
    model = FakeFer()
    crops = [bytes([value]) * 4096 if value % 2 else None for value in range(11)]
    scores = score_crops(crops, model, batch_size=2)
    assert model.batches == [2, 2, 1]
    assert np.isnan(scores[::2]).all()
    np.testing.assert_allclose(scores[1::2, 0], np.arange(1, 11, 2) / 255, atol=1e-6)


def test_faces_and_crops_must_match() -> None:
    payloads = aligned([{}, {}])
    payloads["align", "crops"] = payloads["align", "crops"].slice(0, 1)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ValueError, match="2 faces but 1 crops"):
        patch.setattr("faceline.adapters.fer_cnn.FerCnn", FakeFer)
        collect(EMOTE.compute(EmoteParams(), MemoryInputs(payloads, models={"emotion": Model()}), Runtime()))


def test_progress_is_reported(run: Any) -> None:
    seen: list[tuple[int, int]] = []
    run([{}, {}, {}], Runtime(progress=lambda done, total: seen.append((done, total))))
    assert seen == [(3, 3)]


class FakeBlendshapes:
    """Puts a mesh's first number in place of the first score, and how many were open and closed for the test."""

    opened = closed = 0

    def __init__(self, path: Path, threads: int) -> None:
        assert path == Path("bundle") and threads == 2
        type(self).opened += 1

    def scores(self, landmarks: np.ndarray) -> np.ndarray:
        assert landmarks.dtype == np.float32 and np.isfinite(landmarks).all()
        scores = np.full((len(landmarks), 52), 0.5, np.float32)
        scores[:, 0] = landmarks[:, 0, 0]
        return scores

    def close(self) -> None:
        type(self).closed += 1


WITH = ResolvedModel("blendshapes", "face_landmarker", "ab" * 32, Path("bundle"), "model folder")
WITHOUT = ResolvedModel("blendshapes", "none", "", Path(), "absent")


def blendshapes(rows: list[dict[str, Any]], chosen: ResolvedModel | None, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("faceline.adapters.fer_cnn.FerCnn", FakeFer)
    monkeypatch.setattr("faceline.adapters.blendshapes.Blendshapes", FakeBlendshapes)
    models: dict[str, Any] = {"emotion": Model()} | ({} if chosen is None else {"blendshapes": chosen})
    return collect(EMOTE.compute(EmoteParams(), MemoryInputs(aligned(rows), models=models), Runtime()))


def test_blendshapes_stand_where_measures_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emotion, "_CHUNK_FACES", 5)
    monkeypatch.setattr(FakeBlendshapes, "opened", 0)
    monkeypatch.setattr(FakeBlendshapes, "closed", 0)
    rows = [row for row, *_ in CASES]
    done = blendshapes(rows, WITH, monkeypatch)
    scores, landmarks = done["blendshapes"], aligned(rows)["align", "landmarks"]
    assert scores.shape == (len(rows), len(BLENDSHAPES)) and scores.dtype == np.float32
    ok = np.array([state == "ok" for *_, state in CASES])
    assert np.isnan(scores[~ok]).all()
    np.testing.assert_array_equal(scores[ok, 0], landmarks[ok, 0, 0])
    assert (FakeBlendshapes.opened, FakeBlendshapes.closed) == (1, 1)
    # Everything else is as it is without them.
    assert done["expressions"].equals(blendshapes(rows, WITHOUT, monkeypatch)["expressions"])


@pytest.mark.parametrize("chosen", [WITHOUT, None])
def test_without_a_network_there_are_no_columns(chosen: ResolvedModel | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeBlendshapes, "opened", 0)
    scores = blendshapes([{}, {"state": "no_face"}], chosen, monkeypatch)["blendshapes"]
    assert scores.shape == (2, 0) and scores.dtype == np.float32
    assert FakeBlendshapes.opened == 0


@pytest.mark.parametrize(("chosen", "width"), [(WITH, 52), (WITHOUT, 0)])
def test_a_segment_without_faces_is_as_wide_as_the_others(
    chosen: ResolvedModel, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = blendshapes([], chosen, monkeypatch)["blendshapes"]
    assert scores.shape == (0, width) and scores.dtype == np.float32
