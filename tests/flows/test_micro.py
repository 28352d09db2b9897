"""The preset for fast expressions on made footage, with the real stages: every frame is looked at, and short bursts are
found where they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from faceline.made.render import render
from faceline.made.script import Burst, Script
from faceline.store import Store
from flows.config import load_config
from flows.console import Lines
from flows.job import prepare
from flows.sweep import SWEPT
from flows.walk import start_here


def burst(kind: str, start_s: float) -> Burst:
    """A fifth of a second, of which the face is fully changed for 0.12 s."""
    return Burst(kind=kind, start_s=start_s, onset_s=0.04, hold_s=0.12, offset_s=0.04)  # type: ignore[arg-type]


@pytest.mark.models
def test_bursts_of_a_fifth_of_a_second_are_found(tmp_path: Path) -> None:
    script = Script(
        name="fast",
        seed=11,
        duration_s=44.0,
        tile_width_px=320,
        tile_height_px=320,
        bursts=(burst("brow_raise", 9.0), burst("smile", 21.0), burst("mouth_open", 33.0)),
    )
    footage = tmp_path / "fast.mp4"
    truth = render(script, footage)
    config = load_config([f"footage={footage}", f"store.root={tmp_path / 'store'}", "preset=micro"], SWEPT)
    job = prepare(config, SWEPT)
    walk = job.walk(start_here, Lines())
    walk.run()
    store = Store(job.pipeline.store)

    # One row per frame, at its own time, and the person's face in each.
    frames = store.read(walk.outcomes["sample · segment 0"].ref).table("frames")
    assert frames["frame"].to_pylist() == list(range(truth.frames))
    assert frames["time_s"].to_pylist() == pytest.approx([k / 25 for k in range(truth.frames)])
    found = store.read(walk.outcomes["gridsearch"].ref)
    scores = found.table("scores").to_pandas()
    assert list(scores.frame[scores.person == 1]) == list(range(truth.frames))

    # Each burst is an event whose peak lies on it or no further than 0.1 s from it, and hardly anything else is one.
    events = found.table("events").to_pylist()
    for true in truth.bursts:
        near = [e for e in events if true.start_s - 0.1 <= e["peak_s"] <= true.end_s + 0.1]
        assert len(near) == 1, true
        assert near[0]["start_s"] == pytest.approx(true.start_s, abs=0.1)
    assert len(events) <= len(truth.bursts) + 2
