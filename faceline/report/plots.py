"""The plots as PNG files, drawn with Matplotlib's Agg canvas; same input, same bytes.

Several footages may be drawn at once in threads. Where many series share one axis of time, each has its own strip
instead of its own colour.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from faceline.report import leaderboard_plot, series
from faceline.report.canvas import BLACK, BLUE, GRAY, INK, ORANGE, VERMILLION, Paper
from faceline.report.charts import far_above
from faceline.report.findings import EMOTIONS, Findings, floats, ordinals
from faceline.report.leaderboard import leaderboard_of
from faceline.report.measures import label_of, leading_measures
from faceline.report.panels import Panel, Tick, stacked, ticks_at, time_scale, value_scale

BINS = 1200
"""Stretches of time that a drawn line is thinned to: more than a plot has pixels."""

KINDS = ("score", "emotions", "components", "expression", "trials")
"""Kinds of plots of a person, in order."""

_LABELLED_EVENTS = 20
_LABEL_CHARACTERS = 18
_TIME_WORDS = "time in the footage (mm:ss)"


def draw(
    findings: Findings, span: tuple[float, float], name: str, dpi: int, persons: Sequence[int]
) -> Iterator[tuple[str, bytes]]:
    """All plots as (file name, PNG bytes).

    Args:
        findings: the joined tables.
        span: (start_s, end_s) of the footage.
        name: name of the footage, written into the PNG's text fields.
        dpi: dots per inch of a plot 11 inches wide.
        persons: the persons to draw.
    """
    yield "overview.png", overview(findings, span).png(name, dpi)
    for person in persons:
        faces, events = findings.faces_of(person), findings.events_of(person)
        frame = _PersonFrame(findings, faces, events, span, person)
        papers = {
            "score": frame.score,
            "emotions": frame.emotions,
            "components": frame.components,
            "expression": frame.expression,
            "trials": frame.trials,
        }
        for kind in drawable(findings, person):
            yield f"person_{person}_{kind}.png", papers[kind]().png(name, dpi)


def drawable(findings: Findings, person: int) -> tuple[str, ...]:
    """The kinds of a person's plots that have something to show; a stub of a plot would only pass for one."""
    faces = findings.faces_of(person)

    def any_of(columns: Sequence[str]) -> bool:
        return any(np.isfinite(floats(faces, column)).any() for column in columns)

    there = {
        "score": any_of(("score",)),
        "emotions": any_of(EMOTIONS),
        "components": any_of(findings.components),
        "expression": bool(leading_measures(findings, faces, (), most=1)),
        "trials": leaderboard_of(findings.trials, findings.comparison, person).measured,
    }
    return tuple(kind for kind in KINDS if there[kind])


def overview(findings: Findings, span: tuple[float, float]) -> Paper:
    """Who is seen when, with the events on top: one lane per person, one for faces that fit nobody."""
    lanes: list[tuple[str, pa.Table, pa.Table | None, str]] = [
        (f"person {n}", findings.faces_of(n), findings.events_of(n), BLUE) for n in findings.persons
    ]
    unknown = findings.faces_of(None)
    if unknown.num_rows:
        lanes.append(("unknown", unknown, None, GRAY))
    paper = Paper(max(1.7, 0.42 * len(lanes) + 1.2))
    paper.title("Who is seen when, and the events")
    scale, instants = time_scale(span)
    (panel,) = stacked(paper.height_in, scale, [(max(len(lanes), 1) - 0.4, -0.85)])
    for row, (_, faces, events, colour) in enumerate(lanes):
        stretches = series.presence(floats(faces, "time_s"), ordinals(faces), findings.step_s)
        paper.boxes(panel, [(start, end, row - 0.26, row + 0.26) for start, end in stretches], colour, 0.45)
        for event in events.to_pylist() if events is not None else []:
            hue = GRAY if event["explained"] else VERMILLION
            paper.line(panel, [event["start_s"], event["end_s"]], [row, row], hue, 3, round_ends=True)
            paper.marks(panel, [event["peak_s"]], [row], "v", 6, hue, edge=("white", 0.6))
            if event["rank"] <= _LABELLED_EVENTS:
                _rank(paper, panel.x_in(event["peak_s"]), panel.y_in(row - 0.3), event)
    for damaged_s in findings.facts["damaged_at_s"].drop_null().to_pylist():
        paper.upright(panel, damaged_s, INK, 1.2, ":")
        x_in, y_in = panel.x_in(damaged_s), panel.y_in(-0.62)
        paper.words(x_in, y_in, "damaged", size=8, ha="left", va="bottom", bold=True)
    paper.frame(panel)
    paper.x_ticks(panel, instants, _TIME_WORDS)
    paper.y_ticks(panel, [Tick(row, lane[0]) for row, lane in enumerate(lanes)], size=9)
    if not lanes:
        paper.words_in(panel, "No faces were found.")
    return paper


