"""One person, all trials: choose, combine, cut into events, say why, and how far to trust each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from pydantic import Field

from faceline.anomaly.comparison import compare
from faceline.anomaly.confounds import Audit, Surroundings
from faceline.anomaly.counterfactual import Rescorer
from faceline.anomaly.drivers import departures
from faceline.anomaly.events import Cutting, Event, EventParams, cut_events
from faceline.anomaly.features import Block, build_blocks
from faceline.anomaly.rows import MaskParams, PersonRows
from faceline.anomaly.selection import Choice, Select, agreement, choose, combine, objective
from faceline.anomaly.survival import survival
from faceline.anomaly.trial import TrialParams
from faceline.anomaly.trialscores import TrialScores
from faceline.stage import Inputs, StageParams

MOST_ASKED = 4
"""Drivers of an event that are put back to usual, the largest departures first."""


class GridsearchParams(StageParams):
    """How trials become one score, and scores events."""

    select: Select = Field(
        "ensemble",
        description="what the final score is: that of the best trial, or the mean of the best trials (ensemble), of"
        " each model's best (models), or of all",
    )
    share: float = Field(
        0.67, gt=0, le=1, description="share of the trials, from the best down, that select=ensemble averages"
    )
    events: EventParams = Field(default_factory=EventParams, description="how scores become events")
    min_departure: float = Field(
        3.5,
        ge=0,
        description="an event has to show: some emotion or measure departs by so many baseline units near its peak;"
        " peaks without are counted, not reported. 0 takes all",
    )
    min_survival: float = Field(
        0.2,
        ge=0,
        le=1,
        description="an event has to be found again in such a share of the variations (another seed, half of the faces,"
        " each model alone); others are counted, not reported. 0 takes all",
    )
    audit: bool = Field(
        True,
        description="whether to look for other causes (pose, light, focus, size, cuts, faces coming and going), to flag"
        " events with them and to set those apart that they explain",
    )
    masks: MaskParams = Field(
        default_factory=MaskParams, description="which faces may carry an event; as in the trials"
    )


@dataclass(frozen=True)
class Finding:
    """An event and what is known of it.

    Attributes:
        event: positions in the person's rows.
        departures: how far each feature departs near the peak, by column, in baseline units.
        score_lost: share of the score that is gone without a column, for the largest departures.
        survival: share of variations in which it is found again; NaN where none could be made.
        audit: causes beside expression.
    """

    event: Event
    departures: Mapping[str, float]
    score_lost: Mapping[str, float]
    survival: float
    audit: Audit


@dataclass(frozen=True)
class Verdict:
    """What can be said of a person as a whole.

    Attributes:
        state: "events", "no anomaly" or "insufficient data".
        reason: why data are insufficient; None otherwise.
        judged_s: seconds of footage with a score.
        threshold: score that a peak had to reach, NaN when there is none.
        expected_false: expected number of usual moments that reach it, NaN when there is none.
        reported, explained: numbers of events that stand, and that another cause explains.
        unsupported, unstable, dropped: numbers of peaks over the threshold at which no measure departs enough, that
            are not found again often enough, and beyond `max_events`.
    """

    state: str
    reason: str | None
    judged_s: float
    threshold: float
    expected_false: float
    reported: int
    explained: int
    unsupported: int
    unstable: int
    dropped: int


@dataclass(frozen=True)
class Unreported:
    """Numbers of peaks over the threshold that are no event, see `Verdict`."""

    unsupported: int = 0
    unstable: int = 0
    dropped: int = 0


@dataclass(frozen=True)
class Findings:
    """What was found for one person; scores float64 [n] of that person's rows."""

    rows: PersonRows
    trials: list[dict[str, object]]
    comparison: Mapping[str, float]
    per_model: Mapping[str, np.ndarray]
    score: np.ndarray
    found: tuple[Finding, ...]
    verdict: Verdict


def search_person(
    rows: PersonRows,
    summary: Sequence[Mapping[str, object]],
    trial_scores: TrialScores,
    surroundings: Surroundings,
    params: GridsearchParams,
    inputs: Inputs,
) -> Findings:
    """Everything about one person; `summary` holds the person's rows of the trials' summaries."""
    summary = sorted(summary, key=lambda s: str(s["trial"]))
    names, models = [str(s["trial"]) for s in summary], [str(s["model"]) for s in summary]
    scores = trial_scores.matrix(names, rows)
    agree = agreement(scores, models)
    parts = np.column_stack([floats(summary, "injection"), floats(summary, "stability"), agree])
    value = objective(parts, np.isfinite(scores).any(axis=1))
    choice = choose(value, models, names, params.select, params.share)
    score, cutting = _cut(scores[list(choice.chosen)], rows, params.events)
    firsts: dict[str, np.ndarray] = {}
    for i in choice.order:
        firsts.setdefault(models[i], scores[i])
    found, unreported = _findings(cutting, rows, summary, choice, firsts, trial_scores, surroundings, params, inputs)
    planted = [trial_scores.planted(name, rows) for name in names]
    return Findings(
        rows=rows,
        trials=_trial_rows(summary, agree, value, choice),
        comparison=compare(planted, choice),
        per_model=firsts,
        score=score,
        found=found,
        verdict=_verdict(score, cutting, found, unreported, summary),
    )


