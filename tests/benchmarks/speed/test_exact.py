"""Whether two runs tell the same."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.speed import exact
from benchmarks.speed.exact import Moment, Told


def faces(rows: list[tuple[int, float, int, int, float]]) -> pa.Table:
    """Rows of (frame, x, track, person, score), boxes of 10 by 10."""
    frame, x, track, person, score = (np.array(c) for c in zip(*rows, strict=True))
    n = len(rows)
    return pa.table(
        {
            "segment": np.zeros(n, int), "face": np.arange(n), "frame": frame, "x_px": x.astype(float),
            "y_px": np.zeros(n), "w_px": np.full(n, 10.0), "h_px": np.full(n, 10.0), "track": track,
            "person": person, "score": score.astype(float),
        }
    )  # fmt: skip


TWO = [(f, x, t, t + 1, f * (t + 1)) for f in range(10) for x, t in ((0, 0), (50, 1))]
EVENTS = (Moment(1, 3.0, 9.0), Moment(2, 7.0, 5.0))


def told(rows: list, events: tuple[Moment, ...] = EVENTS, persons: int = 2) -> Told:
    return Told(faces(rows), events, events, persons, {1: 10.0, 2: 4.0})


def test_a_run_agrees_with_itself() -> None:
    found = exact.compare(told(TWO), told(TWO))
    for name in (
        "faces_matched", "faces_matched_back", "faces_same_person", "tracks_same_person", "score_correlation",
        "events_near", "events_near_back", "peaks_near", "peaks_near_back", "peaks_near_twice",
    ):  # fmt: skip
        assert found[name] == pytest.approx(1), name
    assert found["persons"] == [2, 2] and found["events"] == [2, 2]


def test_other_numbers_for_the_same_persons_do_not_matter() -> None:
    swapped = [(f, x, t, 3 - p, s) for f, x, t, p, s in TWO]
    events = tuple(Moment(3 - e.person, e.time_s + 0.2, e.score) for e in EVENTS)
    found = exact.compare(told(TWO), told(swapped, events))
    assert found["faces_same_person"] == found["tracks_same_person"] == 1
    assert found["events_near"] == found["events_near_back"] == 1


def test_the_same_moment_of_somebody_else_is_another_moment() -> None:
    others = (Moment(2, 3.0, 9.0), Moment(2, 7.3, 5.0))
    found = exact.compare(told(TWO), told(TWO, others))
    assert found["events_near"] == 0 and found["events_near_back"] == 0


def test_faces_and_persons_that_only_one_run_has() -> None:
    # The other run lost two frames of the second person, split it, and knows half of the first as nobody.
    other = [
        (f, x, t, (0 if f < 5 else 1) if t == 0 else (2 if f < 7 else 3), s) for f, x, t, _, s in TWO if f > 1 or t == 0
    ]
    found = exact.compare(told(TWO), told(other, (), 3))
    assert found["faces_matched"] == 18 / 20 and found["faces_matched_back"] == 1
    # First person: frames 5 to 9 agree; second: frames 2 to 6, five of the eight that both have.
    assert found["faces_same_person"] == pytest.approx((5 + 5) / 18)
    assert found["tracks_same_person"] == pytest.approx(1 / 2)  # of the first exactly half agrees, which is not most
    assert found["events_near"] == 0 and found["events_near_back"] is None


def test_boxes_match_one_to_one() -> None:
    crowded = [(0, 0, 0, 1, 1.0), (0, 3, 1, 2, 1.0)]
    assert exact.same_faces(faces(crowded), faces([(0, 2, 0, 1, 1.0)])).tolist() == [[1, 0]]
    assert exact.same_faces(faces(crowded), faces([(1, 0, 0, 1, 1.0)])).shape == (0, 2)


def test_persons_are_assigned_one_to_one_by_most_faces() -> None:
    one = np.array([1] * 6 + [2] * 5 + [0] * 4)
    other = np.array([1] * 6 + [1] * 4 + [2] + [2] * 4)
    # Both look most like the other's first, but only one may be.
    assert exact.same_persons(one, other) == {1: 1, 2: 2}
    assert exact.same_persons(np.zeros(3, int), np.ones(3, int)) == {}


def test_near_moments() -> None:
    moments = (Moment(1, 1.0, 0), Moment(1, 2.0, 0), Moment(2, 2.0, 0))
    assert exact.near(moments, (Moment(1, 1.2, 0), Moment(1, 2.21, 0))) == pytest.approx(1 / 3)
    assert exact.near((), moments) is None and exact.near(moments, ()) == 0


def test_what_chance_alone_would_find() -> None:
    moments = (Moment(1, 1.0, 0), Moment(1, 5.0, 0), Moment(2, 1.0, 0))
    # Two others in 10 s, each hit by 0.4 s; one in 0.4 s; nobody knows the third person.
    assert exact.by_chance(moments, {1: 10.0, 2: 0.4}) == pytest.approx((2 * (1 - 0.96**2) + 1) / 3)
    assert exact.by_chance(moments, {}) == 0 and exact.by_chance((), {1: 1.0}) is None


def test_highest_peaks_over_all_persons() -> None:
    times = np.tile(np.arange(0, 10, 0.1), 2)
    person = np.repeat([1, 2], 100)
    score = np.full(200, 0.1)
    score[20], score[25], score[60] = 5.0, 4.0, 2.0  # the second is too near to the first
    score[130], score[131] = 3.0, np.nan
    person[150:] = 0
    score[170] = 9.0  # nobody's
    found = exact.highest(times, score, person, 3)
    assert [(m.person, m.score) for m in found] == [(1, 5.0), (2, 3.0), (1, 2.0)]
    assert [m.time_s for m in found] == pytest.approx([2.0, 3.0, 6.0])


def test_every_shortcut_is_switched_off_and_nothing_else_changes() -> None:
    from faceline.stages import STAGES
    from flows.config import load_config

    usual, slow = load_config([], STAGES), load_config(list(exact.EXACT), STAGES)
    changed = {
        f"{stage}.{name}": value
        for stage, params in slow.params.items()
        for name, value in params.model_dump().items()
        if value != usual.params[stage].model_dump()[name]
    }
    assert len(changed) == len(exact.EXACT)
    assert {f"{name}={value:g}" for name, value in changed.items()} == set(exact.EXACT)
    seeded = load_config(list(exact.SEEDED), STAGES)
    assert seeded.params["cluster"] != usual.params["cluster"]
    assert {t.params.seed for t in seeded.trials} == {1} != {t.params.seed for t in usual.trials}
