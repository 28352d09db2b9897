"""The events that faceline itself reports: what it says of their causes, and how many come where none should."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.anomalies.metrics import TOLERANCE_S, Interval, Reports, bootstrap_interval, matching
from benchmarks.anomalies.recordings import Analysis, Moment, Truth
from faceline.anomaly.confounds import CAUSES as NAMED
from faceline.anomaly.confounds import COVERED, CUT, EDGE

NEAR_S = 0.5
"""An event that comes so close to a confound is laid to it: the edges of its fading are part of it."""

CAUSES: dict[str, tuple[str, ...]] = {
    "light": (NAMED["luma_mean"].words, NAMED["contrast"].words),
    "turn": (NAMED["yaw_deg"].words,),
    "blur": (NAMED["sharpness"].words,),
    "occlusion": (COVERED,),
    "zoom": (NAMED["eye_distance_px"].words,),
    "cut": (CUT,),
    "leave": (EDGE,),
}
"""Confound of made footage → flags of `faceline.anomaly.confounds`, any of which names the cause.

light: the light dims, one side more than the other. turn: the head yaws. blur: the picture is out of focus.
occlusion: a patch covers part of the face. zoom: the camera comes closer. cut: another camera, closer and further to a
side. leave: the person goes out of the picture and comes back, seen in part at its edge.
"""

SHUT = frozenset(
    {"eye_opening_left", "eye_opening_right", "eye_blink_left", "eye_blink_right", "eye_squint_left"}
    | {"eye_squint_right", "eye_look_down_left", "eye_look_down_right"}
)

MOVED: dict[str, frozenset[str]] = {
    # The brows go up, and the lids widen.
    "brow_raise": frozenset(
        {"brow_inner_left", "brow_inner_right", "brow_outer_left", "brow_outer_right", "eye_opening_left"}
        | {"eye_opening_right"}
        | {"brow_inner_up", "brow_outer_up_left", "brow_outer_up_right", "brow_down_left", "brow_down_right"}
        | {"eye_wide_left", "eye_wide_right"}
    ),
    # The jaw opens: the lips part, the chin sinks; the corners come in and down a little.
    "mouth_open": frozenset(
        {"mouth_opening", "jaw_drop", "mouth_width", "mouth_curve", "lip_to_chin"}
        | {"jaw_open", "mouth_lower_down_left", "mouth_lower_down_right", "mouth_close", "mouth_funnel"}
    ),
    # The corners sink and come in, the lips close, the brows sink (where the portrait can move them).
    "frown": frozenset(
        {"corner_lift_left", "corner_lift_right", "mouth_curve", "mouth_width", "mouth_opening", "upper_lip_raise"}
        | {"brow_inner_left", "brow_inner_right", "brow_outer_left", "brow_outer_right", "brow_gap"}
        | {"mouth_frown_left", "mouth_frown_right", "mouth_smile_left", "mouth_smile_right", "mouth_shrug_lower"}
        | {"mouth_press_left", "mouth_press_right", "brow_down_left", "brow_down_right", "brow_inner_up"}
        | {"brow_outer_up_left", "brow_outer_up_right"}
    ),
    # The corners rise and go out, the upper lip rises, the lower lids rise.
    "smile": frozenset(
        {"corner_lift_left", "corner_lift_right", "mouth_curve", "mouth_width", "upper_lip_raise", "cheek_raise_left"}
        | {"cheek_raise_right", "eye_opening_left", "eye_opening_right"}
        | {"mouth_smile_left", "mouth_smile_right", "mouth_dimple_left", "mouth_dimple_right", "mouth_stretch_left"}
        | {"mouth_stretch_right", "mouth_upper_up_left", "mouth_upper_up_right", "eye_squint_left", "eye_squint_right"}
    ),
    # One corner rises, one brow rises. The generator's left is that of the picture: the subject's right.
    "one_sided": frozenset(
        {"corner_lift_right", "mouth_asymmetry", "mouth_curve", "mouth_width", "cheek_raise_right"}
        | {"brow_outer_left", "brow_asymmetry"}
        | {"mouth_smile_right", "mouth_dimple_right", "mouth_stretch_right", "mouth_upper_up_right", "mouth_right"}
        | {"brow_outer_up_left"}
    ),
    # The corners come in and the lips close halfway, so that the middle of the lips stands out.
    "pucker": frozenset(
        {"mouth_width", "lip_pucker", "mouth_opening", "mouth_curve"}
        | {"mouth_pucker", "mouth_funnel", "mouth_stretch_left", "mouth_stretch_right"}
    ),
    # Brows, lids and jaw together.
    "surprise": frozenset(
        {"brow_inner_left", "brow_inner_right", "brow_outer_left", "brow_outer_right", "eye_opening_left"}
        | {"eye_opening_right", "mouth_opening", "jaw_drop", "lip_to_chin", "mouth_curve"}
        | {"brow_inner_up", "brow_outer_up_left", "brow_outer_up_right", "brow_down_left", "brow_down_right"}
        | {"eye_wide_left", "eye_wide_right", "jaw_open", "mouth_lower_down_left", "mouth_lower_down_right"}
    ),
    # The lids close, which blendshapes also take for a look down.
    "eyes_shut": SHUT,
    "blinking": SHUT,
}
"""Burst of made footage → measures and blendshapes that it moves, by `faceline.made.motion.ACTIONS`. A frozen face
moves none: it is left out. Emotions are not counted, even where they fit."""

TOP_DRIVERS = 2


@dataclass(frozen=True)
class ReportedEvent:
    """One row of events.parquet.

    Attributes:
        rank: over all persons of the recording.
        score: higher = more unusual.
        flags: words of causes beside expression.
        explained: whether such a cause explains it: then it is set apart, and no reported event.
        drivers: columns that departed most, the first first.
    """

    rank: int
    start_s: float
    peak_s: float
    end_s: float
    score: float
    p_value: float
    flags: str
    explained: bool
    drivers: tuple[str, ...]


def found_events(analysis: Analysis) -> list[ReportedEvent]:
    """The events of an analysed recording by rank; those that a cause explains are among them."""
    drivers: dict[int, list[tuple[int, str]]] = {}
    for driver in analysis.table("gridsearch", "drivers").to_pylist():
        drivers.setdefault(driver["event"], []).append((driver["order"], driver["column"]))
    return [
        ReportedEvent(
            rank=row["rank"],
            start_s=row["start_s"],
            peak_s=row["peak_s"],
            end_s=row["end_s"],
            score=row["score"],
            p_value=float("nan") if row["p_value"] is None else float(row["p_value"]),
            flags=row["flags"] or "",
            explained=bool(row["explained"]),
            drivers=tuple(column for _, column in sorted(drivers.get(row["event"], ()))),
        )
        for row in sorted(analysis.table("gridsearch", "events").to_pylist(), key=lambda r: r["rank"])
    ]


def standing(events: Sequence[ReportedEvent]) -> list[ReportedEvent]:
    """The reported events: those that nothing beside expression explains."""
    return [event for event in events if not event.explained]


def judged_s(analysis: Analysis) -> float:
    """Seconds, of all persons, in which an event could have been reported."""
    verdicts = analysis.table("gridsearch", "verdicts").to_pylist()
    return float(sum(row["judged_s"] for row in verdicts if row["threshold"] is not None))


def as_reports(events: Sequence[ReportedEvent], truth: Truth, duration_s: float) -> Reports:
    """The reported ones of the events against all true events."""
    peaks, scores = [e.peak_s for e in standing(events)], [e.score for e in standing(events)]
    return Reports(truth.spans(), np.array(peaks), np.array(scores), duration_s)


@dataclass(frozen=True)
class ConfoundCount:
    """Events in footage with one kind of confound and no true event.

    Attributes:
        recordings: how many.
        shown: how often the confound comes.
        near: events that overlap the confound, widened by `NEAR_S`.
        explained: those of them that are set apart.
        flagged: those of them that carry any word.
        right: those of them whose words name its cause.
        taken: reported events near it: the confound was taken for an expression.
        elsewhere: reported events away from it: plain false alarms.
    """

    recordings: int = 0
    shown: int = 0
    near: int = 0
    explained: int = 0
    flagged: int = 0
    right: int = 0
    taken: int = 0
    elsewhere: int = 0

    @property
    def share_right(self) -> float:
        """Share of flagged events near the confound that name its cause; NaN without any."""
        return self.right / self.flagged if self.flagged else float("nan")

    def __add__(self, other: ConfoundCount) -> ConfoundCount:
        names = vars(self)
        return ConfoundCount(**{name: getattr(self, name) + getattr(other, name) for name in names})


def count_confounds(events: Sequence[ReportedEvent], confounds: Sequence[Moment]) -> ConfoundCount:
    """Counts of one recording; its confounds are of one kind."""
    causes = set(CAUSES[confounds[0].kind])
    near = [e for e in events if any(_overlap(e, c) for c in confounds)]
    return ConfoundCount(
        recordings=1,
        shown=len(confounds),
        near=len(near),
        explained=len(near) - len(standing(near)),
        flagged=sum(bool(e.flags) for e in near),
        right=sum(bool(causes & set(e.flags.split(", "))) for e in near),
        taken=len(standing(near)),
        elsewhere=len(standing(events)) - len(standing(near)),
    )


def _overlap(event: ReportedEvent, confound: Moment) -> bool:
    return event.start_s <= confound.end_s + NEAR_S and event.end_s >= confound.start_s - NEAR_S


@dataclass(frozen=True)
class DriverCount:
    """Found bursts of a kind, and those of them whose measures are among the first drivers of the event."""

    bursts: int = 0
    found: int = 0
    right: int = 0

    @property
    def share_right(self) -> float:
        """Share of found bursts; NaN without any."""
        return self.right / self.found if self.found else float("nan")

    def __add__(self, other: DriverCount) -> DriverCount:
        return DriverCount(self.bursts + other.bursts, self.found + other.found, self.right + other.right)


def hits_of(events: Sequence[ReportedEvent], moments: Sequence[Moment], tolerance_s: float = TOLERANCE_S) -> list[int]:
    """For every moment the position of the event that finds it, −1 where none does.

    By the rule of `metrics.matching`: an event finds one moment and a moment is found by one event, better ranks first.
    """
    return _found_by([e.peak_s for e in events], [e.rank for e in events], moments, tolerance_s)


def _found_by(
    peak_s: Sequence[float] | np.ndarray, rank: Sequence[int], moments: Sequence[Moment], tolerance_s: float
) -> list[int]:
    """For every moment the position of the peak that is matched to it, −1 where none is; lower ranks come first."""
    spans = np.array([(m.start_s, m.end_s) for m in moments], dtype=np.float64).reshape(-1, 2)
    found = matching(spans, np.asarray(peak_s, dtype=np.float64), -np.asarray(rank, dtype=np.float64), tolerance_s)
    position = {int(moment): k for k, moment in enumerate(found) if moment >= 0}
    return [position.get(k, -1) for k in range(len(moments))]


def count_drivers(events: Sequence[ReportedEvent], bursts: Sequence[Moment]) -> dict[str, DriverCount]:
    """Counts of one recording's reported events by kind of burst, without kinds that move no measure."""
    counts: dict[str, DriverCount] = {}
    events = standing(events)
    for burst, hit in zip(bursts, hits_of(events, bursts), strict=True):
        if burst.kind in MOVED:
            right = hit >= 0 and bool(MOVED[burst.kind] & set(events[hit].drivers[:TOP_DRIVERS]))
            counts[burst.kind] = counts.get(burst.kind, DriverCount()) + DriverCount(1, int(hit >= 0), int(right))
    return counts


