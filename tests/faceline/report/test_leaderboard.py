"""The leaderboard: every trial of every person once, by rank, on the page, as a plot and for the UI."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from faceline.report import plots
from faceline.report.findings import load
from faceline.report.leaderboard import SHOWN, bands_of, charts_of, leaderboard_of, ticks_of
from faceline.report.leaderboard_text import leaderboard_markdown
from faceline.report.stage import REPORT, ReportParams
from faceline.stage import MemoryInputs, Runtime, collect
from tests.faceline.report import factory

SCRIPT = factory.Script(length_s=8, persons=(((0, 8),), ((1, 7),)), events=((1, 3, 4),), trials=22)
ONE_TRIAL = re.compile(r"<tr[^>]*><td class=\"num\">(\d+|–)</td><th scope=\"row\">(\w+)(.*?)</tr>")


def _tables(**changes: Any) -> tuple[pa.Table, pa.Table]:
    inputs = factory.make(replace(SCRIPT, **changes))
    return inputs.table("gridsearch", "trials"), inputs.table("gridsearch", "comparison")


def _html(inputs: MemoryInputs) -> str:
    params = ReportParams(plots=False)
    return str(collect(REPORT.compute(params, inputs, Runtime()))["files"]["report.html"].decode())


@pytest.mark.parametrize("trials", [3, SHOWN, SHOWN + 1, 40])
def test_the_page_has_one_row_per_trial_and_person(trials: int) -> None:
    html = _html(factory.make(replace(SCRIPT, trials=trials)))
    for person in (1, 2):
        section = html.split(f'id="person-{person}"')[1].split("</section>")[0]
        rows = ONE_TRIAL.findall(section)
        assert [rank for rank, _, _ in rows] == [*map(str, range(1, trials)), "–"]
        assert sum("chosen" in rest for _, _, rest in rows) == max(1, trials // 3)
        folded = section.split("<details>")[1] if "<details>" in section else ""
        assert len(ONE_TRIAL.findall(folded)) == max(0, trials - SHOWN)


def test_rows_stand_by_rank_and_those_without_one_last() -> None:
    trials, comparison = _tables()
    shuffled = trials.take(np.random.default_rng(1).permutation(trials.num_rows))
    board = leaderboard_of(shuffled, comparison, 2)
    assert [row["rank"] for row in board.rows] == [*range(1, 22), None]
    assert {row["person"] for row in board.rows} == {2}
    assert board.parts == ("injection", "stability", "agreement")
    assert board.chosen == 7
    assert [(s["strategy"], s["injection"]) for s in board.strategies] == [
        ("chosen", 0.83),
        ("best", 0.8),
        ("random", 0.46),
        ("ensemble", 0.71),
    ]


def test_one_bar_per_scored_trial_and_series() -> None:
    trials, comparison = _tables()
    board = leaderboard_of(trials, comparison, 1)
    charts = charts_of(board)
    assert [chart.label for chart in charts] == ["objective", "injection", "stability", "agreement"]
    assert [chart.area.count("M") for chart in charts] == [21, 21, 21, 21]
    assert charts[-1].low < 0 and charts[-1].zero is not None
    assert [band.rank for band in bands_of(board)] == list(range(1, 8))
    assert all(0 <= tick.at_percent <= 100 for tick in ticks_of(board))


def _without(table: pa.Table, *names: str) -> pa.Table:
    for name in names:
        at = table.column_names.index(name)
        table = table.set_column(at, table.schema.field(name), pa.nulls(table.num_rows, table.schema.field(name).type))
    return table


def test_trials_without_any_score_are_listed_and_not_drawn() -> None:
    inputs = factory.make(SCRIPT)
    trials = _without(inputs.table("gridsearch", "trials"), "objective", "rank", "injection", "stability", "agreement")
    comparison = _without(inputs.table("gridsearch", "comparison"), "injection")
    board = leaderboard_of(trials, comparison, 1)
    assert not board.measured and len(board.rows) == 22
    payloads = {**inputs.payloads, ("gridsearch", "trials"): trials, ("gridsearch", "comparison"): comparison}
    blank = MemoryInputs(payloads, facts=inputs.facts)
    html = _html(blank)
    assert html.count("not measured") >= 4
    assert len(ONE_TRIAL.findall(html)) == 44
    assert "person_1_trials.png" not in dict(plots.draw(load(blank), (0.0, 8.0), "clip", 50, (1,)))
    assert "| – |" in leaderboard_markdown(trials, comparison)


def test_a_part_that_was_never_measured_says_so() -> None:
    trials, comparison = _tables()
    charts = charts_of(leaderboard_of(_without(trials, "stability"), comparison, 1))
    assert [chart.words for chart in charts] == ["", "", "not measured", ""]


def test_without_trials_there_is_no_leaderboard() -> None:
    inputs = factory.make(SCRIPT)
    empty = {("gridsearch", name): inputs.table("gridsearch", name).slice(0, 0) for name in ("trials", "comparison")}
    assert "How the model was chosen" not in _html(MemoryInputs({**inputs.payloads, **empty}, facts=inputs.facts))
    assert leaderboard_markdown(*empty.values()) == "No person, so no trial."


def test_the_plot_is_drawn_and_the_same_each_time() -> None:
    findings = load(factory.make(SCRIPT))
    first, second = (dict(plots.draw(findings, (0.0, 8.0), "clip", 60, (1,)))["person_1_trials.png"] for _ in range(2))
    assert first == second
    pixels = np.asarray(Image.open(io.BytesIO(first)).convert("RGB")).astype(int)
    blue = np.abs(pixels - np.array([0, 0x72, 0xB2])).max(axis=2) < 30
    assert blue.mean() > 0.03


def test_the_markdown_has_a_line_per_trial_up_to_a_limit() -> None:
    trials, comparison = _tables()
    text = leaderboard_markdown(trials, comparison)
    assert [line for line in text.splitlines() if line.startswith("### ")] == ["### Person 1", "### Person 2"]
    assert text.count(" expressions |") == 2 * SHOWN
    assert text.count("… and 7 more in the report") == 2
    assert "| as chosen here | `████████░░` 0.83 |" in text
    assert text.count("** chosen |") == 14


def test_the_markdown_cannot_be_broken_by_a_name() -> None:
    trials, comparison = _tables()
    at = trials.column_names.index("features")
    evil = pa.array(["a|b\n# <img src=x> `c`"] * trials.num_rows)
    text = leaderboard_markdown(trials.set_column(at, "features", evil), comparison)
    rows = [line for line in text.splitlines() if "img" in line]
    assert len(rows) == 2 * SHOWN
    assert all("a\\|b \\# \\<img src=x\\> \\`c\\`" in row for row in rows)


def test_hostile_names_stay_text_on_the_page() -> None:
    inputs = factory.make(SCRIPT)
    trials = inputs.table("gridsearch", "trials")
    at = trials.column_names.index("state")
    evil = trials.set_column(at, "state", pa.array(["<script>alert(1)</script>"] * trials.num_rows))
    comparison = inputs.table("gridsearch", "comparison")
    odd = pa.array(["<b>odd</b>"] * comparison.num_rows)
    comparison = comparison.set_column(comparison.column_names.index("strategy"), "strategy", odd)
    payloads = {**inputs.payloads, ("gridsearch", "trials"): evil, ("gridsearch", "comparison"): comparison}
    html = _html(MemoryInputs(payloads, facts=inputs.facts))
    assert html.count("<script>") == 1
    assert "<b>odd</b>" not in html and "&lt;b&gt;odd" in html
