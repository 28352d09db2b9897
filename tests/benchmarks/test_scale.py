"""Growth of time, and the rows it is measured on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.anomalies.scale import exponent, repeated
from faceline.anomaly.rows import MaskParams, people_rows
from faceline.stage import MemoryInputs


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_exponent_of_exact_growth(power: float) -> None:
    n = np.array([4_500, 9_000, 18_000, 36_000])
    assert exponent(n, 1e-4 * (n * np.log(n)) ** power) == pytest.approx(power)


def test_exponent_by_hand_and_of_one_size() -> None:
    # n log n: 10 → 23.026, 100 → 460.517; time ×20 for ×20.
    assert exponent([10, 100], [1.0, 20.0]) == pytest.approx(1.0)
    assert np.isnan(exponent([10, 10], [1.0, 2.0]))


class Recording:
    """Two persons in 40 frames, the first in each, the second in every other."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        order = [(i, p) for i in range(40) for p in ((1, 2) if i % 2 else (1,))]
        n = len(order)
        number = pa.array([i for i, _ in order])
        floats = {
            name: pa.array(rng.normal(5, 1, n), pa.float32())
            for name in ("yaw_deg", "pitch_deg", "roll_deg", "luma_mean", "sharpness", "eye_distance_px")
        }
        key = {"segment": pa.array([0] * n, pa.int32()), "face": np.arange(n), "frame": number}
        time_s = pa.array([i / 10 for i, _ in order])
        tables: dict[tuple[str, str], pa.Table] = {
            ("sample", "frames"): pa.table({"frame": np.arange(40), "time_s": np.arange(40) / 10, "cut": [False] * 40}),
            ("align", "faces"): pa.table(
                key | {"time_s": time_s, "state": ["ok"] * n, "quality": pa.array([0.8] * n, pa.float32())} | floats
            ),
            ("emote", "expressions"): pa.table(
                key | {"happy": pa.array(rng.uniform(0, 1, n), pa.float32()), "mouth_width": pa.array([None] * n, "f4")}
            ),
            ("cluster", "persons"): pa.table(
                key | {"person": pa.array([p for _, p in order], pa.int32()), "track": np.arange(n)}
            ),
            ("embed", "embedded"): pa.table({"state": ["embedded"] * n}),
            ("cluster", "people"): pa.table({"person": [1, 2]}),
        }
        arrays = {("cluster", "components"): rng.normal(size=(n, 3)), ("embed", "embeddings"): rng.normal(size=(n, 8))}
        arrays["emote", "blendshapes"] = np.zeros((n, 0), dtype=np.float32)
        self.stored: dict[tuple[str, str], Any] = tables | arrays
        self.people = people_rows(MemoryInputs(self.stored), MaskParams())

    def payloads(self, stage: str) -> dict[str, tuple[str, int]]:
        return {
            name: ("npy" if isinstance(p, np.ndarray) else "parquet", len(p))
            for (owner, name), p in self.stored.items()
            if owner == stage
        }

    def table(self, stage: str, payload: str) -> pa.Table:
        return self.stored[stage, payload]

    def array(self, stage: str, payload: str) -> np.ndarray:
        return self.stored[stage, payload]


def test_rows_are_repeated_with_noise_and_go_on_in_time() -> None:
    recording = Recording()
    payloads = repeated(recording, 100)  # type: ignore[arg-type]
    assert set(payloads) == set(recording.stored) - {("cluster", "people")}  # which has no row per face
    assert all(len(p) == 100 if isinstance(p, np.ndarray) else p.num_rows == 100 for p in payloads.values())
    (rows,) = people_rows(MemoryInputs(payloads), MaskParams())
    assert len(rows) == 100 and rows.usable.all()
    assert np.diff(rows.time_s) == pytest.approx(0.1)
    assert rows.stretch.tolist() == [0] * 100
    faces = payloads["align", "faces"]
    assert faces.schema == recording.table("align", "faces").schema
    yaw = faces["yaw_deg"].to_numpy()
    assert len(np.unique(yaw)) == 100  # no copies
    happy = payloads["emote", "expressions"]["happy"].to_numpy()
    assert happy.min() >= 0 and happy.max() <= 1
    assert payloads["emote", "expressions"]["mouth_width"].null_count == 100
    assert payloads["emote", "blendshapes"].shape == (100, 0)  # without their network
