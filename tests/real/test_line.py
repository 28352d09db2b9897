"""The command line on real and broken files, as an analyst types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.real]


def faceline(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ)
    environment.pop("PREFECT_API_URL", None)
    environment.pop("FACELINE_MODELS", None)
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments, f"store.root={folder / 'store'}"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=540, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("text_named.mp4", "not a video"),
        ("zero_byte.mp4", "empty"),
        ("audio_only.mp4", "no video stream"),
        ("trunc_no_moov.mp4", "index"),
    ],
)
def test_what_is_no_video_is_one_line_and_leaves_nothing(name: str, words: str, testdata: Path, tmp_path: Path) -> None:
    output = tmp_path / "results"
    ended = faceline("analyze", f"footage={testdata / 'broken' / name}", f"output={output}", folder=tmp_path)
    assert ended.returncode == 1
    lines = ended.stderr.strip().splitlines()
    assert len(lines) == 1
    assert name in lines[0]
    assert words in lines[0]
    assert not output.exists()
    assert not list((tmp_path / "store").glob("*/*/manifest.json"))


@pytest.mark.prefect
@pytest.mark.models
def test_damaged_footage_is_analysed_up_to_the_damage(testdata: Path, tmp_path: Path) -> None:
    footage, output = testdata / "broken" / "trunc_moov_front.mp4", tmp_path / "results"
    arguments = ("analyze", f"footage={footage}", f"output={output}", "sample.fps=5", "gridsearch=small")
    ended = faceline(*arguments, folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    run = json.loads((output / "run.json").read_text())
    damaged_at_s = run["footage"]["damaged_at_s"]
    # 114 of 216 frames at 30 frames/s can be decoded.
    assert damaged_at_s == pytest.approx(114 / 30, abs=0.2)
    assert "damaged" in ended.stdout + ended.stderr
    assert "damaged" in (output / "report.html").read_text()
    assert run["counts"]["frames_with_face"] == run["counts"]["sampled"] == pytest.approx(19, abs=1)
    # Everything is kept: the same run again starts no server and computes nothing.
    again = faceline(*arguments, folder=tmp_path)
    assert again.returncode == 0
    assert {s["state"] for s in json.loads((output / "run.json").read_text())["stages"]} == {"cached"}
