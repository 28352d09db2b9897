"""Footage that cannot show what is looked for is refused: in one line, before any work, by every verb."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from faceline.errors import FootageError
from flows import analyze as analyze_module
from flows.analyze import analyze, is_cached
from flows.archive import archive
from flows.cli import main
from flows.config import load_config
from flows.console import Lines
from flows.job import Job, prepare
from flows.options import RequireOptions
from flows.plan import show_plan
from flows.requirements import check_footage
from flows.sweep import sweep
from flows.walk import start_here
from tests.flows.conftest import Line


@dataclass(frozen=True)
class Rated:
    native_fps: float
    path: Path = Path("clip.mp4")


@pytest.mark.parametrize(
    ("fps", "least", "passes"),
    [
        (25.0, 25.0, True),
        (24.99, 25.0, True),
        (24.9, 25.0, True),
        (24.87, 25.0, False),
        (24_000 / 1001, 25.0, False),
        (24_000 / 1001, 24.0, True),
        (12.0, 25.0, False),
        (50.0, 25.0, True),
        (0.1, 0.0, True),
    ],
)
def test_half_a_per_cent_is_the_same_rate(fps: float, least: float, passes: bool) -> None:
    try:
        check_footage(Rated(fps), RequireOptions(native_fps=least))
    except FootageError:
        assert not passes
    else:
        assert passes


def test_the_line_says_what_why_and_the_cure() -> None:
    with pytest.raises(FootageError) as caught:
        check_footage(Rated(24_000 / 1001), RequireOptions(native_fps=25))
    assert str(caught.value) == (
        "clip.mp4: 23.98 frames per second, fewer than the 25 of require.native_fps: what lasts less than 0.042 s can"
        " fall between two frames; choose another preset, or lower the requirement with require.native_fps=23"
    )


@pytest.mark.parametrize("verb", [analyze, show_plan, sweep], ids=["analyze", "plan", "sweep"])
def test_slow_footage_is_refused_before_any_work(line: Line, verb: Callable[[Sequence[str]], int]) -> None:
    arguments = line.arguments("preset=micro", footage=line.footage("slow", "12 fps"))
    with pytest.raises(FootageError, match="12 frames per second, fewer than the 25"):
        verb(arguments)
    assert line.calls.computed == []
    assert line.servers == 0
    assert {path.name for path in line.folder.iterdir()} == {"slow.mp4"}
    # Whoever insists is served.
    assert show_plan([*arguments, "require.native_fps=12"]) == 0


def test_the_command_line_shows_one_line_and_fails(line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze", *line.arguments("preset=micro", footage=line.footage("slow", "12 fps"))]) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert "slow.mp4" in said and "require.native_fps=12" in said


@pytest.mark.prefect
def test_an_archive_sets_slow_footage_aside_and_goes_on(prefect_line: Line) -> None:
    prefect_line.footage("archive/a", "12 fps")
    prefect_line.footage("archive/b", "fast enough")
    assert archive(prefect_line.arguments("preset=micro", footage=prefect_line.folder / "archive")) == 3
    slow, fast = json.loads((prefect_line.folder / "results" / "archive.json").read_text())["rows"]
    assert (slow["file"], slow["state"], fast["state"]) == ("a.mp4", "quarantined", "done")
    # The reason stands alone in the table: rate, requirement and what it means.
    assert slow["reason"].startswith("12 frames per second, fewer than the 25 of require.native_fps: what lasts less")


def test_a_requirement_changes_no_key(line: Line) -> None:
    def job(*overrides: str) -> Job:
        return prepare(load_config(line.arguments(*overrides), analyze_module.STAGES), analyze_module.STAGES)

    job().walk(start_here, Lines()).run()
    assert is_cached(job("require.native_fps=25"))
