"""The leaderboard: every trial of a person by rank, what its rank is made of, and what choosing was worth.

Pure rows and charts; the page, the plots and the Prefect UI show them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from faceline.report.charts import HEIGHT, WIDTH, Band, Chart, Tick
from faceline.report.findings import floats
from faceline.report.words import number_words

SHOWN = 15
"""Trials that are listed at first sight; the others unfold."""

OBJECTIVE = "objective"

STRATEGY_WORDS = {
    "chosen": "as chosen here",
    "best": "first trial alone",
    "random": "a random trial",
    "ensemble": "all trials together",
}
"""Ways to come from trials to one score (gridsearch's payload ``comparison``), in the order in which they are shown."""

_NO_PARTS = {"window_s", OBJECTIVE}


@dataclass(frozen=True)
class Leaderboard:
    """The trials of one person.

    Attributes:
        rows: trials as rows of gridsearch's payload ``trials``, by rank; those without a rank last.
        parts: columns of the parts that make up the objective.
        strategies: ``strategy``, ``words``, ``injection`` (average precision on planted anomalies, None where it is
            not known) of each way to choose.
    """

    rows: list[dict[str, Any]]
    parts: tuple[str, ...]
    strategies: list[dict[str, Any]]

    @property
    def chosen(self) -> int:
        """How many trials make the score."""
        return sum(bool(row["chosen"]) for row in self.rows)

    @property
    def measured(self) -> bool:
        """Whether there is anything to draw."""
        return any(_finite(row[OBJECTIVE]) for row in self.rows)


def leaderboard_of(trials: pa.Table, comparison: pa.Table, person: int) -> Leaderboard:
    """The leaderboard of one person from gridsearch's payloads ``trials`` and ``comparison``."""
    mine = trials.filter(pc.equal(trials["person"], person))
    # Nulls stand last.
    rows = mine.sort_by([("rank", "ascending"), ("trial", "ascending")]).to_pylist()
    parts = tuple(f.name for f in trials.schema if pa.types.is_floating(f.type) and f.name not in _NO_PARTS)
    known = {
        row["strategy"]: row["injection"]
        for row in comparison.filter(pc.equal(comparison["person"], person)).to_pylist()
    }
    order = [name for name in STRATEGY_WORDS if name in known] + sorted(set(known) - set(STRATEGY_WORDS))
    strategies = [
        {"strategy": name, "words": STRATEGY_WORDS.get(name, name), "injection": known[name]} for name in order
    ]
    return Leaderboard(rows, parts, strategies)


def series_of(board: Leaderboard) -> list[tuple[str, np.ndarray]]:
    """The objective and its parts over the trials with a rank, best first, as (label, values); NaN where missing."""
    ranked = [row for row in board.rows if _finite(row[OBJECTIVE])]
    table = pa.table(
        {name: pa.array([row[name] for row in ranked], pa.float64()) for name in (OBJECTIVE, *board.parts)}
    )
    return [(name.replace("_", " "), floats(table, name)) for name in table.column_names]


def limits_of(values: np.ndarray) -> tuple[float, float]:
    """Lowest and highest value of the axis: 0 to 1, wider where values lie beyond."""
    known = values[np.isfinite(values)]
    return min(0.0, float(known.min(initial=0.0))), max(1.0, float(known.max(initial=1.0)))


def chosen_flags(board: Leaderboard) -> list[bool]:
    """Which of the drawn trials (those of `series_of`) are chosen."""
    return [bool(row["chosen"]) for row in board.rows if _finite(row[OBJECTIVE])]


def charts_of(board: Leaderboard) -> list[Chart]:
    """One strip of bars per series, a bar per trial, for the page."""
    charts = []
    for label, values in series_of(board):
        low, high = limits_of(values)
        known = values[np.isfinite(values)]
        words = "" if len(known) else "not measured"
        summary = (
            f"{label} of {len(values)} trials by rank: highest {known.max():.2f}, lowest {known.min():.2f}"
            if len(known)
            else f"{label}: not measured"
        )
        span = f"{number_words(float(known.min()))} to {number_words(float(known.max()))}" if len(known) else ""
        area = "".join(_bar(i, len(values), v, low, high) for i, v in enumerate(values) if math.isfinite(v))
        zero = 100 * high / (high - low) if low < 0 else None
        charts.append(Chart(label, "", area, low, high, zero=zero, range=span, words=words, summary=summary))
    return charts


def bands_of(board: Leaderboard) -> tuple[Band, ...]:
    """The chosen trials as shaded columns of the charts."""
    flags = chosen_flags(board)
    width = WIDTH / max(len(flags), 1)
    return tuple(
        Band(round(i * width, 2), round(width, 2), i + 1, f"trial {i + 1}, chosen") for i, c in enumerate(flags) if c
    )


def ticks_of(board: Leaderboard, most: int = 10) -> tuple[Tick, ...]:
    """Ranks below the charts: the first, the last, and round ones between them."""
    count = len(chosen_flags(board))
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 10**9) if count / s <= most)
    ranks = sorted({1, *range(step, count + 1, step)})
    return tuple(
        Tick(round(100 * (rank - 0.5) / count, 3), str(rank), minor=i % 2 == 1) for i, rank in enumerate(ranks)
    )


def _bar(i: int, count: int, value: float, low: float, high: float) -> str:
    """The outline of one bar, from zero to its value; never flatter than can be seen."""
    width = WIDTH / count
    left, right = (i + 0.15) * width, (i + 0.85) * width
    zero, top = HEIGHT * high / (high - low), HEIGHT * (high - value) / (high - low)
    if abs(top - zero) < 1.5:
        top = zero - 1.5
    return f"M{left:.1f} {zero:.1f}V{top:.1f}H{right:.1f}V{zero:.1f}Z"


def _finite(value: Any) -> bool:
    return value is not None and math.isfinite(value)