@dataclass(frozen=True)
class NaturalMoment:
    """A noted moment of a real clip, and where it came among what was found.

    Attributes:
        rank: of the reported event that finds it; None when it was missed.
        peak_rank: place of the peak that finds it among all peaks of the score, reported or not; None without one.

    One event, or peak, finds one moment, as everywhere in the benchmark: of two moments beside each other that share
    one event, one is missed.
    """

    clip: str
    moment: Moment
    rank: int | None
    peak_rank: int | None


def natural_moments(
    clip: str, moments: Sequence[Moment], events: Sequence[ReportedEvent], peak_s: np.ndarray
) -> list[NaturalMoment]:
    """Ranks of a clip's moments. `peak_s` float64 [n]: peaks of the score, highest first."""
    events = standing(events)
    hits, peaks = hits_of(events, moments), _found_by(peak_s, range(len(peak_s)), moments, TOLERANCE_S)
    return [
        NaturalMoment(clip, moment, events[hit].rank if hit >= 0 else None, peak + 1 if peak >= 0 else None)
        for moment, hit, peak in zip(moments, hits, peaks, strict=True)
    ]


@dataclass(frozen=True)
class Nominal:
    """Settings that promise a number of false events per judged hour.

    Attributes:
        block: what is looked at: the null distribution alone (see `ALONE`), or what is reported in the end.
        per_hour: the promise.
        overrides: the settings.
    """

    block: str
    per_hour: float
    overrides: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """As tables have it."""
        return f"{self.block}, {self.per_hour:g}/h"

    def expected(self, judged_s: Sequence[float]) -> float:
        """Expected number of events."""
        return self.per_hour * sum(judged_s) / 3600


