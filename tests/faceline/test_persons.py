"""Persons from tracklets: found, kept apart, split, joined, left unknown, whatever the order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceline.persons import UNKNOWN, PersonParams, Persons, average_linkage, find_persons
from faceline.tracklets import Faces, overlap, pieces_of

SCALE = 0.8
DIMENSION = 16
PARAMS = PersonParams()


def identity(number: int) -> np.ndarray:
    """Directions of different persons are orthogonal: √2 apart."""
    return np.eye(DIMENSION)[number]


def tracklet(
    track: int,
    who: int | np.ndarray,
    start: int,
    count: int,
    *,
    x_px: float = 0.0,
    noise: float = 0.05,
    quality: float = 0.8,
    every: int = 1,
    visible: bool = True,
    fps: float = 10.0,
) -> Faces:
    """``count`` faces from frame ``start`` on, one per frame; every ``every``-th is embedded."""
    rng = np.random.default_rng(track)
    direction = identity(who) if isinstance(who, int) else who
    frame = np.arange(start, start + count)
    vectors = direction + noise * rng.standard_normal((count, DIMENSION))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    embedded = np.arange(count) % every == 0
    return Faces(
        track=np.full(count, track),
        frame=frame,
        time_s=frame / fps,
        box_px=np.column_stack([np.full(count, x_px), np.zeros(count), np.full(count, 50.0), np.full(count, 60.0)]),
        quality=np.full(count, quality),
        visible=np.full(count, visible),
        vector=np.where(embedded, np.cumsum(embedded) - 1, -1),
        vectors=vectors[embedded],
    )


def together(*parts: Faces) -> Faces:
    """Faces of all parts as one footage."""
    if not parts:
        return Faces(*(np.empty(0, np.int64) for _ in range(2)), np.empty(0), np.empty((0, 4)), np.empty(0),
                     np.empty(0, bool), np.empty(0, np.int64), np.empty((0, DIMENSION), np.float32))  # fmt: skip
    offsets = np.cumsum([0, *(len(part.vectors) for part in parts)])
    vector = [
        np.where(part.vector >= 0, part.vector + offset, -1) for part, offset in zip(parts, offsets, strict=False)
    ]
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("track", "frame", "time_s", "box_px", "quality", "visible", "vectors")
    }
    return Faces(vector=np.concatenate(vector), **columns)


def shuffled(faces: Faces, order: np.ndarray, names: np.ndarray | None = None) -> Faces:
    """The same faces in another order of rows, tracklets renamed."""
    columns = {
        name: getattr(faces, name)[order] for name in ("frame", "time_s", "box_px", "quality", "visible", "vector")
    }
    track = faces.track if names is None else names[faces.track]
    return Faces(track=track[order], vectors=faces.vectors, **columns)


def find(*parts: Faces, **params: object) -> Persons:
    return find_persons(together(*parts), SCALE, PersonParams(**params))  # type: ignore[arg-type]


def persons_of(result: Persons, *parts: Faces) -> list[list[int]]:
    """The persons that each part's faces were given to."""
    stops = np.cumsum([len(part) for part in parts])
    return [sorted(set(chunk.tolist())) for chunk in np.split(result.person, stops[:-1])]


def test_no_faces() -> None:
    result = find()
    assert result.count == 0 and len(result.person) == 0 and len(result.distance) == 0


def test_one_tracklet_is_one_person() -> None:
    result = find(tracklet(0, 0, 0, 20))
    assert result.count == 1 and (result.person == 1).all()
    assert np.isfinite(result.distance).all() and result.distance.max() < 0.5


def test_faces_that_are_not_embedded_belong_to_their_tracklets_person() -> None:
    result = find(tracklet(0, 0, 0, 30, every=5))
    assert (result.person == 1).all()
    assert np.isfinite(result.distance).tolist() == [i % 5 == 0 for i in range(30)]


def test_persons_are_numbered_by_faces_and_found_again_later() -> None:
    parts = [tracklet(0, 0, 0, 20), tracklet(1, 1, 100, 30), tracklet(2, 0, 200, 25), tracklet(3, 2, 300, 15)]
    result = find(*parts)
    assert result.count == 3
    assert persons_of(result, *parts) == [[1], [2], [1], [3]]


