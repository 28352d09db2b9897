"""The command line of the benchmark, and the file of its figures."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.speed import run


def test_usual_parts_and_chosen_ones() -> None:
    assert tuple(run.arguments([]).parts) == run.USUAL and "hour" not in run.USUAL
    assert run.arguments(["--only", "warm,ratio"]).parts == ["ratio", "warm"]
    assert run.arguments(["--hour"]).parts == ["hour"]
    assert run.arguments(["--only", "warm", "--profile", "gridsearch=small"]).parts == ["warm", "profile"]
    with pytest.raises(SystemExit):
        run.arguments(["--only", "speed"])


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[run.Bench]:
    """All parts replaced by one that notes what it was asked."""
    asked: list[run.Bench] = []

    def measure(bench: run.Bench) -> dict[str, Any]:
        asked.append(bench)
        return {"figure": len(asked)}

    fakes = {name: (title, measure, lambda r: [f"figure {r['figure']}"]) for name, (title, _, _) in run.PARTS.items()}
    monkeypatch.setattr(run, "PARTS", fakes)
    monkeypatch.setattr(run, "chosen_clips", lambda names: {"clip": tmp_path / "clip.mp4"})
    identity = SimpleNamespace(name="dlib", source="somewhere")
    monkeypatch.setattr(run, "identities", lambda names: [identity])
    monkeypatch.setenv("FACELINE_TESTDATA", str(tmp_path))
    return asked


def test_a_part_measured_again_replaces_its_figures_alone(
    parts: list[run.Bench], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "deep" / "results.json"
    assert run.main(["--only", "ratio,warm", "--json", str(path), "--fps", "5", "gridsearch=small"]) == 0
    assert run.main(["--only", "warm", "--json", str(path)]) == 0
    found = json.loads(path.read_text())
    assert {name: part["figure"] for name, part in found.items()} == {"ratio": 1, "warm": 3}
    assert found["ratio"]["settings"]["fps"] == 5 and found["warm"]["settings"]["fps"] == 10
    assert found["warm"]["machine"]["cores"] >= 1
    assert parts[0].overrides == ["sample.fps=5", "embedder=dlib", "gridsearch=small"]
    out = capsys.readouterr().out
    assert "figure 3" in out and str(path) in out and "clip (clip.mp4)" in out


def test_weights_that_are_not_there_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from faceline.errors import ModelError

    monkeypatch.setenv("FACELINE_MODELS", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert [identity.name for identity in run.identities("")] == ["dlib"]
    assert "vggface2: its weights are not here" in capsys.readouterr().out
    with pytest.raises(ModelError):
        run.identities("vggface2")


def test_every_part_is_told_about() -> None:
    assert set(run.USUAL) < set(run.PARTS)
    page = (Path(__file__).parents[3] / "docs" / "benchmark.md").read_text(encoding="utf-8")
    assert all(f"`{part}`" in page for part in run.PARTS)
