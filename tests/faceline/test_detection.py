"""Detection: key frames and what lies between them, against a world whose faces are known at every moment."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from faceline.between import find_between
from faceline.detection import DETECT, FACES_SCHEMA, LEFT_OUT_SCHEMA, DetectParams
from faceline.errors import FootageChangedError
from faceline.faces import NOBODY, Detections, joined, most_confident, without_duplicates
from faceline.keyframes import fine_frames, key_frames, spaced
from faceline.sampling import SAMPLE, SampleParams
from faceline.searching import search
from faceline.stage import MemoryInputs, Runtime, collect
from faceline.tracking import overlaps
from faceline.video import open_footage

MIN_IOU = DetectParams().interpolate_iou
FIVE_POINTS = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]], np.float32)


def faces(*boxes, confidence=0.99):
    """Detections with these boxes (x, y, w, h) and the points where a face has them."""
    rows = np.array(boxes, np.float32).reshape(-1, 4)
    points = rows[:, None, :2] + FIVE_POINTS * rows[:, None, 2:]
    return Detections(rows, np.full(len(rows), confidence, np.float32), points)


# --- key frames ------------------------------------------------------------------------------------------------------


@given(
    gaps=st.lists(st.floats(0.01, 0.5), max_size=80),
    cuts=st.sets(st.integers(1, 80)),
    interval_s=st.floats(0, 1),
)
def test_key_frames_bound_every_shot_and_are_never_far_apart(gaps, cuts, interval_s):
    time_s = np.cumsum([0.0, *gaps])
    cut = np.array([i in cuts for i in range(len(time_s))])
    keys = np.flatnonzero(key_frames(time_s, cut, interval_s))
    shots = np.flatnonzero([True, *cut[1:]]).tolist()
    for begin, end in zip(shots, [*shots[1:], len(time_s)], strict=True):
        assert {begin, end - 1} <= set(keys.tolist())
    for a, b in pairwise(keys):
        if b - a > 1:
            assert time_s[b - 1] - time_s[a] < interval_s
            assert b - a <= 32


def test_interval_zero_looks_at_every_frame():
    assert key_frames(np.arange(20) / 10, np.zeros(20, bool), 0.0).all()


def test_fine_searches_open_every_shot_and_come_again_in_time():
    time_s, cut = np.arange(100) / 10, np.zeros(100, bool)
    cut[35] = True
    is_key = key_frames(time_s, cut, 1.0)
    assert np.flatnonzero(fine_frames(time_s, cut, is_key, 3.0)).tolist() == [0, 30, 35, 65, 95]
    assert (fine_frames(time_s, cut, is_key, 0.0) == is_key).all()


def test_frames_between_key_frames_are_spaced():
    time_s = np.round(np.arange(21) / 10, 3)
    is_key = key_frames(time_s, np.zeros(21, bool), 1.0)
    assert np.flatnonzero(spaced(time_s, is_key, 0.3)).tolist() == [0, 3, 6, 9, 10, 13, 16, 19, 20]
    assert spaced(time_s, is_key, 0.0).all()


def test_the_usual_interval_at_ten_frames_a_second_is_every_third():
    keys = key_frames(np.round(np.arange(31) / 10, 3), np.zeros(31, bool), 0.3)
    assert np.flatnonzero(keys).tolist() == list(range(0, 31, 3))


# --- between key frames ----------------------------------------------------------------------------------------------


@dataclass
class World:
    """Faces by frame; counts the frames that were looked at."""

    truth: list[Detections]
    in_doubt: frozenset[int] = frozenset()
    looked: list[int] = field(default_factory=list)
    refined: list[int] = field(default_factory=list)
    sought: list[int] = field(default_factory=list)

    def refine(self, expected):
        """The true faces nearest to the expected ones; sure where they overlap."""
        self.refined += [i for i, _ in expected]
        return [self._nearest(i, faces) for i, faces in expected]

    def _nearest(self, i, expected):
        true = self.truth[i]
        if not len(true):
            return expected, np.zeros(len(expected), bool)
        shared = overlaps(expected.boxes_px, true.boxes_px)
        is_sure = (shared.max(axis=1) >= 0.5) & (i not in self.in_doubt)
        return true.taken(shared.argmax(axis=1)), is_sure

    def look(self, positions):
        self.looked += positions
        return [self.truth[i] for i in positions]

    def seek(self, positions, squares_px):
        self.sought += positions
        return [self._inside(i, squares) for i, squares in zip(positions, squares_px, strict=True)]

    def _inside(self, i, squares):
        centres = (self.truth[i].boxes_px[:, :2] + self.truth[i].boxes_px[:, 2:] / 2)[:, None]
        inside = (centres > squares[None, :, :2]) & (centres < squares[None, :, :2] + squares[None, :, 2:])
        return self.truth[i].taken(np.flatnonzero(inside.all(axis=2).any(axis=1)))

    def follow(self, before, expected, after):
        assert before[0] < expected[0] < after[0]
        return None if expected[0] in self.in_doubt else expected[1]


def found_in(world, cut=None, interval_s=0.5, step_s=0.1, refine_s=0.0):
    count = len(world.truth)
    time_s = np.arange(count) * step_s
    cut = np.zeros(count, bool) if cut is None else cut
    keys = np.flatnonzero(key_frames(time_s, cut, interval_s)).tolist()
    seen = dict(zip(keys, world.look(keys), strict=True))
    return find_between(time_s, cut, world, MIN_IOU, seen, refine_s)


def test_steady_motion_is_interpolated_exactly_and_cheaply():
    world = World([faces((100 + 3 * i, 50 + i, 80, 100), (400 - 2 * i, 60, 90, 90)) for i in range(41)])
    found = found_in(world)
    for entry, true in zip(found, world.truth, strict=True):
        np.testing.assert_allclose(entry.faces.boxes_px, true.boxes_px, atol=1e-3)
        np.testing.assert_allclose(entry.faces.points_px, true.points_px, atol=1e-3)
    assert sorted(world.looked) == list(range(0, 41, 5))
    assert [entry.detected for entry in found] == [i % 5 == 0 for i in range(41)]


@given(appears=st.integers(0, 40), stays=st.integers(7, 40), other=st.booleans(), interval_s=st.floats(0, 0.6))
def test_a_face_that_comes_and_goes_is_located_to_the_frame(appears, stays, other, interval_s):
    """Visible for longer than the interval, alone or beside another face: exactly what looking at every frame gives."""
    resident = [(300, 50, 80, 80)] if other else []
    truth = [faces(*([(100, 50, 80, 80)] if appears <= i < appears + stays else []), *resident) for i in range(60)]
    found = found_in(World(truth), interval_s=interval_s)
    assert [len(entry.faces) for entry in found] == [len(true) for true in truth]


def test_nothing_is_interpolated_across_a_cut():
    cut = np.zeros(20, bool)
    cut[8] = True
    truth = [faces((100, 50, 80, 80)) if i < 8 else faces((110, 55, 80, 80)) for i in range(20)]
    for entry, true in zip(found_in(World(truth), cut=cut, interval_s=1.0), truth, strict=True):
        np.testing.assert_array_equal(entry.faces.boxes_px, true.boxes_px)


def test_a_frame_in_doubt_is_looked_at():
    leap = 7
    truth = [faces((100 + (40 if i == leap else 0), 50, 80, 80)) for i in range(21)]
    world = World(truth, in_doubt=frozenset({leap}))
    found = found_in(world, interval_s=1.0)
    assert found[leap].detected
    np.testing.assert_array_equal(found[leap].faces.boxes_px, truth[leap].boxes_px)
    assert leap in world.sought


def test_no_frame_is_sought_in_twice_and_seen_ones_not_at_all():
    truth = [faces((100, 50, 80, 80)) if i % 7 else NOBODY for i in range(30)]
    world = World(truth)
    found_in(world, interval_s=0.4)
    assert len(world.sought) == len(set(world.sought))
    assert not set(world.sought) & set(world.looked)


def test_known_faces_are_measured_anew_between_distant_key_frames():
    """The heads turn back half-way: following would be 30 px off, measuring is exact, and nothing is searched."""
    truth = [faces((100 + 6 * min(i % 10, 10 - i % 10), 50, 80, 80)) for i in range(41)]
    world = World(truth)
    found = found_in(world, interval_s=1.0, refine_s=0.5)
    assert sorted(world.looked) == [0, 10, 20, 30, 40]
    assert sorted(world.refined) == [5, 15, 25, 35]
    for entry, true in zip(found, truth, strict=True):
        np.testing.assert_allclose(entry.faces.boxes_px, true.boxes_px, atol=1e-3)
    assert [entry.detected for entry in found] == [i % 5 == 0 for i in range(41)]


def test_a_face_that_cannot_be_measured_anew_is_searched_for():
    world = World([faces((100, 50, 80, 80)) for _ in range(11)], in_doubt=frozenset({5}))
    found = found_in(world, interval_s=1.0, refine_s=0.5)
    assert sorted(world.looked) == [0, 10]
    assert world.sought == [5]
    assert found[5].detected


def test_where_nobody_is_nothing_is_measured():
    world = World([NOBODY] * 21)
    found_in(world, interval_s=1.0, refine_s=0.5)
    assert world.refined == []


# --- duplicates ------------------------------------------------------------------------------------------------------


def test_the_less_confident_of_two_boxes_on_one_face_goes():
    sure, unsure = faces((100, 100, 80, 100), confidence=0.99), faces((104, 98, 84, 104), confidence=0.9)
    (kept,) = without_duplicates(joined(unsure, sure)).confidence
    assert kept == np.float32(0.99)


def test_a_box_of_another_size_with_the_same_points_goes():
    small, large = faces((110, 115, 50, 55), confidence=0.95), faces((90, 85, 90, 115), confidence=0.99)
    same_points = Detections(small.boxes_px, small.confidence, large.points_px)
    assert len(without_duplicates(joined(same_points, large))) == 1


def test_heads_that_overlap_stay_two_from_left_to_right():
    pair = joined(faces((140, 100, 80, 80), confidence=0.99), faces((100, 95, 80, 80), confidence=0.95))
    np.testing.assert_array_equal(without_duplicates(pair).boxes_px[:, 0], [100, 140])


def test_unsure_faces_go():
    assert len(without_duplicates(faces((0, 0, 50, 50), confidence=0.8), 0.9)) == 0
    assert len(without_duplicates(NOBODY)) == 0


# --- the stage -------------------------------------------------------------------------------------------------------


@dataclass
class BrightSquares:
    """A detector for made pictures: finds bright squares on black; keeps the sizes of its batches."""

    batches: list[int] = field(default_factory=list)
    pixels: int = 0

    def detect(self, frames_rgb):
        self.batches.append(len(frames_rgb))
        self.pixels += sum(frame.shape[0] * frame.shape[1] for frame in frames_rgb)
        return self.found(frames_rgb)

    def refine(self, frames_rgb, boxes_px):
        """The squares nearest to the boxes."""
        measured = []
        for found, boxes in zip(self.found(frames_rgb), boxes_px, strict=True):
            measured.append(found.taken(np.abs(found.boxes_px[None] - boxes[:, None]).sum(axis=2).argmin(axis=1)))
        return measured

    def found(self, frames_rgb):
        import cv2

        found = []
        for frame in frames_rgb:
            _, _, stats, _ = cv2.connectedComponentsWithStats((frame.min(axis=2) > 128).astype(np.uint8))
            found.append(faces(*stats[1:, :4].astype(np.float32)))
        return found


def with_squares(*corners, size=(240, 320)):
    picture = np.zeros((*size, 3), np.uint8)
    pattern = np.random.default_rng(5).integers(160, 256, (5, 5, 1), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    for x, y in corners:
        picture[y : y + 40, x : x + 40] = pattern
    return picture


def detected(path, monkeypatch=None, detector=None, batch_size=32, models=None, **params):
    if detector is not None:
        monkeypatch.setattr("faceline.detection._detector", lambda *_: detector)
    footage = open_footage(path)
    segment = footage.segments(300)[0]
    frames = collect(SAMPLE.compute(SampleParams(fps=10), MemoryInputs(footage=footage, segment=segment), Runtime()))
    inputs = MemoryInputs({("sample", "frames"): frames["frames"]}, footage, segment, models or {})
    runtime = Runtime(batch_size=batch_size, threads=1)
    return frames["frames"], collect(DETECT.compute(DetectParams(**params), inputs, runtime))


def detect(path, monkeypatch=None, detector=None, **how):
    frames, payloads = detected(path, monkeypatch, detector, **how)
    return frames, payloads["faces"]


@pytest.fixture(scope="module")
def two_squares(tmp_path_factory, clip_writer):
    """One square moves right for 8 s, 25 fps; a second one is there from 3.0 s to 6.0 s; starts at 1.5 s."""
    pictures = (with_squares((20 + i, 60), *([(150, 150)] if 75 <= i < 150 else [])) for i in range(200))
    path = tmp_path_factory.mktemp("squares") / "squares.mkv"
    return clip_writer(path, pictures, pts=[1500 + 40 * i for i in range(200)], time_base=Fraction(1, 1000))


def test_rows_state_every_face_of_every_sampled_frame(two_squares, monkeypatch):
    frames, table = detect(two_squares, monkeypatch, BrightSquares())
    assert table.schema == FACES_SCHEMA
    rows = table.to_pylist()
    assert [row["face"] for row in rows] == list(range(len(rows)))
    by_frame = {frame: [row for row in rows if row["frame"] == frame] for frame in frames["frame"].to_pylist()}
    for frame, time_s in zip(frames["frame"].to_pylist(), frames["time_s"].to_pylist(), strict=True):
        expected = [(20 + frame, 60), *([(150, 150)] if 75 <= frame < 150 else [])]
        found = by_frame[frame]
        across = [row["x_px"] for row in found]
        assert across == sorted(across)
        places = sorted(((row["x_px"], row["y_px"]) for row in found), key=lambda place: place[1])
        assert places == [pytest.approx(place, abs=1.5) for place in sorted(expected, key=lambda place: place[1])]
        assert all(row["time_s"] == time_s for row in found)
        for row in found:
            box = np.array([row["x_px"], row["y_px"], row["w_px"], row["h_px"]])
            np.testing.assert_allclose(np.reshape(row["points_px"], (5, 2)), box[:2] + FIVE_POINTS * box[2:], atol=1.5)
    by_track = {track: {round(row["y_px"], -1) for row in rows if row["track"] == track} for track in (0, 1)}
    assert by_track == {0: {60.0}, 1: {150.0}}
    assert {row["track"] for row in rows} == {0, 1}
    # Of ten frames one is searched and three are measured anew, more where the second comes and goes.
    assert 0.3 < np.mean([row["detected"] for row in rows]) < 0.6


def test_windows_and_batches_do_not_change_the_result(two_squares, monkeypatch):
    _, usual = detect(two_squares, monkeypatch, BrightSquares())
    detector = BrightSquares()
    _, small = detect(two_squares, monkeypatch, detector, batch_size=3)
    assert small.equals(usual)
    assert max(detector.batches) == 3
    monkeypatch.setattr("faceline.detection._WINDOW_FRAMES", 5)
    _, narrow = detect(two_squares, monkeypatch, BrightSquares())
    assert narrow.equals(usual)


@pytest.mark.parametrize(
    ("place", "value"),
    [("faceline.detection._WINDOW_FRAMES", 5), ("faceline.eyes.HELD_BYTES", 0), ("faceline.eyes._FINE_KEPT", 1)],
)
def test_nor_do_they_where_some_searches_are_fine(moments, two_squares, monkeypatch, place, value):
    """Small faces that come, are searched for finely across windows, and go; then an empty room."""
    for path in (two_squares, moments):
        _, usual = detect(path, monkeypatch, BrightSquares(), max_side_px=80)
        with monkeypatch.context() as patched:
            patched.setattr(place, value)
            _, other = detect(path, patched, BrightSquares(), max_side_px=80, batch_size=3)
        assert other.equals(usual)
        assert usual.num_rows


def test_boxes_are_in_pixels_of_the_full_picture(two_squares, monkeypatch):
    _, full = detect(two_squares, monkeypatch, BrightSquares(), interval_s=0)
    _, shrunk = detect(two_squares, monkeypatch, BrightSquares(), interval_s=0, max_side_px=160, fine_side_px=160)
    assert all(full["detected"].to_pylist())
    for name in ("x_px", "y_px", "w_px", "h_px"):
        np.testing.assert_allclose(shrunk[name].to_numpy(), full[name].to_numpy(), atol=4)


def test_no_sampled_frames_give_an_empty_table(two_squares):
    footage = open_footage(two_squares)
    columns = {"frame": pa.int64(), "pts": pa.int64(), "time_s": pa.float64(), "cut": pa.bool_()}
    empty = pa.table({name: pa.array([], kind) for name, kind in columns.items()})
    inputs = MemoryInputs({("sample", "frames"): empty}, footage, footage.segments(300)[0])
    table = collect(DETECT.compute(DetectParams(), inputs, Runtime()))["faces"]
    assert table.num_rows == 0
    assert table.schema == FACES_SCHEMA


def test_a_sampled_frame_that_is_gone_is_an_error(two_squares, monkeypatch):
    monkeypatch.setattr("faceline.detection._detector", lambda *_: BrightSquares())
    footage = open_footage(two_squares)
    beyond = pa.table({"frame": [0, 5000], "pts": [1500, 9000], "time_s": [1.5, 9.0], "cut": [False, False]})
    inputs = MemoryInputs({("sample", "frames"): beyond}, footage, footage.segments(300)[0])
    with pytest.raises(FootageChangedError, match="frame 5000 was sampled"):
        collect(DETECT.compute(DetectParams(), inputs, Runtime()))


@pytest.mark.parametrize(
    "wrong", [{"interval_s": -1}, {"max_side_px": 10}, {"min_face_px": 5}, {"min_confidence": 2}, {"min_conf": 0.5}]
)
def test_params_have_bounds(wrong):
    with pytest.raises(ValidationError):
        DetectParams(**wrong)


@pytest.fixture(scope="module")
def mostly_empty(tmp_path_factory, clip_writer):
    """12 s, 25 fps: nothing; a grey bar, dimmer than any square, from 4 s on; a square from 7.2 s to 9.0 s."""
    pictures = []
    for i in range(300):
        picture = with_squares(*([(100, 100)] if 180 <= i < 225 else []))
        picture[:, 300:] = 60 if i >= 100 else 0
        pictures.append(picture)
    return clip_writer(tmp_path_factory.mktemp("empty") / "empty.mkv", pictures)


def test_still_pictures_without_faces_are_not_searched_again(mostly_empty, monkeypatch):
    watchful, lazy = BrightSquares(), BrightSquares()
    _, every = detect(mostly_empty, monkeypatch, watchful, least_change=0)
    _, table = detect(mostly_empty, monkeypatch, lazy)
    # Frames in which something has changed are searched themselves, so that places differ by a fraction of a pixel.
    for column in ("frame", "track"):
        assert table[column].to_pylist() == every[column].to_pylist()
    np.testing.assert_allclose(table["x_px"].to_numpy(), every["x_px"].to_numpy(), atol=1.5)
    assert len(set(table["frame"].to_pylist())) == 18
    assert lazy.pixels < 0.6 * watchful.pixels
    for window in (3, 7):
        monkeypatch.setattr("faceline.detection._WINDOW_FRAMES", window)
        narrow = BrightSquares()
        _, same = detect(mostly_empty, monkeypatch, narrow)
        assert same.equals(table)
        assert narrow.pixels <= lazy.pixels


@pytest.fixture(scope="module")
def moments(tmp_path_factory, clip_writer):
    """8 s, 25 fps, an empty room; squares in it for 0.4 s from 2.4 s and from 5.6 s on, the latter in motion."""
    pictures = []
    for i in range(200):
        shown = [(240, 48)] if 60 <= i < 70 else [(60 + 4 * (i - 140), 176)] if 140 <= i < 150 else []
        pictures.append(with_squares(*shown, size=(360, 640)))
    return clip_writer(tmp_path_factory.mktemp("moments") / "moments.mkv", pictures)


def test_a_face_that_shows_for_a_moment_in_a_still_room_is_found(moments, monkeypatch):
    frames, table = detect(moments, monkeypatch, BrightSquares())
    shown = [f for f in frames["frame"].to_pylist() if 60 <= f < 70 or 140 <= f < 150]
    assert sorted(table["frame"].to_pylist()) == shown
    _, unwatched = detect(moments, monkeypatch, BrightSquares(), least_change=0, interval_s=2.0)
    assert len(unwatched) < len(table)


class WholeFacesOnly:
    """Sees a face of 100×100 px at (0, 0) wherever it is searched for as a whole; keeps what was asked."""

    def __init__(self):
        self.looked = []

    def look(self, positions):
        self.looked += positions
        return [faces((0, 0, 100, 100)) if i >= 3 else faces() for i in positions]

    def glance(self, positions, regions_px):
        whole = [any((box[:2] <= 0).all() and (box[2:] >= 100).all() for box in regions) for regions in regions_px]
        return [
            faces((0, 0, 100, 100)) if i >= 3 and sees else faces() for i, sees in zip(positions, whole, strict=True)
        ]


@pytest.mark.parametrize("part", [(0, 0, 128, 60), (0, 0, 60, 60), (0, 40, 128, 128)])
def test_nobody_in_a_part_of_a_face_does_not_mean_that_the_face_is_gone(part):
    """The part holds the centre of the face, or less of it; its rest has not changed."""
    none, part = np.zeros((0, 4), np.int64), np.array([part])
    whole = np.array([(0, 0, 128, 128)])
    changed = {0: None, 2: none, 3: whole, 5: part, 7: part, 10: part}
    eyes = WholeFacesOnly()
    seen = search([0, 10], changed, eyes, {})
    assert [len(seen[i]) for i in sorted(seen) if i >= 3] == [1] * sum(i >= 3 for i in seen)
    assert len(seen[10]) == 1 and 5 not in seen


def test_a_face_that_comes_is_found_whatever_the_least_size(two_squares, monkeypatch):
    """Squares in which faces are sought are scaled, so that the least size says nothing there."""
    least = []

    def detector(params, inputs, runtime, min_face_px, lent):
        least.append(min_face_px)
        return BrightSquares()

    monkeypatch.setattr("faceline.detection._detector", detector)
    _, table = detect(two_squares, min_face_px=38)
    assert 20.0 in least and max(least) == 38
    _, usual = detect(two_squares, monkeypatch, BrightSquares())
    assert table.equals(usual)


def test_small_faces_are_searched_for_finely_until_they_are_gone(two_squares, monkeypatch):
    """At 80 px the squares of 40 px are 10 px wide: told apart from nothing in fine searches only."""
    coarse, fine = BrightSquares(), BrightSquares()
    _, table = detect(two_squares, monkeypatch, fine, max_side_px=80)
    _, usual = detect(two_squares, monkeypatch, coarse)
    assert table["frame"].equals(usual["frame"])
    np.testing.assert_allclose(table["x_px"].to_numpy(), usual["x_px"].to_numpy(), atol=1.5)


def test_interval_zero_searches_still_pictures_too(mostly_empty, monkeypatch):
    detector = BrightSquares()
    frames, _ = detect(mostly_empty, monkeypatch, detector, interval_s=0)
    assert sum(detector.batches) == len(frames)


def test_large_pictures_are_shrunk_as_they_come_to_the_same_result(two_squares, monkeypatch):
    _, usual = detect(two_squares, monkeypatch, BrightSquares(), max_side_px=160, fine_side_px=160)
    monkeypatch.setattr("faceline.eyes.HELD_BYTES", 0)
    _, shrunk = detect(two_squares, monkeypatch, BrightSquares(), max_side_px=160, fine_side_px=160)
    assert shrunk.equals(usual)


@pytest.mark.models
def test_a_face_is_found_and_followed_through_made_footage(tmp_path, clip_writer):
    """The astronaut's face moves to and fro: in every frame, one tracklet, where it was put."""
    from skimage.data import astronaut

    from faceline.weights import resolve

    portrait = astronaut()
    shifts = [round(30 * np.sin(i / 5)) for i in range(60)]
    path = clip_writer(tmp_path / "moving.mp4", [np.roll(portrait, shift, axis=1) for shift in shifts])
    frames, table = detect(path, models={"detector": resolve("detector")})
    rows = table.to_pylist()
    assert [row["frame"] for row in rows] == frames["frame"].to_pylist()
    assert {row["track"] for row in rows} == {0}
    assert not all(row["detected"] for row in rows)
    at_rest = {row["x_px"] + row["w_px"] / 2 - shifts[row["frame"]] for row in rows}
    assert max(at_rest) - min(at_rest) < 0.1 * rows[0]["w_px"]
    assert 200 < np.mean(list(at_rest)) < 250
    eye_left, eye_right = rows[0]["points_px"][0:2], rows[0]["points_px"][2:4]
    assert eye_left[0] < eye_right[0]