def test_of_equally_many_faces_the_earlier_person_comes_first() -> None:
    late, early = tracklet(0, 0, 100, 20), tracklet(1, 1, 0, 20)
    assert persons_of(find(late, early), late, early) == [[2], [1]]


def test_two_alike_faces_of_one_frame_are_two_persons() -> None:
    """Twins: no distance says so, the frame does."""
    parts = [tracklet(0, 0, 0, 20), tracklet(1, 0, 5, 20, x_px=200)]
    assert persons_of(find(*parts), *parts) == [[1], [2]]


def test_one_face_found_twice_is_not_two_persons() -> None:
    parts = [tracklet(0, 0, 0, 30), tracklet(1, 0, 5, 20, x_px=8)]
    result = find(*parts)
    assert result.count == 1
    assert persons_of(result, *parts) == [[1], [UNKNOWN]]


def test_a_tracklet_that_slips_to_another_person_is_split_where_the_box_jumps() -> None:
    before, after = tracklet(0, 0, 0, 40, every=5), tracklet(0, 1, 40, 40, x_px=300, every=5)
    other = tracklet(1, 1, 200, 30)
    assert persons_of(find(before, after, other), before, after, other) == [[2], [1], [1]]


def test_a_moment_that_looks_like_somebody_else_does_not_split() -> None:
    parts = [tracklet(0, 0, 0, 20), tracklet(0, 1, 20, 2), tracklet(0, 0, 22, 20)]
    assert find(*parts).count == 1


def test_a_short_tracklet_joins_the_person_it_resembles_but_founds_none() -> None:
    person, glimpse, stranger = tracklet(0, 0, 0, 30), tracklet(1, 0, 100, 2), tracklet(2, 1, 200, 2)
    result = find(person, glimpse, stranger)
    assert persons_of(result, person, glimpse, stranger) == [[1], [1], [UNKNOWN]]
    assert np.isnan(result.distance[-2:]).all()


def test_a_glimpse_does_not_join_a_person_seen_in_the_same_frame() -> None:
    person, glimpse = tracklet(0, 0, 0, 30), tracklet(1, 0, 10, 2, x_px=300)
    assert persons_of(find(person, glimpse), person, glimpse) == [[1], [UNKNOWN]]


def test_of_two_glimpses_in_one_frame_the_nearer_joins() -> None:
    person = tracklet(0, 0, 0, 30)
    near, far = tracklet(1, 0, 100, 2, x_px=300), tracklet(2, identity(0) + 0.5 * identity(1), 100, 2)
    assert persons_of(find(person, near, far), person, near, far) == [[1], [1], [UNKNOWN]]


def test_poor_faces_found_no_person_but_may_follow_one() -> None:
    person, follows, alone = (
        tracklet(0, 0, 0, 30),
        tracklet(1, 0, 100, 30, quality=0.1),
        tracklet(2, 1, 200, 30, quality=0.1),
    )
    assert persons_of(find(person, follows, alone), person, follows, alone) == [[1], [1], [UNKNOWN]]


def test_a_tracklet_without_any_embedding_is_unknown() -> None:
    person, turned = tracklet(0, 0, 0, 30), tracklet(1, 0, 100, 30)
    turned = replace(turned, vector=np.full(30, -1), vectors=turned.vectors[:0])
    assert persons_of(find(person, turned), person, turned) == [[1], [UNKNOWN]]


@pytest.mark.parametrize("params", [{"person_min_faces": 31}, {"person_min_s": 3.1}, {"good_quality": 0.9}])
def test_what_is_too_little_for_a_person_is_unknown(params: dict[str, object]) -> None:
    assert find(tracklet(0, 0, 0, 30)).count == 1
    assert find(tracklet(0, 0, 0, 30), **params).count == 0


def test_a_box_interpolated_past_a_lost_face_keeps_nobody_apart() -> None:
    """The face was found again as tracklet 1 while tracklet 0 was still being carried on without one."""
    seen, carried = tracklet(0, 0, 0, 20), tracklet(0, 0, 20, 10, visible=False)
    carried = replace(carried, vector=np.full(10, -1), vectors=carried.vectors[:0])
    again = tracklet(1, 0, 25, 20)
    result = find(seen, carried, again)
    assert persons_of(result, seen, carried, again) == [[1], [UNKNOWN, 1], [1]]
    assert result.person[20:30].tolist() == [1] * 5 + [UNKNOWN] * 5