ALONE = (
    "gridsearch.events.min_score=0",
    "gridsearch.min_departure=0",
    "gridsearch.min_survival=0",
    "gridsearch.audit=false",
)
"""Without these conditions an event is whatever reaches the threshold of the null distribution.

Not quite whatever: what makes one event out of scores stays as it is, namely the least duration, the least distance of
two peaks, the valley between them, and the largest number of events per person. All of them can but lower the number.
"""


def _nominal(block: str, per_hour: float, further: tuple[str, ...]) -> Nominal:
    # The allowance for short footage out of the way, so that the rate alone counts.
    rate = (f"gridsearch.events.false_per_hour={per_hour:g}", "gridsearch.events.false_per_person=1e-6")
    return Nominal(block, per_hour, (*rate, *further))


CALIBRATION: tuple[Nominal, ...] = tuple(
    _nominal(block, per_hour, further)
    for block, further in (("null distribution alone", ALONE), ("as reported", ()))
    for per_hour in (3.0, 6.0, 12.0)
)
"""The settings that calibration tries on footage without events."""


def poisson_range(expected: float, level: float = 0.95) -> tuple[int, int]:
    """Central range of a Poisson count of that mean: outside of it lies at most 1 − `level`, half at each end."""
    from scipy.stats import poisson

    low, high = poisson.interval(level, expected)
    return int(low), int(high)