# --- more faces than a frame may have ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def five_squares(tmp_path_factory, clip_writer):
    """Five still squares for 3 s; two of them from 1.2 s to 2.2 s only."""
    pictures = (
        with_squares(*[(10 + 60 * n, 60) for n in range(5) if n not in (1, 3) or 30 <= i < 55]) for i in range(75)
    )
    return clip_writer(tmp_path_factory.mktemp("five") / "five.mp4", pictures)


@pytest.mark.parametrize("interval_s", [0, 1.0])
def test_the_most_probable_faces_stay_and_the_others_are_counted(five_squares, monkeypatch, interval_s):
    class Unequal(BrightSquares):
        def found(self, frames_rgb):
            # The further to the right, the surer.
            return [
                Detections(f.boxes_px, 0.9 + f.boxes_px[:, 0] / 5000, f.points_px) for f in super().found(frames_rgb)
            ]

    frames, payloads = detected(five_squares, monkeypatch, Unequal(), max_faces=2, interval_s=interval_s)
    table, left_out = payloads["faces"], payloads["left_out"]
    assert left_out.schema == LEFT_OUT_SCHEMA
    by_frame: dict[int, list[float]] = {}
    for row in table.to_pylist():
        by_frame.setdefault(row["frame"], []).append(row["x_px"])
    assert set(by_frame) == set(frames["frame"].to_pylist())
    assert max(len(across) for across in by_frame.values()) == 2
    np.testing.assert_allclose(by_frame[0], [130, 250], atol=4)
    rows = left_out.to_pylist()
    assert [row["frame"] for row in rows] == sorted({row["frame"] for row in rows})
    counts = {row["frame"]: row["faces"] for row in rows}
    assert counts[0] == 1
    if interval_s == 0:
        crowded = {frame for frame in by_frame if 30 <= frame < 55}
        assert counts == {frame: 3 if frame in crowded else 1 for frame in by_frame}


def test_fewer_faces_than_that_are_not_touched(five_squares, monkeypatch):
    # The encoder leaves bright specks between the squares here and there.
    _, payloads = detected(five_squares, monkeypatch, BrightSquares(), max_faces=9)
    _, usual = detected(five_squares, monkeypatch, BrightSquares())
    assert payloads["faces"].equals(usual["faces"])
    assert payloads["left_out"].num_rows == usual["left_out"].num_rows == 0


def test_of_equally_probable_faces_the_first_stay():
    five = joined(*(faces((60.0 * n, 0, 40, 40), confidence=0.9) for n in range(5)))
    kept, left_out = most_confident(five, 3)
    assert (kept.boxes_px[:, 0].tolist(), left_out) == ([0, 60, 120], 2)
    assert most_confident(five, 5) == (five, 0)
