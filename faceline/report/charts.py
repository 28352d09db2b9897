"""Charts of the HTML page as numbers for inline SVG: paths, bands and ticks. Pure; the template draws them.

A chart's drawing area is 1000 × 100 units whatever its size on the screen (lines keep their width by
``vector-effect: non-scaling-stroke``), and words stand outside the SVG, so that a chart is legible at any width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from faceline.report import series
from faceline.report.findings import EMOTIONS, Findings, floats, ordinals
from faceline.report.measures import leading_measures
from faceline.timeline import timecode

WIDTH, HEIGHT = 1000.0, 100.0
_LABELLED_EVENTS = 30
_NEAR_PERCENT = 6.5
"""Numbers closer than this would lie on each other on a narrow screen."""


@dataclass(frozen=True)
class Tick:
    """A tick: where (0 to 100, from the left or the top), its label, and whether a narrow screen may drop it."""

    at_percent: float
    label: str
    minor: bool = False


@dataclass(frozen=True)
class Band:
    """A shaded stretch of time (an event): in units of the drawing area, with the rank and a text for pointers.

    ``aside``: something beside expression explains it.
    """

    x: float
    width: float
    rank: int
    title: str
    aside: bool = False


@dataclass(frozen=True)
class Marker:
    """A number above a chart that leads to its event; ``lane`` lifts it above its neighbours."""

    at_percent: float
    rank: int
    lane: int
    aside: bool = False


@dataclass(frozen=True)
class Chart:
    """One series over time.

    Attributes:
        label: name of the series, for the margin.
        line: SVG path of the line, a dot being a path of no length; area: the same closed down to ``base``.
        low, high: values at the bottom and the top.
        ticks: values at the left edge.
        rule: height of the threshold, as percent from the top; None where there is none, or none in sight.
        zero: height of zero, likewise.
        range: lowest and highest value in words, for charts without ticks; empty when the label says it.
        note: words about what lies beyond the chart.
        words: what to say instead, where there is nothing to draw.
        summary: the chart in words, for who cannot see it.
    """

    label: str
    line: str
    area: str
    low: float
    high: float
    ticks: tuple[Tick, ...] = ()
    rule: float | None = None
    zero: float | None = None
    range: str = ""
    note: str = ""
    words: str = ""
    summary: str = ""


@dataclass(frozen=True)
class TimeAxis:
    """The axis of time that a group of charts shares."""

    start_s: float
    end_s: float

    @property
    def span_s(self) -> float:
        """Length, never 0."""
        return max(self.end_s - self.start_s, 1e-3)

    def fraction(self, time_s: Any) -> Any:
        """Position of an instant, 0 at the left edge and 1 at the right."""
        return (time_s - self.start_s) / self.span_s

    def ticks(self, most: int = 11) -> tuple[Tick, ...]:
        """Round instants with ``mm:ss`` labels; every second one is minor."""
        instants = series.time_ticks(self.start_s, self.start_s + self.span_s, most)
        step_s = instants[1] - instants[0] if len(instants) > 1 else math.inf
        return tuple(
            Tick(_percent(self.fraction(t)), series.tick_label(t, step_s), minor=i % 2 == 1)
            for i, t in enumerate(instants)
        )

    def bands(self, events: Sequence[dict[str, Any]]) -> tuple[Band, ...]:
        """The events as shaded stretches, never thinner than can be seen."""
        bands = []
        for event in events:
            left, right = self.fraction(event["start_s"]) * WIDTH, self.fraction(event["end_s"]) * WIDTH
            pad = max(0.0, 3.0 - (right - left)) / 2
            title = f"event {event['rank']}, {timecode(event['peak_s'])}, person {event['person']}"
            if event["explained"]:
                title += f", explained by {event['flags'] or 'something beside expression'}"
            x, width = _coordinate(left - pad), _coordinate(right - left + 2 * pad)
            bands.append(Band(x, width, event["rank"], title, event["explained"]))
        return tuple(bands)

    def markers(self, events: Sequence[dict[str, Any]]) -> tuple[Marker, ...]:
        """Numbers of the most unusual events, neighbours one above the other, at most three high."""
        placed: list[Marker] = []
        for event in sorted(events, key=lambda event: (event["explained"], event["rank"]))[:_LABELLED_EVENTS]:
            at = min(max(_percent(self.fraction(event["peak_s"])), 0.0), 100.0)
            taken = {marker.lane for marker in placed if abs(marker.at_percent - at) < _NEAR_PERCENT}
            lane = next((lane for lane in range(3) if lane not in taken), None)
            if lane is not None:
                placed.append(Marker(at, event["rank"], lane, event["explained"]))
        return tuple(sorted(placed, key=lambda marker: marker.at_percent))


@dataclass(frozen=True)
class PersonCharts:
    """The charts of one person.

    Attributes:
        findings: the joined tables.
        faces: the rows of the person that are drawn.
        events: the person's events.
        axis: time.
        bins: stretches of time that a line is thinned to.
    """

    findings: Findings
    faces: pa.Table
    events: Sequence[dict[str, Any]]
    axis: TimeAxis
    bins: int

    def score(self) -> Chart:
        """The anomaly score with its threshold."""
        threshold = floats(self.faces, "threshold")
        threshold = threshold[np.isfinite(threshold)]
        rule = float(threshold[0]) if len(threshold) else None
        return self._chart("score", floats(self.faces, "score"), rule=rule, words="No face could be scored.")

    def around(self, event: dict[str, Any]) -> tuple[TimeAxis, Chart]:
        """The score in the seconds around one event."""
        length_s = max(event["end_s"] - event["start_s"], 20 * self.findings.step_s, 1.0)
        axis = TimeAxis(
            max(event["start_s"] - 1.5 * length_s, self.axis.start_s),
            min(event["end_s"] + 1.5 * length_s, self.axis.start_s + self.axis.span_s),
        )
        time_s = floats(self.faces, "time_s")
        rows = self.faces.filter(pa.array((time_s >= axis.start_s) & (time_s <= axis.end_s)))
        return axis, replace(self, faces=rows, axis=axis, bins=200).score()

    def emotions(self) -> list[Chart]:
        """The seven emotion scores, each from 0 to 1."""
        return [
            self._chart(name, floats(self.faces, name), limits=(0.0, 1.0), filled=True, words="missing")
            for name in EMOTIONS
        ]

    def measures(self, most: int = 6) -> list[Chart]:
        """The expression measures that depart most, in MADs from the person's median."""
        leading = leading_measures(self.findings, self.faces, self.events, most)
        return [self._chart(label, values, words="missing") for label, values in leading]

    def _chart(
        self,
        label: str,
        values: np.ndarray,
        *,
        limits: tuple[float, float] | None = None,
        rule: float | None = None,
        filled: bool = False,
        words: str,
    ) -> Chart:
        known = values[np.isfinite(values)]
        if len(known) == 0:
            return Chart(label, "", "", 0.0, 1.0, words=words, summary=f"{label}: {words}")
        beyond = rule is not None and far_above(rule, known)
        low, high = limits or _limits(known, None if beyond else rule)
        line, area = [], []
        time_s, ordinal = floats(self.faces, "time_s"), ordinals(self.faces)
        for at_s, piece in series.lines(time_s, values, ordinal, self.findings.step_s, self.bins):
            x = self.axis.fraction(at_s) * WIDTH
            y = np.clip((high - piece) / (high - low), 0, 1) * HEIGHT
            line.append(_path(x, y))
            if filled:
                area.append(f"M{_number(x[0])} {_number(HEIGHT)}L{line[-1][1:]}L{_number(x[-1])} {_number(HEIGHT)}Z")
        ticks = tuple(
            Tick(_percent((high - value) / (high - low)), f"{value:g}") for value in series.value_ticks(low, high)
        )
        summary = (
            f"{label}: median {np.median(known):.2f}, lowest {known.min():.2f}, highest {known.max():.2f}, "
            f"{len(known)} of {len(values)} faces"
        )
        return Chart(
            label,
            "".join(line),
            "".join(area),
            round(low, 4),
            round(high, 4),
            ticks,
            rule=None if rule is None or beyond else _percent((high - rule) / (high - low)),
            note=f"threshold {rule:.1f}, above this chart" if beyond else "",
            zero=_percent(high / (high - low)) if low < 0 < high else None,
            range="" if limits or label == "score" else f"{known.min():.1f} to {known.max():.1f}".replace("-", "−"),
            summary=summary,
        )