def poisson_interval(count: int, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of the mean behind a Poisson count (Garwood, Biometrika 28, 1936)."""
    from scipy.stats import chi2

    tail = (1 - level) / 2
    low = float(chi2.ppf(tail, 2 * count)) / 2 if count else 0.0
    return low, float(chi2.ppf(1 - tail, 2 * count + 2)) / 2


@dataclass(frozen=True)
class Calibrated:
    """What one setting promised and what came.

    The interval of a Poisson count holds only if events come independently of each other. They may well cluster, in
    one person or in one stretch of footage; then it is too narrow, and `holds`, which goes by it, says no too often.
    `by_person` does not suppose that, but rests on few persons.

    Attributes:
        nominal: the setting.
        recordings: how many were tried.
        units: persons they are of, as intervals over persons draw them.
        footages: recordings with at least one event.
        events: in all.
        judged_s: seconds in which one could have come.
        expected: the promised number.
        by_person: events per judged hour with the interval of a bootstrap over persons; None for a single one.
    """

    nominal: Nominal
    recordings: int
    units: int
    footages: int
    events: int
    judged_s: float
    expected: float
    by_person: Interval | None = None

    @property
    def holds(self) -> bool:
        """Whether the number of events lies in the range of a Poisson count of the expected mean."""
        low, high = poisson_range(self.expected)
        return low <= self.events <= high

    @property
    def interval(self) -> tuple[float, float]:
        """Exact 95 % interval of the mean behind the number of events, if they are independent."""
        return poisson_interval(self.events)


def calibrated(nominal: Nominal, came: Sequence[tuple[str, int, float]], *, draws: int = 1000) -> Calibrated:
    """From the person, the number of events and the judged seconds of each recording.

    Args:
        nominal: the setting.
        came: per recording.
        draws: of the bootstrap over persons.
    """
    by_person: dict[str, list[tuple[int, float]]] = {}
    for unit, count, seconds in came:
        by_person.setdefault(unit, []).append((count, seconds))
    counts, judged_s = [count for _, count, _ in came], [seconds for *_, seconds in came]
    return Calibrated(
        nominal=nominal,
        recordings=len(came),
        units=len(by_person),
        footages=sum(count > 0 for count in counts),
        events=int(sum(counts)),
        judged_s=sum(judged_s),
        expected=nominal.expected(judged_s),
        by_person=bootstrap_interval(by_person, _per_hour, draws=draws) if len(by_person) > 1 else None,
    )


def _per_hour(came: Sequence[tuple[int, float]]) -> float:
    """Events per judged hour of recordings given as (events, judged seconds); NaN where nothing could be judged."""
    judged_s = sum(seconds for _, seconds in came)
    return 3600 * sum(count for count, _ in came) / judged_s if judged_s > 0 else float("nan")