class _PersonFrame:
    """The plots of one person: what they share is the axis of time, the events and the gaps."""

    def __init__(
        self, findings: Findings, faces: pa.Table, events: pa.Table, span: tuple[float, float], person: int
    ) -> None:
        self.findings = findings
        self.faces = faces
        self.events = events.to_pylist()
        self.span = span
        self.person = person
        self.scale, self.instants = time_scale(span)
        self.time_s = floats(faces, "time_s")
        self.ordinal = ordinals(faces)

    def score(self) -> Paper:
        paper = Paper(3.4)
        paper.title(f"Person {self.person}: how unusual the expression is")
        values = floats(self.faces, "score")
        known = values[np.isfinite(values)]
        threshold = floats(self.faces, "threshold")
        threshold = threshold[np.isfinite(threshold)][:1]
        beyond = len(threshold) > 0 and far_above(threshold[0], known)
        y, ticks = value_scale(np.concatenate([known, [0.0], threshold[: 0 if beyond else 1]]), most=10)
        (panel,) = stacked(paper.height_in, self.scale, [y])
        self._shade(paper, panel, numbered=True)
        self._line(paper, panel, values)
        if beyond:
            words = f"threshold {threshold[0]:.1f}, above this plot"
            paper.words(panel.right_in, panel.top_in - 0.07, words, size=8, ha="right", va="top", colour=BLACK)
        elif len(threshold):
            paper.rule(panel, threshold[0], INK, 1, "--")
            y_in = panel.y_in(threshold[0])
            paper.words(panel.right_in + 0.04, y_in, "threshold", size=8, ha="left", va="center", colour=BLACK)
        paper.rule(panel, 0, GRAY, 0.6)
        paper.frame(panel)
        paper.y_ticks(panel, ticks, size=9)
        room_in = 0.17 + 0.08 * max(len(tick.words) for tick in ticks)
        unit = "score (MADs above this\nperson's median)"
        paper.words(
            panel.left_in - room_in, panel.middle_in, unit, size=9, ha="right", va="center", colour=BLACK, upwards=True
        )
        paper.x_ticks(panel, self.instants, _TIME_WORDS)
        return paper

    def emotions(self) -> Paper:
        strips = [(name, floats(self.faces, name)) for name in EMOTIONS]
        return self._strips("the seven emotion scores (0 to 1)", strips, (0.0, 1.0))

    def components(self) -> Paper:
        strips = [(label_of(name), floats(self.faces, name)) for name in self.findings.components]
        return self._strips("UMAP components of the faces embedded for identity (no unit)", strips, None)

    def expression(self) -> Paper:
        strips = leading_measures(self.findings, self.faces, self.events, most=8)
        which = "the measures furthest from usual at the events' peaks" if self.events else "expression measures"
        return self._strips(f"{which} (MADs from this person's own median)", strips, None, usual=0.0)

    def trials(self) -> Paper:
        board = leaderboard_of(self.findings.trials, self.findings.comparison, self.person)
        return leaderboard_plot.trials_paper(board, self.person)

    def _strips(
        self,
        what: str,
        strips: Sequence[tuple[str, np.ndarray]],
        limits: tuple[float, float] | None,
        usual: float | None = None,
    ) -> Paper:
        paper = Paper(max(1.9, 0.72 * len(strips) + 0.9))
        paper.title(f"Person {self.person}: {what}")
        scales = [_scale_of(values, limits) for _, values in strips]
        panels = stacked(paper.height_in, self.scale, [scale for scale, _ in scales])
        for panel, (name, values), (_, ticks) in zip(panels, strips, scales, strict=True):
            self._shade(paper, panel, numbered=panel is panels[0])
            if usual is not None:
                paper.rule(panel, usual, GRAY, 0.6)
            self._line(paper, panel, values, fill=limits is not None)
            paper.frame(panel)
            paper.x_ticks(panel, self.instants, _TIME_WORDS if panel is panels[-1] else None)
            paper.y_ticks(panel, ticks, size=7)
            paper.name(panel, textwrap.fill(name, _LABEL_CHARACTERS))
            if not np.isfinite(values).any():
                paper.words_in(panel, "missing")
        return paper

    def _line(self, paper: Paper, panel: Panel, values: np.ndarray, fill: bool = False) -> None:
        pieces = list(series.lines(self.time_s, values, self.ordinal, self.findings.step_s, BINS))
        if not pieces:
            return
        if fill:
            paper.areas(panel, [piece for piece in pieces if len(piece[0]) > 1], 0.0, BLUE, 0.25)
        # One artist for all pieces, broken by NaN: hundreds of gaps must not make hundreds of artists.
        gap = np.array([np.nan])
        at, height = (np.concatenate([part for piece in pieces for part in (piece[axis], gap)]) for axis in (0, 1))
        paper.line(panel, at, height, BLUE, 1.1)
        dots = np.array([(piece[0][0], piece[1][0]) for piece in pieces if len(piece[0]) == 1])
        if len(dots):
            paper.marks(panel, dots[:, 0], dots[:, 1], "o", 2.5, BLUE)

    def _shade(self, paper: Paper, panel: Panel, *, numbered: bool) -> None:
        least_s = (self.span[1] - self.span[0]) / 400
        stretches: dict[str, list[tuple[float, float, float, float]]] = {ORANGE: [], GRAY: []}
        for event in self.events:
            pad_s = max(0.0, least_s - (event["end_s"] - event["start_s"])) / 2
            hue = GRAY if event["explained"] else ORANGE
            stretches[hue].append((event["start_s"] - pad_s, event["end_s"] + pad_s, *panel.y))
            if numbered and event["rank"] <= _LABELLED_EVENTS:
                _rank(paper, panel.x_in(event["peak_s"]), panel.top_in + 0.02, event)
        for hue, boxes in stretches.items():
            paper.boxes(panel, boxes, hue, 0.35)


def _scale_of(values: np.ndarray, limits: tuple[float, float] | None) -> tuple[tuple[float, float], list[Tick]]:
    """The scale of a strip, and its ticks; none where there is nothing to show."""
    known = values[np.isfinite(values)]
    if not len(known):
        return (0.0, 1.0), []
    return (limits, ticks_at(limits)) if limits else value_scale(known, most=4)


def _rank(paper: Paper, x_in: float, y_in: float, event: dict[str, Any]) -> None:
    """The number of an event, above a place."""
    paper.words(x_in, y_in, str(event["rank"]), size=8, ha="center", va="bottom", bold=True)
