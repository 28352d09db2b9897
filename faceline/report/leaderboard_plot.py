"""The leaderboard of one person as a plot: a bar per trial for the objective and each of its parts, and what choosing
was worth."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from faceline.report import series
from faceline.report.canvas import BLUE, GRAY, ORANGE, Paper
from faceline.report.leaderboard import Leaderboard, chosen_flags, limits_of, series_of
from faceline.report.panels import BOTTOM_MARGIN_IN, Panel, Tick, stacked, ticks_at

_LANE_IN = 0.3
"""Height of the bar of a way to choose, with the space around it."""


def trials_paper(board: Leaderboard, person: int) -> Paper:
    """Strips over the trials by rank; below them, the ways to choose."""
    strips = series_of(board)
    known = [(s["strategy"], s["words"], s["injection"]) for s in board.strategies if _finite(s["injection"])]
    foot_in = _LANE_IN * len(known) + 0.9 if known else 0.0
    height_in = 0.85 * len(strips) + 1.3 + foot_in
    paper = Paper(height_in)
    paper.title(f"Person {person}: the trials by rank; shaded: chosen")
    chosen = chosen_flags(board)
    rank = np.arange(1, len(chosen) + 1)
    scale = (0.4, len(chosen) + 0.6)
    ranks = ticks_at([at for at in series.value_ticks(*scale, most=13) if at == int(at)])
    bottom_in = 0.55 + foot_in if known else BOTTOM_MARGIN_IN
    panels = stacked(height_in, scale, [limits_of(values) for _, values in strips], bottom_in)
    for panel, (label, values) in zip(panels, strips, strict=True):
        paper.boxes(panel, [(at - 0.5, at + 0.5, *panel.y) for at in rank[chosen]], ORANGE, 0.3)
        paper.boxes(panel, [(at - 0.35, at + 0.35, 0, value) for at, value in _bars(rank, values)], BLUE)
        paper.rule(panel, 0, GRAY, 0.6)
        paper.frame(panel)
        paper.x_ticks(panel, ranks, "rank of the trial" if panel is panels[-1] else None)
        paper.name(panel, label)
        if np.isfinite(values).any():
            paper.y_ticks(panel, ticks_at([0, 1]), size=7)
        else:
            paper.words_in(panel, "not measured")
    if known:
        foot = replace(panels[0], bottom_in=0.5, top_in=0.5 + _LANE_IN * len(known), x=(0.0, 1.0))
        _strategies(paper, replace(foot, y=(len(known) - 0.5, -0.5)), known)
    return paper


def _strategies(paper: Paper, panel: Panel, known: list[tuple[str, str, float]]) -> None:
    """A bar per way to choose, with its value at its end."""
    for row, (strategy, _, value) in enumerate(known):
        colour = BLUE if strategy == "chosen" else GRAY
        paper.boxes(panel, [(0, value, row - 0.325, row + 0.325)], colour)
        paper.words(panel.x_in(value) + 0.07, panel.y_in(row), f"{value:.2f}", size=8, ha="left", va="center")
    paper.frame(panel)
    paper.y_ticks(panel, [Tick(row, words) for row, (_, words, _) in enumerate(known)], size=9)
    paper.x_ticks(panel, ticks_at([0, 0.2, 0.4, 0.6, 0.8, 1]), "average precision on planted anomalies")


def _bars(rank: np.ndarray, values: np.ndarray) -> list[tuple[int, float]]:
    return [(int(at), float(value)) for at, value in zip(rank, values, strict=True) if math.isfinite(value)]


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
