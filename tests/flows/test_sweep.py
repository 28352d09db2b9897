"""The leaderboard of a sweep: which row stands where, and for which combination."""

from __future__ import annotations

from typing import Any

import pytest

from flows import sweep
from flows.sweep import SHOWN, Row, print_leaderboard
from tests.flows.conftest import Line

NAMES = ("model", "features", "window_s", "scored", "state")


def row(upstream: str, person: int, rank: int | None, objective: float) -> Row:
    values: dict[str, Any] = {"person": person, "rank": rank, "objective": objective} | dict.fromkeys(NAMES, 1)
    return Row(upstream, f"anomaly.window_s={rank}", values)


def test_rows_are_by_combination_and_then_by_rank(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """An objective of one combination says nothing of another's."""

    def rows(job: Any, outcomes: Any) -> list[Row]:
        upstream = " ".join(job.config.overrides)
        share = job.config.params["sample"].fps / 10
        return [row(upstream, person, rank, share - (rank or 9)) for person in (1, 2) for rank in (2, None, 1)]

    monkeypatch.setattr(sweep, "leaderboard", rows)
    monkeypatch.setattr(sweep, "is_cached", lambda job: True)
    assert sweep.sweep([f"footage={line.footage()}", *line.arguments("sample.fps=5,8")[1:]]) == 0
    header, *lines = (line.folder / "results" / "sweep.csv").read_text().splitlines()
    assert header.startswith("overrides,trial_overrides,person,rank,")
    cells = [text.split(",") for text in lines]
    assert ["sample.fps=5" in text[0] for text in cells] == [True] * 6 + [False] * 6
    assert all("sample.fps=8" in text[0] for text in cells[6:])
    assert [(text[3], text[2]) for text in cells[:6]] == [
        ("1", "1"), ("1", "2"), ("2", "1"), ("2", "2"), ("", "1"), ("", "2"),
    ]  # fmt: skip


def test_the_console_shows_the_best_of_each_combination(capsys: pytest.CaptureFixture[str]) -> None:
    print_leaderboard([row(f"sample.fps={fps}", 1, rank, 1.0) for fps in (5, 8) for rank in range(1, SHOWN + 1)])
    out = capsys.readouterr().out
    assert out.count("sample.fps=5") == out.count("sample.fps=8") == SHOWN // 2
    assert f"… and {SHOWN} more" in out
