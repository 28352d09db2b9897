"""Scripts of made footage for the benchmark."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from benchmarks.anomalies import made
from faceline.made.motion import Behaviour
from faceline.made.optics import Optics
from faceline.made.script import NEEDS_BROWS, Script


@pytest.mark.parametrize("seed", range(5))
def test_every_script_is_sound_and_its_own(seed: int) -> None:
    scripts = made.all_scripts([seed])  # Script itself refuses overlaps and what a portrait cannot play
    assert len({s.name for s in scripts}) == len({s.seed for s in scripts}) == len(scripts)
    assert [s.digest for s in scripts] == [s.digest for s in made.all_scripts([seed])]
    for script in scripts:
        for one, two in itertools.pairwise(script.bursts):
            assert two.start_s - one.end_s >= made.GAP_S - 0.01


def test_bursts_cover_kinds_strengths_and_lengths() -> None:
    scripts = made.all_scripts()
    bursts = [b for s in scripts for b in s.bursts]
    assert {b.kind for b in bursts} == set(made.BURST_KINDS)
    assert {b.strength for b in bursts} == {0.5, 1.0}
    lengths = [b.end_s - b.start_s for b in bursts]
    assert min(lengths) < 0.5 < 4 < max(lengths)
    assert len(bursts) >= 100
    for script in scripts:
        if "_short_" in script.name:
            assert all(0.2 <= b.end_s - b.start_s <= 0.5 for b in script.bursts)


def test_confounds_come_alone_and_all_of_them() -> None:
    scripts = [s for s in made.all_scripts() if s.confounds]
    assert {c.kind for s in scripts for c in s.confounds} == set(made.CONFOUND_KINDS)
    assert not any(s.bursts for s in scripts)
    assert all(len({c.kind for c in s.confounds}) == 1 for s in scripts)


def test_spectacled_portrait_is_spared_its_brows() -> None:
    assert not NEEDS_BROWS & set(made.kinds_of("commodore"))
    assert set(made.kinds_of("astronaut")) == set(made.BURST_KINDS)


def test_too_little_time_is_refused() -> None:
    with pytest.raises(ValueError, match="too short"):
        made.burst_script("talker", "strong", duration_s=20)
    with pytest.raises(ValueError, match="too short"):
        made.confound_script("talker", "light", duration_s=20)


@pytest.mark.parametrize("kind", made.CONFOUND_KINDS)
def test_a_confound_changes_picture_or_view_but_no_expression(kind: str) -> None:
    script = made.confound_script("talker", kind)  # type: ignore[arg-type]
    without = Script.model_validate(script.model_dump() | {"confounds": ()})
    confound = script.confounds[-1]
    middle = (confound.start_s + confound.end_s) / 2
    with_it, plain = Behaviour(script, 1), Behaviour(without, 1)
    one, two = with_it.pose(middle, 0.02), plain.pose(middle, 0.02)
    changed = {channel for channel in one if one[channel] != two[channel]}
    assert changed <= {"yaw", "shift_x"}
    picture = np.random.default_rng(0).integers(40, 200, (480, 400, 3), dtype=np.uint8)
    seen = Optics(script, 1).apply(picture, middle, 5).astype(int)
    optical = np.abs(seen - Optics(without, 1).apply(picture, middle, 5)).mean() > 0.1
    assert changed or optical or with_it.camera(middle) != plain.camera(middle)
