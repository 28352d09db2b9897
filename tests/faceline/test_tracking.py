"""Tracklets: one person each, never across cuts, whatever the order of the boxes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceline.tracking import Tracker, matched, overlaps

boxes = st.lists(
    st.tuples(st.floats(-50, 500), st.floats(-50, 500), st.floats(5, 200), st.floats(5, 200)), min_size=0, max_size=6
).map(lambda rows: np.array(rows, np.float64).reshape(-1, 4))


def overlap_by_pixels(a, b):
    """Integer boxes, counted on a grid."""
    grid = np.zeros((2, 60, 60), bool)
    for layer, (x, y, w, h) in enumerate((a, b)):
        grid[layer, y : y + h, x : x + w] = True
    return grid.all(0).sum() / grid.any(0).sum()


corners = st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(1, 29), st.integers(1, 29))


@given(a=corners, b=corners)
def test_overlap_is_what_counting_pixels_gives(a, b):
    assert overlaps(np.array([a]), np.array([b]))[0, 0] == pytest.approx(overlap_by_pixels(a, b))


def test_overlaps_of_nothing():
    assert overlaps(np.zeros((0, 4)), np.zeros((3, 4))).shape == (0, 3)


@given(first=boxes, second=boxes)
def test_matches_are_one_to_one_and_overlap_enough(first, second):
    pairs = matched(first, second, 0.3, 0.6)
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)
    iou = overlaps(first, second)
    assert all(iou[i, j] >= 0.3 for i, j in pairs)


def test_a_contested_face_is_matched_to_nobody():
    face = np.array([[100, 100, 60, 60]], float)
    rivals = np.array([[95, 100, 60, 60], [106, 100, 60, 60]], float)
    assert matched(rivals, face, 0.3, 0.6) == []
    assert matched(rivals[:1], face, 0.3, 0.6) == [(0, 0)]


@given(frames=st.lists(st.tuples(boxes, st.booleans()), max_size=12), step_s=st.floats(0.01, 1))
def test_numbers_are_new_or_known_and_never_twice_in_a_frame(frames, step_s):
    tracker, again = Tracker(), Tracker()
    highest = -1
    last_seen: dict[int, float] = {}
    for i, (found, cut) in enumerate(frames):
        numbers = tracker.update(i * step_s, found, cut=cut)
        np.testing.assert_array_equal(numbers, again.update(i * step_s, found, cut=cut))
        assert len(set(numbers.tolist())) == len(found)
        new = sorted(number for number in numbers.tolist() if number > highest)
        assert new == list(range(highest + 1, highest + 1 + len(new)))
        if cut:
            assert len(new) == len(found)
        for number in numbers.tolist():
            if number in last_seen:
                assert i * step_s - last_seen[number] <= tracker.gap_s + 1e-9
            last_seen[number] = i * step_s
        highest = max([highest, *new])


@given(seed=st.integers(0, 1000))
@settings(max_examples=40)
def test_the_order_of_boxes_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    places = rng.uniform(0, 600, (4, 2))
    plain, shuffled = Tracker(), Tracker()
    joined: dict[int, int] = {}
    for i in range(10):
        places += rng.normal(0, 6, places.shape)
        found = np.hstack([places, np.full((4, 2), 60.0)])
        order = rng.permutation(4)
        straight = plain.update(i * 0.1, found)
        mixed = np.empty(4, np.int64)
        mixed[order] = shuffled.update(i * 0.1, found[order])
        for a, b in zip(straight.tolist(), mixed.tolist(), strict=True):
            assert joined.setdefault(a, b) == b


def walk(tracker, paths, step_s=0.1, hidden=lambda i, person: False):
    """Numbers given to people who walk along paths: list of (person, number)."""
    seen = []
    for i in range(len(paths[0])):
        people = [person for person in range(len(paths)) if not hidden(i, person)]
        numbers = tracker.update(i * step_s, np.array([paths[person][i] for person in people], float).reshape(-1, 4))
        seen += list(zip(people, numbers.tolist(), strict=True))
    return seen


@given(
    speed=st.floats(2, 25),
    side=st.floats(40, 90),
    height=st.floats(0, 60),
    hides=st.booleans(),
    step_s=st.sampled_from([0.04, 0.1, 0.2]),
)
@settings(max_examples=50)
def test_people_who_cross_never_share_a_tracklet(speed, side, height, hides, step_s):
    """Two faces pass each other, one perhaps hidden while they overlap: every tracklet holds one person only."""
    frames = 60
    paths = [
        [(speed * i, 100.0, side, side) for i in range(frames)],
        [(speed * (frames - i), 100.0 + height, side, side) for i in range(frames)],
    ]

    def hidden(i, person):
        return hides and person == 1 and overlaps(np.array([paths[0][i]]), np.array([paths[1][i]]))[0, 0] > 0.3

    owners: dict[int, set[int]] = {}
    for person, number in walk(Tracker(), paths, step_s, hidden):
        owners.setdefault(number, set()).add(person)
    assert all(len(people) == 1 for people in owners.values())


def test_a_lone_face_keeps_its_number_through_a_short_gap_and_not_through_a_long_one():
    path = [[(100.0 + i, 100.0, 50.0, 50.0) for i in range(30)]]
    short = walk(Tracker(), path, hidden=lambda i, person: 10 <= i < 14)
    long = walk(Tracker(), path, hidden=lambda i, person: 10 <= i < 20)
    assert {number for _, number in short} == {0}
    assert {number for _, number in long} == {0, 1}


def test_a_lone_face_that_leaps_is_followed_and_two_are_not_mistaken():
    leaping = [[(100.0, 100.0, 50.0, 50.0), (160.0, 110.0, 50.0, 50.0)]]
    assert {number for _, number in walk(Tracker(), leaping, step_s=0.2)} == {0}
    too_far = [[(100.0, 100.0, 50.0, 50.0), (260.0, 110.0, 50.0, 50.0)]]
    assert {number for _, number in walk(Tracker(), too_far, step_s=0.2)} == {0, 1}
    other_size = [[(100.0, 100.0, 50.0, 50.0), (160.0, 110.0, 90.0, 90.0)]]
    assert {number for _, number in walk(Tracker(), other_size, step_s=0.2)} == {0, 1}
    # One of two faces is gone, and a face appears within reach of both.
    tracker = Tracker()
    tracker.update(0.0, np.array([[100, 100, 50, 50], [210, 100, 50, 50]], float))
    assert tracker.update(0.2, np.array([[155, 100, 50, 50]], float)).tolist() == [2]


def test_a_cut_ends_all_tracklets():
    tracker = Tracker()
    box = np.array([[10, 10, 50, 50]], float)
    assert tracker.update(0.0, box).tolist() == [0]
    assert tracker.update(0.1, box, cut=True).tolist() == [1]
