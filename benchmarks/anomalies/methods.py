"""One score per face for every method, on the same rows, and the one way in which all of them become reports.

Rows are those of the person who is seen most: recordings show one person each. A method's score is brought to a robust
z within its recording (median 0, MAD 1), so that recordings can be judged by one threshold.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.anomalies import baselines
from benchmarks.anomalies.recordings import Analysis
from faceline.anomaly.baseline import robust_z
from faceline.anomaly.rows import PersonRows
from faceline.anomaly.trialscores import face_keys

FACELINE = "faceline"
ANCESTOR = f"ancestor (top {baselines.TOP})"
RANDOM_TRIAL = "a random trial"
BEST_TRIAL = "best trial in hindsight"
ALL_TRIALS = "mean rank of all trials"

ANCESTOR_EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise")

Picker = Literal["prominent", "spaced"]
VALLEY = 0.7
"""A peak stands out when the score falls below this share of its height on the way to any higher one."""


@dataclass(frozen=True)
class Series:
    """Scores of one recording's person.

    Attributes:
        time_s: float64 [n], ascending.
        stretch: int64 [n], as in `faceline.anomaly.rows.PersonRows`.
        methods: method → float64 [n], robust z; NaN where it says nothing.
        trials: trial → the same.
    """

    time_s: np.ndarray
    stretch: np.ndarray
    methods: Mapping[str, np.ndarray]
    trials: Mapping[str, np.ndarray]


def pick(
    time_s: np.ndarray,
    stretch: np.ndarray,
    score: np.ndarray,
    *,
    picker: Picker = "prominent",
    count: int | None = None,
    spacing_s: float = baselines.SPACING_S,
) -> tuple[np.ndarray, np.ndarray]:
    """The reports of a score without any threshold: peak times and scores, highest first. One way for all methods.

    "prominent": peaks over 0 that stand out from higher ones by a valley, none within `spacing_s` of a higher one.
    "spaced": the highest rows, none within `spacing_s` of a higher one. The latter counts the flanks of one long event
    as further reports, and so as false alarms; it takes no side between methods, but neither does a valley, and nobody
    would hand such flanks to a reader.

    Args:
        time_s: float64 [n], ascending.
        stretch: int64 [n] ascending; no peak is compared across its borders.
        score: float64 [n], robust z; NaN where there is none.
        picker: which way.
        count: at most so many; None for all.
        spacing_s: least distance of two reports.
    """
    known = np.flatnonzero(np.isfinite(score))
    if picker == "prominent":
        candidates: list[int] = []
        for piece in np.split(known, np.flatnonzero(np.diff(stretch[known]) != 0) + 1):
            candidates += [int(piece[i]) for i in _prominent(score[piece])]
    else:
        candidates = known.tolist()
    chosen: list[int] = []
    free = np.ones(len(score), dtype=bool)
    for row in sorted(candidates, key=lambda i: (-score[i], i)):
        if count is not None and len(chosen) >= count:
            break
        if free[row]:
            chosen.append(row)
            near = np.abs(time_s - time_s[row]) < spacing_s - 1e-6
            free &= ~near
    return time_s[chosen].astype(np.float64), np.asarray(score, dtype=np.float64)[chosen]


def _prominent(score: np.ndarray) -> list[int]:
    from faceline.anomaly.events import prominent_peaks

    return prominent_peaks(score, np.nextafter(0.0, 1.0), VALLEY) if len(score) else []


def expressions(analysis: Analysis, rows: PersonRows) -> np.ndarray:
    """What plain methods look at: logarithms of the seven emotions, all measures, and such blendshapes as are there.

    Raw, float64 [n, d].

    NaN for rows that may carry no event; columns that most usable rows lack are left out.
    """
    from faceline.anomaly.features import EMOTION_FLOOR, EMOTIONS, measure_columns, table_columns
    from faceline.blendshapes import BLENDSHAPES, DEAD_BLENDSHAPES

    table = analysis.table("emote", "expressions")
    emotions = np.log(np.maximum(table_columns(table, EMOTIONS), EMOTION_FLOOR))
    measures = table_columns(table, measure_columns(table))
    blendshapes = analysis.array("emote", "blendshapes")  # [n, 0] without their network
    alive = [i for i, name in enumerate(BLENDSHAPES) if name not in DEAD_BLENDSHAPES] if blendshapes.shape[1] else []
    x = np.concatenate([emotions, measures, blendshapes[:, alive].astype(np.float64)], axis=1)[rows.index]
    x[~rows.usable] = np.nan
    if not rows.usable.any():
        return x
    return x[:, np.isfinite(x[rows.usable]).mean(axis=0) > 0.5]


def ancestor_input(
    analysis: Analysis, embedded: Analysis, rows: PersonRows
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What `baselines.ancestor` takes: embeddings float64 [n, e], emotions float64 [n, 6], stretches int64 [n].

    It knows no masks: every face with an embedding and emotions counts.
    """
    from faceline.anomaly.features import table_columns

    emotions = table_columns(analysis.table("emote", "expressions"), ANCESTOR_EMOTIONS)[rows.index]
    state = np.array(embedded.table("embed", "embedded", ("state",))["state"].to_pylist(), dtype=object)
    vectors = np.array(embedded.array("embed", "embeddings")[rows.index], dtype=np.float64)
    vectors[state[rows.index] != "embedded"] = np.nan
    return vectors, emotions, rows.stretch