def test_nothing_but_single_faces_still_makes_persons() -> None:
    """Sampled once a second, a face that moves is a new tracklet in every frame."""
    parts = [tracklet(i, i % 2, i, 1, fps=1.0) for i in range(20)]
    result = find(*parts)
    assert result.count == 2
    assert persons_of(result, *parts) == [[1], [2]] * 10


def test_two_faces_of_one_tracklet_in_one_frame_are_refused() -> None:
    with pytest.raises(ValueError, match="two faces in one frame"):
        find(tracklet(0, 0, 0, 5), tracklet(0, 0, 2, 5))


def test_more_tracklets_than_may_be_linked_still_join() -> None:
    parts = [tracklet(i, i % 3, 100 * i, 10 + i) for i in range(12)]
    result = find(*parts, max_linked=6)
    assert result.count == 3
    assert persons_of(result, *parts) == persons_of(find(*parts), *parts)


def test_embeddings_of_any_length_are_clustered_too() -> None:
    parts = [tracklet(0, 0, 0, 20), tracklet(1, 1, 100, 30), tracklet(2, 0, 200, 25)]
    scaled = [replace(part, vectors=part.vectors * np.float32(1.4)) for part in parts]
    assert persons_of(find(*scaled), *scaled) == persons_of(find(*parts), *parts)


footages = st.lists(
    st.tuples(
        st.integers(0, 4),  # who
        st.integers(0, 60),  # start
        st.integers(1, 25),  # count
        st.sampled_from([0.0, 0.05, 0.3]),  # noise
        st.sampled_from([0.05, 0.5, 0.9]),  # quality
        st.sampled_from([1, 3]),  # every
        st.booleans(),  # at the same place as others?
        st.booleans(),  # visible
    ),
    min_size=1,
    max_size=9,
)


def _made(rows: list[tuple[int, int, int, float, float, int, bool, bool]]) -> Faces:
    return together(
        *(
            tracklet(
                track, who, start, count, noise=noise, quality=quality, every=every,
                x_px=0.0 if same else 100.0 * track, visible=visible,
            )
            for track, (who, start, count, noise, quality, every, same, visible) in enumerate(rows)
        )
    )  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(rows=footages, link=st.sampled_from([0.5, 1.0, 2.0]))
def test_whatever_comes_two_faces_of_a_frame_are_never_one_person(
    rows: list[tuple[int, int, int, float, float, int, bool, bool]], link: float
) -> None:
    faces = _made(rows)
    result = find_persons(faces, SCALE, PersonParams(link=link))
    pairs = [(frame, who) for frame, who in zip(faces.frame.tolist(), result.person.tolist(), strict=True) if who]
    assert len(set(pairs)) == len(pairs)
    assert sorted(set(result.person.tolist()) - {UNKNOWN}) == list(range(1, result.count + 1))
    sizes = [int((faces.visible & (result.person == number)).sum()) for number in range(1, result.count + 1)]
    assert sizes == sorted(sizes, reverse=True)
    assert np.isnan(result.distance[(result.person == UNKNOWN) | (faces.vector < 0)]).all()
    assert np.isfinite(result.distance[(result.person != UNKNOWN) & (faces.vector >= 0)]).all()


@settings(max_examples=80, deadline=None)
@given(rows=footages, seed=st.integers(0, 1000))
def test_neither_order_of_rows_nor_numbers_of_tracklets_matter(
    rows: list[tuple[int, int, int, float, float, int, bool, bool]], seed: int
) -> None:
    faces = _made(rows)
    # Tracklets of the same box that begin in one frame can be told apart by nothing else.
    first = [
        (int(faces.frame[faces.track == track].min()), float(faces.box_px[faces.track == track][0, 0]))
        for track in range(len(rows))
    ]
    if len(set(first)) < len(first):
        return
    rng = np.random.default_rng(seed)
    order, names = rng.permutation(len(faces)), rng.permutation(len(rows)) + 7
    expected = find_persons(faces, SCALE, PARAMS)
    result = find_persons(shuffled(faces, order, names), SCALE, PARAMS)
    assert np.array_equal(result.person, expected.person[order])
    assert np.allclose(result.distance, expected.distance[order], atol=1e-6, equal_nan=True)