def presence_bars(findings: Findings, person: int | None, axis: TimeAxis) -> tuple[tuple[float, float], ...]:
    """Stretches in which a person (or, for ``None``, somebody unknown) is seen, as (x, width) in drawing units."""
    faces = findings.faces_of(person)
    stretches = series.presence(floats(faces, "time_s"), ordinals(faces), findings.step_s)
    bars: list[tuple[float, float]] = []
    for start_s, end_s in stretches:
        left = float(np.clip(axis.fraction(start_s), 0, 1)) * WIDTH
        right = float(np.clip(axis.fraction(end_s), 0, 1)) * WIDTH
        if bars and left - bars[-1][0] - bars[-1][1] < 0.5:
            # Closer than half a pixel: one bar looks the same, and an hour of footage stays small.
            bars[-1] = (bars[-1][0], max(_coordinate(right - bars[-1][0]), bars[-1][1]))
        else:
            bars.append((_coordinate(left), _coordinate(max(right - left, 0.8))))
    return tuple(bars)


def far_above(rule: float, known: np.ndarray) -> bool:
    """Whether a threshold lies so far above the values that a chart with both would show neither."""
    return rule > 3 * max(float(known.max()), 1.0)


def _limits(known: np.ndarray, rule: float | None) -> tuple[float, float]:
    low, high = float(known.min()), float(known.max())
    if rule is not None:
        low, high = min(low, 0.0), max(high, rule)
    pad = 0.06 * (high - low) or max(abs(high), 1.0) * 0.5
    return low - pad, high + pad


def _path(x: np.ndarray, y: np.ndarray) -> str:
    points = [f"{_number(a)} {_number(b)}" for a, b in zip(x, y, strict=True)]
    return f"M{points[0]}h0" if len(points) == 1 else "M" + "L".join(points)


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _coordinate(value: float) -> float:
    return round(float(value), 2)


def _percent(fraction: float) -> float:
    return round(100 * float(fraction), 3)