def trial_scores(analysis: Analysis, rows: PersonRows) -> dict[str, np.ndarray]:
    """Every trial's own score of the person, as its robust z in the rows that may carry an event."""
    table = analysis.table("trial", "scores", ("trial", "person", "segment", "face", "score"))
    faces = analysis.table("align", "faces", ("segment", "face"))
    person = table["person"].to_numpy()
    names = np.array(table["trial"].to_pylist(), dtype=object)
    keys = face_keys(table)
    score = table["score"].to_numpy(zero_copy_only=False).astype(np.float64)
    mine = face_keys(faces)[rows.index]
    order = np.argsort(mine, kind="stable")
    found = {}
    for name in dict.fromkeys(names.tolist()):
        chosen = np.flatnonzero((names == name) & (person == rows.person))
        out = np.full(len(mine), np.nan)
        out[order[np.searchsorted(mine[order], keys[chosen])]] = score[chosen]
        out[~rows.usable] = np.nan
        found[name] = robust_z(out)
    return found


def mean_of_ranks(scores: Sequence[np.ndarray]) -> np.ndarray:
    """Mean rank of several scores per row, over those that have one there; NaN where none has."""
    ranks = np.array([baselines.ranks(score) for score in scores])
    known = np.isfinite(ranks)
    total = np.where(known, ranks, 0.0).sum(axis=0)
    return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan)


def faceline_score(analysis: Analysis, rows: PersonRows) -> np.ndarray:
    """faceline's final score, float64 [n]."""
    column = analysis.table("gridsearch", "scores", ("score",))["score"]
    return column.to_numpy(zero_copy_only=False).astype(np.float64)[rows.index]


def series_of(
    analysis: Analysis,
    rows: PersonRows,
    *,
    cache: Path,
    others: bool = True,
    embedded: Callable[[], Analysis] | None = None,
) -> Series:
    """Scores of all methods.

    Args:
        analysis: the recording's artifacts.
        rows: the person's.
        cache: folder in which the other methods' scores are kept, see `kept`.
        others: whether other methods than faceline are wanted.
        embedded: gives the artifacts with an embedding of every face, for the ancestor; None leaves it out.
    """
    methods = {FACELINE: robust_z(faceline_score(analysis, rows))}
    if not others:
        return Series(rows.time_s, rows.stretch, methods, {})
    plain = (rows.time_s, expressions(analysis, rows), rows.stretch)
    for name, method in baselines.BASELINES.items():
        methods[name] = robust_z(kept(cache, name, method, plain))
    if embedded is not None:
        methods[ANCESTOR] = robust_z(
            kept(cache, ANCESTOR, baselines.ancestor, ancestor_input(analysis, embedded(), rows))
        )
    trials = trial_scores(analysis, rows)
    methods[ALL_TRIALS] = robust_z(mean_of_ranks(list(trials.values())))
    return Series(rows.time_s, rows.stretch, methods, trials)


def kept(cache: Path, name: str, method: Callable[..., np.ndarray], given: Sequence[np.ndarray]) -> np.ndarray:
    """A method's scores from the cache, or made and put there.

    They are kept under the method's name, the code of the methods, and the very arrays it is given: what those follow
    from (artifacts, and faceline's code that reads features and rows out of them) needs no name of its own.
    """
    digest = hashlib.sha256(name.encode() + b"\0" + Path(baselines.__file__).read_bytes())
    for array in given:
        digest.update(f"\0{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    path = cache / f"{digest.hexdigest()}.npy"
    if path.is_file():
        return np.asarray(np.load(path))
    scores = method(*given)
    cache.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.stem}.part.npy")
    np.save(draft, scores)
    draft.replace(path)
    return scores