def _cut(scores: np.ndarray, rows: PersonRows, params: EventParams, every: int = 1) -> tuple[np.ndarray, Cutting]:
    """The combined score of some trials [k, n], and its events; `every` so-many-th row has been sampled."""
    if len(scores) == 0:
        return np.full(len(rows), np.nan), Cutting((), float("nan"), float("nan"), 0.0)
    score = combine(scores)
    score[~rows.usable] = np.nan
    return score, cut_events(score, rows.time_s, rows.stretch, every * rows.interval_s, params)


def _findings(
    cutting: Cutting,
    rows: PersonRows,
    summary: Sequence[Mapping[str, object]],
    choice: Choice,
    firsts: Mapping[str, np.ndarray],
    trial_scores: TrialScores,
    surroundings: Surroundings,
    params: GridsearchParams,
    inputs: Inputs,
) -> tuple[tuple[Finding, ...], Unreported]:
    """The events that show and last, and the numbers of others."""
    if not cutting.events:
        return (), Unreported()
    built: dict[tuple[object, ...], Sequence[Block]] = {}

    def blocks_of(trial: TrialParams) -> Sequence[Block]:
        key = (trial.features, trial.confound_free, trial.embedding_components)
        if key not in built:
            built[key] = build_blocks(
                inputs,
                rows,
                trial.features,
                confound_free=trial.confound_free,
                embedding_components=trial.embedding_components,
            )
        return built[key]

    # A face too small for a mesh has no expressions to show: then there is nothing to ask for.
    shown = blocks_of(TrialParams())
    departed = [(event, departures(event, shown, rows)) for event in cutting.events]
    showing = [
        (event, departed_by)
        for event, departed_by in departed
        if not shown or max(map(abs, departed_by.values()), default=0.0) >= params.min_departure
    ]
    chosen = [summary[i] for i in choice.chosen]
    names = [str(s["trial"]) for s in chosen]
    variations = [
        _cut(trial_scores.matrix(names, rows, "score_reseeded"), rows, params.events)[1],
        _cut(trial_scores.matrix(names, rows, "score_halved"), rows, params.events, every=2)[1],
        *(_cut(score[None], rows, params.events)[1] for score in firsts.values()),
    ]
    variations = [v for v in variations if np.isfinite(v.threshold)]
    lasting = [
        Finding(
            event=event,
            departures=departed_by,
            score_lost={},
            survival=survival(event, rows.time_s, variations),
            audit=surroundings.audit(event, rows) if params.audit else Audit((), False),
        )
        for event, departed_by in showing
    ]
    lasting = [finding for finding in lasting if not finding.survival < params.min_survival]  # NaN: not known
    kept = _at_most(lasting, params.events.max_events)
    rescorer = Rescorer([TrialParams.model_validate_json(str(s["params"])) for s in chosen], rows, blocks_of)
    found = []
    for finding in kept:
        departed_by = finding.departures
        largest = sorted(departed_by, key=lambda column: -abs(departed_by[column]))[:MOST_ASKED]
        found.append(replace(finding, score_lost=rescorer.score_lost(finding.event, largest)))
    return tuple(found), Unreported(
        unsupported=len(departed) - len(showing),
        unstable=len(showing) - len(lasting),
        dropped=len(lasting) - len(kept),
    )


def _at_most(findings: Sequence[Finding], number: int) -> list[Finding]:
    """The most unusual events, in order of time: `number` that stand, and as many that something else explains."""
    kept: list[Finding] = []
    for explained in (False, True):
        alike = [f for f in findings if f.audit.explained == explained]
        kept += sorted(alike, key=lambda f: (-f.event.score, f.event.peak))[:number]
    return sorted(kept, key=lambda f: f.event.peak)


def _verdict(
    score: np.ndarray,
    cutting: Cutting,
    found: Sequence[Finding],
    unreported: Unreported,
    summary: Sequence[Mapping[str, object]],
) -> Verdict:
    explained = sum(f.audit.explained for f in found)
    reason = None
    if np.isnan(cutting.threshold):
        states = [str(s["state"]) for s in summary if s["state"] != "ok"]
        reason = "too little footage to say what is usual"
        if states:
            reason = max(sorted(set(states)), key=states.count)
        elif np.isfinite(score).any() and np.nanmax(score) - np.nanmin(score) <= 1e-9:
            reason = "the score is the same throughout"
        state = "insufficient data"
    else:
        state = "events" if len(found) > explained else "no anomaly"
    return Verdict(
        state,
        reason,
        cutting.judged_s,
        cutting.threshold,
        cutting.expected,
        len(found) - explained,
        explained,
        unreported.unsupported,
        unreported.unstable,
        unreported.dropped,
    )


def _trial_rows(
    summary: Sequence[Mapping[str, object]], agree: np.ndarray, value: np.ndarray, choice: Choice
) -> list[dict[str, object]]:
    """Rows of trials.parquet; trials without scores have neither objective nor rank."""
    place = {trial: i + 1 for i, trial in enumerate(choice.order)}
    return [
        dict(row)
        | {
            "agreement": null(agree[i]),
            "objective": null(value[i]),
            "rank": place.get(i),
            "chosen": i in choice.chosen,
        }
        for i, row in enumerate(summary)
    ]


def floats(rows: Sequence[Mapping[str, object]], name: str) -> np.ndarray:
    """One field of several rows as float64, None → NaN."""
    return pa.array([row[name] for row in rows], pa.float64()).to_numpy(zero_copy_only=False)


def null(value: float) -> float | None:
    """NaN → None."""
    return None if np.isnan(value) else float(value)
