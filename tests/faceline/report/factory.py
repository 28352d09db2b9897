"""Consistent made-up outputs of all stages for one footage, for tests of what reads them.

A sitter looks at the camera; each measure is a smooth wander plus noise, and leaps during the scripted events.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from faceline.stage import MemoryInputs

EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
MEASURES = ("mouth_opening", "smile", "brow_raise_left", "brow_raise_right", "eye_closure_left", "eye_closure_right")

F32, F64, I32, I64, TEXT = pa.float32(), pa.float64(), pa.int32(), pa.int64(), pa.string()

FRAMES = pa.schema(
    [
        *(("frame", I64), ("pts", I64), ("time_s", F64), ("tick", I64), ("segment", I32)),
        *(("cut", pa.bool_()), ("luma_mean", F32), ("cut_score", F32)),
    ]
)
FACTS = pa.schema(
    [
        *(("segment", I32), ("time_base_num", I64), ("time_base_den", I64), ("width_px", I32), ("height_px", I32)),
        *(("rotation_deg", I32), ("native_fps", F64), ("frames_decoded", I64)),
        *(("damaged_at_s", F64), ("damage", TEXT)),
    ]
)
FACES = pa.schema(
    [
        *(("segment", I32), ("face", I64), ("frame", I64), ("time_s", F64), ("track", I64)),
        *((name, F32) for name in ("x_px", "y_px", "w_px", "h_px", "confidence")),
        *(("detected", pa.bool_()), ("points_px", pa.list_(F32, 10)), ("state", TEXT)),
        *((name, F32) for name in ("yaw_deg", "pitch_deg", "roll_deg", "sharpness", "luma_mean", "eye_distance_px")),
        *(("quality", F32), ("crop_matrix", pa.list_(F64, 6))),
    ]
)
CROPS = pa.schema([("segment", I32), ("face", I64), ("crop", pa.binary()), ("fer_crop", pa.binary())])
EMBEDDED = pa.schema([("segment", I32), ("face", I64), ("state", TEXT)])
EXPRESSIONS = pa.schema(
    [
        *(("segment", I32), ("face", I64), ("frame", I64), ("time_s", F64), ("track", I64)),
        *((name, F32) for name in (*EMOTIONS, *MEASURES)),
        *(("emotion_state", TEXT), ("measures_state", TEXT)),
    ]
)
PERSONS = pa.schema(
    [
        *(("segment", I32), ("face", I64), ("frame", I64), ("time_s", F64), ("track", I64)),
        *(("person", I32), ("distance", F32)),
    ]
)
PEOPLE = pa.schema(
    [
        *(("person", I32), ("faces", I64), ("tracks", I64), ("first_s", F64), ("last_s", F64)),
        *(("segment", I32), ("face", I64)),
    ]
)
TRIALS = pa.schema(
    [
        *(("trial", TEXT), ("model", TEXT), ("features", TEXT), ("window_s", F64), ("params", TEXT)),
        *(
            ("person", I32),
            ("rows", I64),
            ("scored", I64),
            ("state", TEXT),
            ("blocks", TEXT),
            ("masked_no_face", I64),
            ("masked_quality", I64),
            ("masked_turned", I64),
        ),
        *(("injection", F64), ("stability", F64), ("agreement", F64)),
        *(("objective", F64), ("rank", I32), ("chosen", pa.bool_())),
    ]
)
COMPARISON = pa.schema([("person", I32), ("strategy", TEXT), ("injection", F64)])
DRIVERS = pa.schema(
    [
        *(("event", I64), ("column", TEXT), ("words", TEXT), ("departure", F64), ("score_lost", F64)),
        ("order", I32),
    ]
)
VERDICTS = pa.schema(
    [
        *(("person", I32), ("state", TEXT), ("reason", TEXT), ("judged_s", F64), ("threshold", F64)),
        *(("expected_false", F64), ("reported", I32), ("explained", I32), ("unsupported", I32)),
        *(("unstable", I32), ("dropped", I32)),
    ]
)
SCORES = pa.schema(
    [
        *(("segment", I32), ("face", I64), ("frame", I64), ("time_s", F64), ("track", I64), ("person", I32)),
        *((name, F32) for name in ("score_iforest", "score_ocsvm", "score_lof", "score")),
        *(("threshold", F32), ("is_anomaly", pa.bool_()), ("event", I64)),
    ]
)
EVENTS = pa.schema(
    [
        *(("event", I64), ("person", I32), ("rank", I32), ("start_s", F64), ("peak_s", F64), ("end_s", F64)),
        *(("score", F64), ("p_value", F64), ("expected_false", F64), ("quality", F32), ("top_features", TEXT)),
        *(("survival", F32), ("flags", TEXT), ("explained", pa.bool_())),
        *(("frame", I64), ("segment", I32), ("face", I64), ("faces", I64)),
    ]
)

FACTS_OF_RUN: dict[str, Any] = {
    "faceline": "0.1.0",
    "footage": {"name": "interview", "sha256": "ab" * 32, "duration_s": 60.0, "start_s": 0.0},
    "models": {
        "detector": {"name": "mtcnn", "sha256": "01" * 32, "source": "facenet-pytorch"},
        "identity": {"name": "vggface2", "sha256": "02" * 32, "source": "model folder"},
    },
    "params": {"sample": {"fps": 10.0}, "cluster": {"components": 3, "seed": 0}},
}


@dataclass(frozen=True)
class Script:
    """What happens in the made-up footage.

    Attributes:
        fps: sampled frames per second.
        length_s: length in seconds; start_s: presentation time of the first frame.
        persons: per person, the stretches (from_s, to_s) in which the person is seen, relative to the start.
        events: (person, start_s, end_s) relative to the start, the most unusual first.
        segment_s: length of a segment.
        unknown_every: every so many-th face fits nobody; 0 for never.
        no_face_every: every so many-th box holds no face; 0 for never.
        no_crop_every: every so many-th face has no crop, no measures and no emotions; 0 for never.
        damaged_at_s: where decoding stopped, or None.
        pictures: whether crops are JPEG pictures (else a few bytes, faster).
        facts: the provenance facts.
        threshold: score from which a face counts as an anomaly.
        top_features: text of every event's ``top_features``, and of its first driver; None for a plausible one.
        explained: how many of the events, the last ones, something beside expression explains.
        trials: how many trials each person has, at least three; the last one has no scores.
        unsupported: peaks of every person over the threshold at which no measure departs enough.
        unstable: peaks of every person that are hardly found again.
        dropped: events of every person beyond those that are kept.
    """

    fps: float = 10.0
    length_s: float = 60.0
    start_s: float = 0.0
    persons: Sequence[Sequence[tuple[float, float]]] = (((0.0, 60.0),),)
    events: Sequence[tuple[int, float, float]] = ((1, 20.0, 22.0), (1, 41.0, 41.6))
    segment_s: float = 300.0
    unknown_every: int = 0
    no_face_every: int = 0
    no_crop_every: int = 0
    damaged_at_s: float | None = None
    pictures: bool = True
    facts: dict[str, Any] = field(default_factory=lambda: FACTS_OF_RUN)
    top_features: str | None = None
    threshold: float = 3.5
    explained: int = 0
    trials: int = 3
    unsupported: int = 0
    unstable: int = 0
    dropped: int = 0
    seed: int = 0


def make(script: Script | None = None) -> MemoryInputs:
    """The outputs of sample … gridsearch for a script, as inputs of the report."""
    script = script or Script()
    rng = np.random.default_rng(script.seed)
    count = round(script.length_s * script.fps)
    times = script.start_s + np.arange(count) / script.fps
    rows = _rows(script, times)
    n = len(rows["frame"])
    real = rows["state"] != "no_face"
    known = real & (rows["person"] > 0)
    whole = rows["state"] == "ok"

    departing = np.zeros(n, dtype=np.int64)
    for number, (person, start_s, end_s) in enumerate(script.events, start=1):
        at = rows["time_s"] - script.start_s
        departing[known & (rows["person"] == person) & (at >= start_s) & (at <= end_s)] = number
    strength = np.where(departing > 0, 8.0 - 0.5 * departing, 0.0)

    base = {name: rows[name] for name in ("segment", "face", "frame", "time_s", "track")}
    measures = {
        name: np.where(whole, 0.3 + 0.05 * np.sin(rows["time_s"] / (3 + i)) + rng.normal(0, 0.02, n), np.nan)
        for i, name in enumerate(MEASURES)
    }
    measures["mouth_opening"] = measures["mouth_opening"] + 0.05 * strength
    logits = rng.normal(0, 0.3, (n, 7)) + np.array([0, 0, 0, 0.5, 0, 0, 2.0])
    logits[:, 2] += 0.4 * strength
    emotions = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    emotions[~whole] = np.nan
    score = np.where(known & whole, np.abs(rng.normal(0, 1, n)) - 0.7 + strength, np.nan)
    person = pa.array(rows["person"], I32, mask=~known)
    quality = np.where(real, np.clip(0.8 + rng.normal(0, 0.05, n), 0, 1), np.nan)
    ok = np.where(whole, "ok", rows["state"])

    faces = {
        **base,
        "track": rows["track"],
        "x_px": 200 + 120.0 * np.maximum(rows["person"], 0) + rng.normal(0, 2, n),
        "y_px": 100 + rng.normal(0, 2, n),
        "w_px": np.full(n, 90.0),
        "h_px": np.full(n, 110.0),
        "confidence": np.full(n, 0.99),
        "detected": real,
        "points_px": [[0.0] * 10] * n,
        "state": rows["state"],
        "yaw_deg": _nullable(np.where(whole, rng.normal(0, 4, n), np.nan)),
        "pitch_deg": _nullable(np.where(whole, rng.normal(0, 3, n), np.nan)),
        "roll_deg": _nullable(np.where(whole, rng.normal(0, 2, n), np.nan)),
        "sharpness": _nullable(np.where(real, 100.0, np.nan)),
        "luma_mean": _nullable(np.where(real, 120.0, np.nan)),
        "eye_distance_px": _nullable(np.where(whole, 60.0, np.nan)),
        "quality": _nullable(quality),
        "crop_matrix": [[1.0, 0.0, 0.0, 0.0, 1.0, 0.0] if w else None for w in whole],
    }
    crops = [
        _picture(int(p), bool(d), script.pictures) if w else None
        for p, d, w in zip(rows["person"], departing > 0, whole, strict=True)
    ]
    components = rng.normal(0, 1, (n, 3)).astype(np.float32)
    components[~known] = np.nan
    scores = {
        **base,
        "person": person,
        "score_iforest": _nullable(score),
        "score_ocsvm": _nullable(score * 0.9),
        "score_lof": _nullable(score * 1.1),
        "score": _nullable(score),
        "threshold": _nullable(np.where(np.isfinite(score), script.threshold, np.nan)),
        "is_anomaly": (departing > 0) & np.isfinite(score),
        "event": pa.array(departing - 1, I64, mask=departing == 0),
    }
    frames = {
        "frame": np.arange(count) * 3,
        "pts": np.round(times * 90000).astype(np.int64),
        "time_s": times,
        "tick": np.arange(count),
        "segment": _segments(script, times),
        "cut": np.zeros(count, dtype=bool),
        "luma_mean": np.full(count, 110.0),
        "cut_score": np.zeros(count),
    }
    payloads: dict[tuple[str, str], pa.Table | np.ndarray] = {
        ("sample", "frames"): _table(frames, FRAMES),
        ("sample", "facts"): _facts(script, times),
        ("align", "faces"): _table(faces, FACES),
        ("align", "crops"): _table(
            {"segment": rows["segment"], "face": rows["face"], "crop": crops, "fer_crop": [None] * n}, CROPS
        ),
        ("align", "landmarks"): np.full((n, 478, 3), np.nan, dtype=np.float32),
        ("embed", "embedded"): _table(
            {"segment": rows["segment"], "face": rows["face"], "state": np.where(whole, "embedded", "no_crop")},
            EMBEDDED,
        ),
        ("embed", "embeddings"): np.zeros((n, 8), dtype=np.float32),
        ("emote", "expressions"): _table(
            {
                **base,
                **{name: _nullable(emotions[:, i]) for i, name in enumerate(EMOTIONS)},
                **{name: _nullable(values) for name, values in measures.items()},
                "emotion_state": ok,
                "measures_state": ok,
            },
            EXPRESSIONS,
        ),
        ("cluster", "persons"): _table(
            {**base, "person": person, "distance": _nullable(np.where(known, 0.4, np.nan))}, PERSONS
        ),
        ("cluster", "people"): _people(rows, known, quality),
        ("cluster", "components"): components,
        ("gridsearch", "trials"): _trials(script, rows, known, score),
        ("gridsearch", "scores"): _table(scores, SCORES),
    }
    events = _events(script, rows, departing, score, quality)
    persons = payloads["cluster", "people"]["person"].to_pylist()
    payloads |= {
        ("gridsearch", "events"): events,
        ("gridsearch", "drivers"): _drivers(script, events),
        ("gridsearch", "verdicts"): _verdicts(script, persons, rows, score, events),
        ("gridsearch", "comparison"): _comparison(persons),
    }
    return MemoryInputs(payloads, facts=script.facts)


def empty(facts: dict[str, Any] | None = None, frames: int = 30) -> MemoryInputs:
    """Footage without a single face."""
    return make(Script(length_s=frames / 10.0, persons=(), events=(), facts=facts or FACTS_OF_RUN))


def _rows(script: Script, times: np.ndarray) -> dict[str, np.ndarray]:
    cells: list[tuple[int, int, float, int, int]] = []
    segments = _segments(script, times)
    for i, time_s in enumerate(times):
        at = time_s - script.start_s
        for person, stretches in enumerate(script.persons, start=1):
            for number, (from_s, to_s) in enumerate(stretches):
                if from_s <= at < to_s:
                    cells.append((int(segments[i]), i * 3, float(time_s), person * 100 + number, person))
    n = len(cells)
    columns = list(zip(*cells, strict=True)) if cells else [()] * 5
    segment = np.array(columns[0], dtype=np.int64)
    track = np.array(columns[3], dtype=np.int64)
    person = np.array(columns[4], dtype=np.int64)
    state = np.full(n, "ok", dtype=object)
    index = np.arange(n)

    def every(count: int) -> np.ndarray:
        return (index % count == count - 1) if count else np.zeros(n, dtype=bool)

    state[every(script.no_crop_every)] = "too_small"
    person[every(script.unknown_every)] = -1
    state[every(script.no_face_every)] = "no_face"
    _, dense = np.unique(segment * 10_000 + track, return_inverse=True)
    face = index - np.searchsorted(segment, segment) if n else index
    return {
        "segment": segment,
        "face": np.asarray(face, dtype=np.int64),
        "frame": np.array(columns[1], dtype=np.int64),
        "time_s": np.array(columns[2], dtype=np.float64),
        "track": np.asarray(dense, dtype=np.int64),
        "person": person,
        "state": state,
    }


def _segments(script: Script, times: np.ndarray) -> np.ndarray:
    return ((times - script.start_s + 1e-9) // script.segment_s).astype(np.int64)


def _facts(script: Script, times: np.ndarray) -> pa.Table:
    segments = _segments(script, times)
    numbers = np.unique(segments)
    damaged = [None] * len(numbers)
    words: list[str | None] = [None] * len(numbers)
    if script.damaged_at_s is not None:
        damaged[-1] = script.damaged_at_s
        words[-1] = "Invalid data found when processing input"
    return _table(
        {
            "segment": numbers,
            "time_base_num": [1] * len(numbers),
            "time_base_den": [90000] * len(numbers),
            "width_px": [1280] * len(numbers),
            "height_px": [720] * len(numbers),
            "rotation_deg": [0] * len(numbers),
            "native_fps": [script.fps * 3] * len(numbers),
            "frames_decoded": [int((segments == number).sum()) * 3 for number in numbers],
            "damaged_at_s": damaged,
            "damage": words,
        },
        FACTS,
    )


def _people(rows: dict[str, np.ndarray], known: np.ndarray, quality: np.ndarray) -> pa.Table:
    people = []
    for person in np.unique(rows["person"][known]):
        at = np.flatnonzero(known & (rows["person"] == person))
        best = at[np.argmax(np.where(rows["state"][at] == "ok", quality[at], -1.0))]
        people.append(
            {
                "person": int(person),
                "faces": len(at),
                "tracks": len(np.unique(rows["track"][at])),
                "first_s": float(rows["time_s"][at[0]]),
                "last_s": float(rows["time_s"][at[-1]]),
                "segment": int(rows["segment"][best]),
                "face": int(rows["face"][best]),
            }
        )
    return pa.Table.from_pylist(people, PEOPLE)


def _trials(script: Script, rows: dict[str, np.ndarray], known: np.ndarray, score: np.ndarray) -> pa.Table:
    trials = []
    for person in np.unique(rows["person"][known]):
        at = known & (rows["person"] == person)
        for rank in range(1, script.trials + 1):
            model, window_s = (("iforest", 2.0), ("lof", 0.5), ("ocsvm", 8.0))[(rank - 1) % 3]
            good = rank < max(3, script.trials)
            trials.append(
                {
                    "trial": f"{model}-{rank}",
                    "model": model,
                    "features": "expressions",
                    "window_s": window_s,
                    "params": '{"contamination":0.02}',
                    "person": int(person),
                    "rows": int(at.sum()),
                    "scored": int(np.isfinite(score[at]).sum()),
                    "state": "ok" if good else "too few faces",
                    "blocks": "measures+emotions",
                    "stability": 0.9 - 0.4 * rank / script.trials if good else None,
                    "injection": 1.0 - 0.6 * rank / script.trials if good else None,
                    "agreement": 0.8 - 1.0 * rank / script.trials if good else None,
                    "masked_no_face": 3,
                    "masked_quality": 12,
                    "masked_turned": 0,
                    "objective": 1.0 - 0.9 * rank / script.trials if good else None,
                    "rank": rank if good else None,
                    "chosen": rank <= max(1, script.trials // 3),
                }
            )
    return pa.Table.from_pylist(trials, TRIALS)


def _comparison(persons: Sequence[int]) -> pa.Table:
    shares = {"chosen": 0.83, "best": 0.8, "random": 0.46, "ensemble": 0.71}
    rows = [{"person": p, "strategy": s, "injection": share} for p in persons for s, share in shares.items()]
    return pa.Table.from_pylist(rows, COMPARISON)


def _verdicts(
    script: Script, persons: Sequence[int], rows: dict[str, np.ndarray], score: np.ndarray, events: pa.Table
) -> pa.Table:
    verdicts = []
    for person in persons:
        judged = int(np.isfinite(score[rows["person"] == person]).sum())
        mine = [event for event in events.to_pylist() if event["person"] == person]
        found = [event for event in mine if not event["explained"]]
        state = "insufficient data" if not judged else "events" if found else "no anomaly"
        verdicts.append(
            {
                "person": person,
                "state": state,
                "reason": None if judged else "too few usable faces",
                "judged_s": judged / script.fps,
                "threshold": script.threshold if judged else None,
                "expected_false": sum(event["expected_false"] for event in found),
                "reported": len(found),
                "explained": len(mine) - len(found),
                "unsupported": script.unsupported,
                "unstable": script.unstable,
                "dropped": script.dropped,
            }
        )
    return pa.Table.from_pylist(verdicts, VERDICTS)


def _drivers(script: Script, events: pa.Table) -> pa.Table:
    rows = []
    for event in events["event"].to_pylist():
        words = script.top_features or "mouth opening"
        for order, (column, what, departure, lost) in enumerate(
            (("mouth_opening", words, 5.2, 0.62), ("fear", "fear", 3.1, None), ("smile", "smile", -2.0, -0.02)), start=1
        ):
            rows.append(
                {"event": event, "column": column, "words": what, "departure": departure, "score_lost": lost}
                | {"order": order}
            )
    return pa.Table.from_pylist(rows, DRIVERS)


def _events(
    script: Script, rows: dict[str, np.ndarray], departing: np.ndarray, score: np.ndarray, quality: np.ndarray
) -> pa.Table:
    events = []
    for number, (person, _, _) in enumerate(script.events, start=1):
        at = np.flatnonzero((departing == number) & np.isfinite(score))
        if len(at) == 0:
            continue
        peak = at[np.argmax(score[at])]
        events.append(
            {
                "event": number - 1,
                "person": person,
                "rank": number,
                "start_s": float(rows["time_s"][at[0]]),
                "peak_s": float(rows["time_s"][peak]),
                "end_s": float(rows["time_s"][at[-1]]),
                "score": float(score[peak]),
                "p_value": 0.002 * number,
                "expected_false": 0.02 * number,
                "survival": 0.75 if number % 2 else None,
                "explained": number > len(script.events) - script.explained,
                "quality": float(quality[peak]),
                "top_features": script.top_features or "mouth opening +5.2, fear +3.1",
                "flags": "head turned, light changed"
                if number % 2 == 0 or number > len(script.events) - script.explained
                else "",
                "frame": int(rows["frame"][peak]),
                "segment": int(rows["segment"][peak]),
                "face": int(rows["face"][peak]),
                "faces": len(at),
            }
        )
    return pa.Table.from_pylist(events, EVENTS)


def _nullable(values: np.ndarray) -> pa.Array:
    return pa.array(np.asarray(values, dtype=np.float64), from_pandas=True)


def _table(columns: dict[str, Any], schema: pa.Schema) -> pa.Table:
    arrays = []
    for entry in schema:
        values = columns[entry.name]
        if not isinstance(values, (pa.Array, pa.ChunkedArray)):
            values = pa.array(list(values) if isinstance(values, np.ndarray) and values.dtype == object else values)
        arrays.append(values.cast(entry.type, safe=False) if values.type != entry.type else values)
    return pa.Table.from_arrays(arrays, schema=schema)


@lru_cache(maxsize=64)
def _picture(person: int, departing: bool, real: bool) -> bytes:
    """A drawn face, 160×160 RGB JPEG; the mouth stands open during an event."""
    if not real:
        return b"\xff\xd8picture" + bytes([person % 256, departing])
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (160, 160), (70, 80 + 25 * (person % 5), 110))
    pen = ImageDraw.Draw(picture)
    skin = ((236, 196, 164), (168, 120, 88), (222, 178, 140), (120, 84, 60))[person % 4]
    pen.ellipse((30, 12, 130, 150), fill=skin)
    for x in (62, 98):
        pen.ellipse((x - 9, 56, x + 9, 68), fill="white")
        pen.ellipse((x - 4, 58, x + 4, 66), fill=(40, 30, 30))
    if departing:
        pen.ellipse((66, 100, 94, 132), fill=(90, 20, 30))
    else:
        pen.arc((60, 94, 100, 122), 15, 165, fill=(120, 30, 40), width=4)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=95)
    return out.getvalue()
