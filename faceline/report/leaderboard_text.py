"""The leaderboard as Markdown, for the Prefect UI."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa

from faceline.report.leaderboard import OBJECTIVE, SHOWN, Leaderboard, leaderboard_of
from faceline.report.words import number_words, seconds_words

_MEANING = (
    "No labels are used. *injection* is the average precision on anomalies planted into the person's own footage,"
    " *stability* the rank correlation of models fitted on two halves of it, *agreement* that with the person's other"
    " trials; the *objective* adds up the places in all of them."
)


def leaderboard_markdown(trials: pa.Table, comparison: pa.Table) -> str:
    """Every person's leaderboard, from gridsearch's payloads ``trials`` and ``comparison``."""
    persons = sorted(set(trials["person"].to_pylist()))
    if not persons:
        return "No person, so no trial."
    boards = [markdown_of(leaderboard_of(trials, comparison, person), person) for person in persons]
    return "\n".join([_MEANING, "", *boards])


def markdown_of(board: Leaderboard, person: int, most: int = SHOWN) -> str:
    """One person's leaderboard: what choosing is worth, then the trials by rank, with small bars."""
    lines = [f"### Person {person}", ""]
    if board.strategies:
        lines += ["| score | planted anomalies found (average precision) |", "|---|---|"]
        lines += [f"| {_cell(s['words'])} | {_with_bar(s['injection'])} |" for s in board.strategies]
        lines.append("")
    heads = ("rank", "model", "features", "window", OBJECTIVE, *board.parts, "scored", "state")
    lines += [_row(heads), _row(["---"] * len(heads))]
    for trial in board.rows[:most]:
        rank = "–" if trial["rank"] is None else str(trial["rank"])
        cells = (
            f"**{rank}** chosen" if trial["chosen"] else rank,
            *(_cell(trial[name]) for name in ("model", "features")),
            seconds_words(trial["window_s"]),
            _with_bar(trial[OBJECTIVE]),
            *(number_words(trial[part]) for part in board.parts),
            f"{trial['scored']:,} / {trial['rows']:,}",
            _cell(trial["state"]),
        )
        lines.append(_row(cells))
    if len(board.rows) > most:
        lines += ["", f"… and {len(board.rows) - most} more in the report"]
    return "\n".join([*lines, ""])


def _row(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def _with_bar(value: float | None, length: int = 10) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    full = round(min(max(value, 0.0), 1.0) * length)
    return f"`{'█' * full}{'░' * (length - full)}` {number_words(value)}"


def _cell(text: Any) -> str:
    """Text that stays text in a Markdown table."""
    plain = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|!&~" else c for c in plain)
