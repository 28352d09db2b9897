"""The whole line on made footage, several segments, as it is typed: real stages, real store, real Prefect server."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from faceline.made.render import render
from faceline.made.script import short_test_script
from tests.s3 import BUCKET, S3Server

ROOT = Path(__file__).resolve().parents[2]


def faceline(folder: Path, *arguments: str, store: str = "store") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "FACELINE_STATE": str(folder / "state")}
    for name in ("PREFECT_API_URL", "FACELINE_MODELS"):
        environment.pop(name, None)
    root = store if "://" in store else folder / store
    command = [sys.executable, "-m", "flows.cli", *arguments, f"store.root={root}"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=540, check=False)


def digests(results: Path) -> dict[str, str]:
    """Digest of every file of a results folder but of those that say where and when it was made."""
    files = (path for path in results.rglob("*") if path.is_file() and path.name not in ("run.json", "custody.json"))
    return {str(path.relative_to(results)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.prefect
@pytest.mark.models
def test_made_footage_in_two_segments_from_file_to_report(tmp_path: Path, s3: S3Server) -> None:
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

    # From the file to the rows, checked with the results folder and the footage alone, and once more with the store.
    for store in ("elsewhere", "store"):
        verified = faceline(tmp_path, "verify", str(output), store=store)
        assert verified.returncode == 0, verified.stdout + verified.stderr
        assert "everything that was checked holds" in verified.stdout
    assert "ok  crops" in verified.stdout
    changed = footage.read_bytes()
    footage.write_bytes(changed[:-1] + bytes([changed[-1] ^ 1]))
    verified = faceline(tmp_path, "verify", str(output))
    footage.write_bytes(changed)
    assert verified.returncode == 1
    assert "is not the footage that was analysed, or was altered" in verified.stdout

    # On an S3 store, by worker processes of its own: the same artifacts, and the same results but for where they lie.
    bucket, elsewhere = f"s3://{BUCKET}/{tmp_path.name}", tmp_path / "results-s3"
    for state in ("run", "cached"):
        ended = faceline(tmp_path, "analyze", arguments[0], f"output={elsewhere}", *arguments[2:], store=bucket)
        assert ended.returncode == 0, ended.stderr
        there = json.loads((elsewhere / "run.json").read_text())
        assert {entry["state"] for entry in there["stages"]} == {state}
    assert [(e["key"], e["digest"]) for e in there["stages"]] == [(e["key"], e["digest"]) for e in run["stages"]]
    assert digests(elsewhere) == digests(output)

    planned = faceline(tmp_path, "plan", *arguments, "report.dpi=90")
    assert planned.returncode == 0, planned.stderr
    to_run = [line for line in planned.stdout.splitlines() if " run " in line]
    assert len(to_run) == 1
    assert to_run[0].startswith("report")
    assert "dpi" in to_run[0]
