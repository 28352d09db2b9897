"""The whole line on made footage, several segments, as it is typed: real stages, real store, real Prefect server."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from faceline.made.render import render
from faceline.made.script import short_test_script

ROOT = Path(__file__).resolve().parents[2]


def faceline(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "FACELINE_STATE": str(folder / "state")}
    for name in ("PREFECT_API_URL", "FACELINE_MODELS"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "flows.cli", *arguments, f"store.root={folder / 'store'}"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=540, check=False)


@pytest.mark.prefect
@pytest.mark.models
def test_made_footage_in_two_segments_from_file_to_report(tmp_path: Path) -> None:
    footage, output = tmp_path / "made.mp4", tmp_path / "results"
    truth = render(short_test_script(), footage)
    arguments = (f"footage={footage}", f"output={output}", "sample.fps=5", "sample.segment_s=2.5", "gridsearch=small")

    ended = faceline(tmp_path, "analyze", *arguments)
    assert ended.returncode == 0, ended.stderr
    run = json.loads((output / "run.json").read_text())
    assert {entry["segment"] for entry in run["stages"] if entry["stage"] == "align"} == {0, 1}
    assert run["counts"]["persons"] == len(truth.persons)
    known = run["counts"]["faces"] - run["counts"]["unknown_faces"]
    assert known == run["counts"]["sampled"] * len(truth.persons)
    # One row per sampled face, in time order, across the segment's edge.
    for person in range(1, run["counts"]["persons"] + 1):
        with (output / f"anomaly_detection_results_person_{person}.csv").open(newline="") as file:
            times = [float(row["time_s"]) for row in csv.DictReader(file)]
        assert len(times) == run["counts"]["sampled"]
        assert times == sorted(set(times))

    again = faceline(tmp_path, "analyze", *arguments)
    assert again.returncode == 0, again.stderr
    assert {entry["state"] for entry in json.loads((output / "run.json").read_text())["stages"]} == {"cached"}

    planned = faceline(tmp_path, "plan", *arguments, "report.dpi=90")
    assert planned.returncode == 0, planned.stderr
    to_run = [line for line in planned.stdout.splitlines() if " run " in line]
    assert len(to_run) == 1
    assert to_run[0].startswith("report")
    assert "dpi" in to_run[0]
