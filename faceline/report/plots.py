"""The plots as PNG files, drawn with Matplotlib's Agg canvas; same input, same bytes.

Matplotlib's global state (pyplot, rcParams) is not touched, since several footages may be drawn at once in threads.
Where many series share one axis of time, each has its own strip instead of its own colour.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from faceline.report import leaderboard_plot, series
from faceline.report.canvas import (
    BLUE,
    GRAY,
    INK,
    ORANGE,
    VERMILLION,
    figure_of,
    label,
    png_of,
    time_axis,
    title,
    words_in,
)
from faceline.report.charts import far_above
from faceline.report.findings import EMOTIONS, Findings, floats, ordinals
from faceline.report.leaderboard import leaderboard_of
from faceline.report.measures import label_of, leading_measures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BINS = 1200
"""Stretches of time that a drawn line is thinned to: more than a plot has pixels."""

KINDS = ("score", "emotions", "components", "expression", "trials")
"""Kinds of plots of a person, in order."""

_LABELLED_EVENTS = 20
_LABEL_CHARACTERS = 18


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
    yield "overview.png", png_of(overview(findings, span), name, dpi)
    for person in persons:
        faces, events = findings.faces_of(person), findings.events_of(person)
        frame = _PersonFrame(findings, faces, events, span, person)
        figures = {
            "score": frame.score,
            "emotions": frame.emotions,
            "components": frame.components,
            "expression": frame.expression,
            "trials": frame.trials,
        }
        for kind in drawable(findings, person):
            yield f"person_{person}_{kind}.png", png_of(figures[kind](), name, dpi)


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


def overview(findings: Findings, span: tuple[float, float]) -> Figure:
    """Who is seen when, with the events on top: one lane per person, one for faces that fit nobody."""
    lanes: list[tuple[str, pa.Table, pa.Table | None, str]] = [
        (f"person {n}", findings.faces_of(n), findings.events_of(n), BLUE) for n in findings.persons
    ]
    unknown = findings.faces_of(None)
    if unknown.num_rows:
        lanes.append(("unknown", unknown, None, GRAY))
    figure, (axes,) = figure_of(1, max(1.7, 0.42 * len(lanes) + 1.2))
    title(axes, "Who is seen when, and the events")
    for row, (_, faces, events, colour) in enumerate(lanes):
        stretches = series.presence(floats(faces, "time_s"), ordinals(faces), findings.step_s)
        bars = [(start, max(end - start, 0.0)) for start, end in stretches]
        axes.broken_barh(bars, (row - 0.26, 0.52), facecolors=colour, alpha=0.45, linewidth=0)
        for event in events.to_pylist() if events is not None else []:
            hue = GRAY if event["explained"] else VERMILLION
            axes.plot([event["start_s"], event["end_s"]], [row, row], color=hue, lw=3, solid_capstyle="round")
            axes.plot(event["peak_s"], row, marker="v", ms=6, color=hue, mec="white", mew=0.6)
            if event["rank"] <= _LABELLED_EVENTS:
                label(axes, event["peak_s"], row - 0.3, str(event["rank"]), va="bottom")
    for damaged_s in findings.facts["damaged_at_s"].drop_null().to_pylist():
        axes.axvline(damaged_s, color=INK, lw=1.2, ls=":")
        label(axes, damaged_s, -0.62, "damaged", va="bottom", ha="left")
    axes.set_yticks(range(len(lanes)), [lane[0] for lane in lanes])
    axes.set_ylim(max(len(lanes), 1) - 0.4, -0.85)
    if not lanes:
        words_in(axes, "No faces were found.")
    time_axis(axes, span)
    return figure


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
        self.time_s = floats(faces, "time_s")
        self.ordinal = ordinals(faces)

    def score(self) -> Figure:
        figure, (axes,) = figure_of(1, 3.4)
        values = floats(self.faces, "score")
        title(axes, f"Person {self.person}: how unusual the expression is")
        self._shade(axes, numbered=True)
        self._line(axes, values, BLUE)
        threshold = floats(self.faces, "threshold")
        threshold = threshold[np.isfinite(threshold)]
        known = values[np.isfinite(values)]
        if len(threshold) and len(known) and far_above(threshold[0], known):
            words = f"threshold {threshold[0]:.1f}, above this plot"
            axes.text(1, 0.97, words, transform=axes.transAxes, fontsize=8, ha="right", va="top")
        elif len(threshold):
            axes.axhline(threshold[0], color=INK, lw=1, ls="--")
            axes.text(1.005, threshold[0], "threshold", transform=axes.get_yaxis_transform(), fontsize=8, va="center")
        axes.axhline(0, color=GRAY, lw=0.6)
        axes.set_ylabel("score (MADs above this\nperson's median)", fontsize=9)
        if not len(known):
            words_in(axes, "No face of this person could be scored.")
        time_axis(axes, self.span)
        return figure

    def emotions(self) -> Figure:
        strips = [(name, floats(self.faces, name)) for name in EMOTIONS]
        return self._strips("the seven emotion scores (0 to 1)", strips, (0.0, 1.0))

    def components(self) -> Figure:
        strips = [(label_of(name), floats(self.faces, name)) for name in self.findings.components]
        return self._strips("UMAP components of the faces embedded for identity (no unit)", strips, None)

    def expression(self) -> Figure:
        strips = leading_measures(self.findings, self.faces, self.events, most=8)
        return self._strips("expression measures (MADs from this person's own median)", strips, None)

    def trials(self) -> Figure:
        board = leaderboard_of(self.findings.trials, self.findings.comparison, self.person)
        return leaderboard_plot.trials_figure(board, self.person)

    def _strips(
        self, what: str, strips: Sequence[tuple[str, np.ndarray]], limits: tuple[float, float] | None
    ) -> Figure:
        figure, rows = figure_of(max(len(strips), 1), max(1.9, 0.72 * len(strips) + 0.9))
        title(rows[0], f"Person {self.person}: {what}")
        for row, (axes, (name, values)) in enumerate(zip(rows, strips, strict=False)):
            self._shade(axes, numbered=row == 0)
            self._line(axes, values, BLUE, fill=limits is not None)
            words = textwrap.fill(name, _LABEL_CHARACTERS)
            axes.text(
                -0.045, 0.5, words, transform=axes.transAxes, ha="right", va="center", fontsize=9, parse_math=False
            )
            axes.tick_params(axis="y", labelsize=7)
            if limits:
                axes.set_ylim(*limits)
                axes.set_yticks([0, 1])
            else:
                axes.locator_params(axis="y", nbins=3)
            if not np.isfinite(values).any():
                words_in(axes, "missing")
        if not strips:
            words_in(rows[0], "There are none.")
        time_axis(rows[-1], self.span)  # The strips share it.
        return figure

    def _line(self, axes: Axes, values: np.ndarray, colour: str, fill: bool = False) -> None:
        pieces = list(series.lines(self.time_s, values, self.ordinal, self.findings.step_s, BINS))
        # One artist for all pieces, broken by NaN: hundreds of gaps must not make hundreds of artists.
        gap = np.array([np.nan])
        at = np.concatenate([part for piece in pieces for part in (piece[0], gap)] or [gap])
        height = np.concatenate([part for piece in pieces for part in (piece[1], gap)] or [gap])
        axes.plot(at, height, color=colour, lw=1.1, solid_joinstyle="round")
        if fill:
            axes.fill_between(at, 0, height, color=colour, alpha=0.25, linewidth=0)
        dots = [(piece[0][0], piece[1][0]) for piece in pieces if len(piece[0]) == 1]
        if dots:
            axes.plot(*zip(*dots, strict=True), ls="none", marker="o", ms=2.5, color=colour, mec="none")

    def _shade(self, axes: Axes, *, numbered: bool) -> None:
        least_s = (self.span[1] - self.span[0]) / 400
        for event in self.events:
            pad_s = max(0.0, least_s - (event["end_s"] - event["start_s"])) / 2
            hue = GRAY if event["explained"] else ORANGE
            axes.axvspan(event["start_s"] - pad_s, event["end_s"] + pad_s, color=hue, alpha=0.35, lw=0)
            if numbered and event["rank"] <= _LABELLED_EVENTS:
                label(axes, event["peak_s"], 1.01, str(event["rank"]), va="bottom", above=True)
