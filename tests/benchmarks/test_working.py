"""A recording from its script to its judgement, with the networks."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from benchmarks.anomalies import baselines
from benchmarks.anomalies.methods import ALL_TRIALS, ANCESTOR, FACELINE
from benchmarks.anomalies.recordings import Recording
from benchmarks.anomalies.reported import CALIBRATION
from benchmarks.anomalies.scale import repeated, run_stages
from benchmarks.anomalies.working import Task, work
from faceline.made.script import Burst, Script


@pytest.mark.models
def test_a_made_recording_is_judged_and_judged_alike_again(tmp_path: Path) -> None:
    script = Script(
        name="talker_strong_0", seed=3, duration_s=14, tile_width_px=320, tile_height_px=320,
        bursts=(Burst(kind="mouth_open", start_s=8.0, strength=1.0),),
    )  # fmt: skip
    recording = Recording(script.name, "made", "any", "talker", tmp_path / "footage" / f"{script.name}.mp4", script)
    task = Task(recording, tmp_path, ("sample.fps=5", "gridsearch=small"), ancestor="kept")
    outcome = work(task)
    assert outcome.duration_s == pytest.approx(14, abs=0.3)
    assert len(outcome.people) == 1
    assert list(outcome.methods["strong"]) == [FACELINE, *baselines.BASELINES, ANCESTOR, ALL_TRIALS]
    assert len(outcome.trials["strong"]) == 3
    assert outcome.methods["strong"][FACELINE].ap == 1
    # Of seventy rows, one more may look as isolated to random trees, by the last digits of a measure.
    assert outcome.methods["strong"]["isolation forest"].ap >= 0.5 > outcome.methods["strong"]["chance"].ap
    assert outcome.calibration == {}

    again = work(task)
    assert again.states["run"] == 0
    for name, judged in outcome.methods["strong"].items():
        assert again.methods["strong"][name].reports.score.tolist() == judged.reports.score.tolist()

    quiet = replace(task, others=False, ancestor="off", calibration=CALIBRATION[2:4])
    plain = Script.model_validate(script.model_dump() | {"bursts": (), "name": "talker_quiet_0"})
    calm = Recording(plain.name, "quiet", "any", "talker", tmp_path / "footage" / f"{plain.name}.mp4", plain)
    outcome = work(replace(quiet, recording=calm))
    assert list(outcome.methods) == [""] and list(outcome.methods[""]) == [FACELINE]
    assert list(outcome.calibration) == [n.name for n in CALIBRATION[2:4]]
    assert all(5 < judged_s < 15 for _, judged_s in outcome.calibration.values())

    from benchmarks.anomalies.recordings import analyse

    analysis = analyse(calm.video, tmp_path / "store", task.overrides)
    trials_s, gridsearch_s = run_stages(repeated(analysis, 200), task.overrides)
    assert trials_s > 0 and gridsearch_s > 0


OWNER = """
import os, time
from benchmarks.anomalies.working import workers

if __name__ == "__main__":
    pool = workers(1)
    print(pool.submit(os.getpid).result(), flush=True)
    pool.submit(time.sleep, 60)
    time.sleep(60)
"""


def test_workers_end_when_their_owner_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "owner.py"
    script.write_text(OWNER)
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"PYTHONPATH": str(root)}
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment) as owner:
        assert owner.stdout is not None
        worker = psutil.Process(int(owner.stdout.readline()))
        try:
            assert worker.is_running() and worker.ppid() == owner.pid
            owner.kill()
            worker.wait(timeout=10)
        finally:
            owner.kill()
            if worker.is_running():
                worker.kill()
