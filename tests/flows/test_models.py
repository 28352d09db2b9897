"""Which weights a run uses: decided once, printed, and part of the keys."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from faceline.artifacts import ArtifactRef
from faceline.errors import ModelError
from faceline.stages import STAGES
from flows.config import load_config
from flows.job import describe_models, resolve_models
from flows.pipeline import build_pipeline, provenance
from tasks.runner import key_parts
from tests.flows.fakes import FakeFootage


@pytest.fixture(autouse=True)
def _nothing_cached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    monkeypatch.setenv("FACELINE_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def chosen(*overrides: str) -> tuple[str, dict[str, str], str]:
    """What is printed, what run.json says of the blendshapes, and the key of the emote stage."""
    config = load_config(["gridsearch=small", *overrides], STAGES)
    models = resolve_models(config, STAGES)
    footage: Any = FakeFootage(Path("clip.mp4"), "aa" * 32)
    pipeline = build_pipeline(footage, config, models, STAGES)
    node = next(node for node in pipeline.nodes.values() if node.stage.name == "emote")
    ref = ArtifactRef("align", "bb" * 32, "cc" * 32, "artifacts", segment=0)
    parts = key_parts(pipeline.request(node, dict.fromkeys(node.before, ref)))
    return describe_models(models, config), provenance(footage, config, models)["models"]["blendshapes"], parts.key


def test_with_and_without_blendshapes_never_mix(tmp_path: Path) -> None:
    line, facts, without = chosen()
    assert "blendshapes none (auto)" in line
    assert facts == {"name": "none", "sha256": "", "source": "absent"}
    with pytest.raises(ModelError, match="faceline models fetch face_landmarker"):
        chosen("models.blendshapes=face_landmarker")

    (tmp_path / "models" / "face_landmarker.task").write_bytes(b"weights")
    line, facts, auto = chosen()
    assert "blendshapes face_landmarker (auto)" in line
    assert facts["sha256"] == hashlib.sha256(b"weights").hexdigest()
    line, _, named = chosen("models.blendshapes=face_landmarker")
    assert "blendshapes face_landmarker" in line and "face_landmarker (auto)" not in line
    line, facts, off = chosen("models.blendshapes=none")
    assert "blendshapes none" in line and facts["source"] == "switched off"

    # How the choice was made does not count, what was chosen does.
    assert named == auto and off == without and auto != without
    (tmp_path / "models" / "face_landmarker.task").write_bytes(b"other weights")
    assert chosen()[2] not in (auto, without)
