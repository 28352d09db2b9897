"""Exact against fast: does a clip tell the same with every shortcut switched off?

Three runs of a clip: with the defaults, with `EXACT`, and with `EXACT` and other seeds (`SEEDED`). The third says how
much a result moves by chance alone, which is the yardstick for what the shortcuts change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.speed.matching import pairs
from benchmarks.speed.running import Analysis, analyze
from benchmarks.speed.tables import number, share, table

EXACT = ("detect.interval_s=0", "align.follow_s=0", "embed.interval_s=0")
"""Every shortcut that costs accuracy, switched off. A new one belongs here."""

SEEDED = ("anomaly.seed=1", "cluster.seed=1")

WITHIN_S = 0.2
TOP = 10
"""Clips without events are compared by so many of their highest peaks."""

SAME_FACE_IOU = 0.5


@dataclass(frozen=True)
class Moment:
    """An event, or a peak of the final score: whose, when, and how high."""

    person: int
    time_s: float
    score: float


@dataclass(frozen=True)
class Told:
    """What a run says, as far as two runs are compared.

    Attributes:
        faces: rows of ``segment, face, frame, track, person, score`` and the box, without boxes that show no face;
            ``person`` 0 is nobody, ``track`` is numbered through all segments.
        events: events that count, most unusual first.
        peaks: the highest peaks of the final scores, events or not, highest first.
        persons: number of persons.
        scored_s: person → seconds for which that face has a score.
    """

    faces: pa.Table
    events: tuple[Moment, ...]
    peaks: tuple[Moment, ...]
    persons: int
    scored_s: Mapping[int, float]


def read(analysis: Analysis, top: int = 2 * TOP) -> Told:
    """What a run says, from its artifacts."""
    faces = analysis.table("align", "faces", ["segment", "face", "frame", "state", "x_px", "y_px", "w_px", "h_px"])
    scores = analysis.table("gridsearch", "scores", ["segment", "face", "time_s", "track", "person", "score"])
    for name in ("segment", "face"):
        if faces[name].to_pylist() != scores[name].to_pylist():
            raise ValueError("the rows of scores are not those of align")
    person = np.nan_to_num(scores["person"].cast(pa.float64()).to_numpy(), nan=0.0).astype(int)
    score = scores["score"].cast(pa.float64()).to_numpy()
    times = scores["time_s"].to_numpy()
    whole = faces.append_column("track", scores["track"]).append_column("person", pa.array(person))
    whole = whole.append_column("score", pa.array(score))
    real = np.array([state != "no_face" for state in whole["state"].to_pylist()], bool)
    rows = analysis.table("gridsearch", "events", ["person", "peak_s", "score", "explained"]).to_pylist()
    events = tuple(Moment(r["person"], r["peak_s"], r["score"]) for r in rows if not r["explained"])
    persons = int(person.max(initial=0))
    scored_s = {p: float(np.isfinite(score[person == p]).sum()) / analysis.fps for p in range(1, persons + 1)}
    return Told(whole.filter(pa.array(real)), events, highest(times, score, person, top), persons, scored_s)


def highest(times: np.ndarray, score: np.ndarray, person: np.ndarray, top: int) -> tuple[Moment, ...]:
    """The highest peaks over all persons, found as the pipeline finds those of events, but from 0 on.

    Args:
        times: float64 [n] seconds.
        score: float64 [n], NaN where a face has none.
        person: int [n], 0 = nobody.
        top: at most so many.
    """
    from faceline.anomaly.events import EventParams, prominent_peaks, suppress

    params = EventParams()
    found: list[Moment] = []
    for number_ in np.unique(person[person > 0]):
        rows = np.flatnonzero((person == number_) & np.isfinite(score))
        rows = rows[np.argsort(times[rows], kind="stable")]
        series, at = score[rows], times[rows]
        peaks = suppress(prominent_peaks(series, 1e-9, params.valley), series, at, params.min_gap_s)
        found += [Moment(int(number_), float(at[i]), float(series[i])) for i in peaks]
    return tuple(sorted(found, key=lambda m: (-m.score, m.person, m.time_s))[:top])


def same_faces(one: pa.Table, other: pa.Table) -> np.ndarray:
    """Rows of two runs that are one face, int [k, 2]: one-to-one by overlap of the boxes, frame by frame."""
    numbers, boxes = zip(*(_boxes(t) for t in (one, other)), strict=True)
    found = []
    for frame in np.intersect1d(*numbers):
        here, there = (np.flatnonzero(n == frame) for n in numbers)
        found += [(here[i], there[j]) for i, j in pairs(boxes[0][here], boxes[1][there], SAME_FACE_IOU)]
    return np.array(found, int).reshape(-1, 2)


def _boxes(faces: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    x, y, w, h = (faces[name].to_numpy().astype(float) for name in ("x_px", "y_px", "w_px", "h_px"))
    return faces["frame"].to_numpy(), np.stack([x, y, x + w, y + h], axis=1)


def same_persons(one: np.ndarray, other: np.ndarray) -> dict[int, int]:
    """Which person of the first run is which of the second: the one-to-one assignment that most faces agree with.

    Args:
        one, other: person of each face that both runs have; 0 is nobody, and stays unassigned.
    """
    from scipy.optimize import linear_sum_assignment

    counts = np.zeros((one.max(initial=0) + 1, other.max(initial=0) + 1), int)
    np.add.at(counts, (one, other), 1)
    rows, columns = linear_sum_assignment(-counts[1:, 1:])
    return {int(r) + 1: int(c) + 1 for r, c in zip(rows, columns, strict=True) if counts[r + 1, c + 1]}


def near(moments: Sequence[Moment], others: Sequence[Moment], within_s: float = WITHIN_S) -> float | None:
    """Share of the moments that have one of the others, of the same person, so near; None without moments."""
    if not moments:
        return None
    # A hair more: times that are a whole number of frames apart must not fail by their last digit.
    return float(
        np.mean(
            [any(m.person == o.person and abs(m.time_s - o.time_s) <= within_s + 1e-6 for o in others) for m in moments]
        )
    )


def by_chance(moments: Sequence[Moment], scored_s: Mapping[int, float], within_s: float = WITHIN_S) -> float | None:
    """What `near` would come to if the others lay anywhere, as many of each person's as of the moments themselves."""
    if not moments:
        return None
    chances = []
    for moment in moments:
        number_ = sum(m.person == moment.person for m in moments)
        seconds = scored_s.get(moment.person, 0.0)
        chances.append(1 - (1 - min(1.0, 2 * within_s / seconds)) ** number_ if seconds > 0 else 0.0)
    return float(np.mean(chances))


