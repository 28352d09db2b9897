"""The demo: what it runs, what it prints, and what its exit code says. The analysis itself is replaced here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from faceline.made.render import truth_path
from faceline.made.script import Script, default_demo_script
from faceline.made.truth import Truth
from flows import cli, demo

SCRIPT = default_demo_script()


class FakeAnalysis:
    """Stands for `cli.main`: writes a results folder with events on the first so many bursts, and false ones."""

    def __init__(self, found: int, false: int, code: int = 0) -> None:
        self.found, self.false, self.code = found, false, code
        self.calls: list[list[str]] = []

    def __call__(self, arguments: Sequence[str]) -> int:
        self.calls.append(list(arguments))
        if self.code == 0:
            folder = Path(next(a.partition("=")[2] for a in arguments if a.startswith("output=")))
            folder.mkdir(parents=True)
            truth = Truth.of(SCRIPT, "demo.mp4", 1)
            rows = [(b.person, b.apex_s) for b in truth.bursts[: self.found]] + [
                (1, 1.0 + k) for k in range(self.false)
            ]
            lines = [f"{person},{rank},{peak}" for rank, (person, peak) in enumerate(rows, start=1)]
            (folder / "events.csv").write_text("\n".join(["person,rank,peak_s", *lines]) + "\n")
            for person in truth.persons:
                x, y, width, height = person.box_px
                table = f"x_px,y_px,w_px,h_px\n{x + width / 2},{y + height / 2},10,10\n"
                (folder / f"anomaly_detection_results_person_{person.person}.csv").write_text(table)
        return self.code


@pytest.fixture
def rendered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A demo folder whose footage counts as rendered."""

    def no_rendering(script: Script, path: Path, **options: object) -> tuple[Truth, bool]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        truth = Truth.of(script, path.name, 1)
        truth.save(truth_path(path))
        return truth, True

    monkeypatch.setattr(demo, "render_once", no_rendering)
    return tmp_path / "a folder, with = signs"


@pytest.mark.parametrize(
    ("found", "false", "code"),
    [(9, 0, 0), (8, 2, 0), (7, 0, 1), (9, 3, 1), (0, 0, 1)],
)
def test_exit_code_follows_the_counts(
    rendered: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    found: int,
    false: int,
    code: int,
) -> None:
    analysis = FakeAnalysis(found, false)
    monkeypatch.setattr(cli, "main", analysis)
    assert demo.main(["--folder", str(rendered)]) == code
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == f"{found} of 9 true moments found, {false} false event{'' if false == 1 else 's'}"
    assert sum("missed" in line for line in out) == 9 - found
    assert sum(line.startswith("false event: rank") for line in out) == false
    assert any("brow_raise" in line and "00:00:08.000" in line for line in out)


def test_the_analysis_is_asked_as_a_user_would(rendered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    analysis = FakeAnalysis(9, 0)
    monkeypatch.setattr(cli, "main", analysis)
    demo.main(["--folder", str(rendered), "embedder=dlib"])
    assert analysis.calls == [
        [
            "analyze",
            f"footage={rendered / 'demo.mp4'}",
            f"output={rendered / 'results'}",
            f"store.root={rendered / 'artifacts'}",
            "sample.fps=10",
            "embedder=dlib",
        ]
    ]


def test_a_failed_analysis_keeps_its_exit_code(rendered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "main", FakeAnalysis(0, 0, code=2))
    assert demo.main(["--folder", str(rendered)]) == 2


def test_too_short_a_demo_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        demo.main(["--seconds", "10"])
    assert stop.value.code == 2
    assert "at least 40 s" in capsys.readouterr().err
