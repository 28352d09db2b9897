import numpy as np
import pytest

from faceline.anomaly.confounds import CAUSES, COVERED, CUT, EDGE, Audit, Cause, Surroundings
from faceline.anomaly.events import Event

N = 300
EVENT = Event(100, 105, 110, 8.0, 0.01, 0.01)
ELSEWHERE = Event(200, 205, 210, 8.0, 0.01, 0.01)
NOTHING = Audit((), False)


def usual():
    rng = np.random.default_rng(0)
    level = {"luma_mean": 120.0, "contrast": 40.0, "sharpness": 0.03, "eye_distance_px": 90.0}
    spread = {"luma_mean": 2.0, "sharpness": 0.0005}
    return {name: level.get(name, 0.0) + spread.get(name, 1.0) * rng.standard_normal(N) for name in CAUSES}


def surroundings(changes=None, cut_s=(), first_s=0.0, last_s=(N - 1) / 10):
    columns = usual()
    for name, change in (changes or {}).items():
        columns[name][97:113] += change
    return Surroundings(columns, np.array(cut_s, dtype=float), first_s, last_s)


@pytest.fixture
def rows(make_rows):
    return make_rows(np.arange(N) / 10)


def test_nothing_changed_nothing_flagged(rows):
    assert surroundings().audit(EVENT, rows) == NOTHING


@pytest.mark.parametrize(
    ("column", "little", "much", "words"),
    [
        ("yaw_deg", 20.0, 60.0, "head turned"),
        ("pitch_deg", -20.0, -60.0, "head raised or lowered"),
        ("roll_deg", -20.0, 60.0, "head tilted"),
        ("luma_mean", -24.0, -60.0, "light changed"),
        ("luma_mean", 24.0, 60.0, "light changed"),
        ("contrast", 12.0, -26.0, "contrast changed"),
        ("sharpness", -0.006, -0.014, "picture blurred"),
        ("eye_distance_px", 12.0, -40.0, "face size changed"),
    ],
)
def test_flags_the_cause_and_only_it_and_explains_beyond_the_second_limit(rows, column, little, much, words):
    assert surroundings({column: little}).audit(EVENT, rows) == Audit((words,), False)
    assert surroundings({column: much}).audit(EVENT, rows) == Audit((words,), True)
    assert surroundings({column: much}).audit(ELSEWHERE, rows) == NOTHING


def test_a_sharper_picture_is_no_cause(rows):
    """Teeth and an open mouth sharpen a face."""
    assert surroundings({"sharpness": 0.02}).audit(EVENT, rows) == NOTHING


def test_a_cause_of_one_sign_counts_to_one_side():
    either, less = Cause("a", 1.0, 4.0, 8.0), Cause("b", 1.0, 4.0, 8.0, sign=-1)
    assert [either.size(z) for z in (-5.0, 5.0)] == [5.0, 5.0]
    assert [less.size(z) for z in (-5.0, 5.0)] == [5.0, 0.0]


def test_a_covered_face_is_darker_softer_and_richer_in_contrast_and_explains(rows):
    hand = {"luma_mean": -18.0, "sharpness": -0.005, "contrast": 10.0}
    assert surroundings(hand).audit(EVENT, rows) == Audit((COVERED,), True)
    # A head that turns away at the same time is named beside it.
    assert set(surroundings(hand | {"yaw_deg": 20.0}).audit(EVENT, rows).flags) == {"head turned", COVERED}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"luma_mean": -24.0, "sharpness": -0.006, "contrast": -12.0}, {"light changed", "picture blurred"}),
        ({"luma_mean": -24.0, "contrast": 12.0}, {"light changed"}),
        ({"sharpness": -0.006, "contrast": 12.0}, {"picture blurred"}),
    ],
)
def test_darkness_or_blur_alone_cover_nothing_and_contrast_goes_with_them(rows, changed, words):
    audit = surroundings(changed).audit(EVENT, rows)
    assert set(audit.flags) == words and not audit.explained


def test_several_causes_are_all_named(rows):
    audit = surroundings({"yaw_deg": 20.0, "eye_distance_px": -12.0}).audit(EVENT, rows)
    assert audit == Audit(("head turned", "face size changed"), False)


# The event lasts from 10 to 11 s.
@pytest.mark.parametrize("cut_s", [9.6, 10.4, 11.4])
def test_a_cut_nearby_explains(rows, cut_s):
    assert surroundings(cut_s=[3.0, cut_s]).audit(EVENT, rows) == Audit((CUT,), True)


@pytest.mark.parametrize("cut_s", [9.3, 11.7])
def test_a_cut_further_off_does_not(rows, cut_s):
    assert surroundings(cut_s=[cut_s]).audit(EVENT, rows) == NOTHING


@pytest.mark.parametrize("at", [97, 113])
def test_a_face_that_comes_or_goes_explains_and_a_cut_there_is_named_once(make_rows, at):
    rows = make_rows(np.arange(N) / 10, stretch=(np.arange(N) >= at).astype(np.int64))
    assert surroundings().audit(EVENT, rows) == Audit((EDGE,), True)
    assert surroundings(cut_s=[at / 10]).audit(EVENT, rows) == Audit((CUT,), True)


@pytest.mark.parametrize("at", [92, 118])
def test_a_face_that_came_earlier_or_goes_later_explains_nothing(make_rows, at):
    rows = make_rows(np.arange(N) / 10, stretch=(np.arange(N) >= at).astype(np.int64))
    assert surroundings().audit(EVENT, rows) == NOTHING


def test_the_footages_own_start_and_end_are_no_seams(rows):
    first, last = Event(0, 3, 8, 8.0, 0.01, 0.01), Event(N - 8, N - 5, N - 1, 8.0, 0.01, 0.01)
    assert surroundings().audit(first, rows) == surroundings().audit(last, rows) == NOTHING
    # The same rows in footage that begins before and goes on: then the face came, and went.
    longer = surroundings(first_s=-5.0, last_s=60.0)
    assert longer.audit(first, rows) == longer.audit(last, rows) == Audit((EDGE,), True)


def test_what_is_unknown_flags_nothing(rows):
    unknown = Surroundings({name: np.full(N, np.nan) for name in CAUSES}, np.zeros(0), 0.0, 29.9)
    assert unknown.audit(EVENT, rows) == NOTHING
    during = surroundings({"yaw_deg": 60.0})
    during.columns["yaw_deg"][100:111] = np.nan
    assert during.audit(EVENT, rows) == NOTHING
    # One known face of the event is enough to tell.
    during.columns["yaw_deg"][104] = 60.0
    assert during.audit(EVENT, rows) == Audit(("head turned",), True)


def test_surroundings_are_read_from_the_tables(make_scene):
    inputs = make_scene(duration_s=20, cuts_s=[5.0, 12.0], start_s=3.0).inputs
    found = Surroundings.of(inputs)
    np.testing.assert_allclose(found.cut_s, [8.0, 15.0])
    assert (found.first_s, found.last_s) == pytest.approx((3.0, 22.9))
    assert set(found.columns) == set(CAUSES) and all(len(c) == 200 for c in found.columns.values())
    np.testing.assert_allclose(found.columns["yaw_deg"], inputs.table("align", "faces")["yaw_deg"].to_numpy())