@settings(max_examples=40, deadline=None)
@given(people=st.lists(st.tuples(st.integers(0, 60), st.integers(6, 25)), min_size=1, max_size=6))
def test_footage_shown_twice_has_the_same_persons(people: list[tuple[int, int]]) -> None:
    """Duplicates at another time, in other frames, belong to the person they are copies of."""
    faces = together(*(tracklet(who, who, start, count, x_px=100.0 * who) for who, (start, count) in enumerate(people)))
    later = replace(faces, track=faces.track + 100, frame=faces.frame + 1000, time_s=faces.time_s + 100.0)
    result = find_persons(together(faces, later), SCALE, PARAMS)
    once, again = np.split(result.person, 2)
    assert result.count == len(people)
    assert np.array_equal(once, again) and (once > 0).all()


# --- linkage ---------------------------------------------------------------------------------------------------------


def _naive_linkage(distance: np.ndarray, weight: np.ndarray, apart: np.ndarray, limit: float) -> set[frozenset[int]]:
    """Average linkage by its definition: mean over all pairs of items, recomputed at every step."""
    clusters = [[i] for i in range(len(distance))]
    while True:
        best = None
        for i, a in enumerate(clusters):
            for j in range(i):
                b = clusters[j]
                if apart[np.ix_(a, b)].any():
                    continue
                mean = np.average(distance[np.ix_(a, b)], weights=np.outer(weight[a], weight[b]))
                if mean <= limit and (best is None or mean < best[0]):
                    best = (mean, j, i)
        if best is None:
            return {frozenset(cluster) for cluster in clusters}
        clusters[best[1]] += clusters.pop(best[2])


@settings(max_examples=100, deadline=None)
@given(count=st.integers(0, 14), seed=st.integers(0, 10_000), limit=st.floats(0, 2), forbidden=st.floats(0, 0.5))
def test_average_linkage_by_definition(count: int, seed: int, limit: float, forbidden: float) -> None:
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((count, 3))
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    weight = rng.integers(1, 20, count).astype(float)
    apart = np.triu(rng.random((count, count)) < forbidden, 1)
    apart |= apart.T
    label = average_linkage(distance, weight, apart, limit)
    found = {frozenset(np.flatnonzero(label == name).tolist()) for name in set(label.tolist())}
    assert found == _naive_linkage(distance, weight, apart, limit)
    assert not (apart & (label[:, None] == label[None, :])).any()


def test_linkage_of_duplicates_is_one_cluster() -> None:
    assert average_linkage(np.zeros((5, 5)), np.ones(5), np.zeros((5, 5), bool), 0.0).tolist() == [0] * 5


# --- tracklets -------------------------------------------------------------------------------------------------------


def test_pieces_sum_up_their_faces() -> None:
    faces = together(tracklet(7, 0, 10, 20, every=5), tracklet(3, 1, 0, 12, quality=0.1, x_px=300))
    pieces = pieces_of(faces, 10.0, 3, 0.2)
    assert [part.tolist() for part in pieces.rows] == [list(range(20, 32)), list(range(20))]  # in order of time
    assert pieces.embedded.tolist() == [12, 4] and pieces.good.tolist() == [0, 4]
    assert pieces.faces.tolist() == [12, 20]
    assert np.linalg.norm(pieces.centre, axis=1) == pytest.approx([1, 1])
    assert pieces.together.tolist() == [[0, 1]] and pieces.doubles.tolist() == [False]


def test_the_mean_is_weighted_by_quality() -> None:
    good, poor = tracklet(0, 0, 0, 5, noise=0.0), tracklet(0, 1, 5, 5, noise=0.0, quality=0.2)
    centre = pieces_of(together(good, poor), 10.0, 3, 0.2).centre[0]
    assert centre[1] / centre[0] == pytest.approx(0.25)


def test_overlap_is_one_for_a_box_within_another() -> None:
    boxes = np.array([[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10]])
    others = np.array([[2.0, 2, 3, 3], [20, 0, 5, 5], [5, 0, 10, 10]])
    assert overlap(boxes, others).tolist() == [1.0, 0.0, 0.5]
