"""The whole line on made footage, several segments, as it is typed: real stages, real store, real Prefect server.

And wherever stages run, artifacts are the same, byte for byte: once per kind of runner, once on S3.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from faceline.made.render import render
from faceline.made.script import short_test_script
from faceline.made.truth import Truth
from tests.s3 import BUCKET, S3Server

pytestmark = [pytest.mark.prefect, pytest.mark.models, pytest.mark.long]

ROOT = Path(__file__).resolve().parents[2]
MARK = "FACELINE_TEST_LINE"
"""Set for every process that a command here begins."""

OPTIONS = ("sample.fps=5", "sample.segment_s=2.5", "gridsearch=small")


def faceline(folder: Path, *arguments: str, store: str = "store") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, MARK: str(folder)}
    for name in ("PREFECT_API_URL", "FACELINE_MODELS"):
        environment.pop(name, None)
    root = store if "://" in store else folder / store
    command = [sys.executable, "-m", "flows.cli", *arguments, f"store.root={root}"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=540, check=False)


def lingering(folder: Path) -> list[str]:
    """Processes of commands for this folder that are still there; multiprocessing's own helpers have a moment to go."""
    until_s = time.monotonic() + 3.0
    while True:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(" ".join(process.cmdline()))
        if not found or time.monotonic() > until_s:
            return found
        time.sleep(0.1)


def digests(results: Path) -> dict[str, str]:
    """Digest of every file of a results folder but of those that say where and when it was made."""
    files = (path for path in results.rglob("*") if path.is_file() and path.name not in ("run.json", "custody.json"))
    return {str(path.relative_to(results)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def contents(store: Path) -> dict[str, object]:
    """Stage and key of every artifact → digests of its payloads."""
    found: dict[str, object] = {}
    for manifest in store.glob("[a-z]*/*/manifest.json"):
        payloads = json.loads(manifest.read_text())["payloads"]
        digests = {name: (payload["sha256"], payload["size"]) for name, payload in payloads.items()}
        found[f"{manifest.parent.parent.name}/{manifest.parent.name}"] = digests
    return found


class FirstRun(NamedTuple):
    """What a run of worker processes has left: results in ``folder / "processes"``."""

    folder: Path
    truth: Truth
    contents: dict[str, object]

    @property
    def results(self) -> Path:
        return self.folder / "processes"

    def arguments(self, results: str = "processes") -> tuple[str, ...]:
        return f"footage={self.folder / 'made.mp4'}", f"output={self.folder / results}", *OPTIONS


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> FirstRun:
    folder = tmp_path_factory.mktemp("line")
    truth = render(short_test_script(), folder / "made.mp4")
    return FirstRun(folder, truth, run(folder, "processes"))


def run(folder: Path, runner: str) -> dict[str, object]:
    """Run the line on a store of its own; what is in it then."""
    where = (f"footage={folder / 'made.mp4'}", f"output={folder / runner}")
    ended = faceline(folder, "analyze", *where, *OPTIONS, f"runner={runner}", store=f"store-{runner}")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert lingering(folder) == [], "a cluster of this machine, its workers and the server go with the run"
    states = {entry["state"] for entry in json.loads((folder / runner / "run.json").read_text())["stages"]}
    assert states == {"run"}
    return contents(folder / f"store-{runner}")


def test_made_footage_in_two_segments_from_file_to_report(first: FirstRun, s3: S3Server) -> None:
    folder, output, truth = first.folder, first.results, first.truth
    footage, arguments, store = folder / "made.mp4", first.arguments(), "store-processes"

    stated = json.loads((output / "run.json").read_text())
    assert {entry["segment"] for entry in stated["stages"] if entry["stage"] == "align"} == {0, 1}
    assert stated["counts"]["persons"] == len(truth.persons)
    known = stated["counts"]["faces"] - stated["counts"]["unknown_faces"]
    assert known == stated["counts"]["sampled"] * len(truth.persons)
    # One row per sampled face, in time order, across the segment's edge.
    for person in range(1, stated["counts"]["persons"] + 1):
        with (output / f"anomaly_detection_results_person_{person}.csv").open(newline="") as file:
            times = [float(row["time_s"]) for row in csv.DictReader(file)]
        assert len(times) == stated["counts"]["sampled"]
        assert times == sorted(set(times))

    again = faceline(folder, "analyze", *arguments, store=store)
    assert again.returncode == 0, again.stderr
    assert {entry["state"] for entry in json.loads((output / "run.json").read_text())["stages"]} == {"cached"}

    # From the file to the rows, checked with the results folder and the footage alone, and once more with the store.
    for place in ("elsewhere", store):
        verified = faceline(folder, "verify", str(output), store=place)
        assert verified.returncode == 0, verified.stdout + verified.stderr
        assert "everything that was checked holds" in verified.stdout
    assert "ok  crops" in verified.stdout
    changed = footage.read_bytes()
    footage.write_bytes(changed[:-1] + bytes([changed[-1] ^ 1]))
    verified = faceline(folder, "verify", str(output), store=store)
    footage.write_bytes(changed)
    assert verified.returncode == 1
    assert "is not the footage that was analysed, or was altered" in verified.stdout

    # On an S3 store, by worker processes of its own: the same artifacts, and the same results but for where they lie.
    bucket, elsewhere = f"s3://{BUCKET}/{folder.name}", folder / "results-s3"
    for state in ("run", "cached"):
        ended = faceline(folder, "analyze", *first.arguments(elsewhere.name), store=bucket)
        assert ended.returncode == 0, ended.stderr
        there = json.loads((elsewhere / "run.json").read_text())
        assert {entry["state"] for entry in there["stages"]} == {state}
    assert [(e["key"], e["digest"]) for e in there["stages"]] == [(e["key"], e["digest"]) for e in stated["stages"]]
    assert digests(elsewhere) == digests(output)

    planned = faceline(folder, "plan", *arguments, "report.dpi=90", store=store)
    assert planned.returncode == 0, planned.stderr
    to_run = [line for line in planned.stdout.splitlines() if " run " in line]
    assert len(to_run) == 1
    assert to_run[0].startswith("report")
    assert "dpi" in to_run[0]


@pytest.mark.parametrize("runner", ["threads", "dask", "ray"])
def test_every_runner_leaves_the_same_keys_and_bytes(first: FirstRun, runner: str) -> None:
    assert len(first.contents) == 16
    assert run(first.folder, runner) == first.contents
