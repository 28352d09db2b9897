"""Made-up inputs for the anomaly stages: one or more faces as autoregressive noise with bursts at known times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest

from faceline.anomaly.rows import PersonRows
from faceline.stage import MemoryInputs

EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


def autoregressive(rng: np.random.Generator, n: int, d: int, phi: float) -> np.ndarray:
    """float64 [n, d], unit variance, lag-one correlation phi."""
    noise = rng.standard_normal((n + 100, d)) * np.sqrt(1 - phi**2)
    out = np.zeros_like(noise)
    out[0] = rng.standard_normal(d)
    for i in range(1, len(noise)):
        out[i] = phi * out[i - 1] + noise[i]
    return out[100:]


@dataclass(frozen=True)
class Scene:
    """Inputs and the truth: (start_s, end_s) of each burst of each person."""

    inputs: MemoryInputs
    bursts: dict[int, list[tuple[float, float]]]


@pytest.fixture(scope="session")
def make_scene() -> Callable[..., Scene]:
    return build_scene


def build_scene(
    *,
    seed: int = 0,
    duration_s: float = 60.0,
    fps: float = 10.0,
    start_s: float = 0.0,
    bursts: Sequence[Sequence[float]] = ((12.0, 30.0, 47.0),),
    strength: float = 6.0,
    measures: Sequence[str] = ("mouth_opening", "mouth_width", "brow_inner_left", "eye_opening_left", "jaw_drop"),
    unknown: int = 0,
    cuts_s: Sequence[float] = (),
    hidden_s: Sequence[tuple[float, float]] = (),
    away_s: Sequence[tuple[float, float]] = (),
) -> Scene:
    """One entry of `bursts` per person: the times at which that person's mouth opens for 1 s.

    `hidden_s`: the face is masked (no_face) then; `away_s`: nobody is in the picture then; `unknown` faces of nobody
    are appended at the end.
    """
    rng = np.random.default_rng(seed)
    n = round(duration_s * fps)
    time_s = start_s + np.arange(n) / fps
    cut = np.zeros(n, dtype=bool)
    for moment in cuts_s:
        cut[int(np.searchsorted(time_s - start_s, moment))] = True
    people = [_person(rng, time_s - start_s, moments, strength, len(measures)) for moments in bursts]
    kept = np.ones(n, dtype=bool)
    masked = np.zeros(n, dtype=bool)
    for a, b in away_s:
        kept &= ~((time_s - start_s >= a) & (time_s - start_s <= b))
    for a, b in hidden_s:
        masked |= (time_s - start_s >= a) & (time_s - start_s <= b)
    # Faces in order of frames, as detect writes them.
    order = [(i, p) for i in np.flatnonzero(kept) for p in range(len(people))]
    frame = np.array([i for i, _ in order] + [n - 1] * unknown)
    who = np.array([p for _, p in order] + [-1] * unknown)
    rows = len(frame)

    def gather(name: str) -> np.ndarray:
        return np.stack([people[max(p, 0)][name][i] for i, p in zip(frame, who, strict=True)])

    hidden = masked[frame] & (who >= 0)
    emotions, values, pose = gather("emotions"), gather("measures"), gather("pose")
    embedding, component = gather("embedding"), gather("component")
    quality = np.where(hidden, np.nan, 0.8)
    for array in (emotions, values, pose):
        array[hidden] = np.nan
    embedded = (frame % max(1, round(fps / 2)) == 0) & ~hidden & (who >= 0)
    embedding[~embedded] = np.nan
    component[~embedded] = np.nan
    face = {
        "segment": pa.array(np.zeros(rows), pa.float64()).cast(pa.int32()),
        "face": pa.array(np.arange(rows)),
        "frame": pa.array(frame * 3),
        "time_s": pa.array(time_s[frame]),
    }
    track = pa.array(np.where(who < 0, len(people), who))
    align = {
        "state": pa.array(["no_face" if h else "ok" for h in hidden]),
        **{name: _floats(pose[:, i]) for i, name in enumerate(("yaw_deg", "pitch_deg", "roll_deg"))},
        "quality": _floats(quality),
        "luma_mean": _floats(np.full(rows, 120.0)),
        "sharpness": _floats(np.full(rows, 0.02)),
        "contrast": _floats(np.full(rows, 40.0)),
        "eye_distance_px": _floats(np.full(rows, 90.0)),
    }
    expressions = {
        "track": track,
        **{name: _floats(emotions[:, i]) for i, name in enumerate(EMOTIONS)},
        **{name: _floats(values[:, i]) for i, name in enumerate(measures)},
        "emotion_state": pa.array(["ok"] * rows),
        "measures_state": pa.array(["ok"] * rows),
    }
    persons = {"track": track, "person": pa.array(who + 1, mask=who < 0).cast(pa.int32())}
    payloads: dict[tuple[str, str], pa.Table | np.ndarray] = {
        ("sample", "frames"): pa.table({"frame": np.arange(n) * 3, "time_s": time_s, "cut": cut}),
        ("align", "faces"): pa.table(face | align),
        ("emote", "expressions"): pa.table(face | expressions),
        ("emote", "blendshapes"): np.zeros((rows, 0), dtype=np.float32),
        ("cluster", "persons"): pa.table(face | persons),
        ("cluster", "components"): component.astype(np.float32),
        ("embed", "embedded"): pa.table({"state": ["embedded" if e else "between" for e in embedded]}),
        ("embed", "embeddings"): embedding.astype(np.float32),
    }
    truth = {p + 1: [(start_s + m - 0.5, start_s + m + 0.5) for m in moments] for p, moments in enumerate(bursts)}
    return Scene(MemoryInputs(payloads), truth)


def _person(
    rng: np.random.Generator, time_s: np.ndarray, moments: Sequence[float], strength: float, measures: int
) -> dict[str, np.ndarray]:
    n, phi = len(time_s), 0.6
    values = autoregressive(rng, n, measures, phi)
    logits = autoregressive(rng, n, 7, phi) * 0.5 + np.array([0, -1, 0, 1, 1, 0, 2])
    hidden = autoregressive(rng, n, 4, phi)
    for moment in moments:
        envelope = np.where(np.abs(time_s - moment) <= 0.5, np.cos(np.pi * (time_s - moment)) ** 2, 0.0)
        values[:, 0] += strength * envelope
        logits[:, 5] += strength * 0.5 * envelope
        hidden[:, 0] += strength * 0.7 * envelope
    exp = np.exp(logits)
    embedding = hidden @ rng.standard_normal((4, 32)) * 0.03 + rng.standard_normal(32)
    return {
        "measures": 0.3 + 0.02 * values,
        "emotions": exp / exp.sum(axis=1, keepdims=True),
        "pose": 4.0 * autoregressive(rng, n, 3, 0.9),
        "embedding": embedding / np.linalg.norm(embedding, axis=1, keepdims=True),
        "component": hidden[:, :3] * 0.5 + 5.0,
    }


def _floats(values: np.ndarray) -> pa.Array:
    return pa.array(np.asarray(values, dtype=np.float32), mask=~np.isfinite(values))


@pytest.fixture
def make_rows() -> Callable[..., PersonRows]:
    return build_rows


def build_rows(
    time_s: np.ndarray,
    *,
    stretch: np.ndarray | None = None,
    usable: np.ndarray | None = None,
    confounds: np.ndarray | None = None,
    interval_s: float = 0.1,
    person: int = 1,
) -> PersonRows:
    """Rows of one person at the given times; one stretch, all usable, facing the camera unless said otherwise."""
    n = len(time_s)
    return PersonRows(
        person=person,
        index=np.arange(n),
        time_s=np.asarray(time_s, dtype=np.float64),
        stretch=np.zeros(n, dtype=np.int64) if stretch is None else stretch,
        usable=np.ones(n, dtype=bool) if usable is None else usable,
        confounds=np.tile([0.0, 0.0, 0.0, 120.0, 6.5], (n, 1)) if confounds is None else confounds,
        quality=np.full(n, 0.8),
        interval_s=interval_s,
        masked={},
    )
