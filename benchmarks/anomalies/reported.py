"""The events that faceline itself reports: what it says of their causes, and how many come where none should."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.anomalies.metrics import TOLERANCE_S, Reports
from benchmarks.anomalies.recordings import Analysis, Moment, Truth

NEAR_S = 1.0
"""An event that peaks this far outside a confound is still laid to it: the edges of its fading are part of it."""

CAUSES: dict[str, tuple[str, ...]] = {
    "light": ("light",),
    "turn": ("turned",),
    "blur": ("sharpness",),
    "occlusion": ("covered",),
    "zoom": ("size",),
    "cut": ("size", "cut"),
    "leave": ("size", "edge", "outside", "back in"),
}
"""Confound of made footage → parts of words of `faceline.anomaly.confounds`, any of which names the cause.

light: the light dims, one side more than the other. turn: the head yaws. blur: the picture is out of focus.
occlusion: a patch covers part of the face; a word for it holds "covered". zoom: the camera comes closer. cut: another
camera, closer and further to a side, so that the face is larger. leave: the person goes out of the picture and comes
back, seen in part at its edge.
"""

MOVED: dict[str, frozenset[str]] = {
    # The brows go up, and the lids widen.
    "brow_raise": frozenset(
        {"brow_inner_left", "brow_inner_right", "brow_outer_left", "brow_outer_right", "eye_opening_left"}
        | {"eye_opening_right"}
    ),
    # The jaw opens: the lips part, the chin sinks; the corners come in and down a little.
    "mouth_open": frozenset({"mouth_opening", "jaw_drop", "mouth_width", "mouth_curve", "lip_to_chin"}),
    # The corners sink and come in, the lips close, the brows sink (where the portrait can move them).
    "frown": frozenset(
        {"corner_lift_left", "corner_lift_right", "mouth_curve", "mouth_width", "mouth_opening", "upper_lip_raise"}
        | {"brow_inner_left", "brow_inner_right", "brow_outer_left", "brow_outer_right", "brow_gap"}
    ),
    # The corners rise and go out, the upper lip rises, the lower lids rise.
    "smile": frozenset(
        {"corner_lift_left", "corner_lift_right", "mouth_curve", "mouth_width", "upper_lip_raise", "cheek_raise_left"}
        | {"cheek_raise_right", "eye_opening_left", "eye_opening_right"}
    ),
    # One corner rises, one brow rises. The generator's left is that of the picture: the subject's right.
    "one_sided": frozenset(
        {"corner_lift_right", "mouth_asymmetry", "mouth_curve", "mouth_width", "cheek_raise_right"}
        | {"brow_outer_left", "brow_asymmetry"}
    ),
    # The corners come in and the lips close halfway, so that the middle of the lips stands out.
    "pucker": frozenset({"mouth_width", "lip_pucker", "mouth_opening", "mouth_curve"}),
    # Brows, lids and jaw together.
    "surprise": frozenset(
        {"brow_inner_left", "brow_inner_right", "brow_outer_left", "brow_outer_right", "eye_opening_left"}
        | {"eye_opening_right", "mouth_opening", "jaw_drop", "lip_to_chin", "mouth_curve"}
    ),
    # The lids close.
    "eyes_shut": frozenset({"eye_opening_left", "eye_opening_right"}),
    "blinking": frozenset({"eye_opening_left", "eye_opening_right"}),
}
"""Burst of made footage → measures that it moves, by `faceline.made.motion.ACTIONS`. A frozen face moves none: it is
left out. Emotions are not counted, even where they fit."""

TOP_DRIVERS = 2


@dataclass(frozen=True)
class ReportedEvent:
    """One row of events.parquet.

    Attributes:
        rank: over all persons of the recording.
        score: higher = more unusual.
        flags: words of causes beside expression.
        explained: whether such a cause explains it by itself; where faceline does not say so, whether it named any.
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


def reported_events(analysis: Analysis) -> list[ReportedEvent]:
    """The events of an analysed recording, by rank."""
    rows = analysis.table("gridsearch", "events").to_pylist()
    drivers: dict[int, list[tuple[int, str]]] = {}
    named = "drivers" in analysis.payloads("gridsearch")
    if named:
        for driver in analysis.table("gridsearch", "drivers").to_pylist():
            drivers.setdefault(driver["event"], []).append((driver["order"], driver["column"]))
    found = []
    for row in sorted(rows, key=lambda r: r["rank"]):
        flags = row.get("flags") or ""
        explained = row.get("explained")
        columns = (
            tuple(column for _, column in sorted(drivers.get(row["event"], ())))
            if named
            else columns_of(row.get("top_features") or "")
        )
        found.append(
            ReportedEvent(
                rank=row["rank"],
                start_s=row["start_s"],
                peak_s=row["peak_s"],
                end_s=row["end_s"],
                score=row["score"],
                p_value=_known(row.get("p_value")),
                flags=flags,
                explained=bool(flags) if explained is None else bool(explained),
                drivers=columns,
            )
        )
    return found


