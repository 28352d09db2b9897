"""The leaderboard of one person as a plot: a bar per trial for the objective and each of its parts, and what choosing
was worth."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

import numpy as np

from faceline.report.canvas import BLUE, GRAY, INK, ORANGE, figure_of, title, words_in
from faceline.report.leaderboard import Leaderboard, chosen_flags, limits_of, series_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LABEL_CHARACTERS = 18


def trials_figure(board: Leaderboard, person: int) -> Figure:
    """Strips over the trials by rank; below them, the ways to choose."""
    strips = series_of(board)
    known = [s for s in board.strategies if s["injection"] is not None and math.isfinite(s["injection"])]
    figure, rows = figure_of(len(strips), 0.85 * len(strips) + 1.3 + 0.3 * len(known) + (0.9 if known else 0))
    title(rows[0], f"Person {person}: the trials by rank; shaded: chosen")
    chosen = chosen_flags(board)
    rank = np.arange(1, len(chosen) + 1)
    for axes, (label, values) in zip(rows, strips, strict=True):
        for at in rank[chosen]:
            axes.axvspan(at - 0.5, at + 0.5, color=ORANGE, alpha=0.3, lw=0)
        axes.bar(rank, np.nan_to_num(values), width=0.7, color=BLUE)
        axes.axhline(0, color=GRAY, lw=0.6)
        low, high = limits_of(values)
        axes.set_ylim(low, high)
        axes.set_yticks([0, 1])
        axes.tick_params(axis="y", labelsize=7)
        _name(axes, label)
        if not np.isfinite(values).any():
            words_in(axes, "not measured")
    rows[-1].set_xlim(0.4, len(chosen) + 0.6)
    rows[-1].locator_params(axis="x", integer=True, nbins=12)
    rows[-1].set_xlabel("rank of the trial", fontsize=9)
    if known:
        _strategies(figure, rows, known)
    return figure


def _strategies(figure: Figure, rows: list[Axes], known: list[dict[str, object]]) -> None:
    """Bars at the foot of the figure; the strips move up to make room."""
    height_in = figure.get_figheight()
    foot_in = 0.3 * len(known) + 0.9
    figure.subplots_adjust(bottom=(0.55 + foot_in) / height_in)
    left, width = rows[0].get_position().x0, rows[0].get_position().width
    axes = figure.add_axes((left, 0.5 / height_in, width, 0.3 * len(known) / height_in))
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRAY)
    axes.tick_params(colors=INK, labelsize=9)
    values = np.array([s["injection"] for s in known], dtype=np.float64)
    colours = [BLUE if s["strategy"] == "chosen" else GRAY for s in known]
    axes.barh(range(len(known)), values, height=0.65, color=colours)
    for row, value in enumerate(values):
        axes.text(value + 0.008, row, f"{value:.2f}", va="center", fontsize=8, color=INK)
    axes.set_yticks(range(len(known)), [str(s["words"]) for s in known])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("average precision on planted anomalies", fontsize=9)


def _name(axes: Axes, label: str) -> None:
    words = textwrap.fill(label, _LABEL_CHARACTERS)
    axes.text(-0.045, 0.5, words, transform=axes.transAxes, ha="right", va="center", fontsize=9, parse_math=False)
