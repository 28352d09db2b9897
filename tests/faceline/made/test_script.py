"""Scripts: what they refuse, and that their digest follows their content."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from faceline.made.script import Burst, Confound, Person, Script, default_demo_script, short_test_script


def test_demo_has_moments_of_several_kinds_for_two_persons() -> None:
    script = default_demo_script()
    assert 8 <= len(script.bursts) <= 10
    assert len({burst.kind for burst in script.bursts}) >= 5
    assert {burst.person for burst in script.bursts} == {1, 2}
    assert script.confounds
    assert 60 <= script.duration_s <= 120 and script.fps == 25


@pytest.mark.parametrize("duration_s", [40.0, 60.0, 75.0, 120.0, 600.0])
def test_demo_can_be_shorter_and_longer(duration_s: float) -> None:
    script = default_demo_script(duration_s)
    assert script.duration_s == duration_s
    assert len(script.bursts) == len(default_demo_script().bursts)


def test_demo_refuses_to_be_too_short() -> None:
    with pytest.raises(ValueError, match="at least 40 s"):
        default_demo_script(39)


def test_apex_lies_in_the_middle_of_the_hold() -> None:
    burst = Burst(kind="frown", start_s=2.0, onset_s=0.4, hold_s=1.0, offset_s=0.2)
    assert burst.apex_s == pytest.approx(2.9)
    assert burst.end_s == pytest.approx(3.6)


OVERLAPPING = (Burst(kind="frown", start_s=1.0), Burst(kind="smile", start_s=1.5))


def test_bursts_of_one_person_do_not_overlap_unless_asked() -> None:
    with pytest.raises(ValidationError, match=r"person 1 overlap: frown ends at 2\.4 s, smile starts at 1\.5 s"):
        Script(bursts=OVERLAPPING)
    assert len(Script(bursts=OVERLAPPING, overlapping=True).bursts) == 2
    other = OVERLAPPING[1].model_copy(update={"person": 2})
    assert len(Script(bursts=(OVERLAPPING[0], other), persons=(Person(), Person())).bursts) == 2


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"bursts": (Burst(kind="frown", start_s=9.0),)}, "after the footage"),
        ({"bursts": (Burst(kind="frown", start_s=1.0, person=2),)}, "person 2 of 1"),
        ({"confounds": (Confound(kind="light", start_s=1.0, end_s=30.0),)}, "after the footage"),
        (
            {"bursts": (Burst(kind="brow_raise", start_s=1.0),), "persons": (Person(portrait="commodore"),)},
            "spectacles hide the brows",
        ),
        ({"tile_width_px": 401}, "multiple of 4"),
        ({"persons": ()}, "at least 1"),
        ({"duration": 5}, "Extra inputs"),
        ({"noise": float("nan")}, "greater than or equal to 0|finite"),
    ],
)
def test_what_cannot_be_made_is_refused(wrong: dict[str, object], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Script(**wrong)


def test_a_confound_ends_after_it_starts() -> None:
    with pytest.raises(ValidationError, match="before it starts"):
        Confound(kind="blur", start_s=3.0, end_s=2.0)


CHANGES: list[dict[str, object]] = [
    {"seed": 8},
    {"duration_s": 80.0},
    {"fps": 30},
    {"timing": "dropped"},
    {"first_pts_s": 1.0},
    {"tile_width_px": 404},
    {"noise": 2.0},
    {"crf": 21},
    {"bursts": ()},
    {"confounds": ()},
    {"persons": (Person(blinks_per_min=15), Person(portrait="commodore"))},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_every_change_changes_the_digest(change: dict[str, object]) -> None:
    script = default_demo_script()
    assert script.model_copy(update=change).digest != script.digest


def test_digest_survives_a_trip_through_json() -> None:
    script = default_demo_script()
    assert Script.model_validate_json(script.model_dump_json()).digest == script.digest


def test_short_script_is_small() -> None:
    script = short_test_script()
    assert 4 <= script.duration_s <= 6
    assert len(script.persons) == 1 and len(script.bursts) == 1