def compare(one: Told, other: Told) -> dict[str, Any]:
    """Two runs on the same footage; "back" is from the second to the first."""
    matched = same_faces(one.faces, other.faces)
    persons = [t.faces["person"].to_numpy()[matched[:, i]] for i, t in enumerate((one, other))]
    tracks = one.faces["track"].to_numpy()[matched[:, 0]]
    mapping = same_persons(*persons)
    agrees = np.array([mapping.get(int(p), 0) == q for p, q in zip(*persons, strict=True)], bool)
    of_tracks = [bool(agrees[tracks == track].mean() > 0.5) for track in np.unique(tracks)]
    # Moments of the first run under the second one's numbers; -1 for persons that the second does not know.
    moved = {
        name: tuple(Moment(mapping.get(m.person, -1), m.time_s, m.score) for m in getattr(one, name))
        for name in ("events", "peaks")
    }
    return {
        "faces": [one.faces.num_rows, other.faces.num_rows],
        "faces_matched": _ratio(len(matched), one.faces.num_rows),
        "faces_matched_back": _ratio(len(matched), other.faces.num_rows),
        "persons": [one.persons, other.persons],
        "faces_same_person": float(agrees.mean()) if len(agrees) else None,
        "tracks_same_person": float(np.mean(of_tracks)) if of_tracks else None,
        "score_correlation": _correlation(one, other, matched),
        "events": [len(one.events), len(other.events)],
        "events_near": near(moved["events"], other.events),
        "events_near_back": near(other.events, moved["events"]),
        "peaks_near": near(moved["peaks"][:TOP], other.peaks[:TOP]),
        "peaks_near_back": near(other.peaks[:TOP], moved["peaks"][:TOP]),
        "peaks_by_chance": by_chance(other.peaks[:TOP], other.scored_s),
        "peaks_near_twice": near(moved["peaks"][:TOP], other.peaks),
        "peaks_near_twice_back": near(other.peaks[:TOP], moved["peaks"]),
    }


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _correlation(one: Told, other: Told, matched: np.ndarray) -> float | None:
    """Rank correlation of the final scores of faces that both runs score."""
    from scipy.stats import spearmanr

    scores = [t.faces["score"].to_numpy()[matched[:, i]] for i, t in enumerate((one, other))]
    both = np.isfinite(scores[0]) & np.isfinite(scores[1])
    if both.sum() < 3 or any(np.ptp(s[both]) == 0 for s in scores):
        return None
    return float(spearmanr(scores[0][both], scores[1][both]).statistic)


def measure(footage: Path, folder: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Compare the runs of one clip; their artifacts stay in ``folder``, so that a rerun redoes what changed."""
    ways = {"fast": (), "exact": EXACT, "seeded": (*EXACT, *SEEDED)}
    analyses = {way: analyze(footage, folder, [*overrides, *more]) for way, more in ways.items()}
    said = {way: read(analysis) for way, analysis in analyses.items()}
    return {
        "duration_s": analyses["fast"].duration_s,
        "fast": compare(said["fast"], said["exact"]),
        "seeded": compare(said["seeded"], said["exact"]),
        "overrides": {"exact": list(EXACT), "seeded": list(SEEDED)},
    }


_WAYS = {"fast": "defaults", "seeded": "exact, other seeds"}


def told(result: Mapping[str, Any]) -> list[str]:
    """The figures as lines."""
    rows = []
    for clip, found in result["clips"].items():
        for way, words in _WAYS.items():
            c = found[way]
            rows.append(
                [
                    clip if way == "fast" else "", words, _both(c["faces"]),
                    f"{share(c['faces_matched'])}, {share(c['faces_matched_back'])}", _both(c["persons"]),
                    share(c["faces_same_person"]), share(c["tracks_same_person"]), number(c["score_correlation"], 3),
                    _both(c["events"]), f"{share(c['events_near'])}, {share(c['events_near_back'])}",
                    f"{share(c['peaks_near'])}, {share(c['peaks_near_back'])}",
                    share(c["peaks_by_chance"]),
                    f"{share(c['peaks_near_twice'])}, {share(c['peaks_near_twice_back'])}",
                ]
            )  # fmt: skip
    columns = [
        "clip", "compared with exact", "faces", "matched, back", "persons", "faces: same", "tracks: same",
        "score corr.", "events", f"within {WITHIN_S:g} s, back", f"top {TOP}, back", "by chance",
        f"top {TOP} in {2 * TOP}, back",
    ]  # fmt: skip
    return [f"exact: {' '.join(EXACT)}; other seeds: {' '.join(SEEDED)}", *table(columns, rows)]


def _both(values: Sequence[int]) -> str:
    return f"{values[0]} / {values[1]}"
