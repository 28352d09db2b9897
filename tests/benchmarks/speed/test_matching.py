"""Boxes of several sources that are one face."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.speed.matching import clusters, overlaps, pairs


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, float).reshape(-1, 4)


coordinate = st.integers(0, 12)
some_boxes = st.lists(st.tuples(coordinate, coordinate, st.integers(1, 8), st.integers(1, 8)), max_size=5).map(
    lambda rows: boxes(*((x, y, x + w, y + h) for x, y, w, h in rows))
)


def test_overlaps_by_hand() -> None:
    shared = overlaps(boxes((0, 0, 2, 2), (5, 5, 5, 9)), boxes((1, 0, 3, 2), (0, 0, 2, 2), (2, 0, 4, 2)))
    np.testing.assert_allclose(shared, [[2 / 6, 1, 0], [0, 0, 0]])  # an empty box overlaps nothing


@given(some_boxes, some_boxes)
def test_overlaps_count_the_pixels(one: np.ndarray, other: np.ndarray) -> None:
    def cells(box: np.ndarray) -> set[tuple[int, int]]:
        return set(itertools.product(range(int(box[0]), int(box[2])), range(int(box[1]), int(box[3]))))

    expected = [[len(cells(a) & cells(b)) / len(cells(a) | cells(b)) for b in other] for a in one]
    np.testing.assert_allclose(overlaps(one, other), np.array(expected).reshape(len(one), len(other)))


def test_a_box_that_overlaps_two_goes_to_the_nearer_one() -> None:
    one = boxes((0, 0, 10, 10), (4, 0, 14, 10))
    other = boxes((3, 0, 13, 10), (100, 100, 110, 110))
    assert pairs(one, other, 0.3) == [(1, 0)]
    # The best pair goes first, even if that leaves the other box with a poorer partner.
    assert pairs(one, boxes((3, 0, 13, 10), (8, 0, 18, 10)), 0.05) == [(1, 0), (0, 1)]
    assert pairs(one, boxes()) == []


@given(some_boxes, some_boxes, st.floats(0.1, 0.9))
def test_matching_is_one_to_one_and_leaves_no_pair_over(one: np.ndarray, other: np.ndarray, least: float) -> None:
    shared, found = overlaps(one, other), pairs(one, other, least)
    left, right = {i for i, _ in found}, {j for _, j in found}
    assert len(left) == len(right) == len(found)
    assert all(shared[i, j] >= least for i, j in found)
    for i, j in np.argwhere(shared >= least):
        # Whatever was not matched lost one of its boxes to a pair that overlaps at least as much.
        rivals = [shared[a, b] for a, b in found if a == i or b == j]
        assert (i, j) in found or max(rivals) >= shared[i, j]


def test_faces_of_three_sources_by_hand() -> None:
    a = boxes((0, 0, 10, 10), (50, 50, 60, 60))
    b = boxes((1, 0, 11, 10))
    c = boxes((50, 51, 60, 61), (0, 0, 10, 10), (80, 80, 90, 90))
    assert clusters([a, b, c]) == [{0: 0, 1: 0, 2: 1}, {0: 1, 2: 0}, {2: 2}]
    assert clusters([boxes(), boxes(), boxes()]) == []


def test_a_source_sees_a_face_once() -> None:
    # The middle box overlaps both of the other source's; only the nearer one is the same face.
    assert clusters([boxes((0, 0, 10, 10), (3, 0, 13, 10)), boxes((2, 0, 12, 10))]) == [{0: 0}, {0: 1, 1: 0}]


@given(st.lists(some_boxes, min_size=2, max_size=3), st.randoms(use_true_random=False))
def test_every_box_is_in_one_face_and_the_order_of_sources_does_not_matter(
    sources: list[np.ndarray], random: object
) -> None:
    found = clusters(sources)
    members = [member for face in found for member in face.items()]
    assert sorted(members) == [(s, i) for s, some in enumerate(sources) for i in range(len(some))]
    # Equal overlaps may fall either way, so the order is only free where there are none.
    every = [overlaps(a, b) for a, b in itertools.combinations(sources, 2)]
    values = np.concatenate([shared[shared > 0] for shared in every])
    if len(np.unique(values)) < len(values):
        return
    back = clusters(sources[::-1])
    mirrored = [{len(sources) - 1 - s: i for s, i in face.items()} for face in back]
    assert sorted(sorted(f.items()) for f in found) == sorted(sorted(f.items()) for f in mirrored)


@pytest.mark.parametrize("least", [0.3, 0.6])
def test_the_least_overlap_counts(least: float) -> None:
    found = clusters([boxes((0, 0, 10, 10)), boxes((0, 0, 10, 5))], least)  # overlap 0.5
    assert len(found) == (1 if least <= 0.5 else 2)