def _known(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def columns_of(top_features: str) -> tuple[str, ...]:
    """Columns named by text such as ``"mouth opening +5.2, fear ≥ +30"``, in its order."""
    from faceline.measures import MEASURES

    by_words = {measure.words: measure.name for measure in MEASURES}
    named = [re.sub(r"\s+(?:[≥≤]\s*)?[+−-]?\d[\d.]*$", "", part.strip()) for part in top_features.split(", ")]
    return tuple(by_words.get(words, words.replace(" ", "_")) for words in named if words)


def as_reports(events: Sequence[ReportedEvent], truth: Truth, duration_s: float) -> Reports:
    """The reported events against all true events."""
    peaks, scores = [e.peak_s for e in events], [e.score for e in events]
    return Reports(truth.spans(), np.array(peaks), np.array(scores), duration_s)


@dataclass(frozen=True)
class ConfoundCount:
    """Events in footage with one kind of confound and no true event.

    Attributes:
        recordings: how many.
        shown: how often the confound comes.
        events: all reported events.
        unexplained: those that nothing beside expression explains.
        near: events that peak in the confound or close to it.
        near_unexplained: those of them that nothing explains.
        flagged: events near the confound that carry any word.
        right: those of them whose words name its cause.
    """

    recordings: int = 0
    shown: int = 0
    events: int = 0
    unexplained: int = 0
    near: int = 0
    near_unexplained: int = 0
    flagged: int = 0
    right: int = 0

    @property
    def share_right(self) -> float:
        """Share of flagged events near the confound that name its cause; NaN without any."""
        return self.right / self.flagged if self.flagged else float("nan")

    def __add__(self, other: ConfoundCount) -> ConfoundCount:
        names = vars(self)
        return ConfoundCount(**{name: getattr(self, name) + getattr(other, name) for name in names})


def count_confounds(events: Sequence[ReportedEvent], confounds: Sequence[Moment]) -> ConfoundCount:
    """Counts of one recording; its confounds are of one kind."""
    words = CAUSES[confounds[0].kind]
    near = [e for e in events if any(c.start_s - NEAR_S <= e.peak_s <= c.end_s + NEAR_S for c in confounds)]
    return ConfoundCount(
        recordings=1,
        shown=len(confounds),
        events=len(events),
        unexplained=sum(not e.explained for e in events),
        near=len(near),
        near_unexplained=sum(not e.explained for e in near),
        flagged=sum(bool(e.flags) for e in near),
        right=sum(any(word in e.flags for word in words) for e in near),
    )


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
    """For every moment the position of the best event that peaks in it (widened), −1 where there is none."""
    found = []
    for moment in moments:
        inside = [k for k, e in enumerate(events) if _in(e.peak_s, moment, tolerance_s)]
        found.append(min(inside, key=lambda k: events[k].rank, default=-1))
    return found


def _in(time_s: float, moment: Moment, tolerance_s: float) -> bool:
    return moment.start_s - tolerance_s <= time_s <= moment.end_s + tolerance_s


def count_drivers(events: Sequence[ReportedEvent], bursts: Sequence[Moment]) -> dict[str, DriverCount]:
    """Counts of one recording by kind of burst, without kinds that move no measure."""
    counts: dict[str, DriverCount] = {}
    for burst, hit in zip(bursts, hits_of(events, bursts), strict=True):
        if burst.kind in MOVED:
            right = hit >= 0 and bool(MOVED[burst.kind] & set(events[hit].drivers[:TOP_DRIVERS]))
            counts[burst.kind] = counts.get(burst.kind, DriverCount()) + DriverCount(1, int(hit >= 0), int(right))
    return counts


@dataclass(frozen=True)
class NaturalMoment:
    """A noted moment of a real clip, and where it came among what was found.

    Attributes:
        rank: of the best reported event on it; None when it was missed.
        peak_rank: its place among all peaks of the score, reported or not; None when no peak lies on it.
    """

    clip: str
    moment: Moment
    rank: int | None
    peak_rank: int | None


def natural_moments(
    clip: str, moments: Sequence[Moment], events: Sequence[ReportedEvent], peak_s: np.ndarray
) -> list[NaturalMoment]:
    """Ranks of a clip's moments. `peak_s` float64 [n]: peaks of the score, highest first."""
    found = []
    for moment, hit in zip(moments, hits_of(events, moments), strict=True):
        place = next((k + 1 for k, at in enumerate(peak_s) if _in(float(at), moment, TOLERANCE_S)), None)
        found.append(NaturalMoment(clip, moment, events[hit].rank if hit >= 0 else None, place))
    return found


@dataclass(frozen=True)
class Nominal:
    """A setting of the threshold that promises a number of false events.

    Attributes:
        override: the setting.
        value: the promise: for "footage" the chance that a piece of footage without anomaly gives an event; for "hour"
            the expected number per hour.
        per: "footage" or "hour".
    """

    override: str
    value: float
    per: str = "footage"

    def expected(self, durations_s: Sequence[float]) -> float:
        """Expected number of events over all recordings: −ln(1 − value) each for a chance, as for Poisson counts."""
        if self.per == "hour":
            return self.value * sum(durations_s) / 3600
        return -float(np.log1p(-self.value)) * len(durations_s)


CALIBRATION: tuple[Nominal, ...] = tuple(Nominal(f"gridsearch.events.alpha={a:g}", a) for a in (0.05, 0.1, 0.2))
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
    """What one setting promised and what came; `footages` with at least one event, of `recordings`."""

    nominal: Nominal
    recordings: int
    footages: int
    events: int
    expected: float

    @property
    def holds(self) -> bool:
        """Whether the number of events lies in the range of a Poisson count of the expected mean."""
        low, high = poisson_range(self.expected)
        return low <= self.events <= high


def calibrated(nominal: Nominal, counts: Sequence[int], durations_s: Sequence[float]) -> Calibrated:
    """From the number of events of each recording."""
    return Calibrated(nominal, len(counts), sum(c > 0 for c in counts), int(sum(counts)), nominal.expected(durations_s))
