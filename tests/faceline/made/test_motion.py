"""How made persons move."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceline.made.fields import limits
from faceline.made.motion import ACTIONS, Behaviour, envelope, window
from faceline.made.script import Burst, Confound, Person, Script

GAP = 0.1


def script(*bursts: Burst, **options: object) -> Script:
    return Script(**{"duration_s": 60.0, "bursts": bursts, **options})


def channel(behaviour: Behaviour, name: str, times: np.ndarray) -> np.ndarray:
    return np.array([behaviour.pose(float(t), GAP).get(name, 0.0) for t in times])


@given(
    onset=st.floats(0.05, 2),
    hold=st.floats(0, 2),
    offset=st.floats(0.05, 2),
    share=st.floats(0, 1),
    start=st.floats(0, 9),
)
def test_envelope_is_one_throughout_the_hold_and_zero_outside(
    onset: float, hold: float, offset: float, share: float, start: float
) -> None:
    burst = Burst(kind="smile", start_s=start, onset_s=onset, hold_s=hold, offset_s=offset)
    assert envelope(burst, start - 0.001) == 0 and envelope(burst, burst.end_s + 0.001) == 0
    assert envelope(burst, start + onset + share * hold) == pytest.approx(1, abs=1e-6)
    assert envelope(burst, burst.apex_s) == pytest.approx(1, abs=1e-6)
    assert 0 <= envelope(burst, start + share * (burst.end_s - start)) <= 1


def test_envelope_has_no_jumps() -> None:
    burst = Burst(kind="smile", start_s=1.0, onset_s=0.3, hold_s=0.2, offset_s=0.5)
    values = np.array([envelope(burst, t) for t in np.arange(0.5, 2.6, 0.001)])
    assert np.abs(np.diff(values)).max() < 0.006


def test_a_cut_is_hard_and_other_confounds_are_soft() -> None:
    times = np.arange(0, 6, 0.01)
    for kind, hard in (("cut", True), ("light", False)):
        values = np.array([window(Confound(kind=kind, start_s=1, end_s=5), t) for t in times])
        assert values.max() == 1 and values[0] == values[-1] == 0
        assert (np.abs(np.diff(values)).max() > 0.5) == hard


@pytest.mark.parametrize("kind", sorted(ACTIONS))
def test_a_burst_moves_its_channels_at_its_apex(kind: str) -> None:
    burst = Burst(kind=kind, start_s=20.0)
    with_it, without = Behaviour(script(burst), 1), Behaviour(script(), 1)
    moved, usual = with_it.pose(burst.apex_s, GAP), without.pose(burst.apex_s, GAP)
    for name, amount in ACTIONS[kind].items():
        if name == "lips_together":
            assert moved["lower_lip_down"] < usual["lower_lip_down"] - 0.2 * GAP
        else:
            # Up to the limits, and apart from talk, which a burst of the mouth silences.
            assert np.sign(moved.get(name, 0.0) - usual.get(name, 0.0)) == np.sign(amount)
            assert abs(moved[name]) >= min(0.5 * abs(amount), max(np.abs(limits(name))))
    before, after = burst.start_s - 0.01, burst.end_s + 0.01
    for time_s in (before, after):
        rest = without.pose(time_s, GAP)
        assert {name: rest.get(name, 0.0) for name in with_it.pose(time_s, GAP)} == with_it.pose(time_s, GAP)


def test_strength_scales_a_burst() -> None:
    apex = []
    for strength in (0.5, 1.0):
        quiet = Person(talking_share=0, sway=0, blinks_per_min=0)
        burst = Burst(kind="brow_raise", start_s=5.0, strength=strength)
        apex.append(Behaviour(script(burst, persons=(quiet,)), 1).pose(burst.apex_s, GAP)["brow_outer_up_left"])
    assert apex[0] == pytest.approx(apex[1] / 2)


def test_blinks_come_at_about_the_asked_rate_and_last_a_fraction_of_a_second() -> None:
    behaviour = Behaviour(script(duration_s=600.0, persons=(Person(blinks_per_min=16),)), 1)
    assert 13 <= len(behaviour.blinks) / 10 <= 19
    assert all(0.15 <= blink.end_s - blink.start_s <= 0.3 for blink in behaviour.blinks)
    gaps = np.diff([blink.start_s for blink in behaviour.blinks])
    assert gaps.min() >= 0.5 and gaps.std() > 0.5
    middle = behaviour.blinks[3]
    assert behaviour.pose((middle.start_s + middle.end_s) / 2, GAP)["lid_close_left"] > 0.6


def test_talk_fills_about_the_asked_share_of_the_time() -> None:
    for share in (0.3, 0.7):
        behaviour = Behaviour(script(duration_s=600.0, persons=(Person(talking_share=share),)), 1)
        spoken = sum(2 * s.half_width_s / 1.5 for s in behaviour.syllables)
        assert spoken / 600 == pytest.approx(share, abs=0.12)
        opening = channel(behaviour, "jaw_open", np.arange(0, 60, 0.1))
        assert opening.min() >= 0 and 0.03 < opening.max() < 0.1


def test_syllables_follow_each_other_some_times_a_second() -> None:
    behaviour = Behaviour(script(duration_s=120.0), 1)
    gaps = np.diff([s.middle_s for s in behaviour.syllables])
    assert 0.15 < np.median(gaps) < 0.35


def test_idle_movement_is_small_and_slow() -> None:
    behaviour = Behaviour(script(persons=(Person(talking_share=0, blinks_per_min=0),)), 1)
    names = ("corner_up_left", "brow_inner_up_right", "shift_x", "yaw", "roll")
    poses = [behaviour.pose(float(t), GAP) for t in np.arange(0, 30, 0.04)]
    values = np.array([[pose[name] for name in names] for pose in poses])
    assert (values.std(axis=0) > 0.003).all() and (values.std(axis=0) < 0.08).all()
    assert np.abs(np.diff(values, axis=0)).max() < 0.02


def test_freeze_stops_everything() -> None:
    behaviour = Behaviour(script(Burst(kind="freeze", start_s=10.0, hold_s=3.0)), 1)
    poses = [behaviour.pose(t, GAP) for t in np.arange(10.4, 13.2, 0.2)]
    assert all(pose == pytest.approx(poses[0]) for pose in poses)


def test_blinking_burst_blinks_rapidly() -> None:
    burst = Burst(kind="blinking", start_s=10.0, hold_s=2.0)
    behaviour = Behaviour(script(burst, persons=(Person(blinks_per_min=0),)), 1)
    assert len(behaviour.blinks) >= 8
    assert all(burst.start_s <= blink.start_s and blink.end_s <= burst.end_s for blink in behaviour.blinks)


def test_a_pose_does_not_depend_on_what_was_asked_before() -> None:
    one, two = Behaviour(script(), 1), Behaviour(script(), 1)
    for t in (50.0, 3.0, 20.0):
        one.pose(t, GAP)
    assert one.pose(11.0, GAP) == two.pose(11.0, GAP)


def test_persons_and_seeds_move_differently() -> None:
    pair = Script(duration_s=20.0, persons=(Person(), Person()))
    poses = [Behaviour(pair, 1), Behaviour(pair, 2), Behaviour(pair.model_copy(update={"seed": 2}), 1)]
    shifts = [behaviour.pose(7.0, GAP)["shift_x"] for behaviour in poses]
    assert len(set(shifts)) == 3


def test_confounds_leave_the_expression_alone() -> None:
    """Light, blur, occlusion and camera change no channel at all; a turn only the head."""
    kinds = ("light", "turn", "blur", "occlusion", "zoom", "cut", "leave")
    for kind in kinds:
        confound = Confound(kind=kind, start_s=5.0, end_s=15.0)
        with_it, without = Behaviour(script(confounds=(confound,)), 1), Behaviour(script(), 1)
        moved, usual = with_it.pose(10.0, GAP), without.pose(10.0, GAP)
        changed = {name for name in usual if moved[name] != usual[name]}
        assert changed == ({"yaw", "shift_x"} if kind == "turn" else set())
        assert (with_it.camera(10.0) != without.camera(10.0)) == (kind in ("zoom", "cut", "leave"))


def test_spectacles_keep_the_brows_still() -> None:
    behaviour = Behaviour(script(Burst(kind="frown", start_s=5.0), persons=(Person(portrait="commodore"),)), 1)
    assert not any(name.startswith("brow") for name in behaviour.pose(5.7, GAP))
