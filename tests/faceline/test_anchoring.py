"""Unsure faces count beside sure ones of their tracklet alone, whatever else comes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from faceline.anchoring import Anchoring
from faceline.faces import Detections, joined
from faceline.keyframes import FoundFaces
from faceline.tracking import Tracker

STEP_S = 0.1


def face(x, confidence):
    box = np.array([[x, 50, 40, 40]], np.float32)
    return Detections(box, np.array([confidence], np.float32), np.zeros((1, 5, 2), np.float32))


def kept(frames, extend_s=0.35, between=()):
    """Frame, place and number of the faces that count; ``frames``: per frame the faces as (x, confidence).

    Those of the frames ``between`` were not detected, but interpolated.
    """
    anchoring = Anchoring(Tracker(), 0.85, extend_s)
    done = []
    for i, faces in enumerate(frames):
        found = FoundFaces(joined(*(face(*one) for one in faces)), i not in between)
        done += anchoring.add(i, i * STEP_S, found, cut=False)
    done += anchoring.finish()
    assert [entry.position for entry in done] == list(range(len(frames)))
    return [
        (entry.position, float(box[0]), int(track))
        for entry in done
        for box, track in zip(entry.found.faces.boxes_px, entry.tracks, strict=True)
    ]


def test_unsure_faces_before_and_after_a_sure_one_count_so_far_as_it_vouches():
    confidence = [0.7] * 10
    confidence[4:7] = [0.9] * 3
    assert kept([[(100, c)] for c in confidence]) == [(i, 100.0, 0) for i in range(3, 8)]


def test_two_sure_faces_vouch_for_nothing():
    confidence = [0.7] * 10
    confidence[5:7] = [0.9] * 2
    assert kept([[(100, c)] for c in confidence]) == [(5, 100.0, 0), (6, 100.0, 0)]


def test_copies_between_two_sure_faces_do_not_vouch():
    confidence = [0.9] * 5 + [0.7] * 5
    frames = [[(100, c)] for c in confidence]
    assert kept(frames, extend_s=1.0, between={1, 2, 3}) == [(i, 100.0, 0) for i in range(5)]
    assert len(kept(frames, extend_s=1.0)) == 10


def test_unsure_faces_alone_never_count_and_take_no_number():
    frames = [[(100, 0.8), (400, 0.9)] for _ in range(10)]
    assert kept(frames) == [(i, 400.0, 0) for i in range(10)]


def test_a_sure_face_does_not_vouch_for_another_tracklet():
    sure = [[(100, 0.95)] for _ in range(4)]
    assert kept([*sure[:2], [(400, 0.8)], *sure[2:]]) == [(i, 100.0, 0) for i in (0, 1, 3, 4)]


def test_a_tracklet_whose_unsure_middle_is_left_out_for_long_is_two():
    confidence = [0.9] * 3 + [0.7] * 12 + [0.9] * 3
    assert [number for _, _, number in kept([[(100, c)] for c in confidence])] == [0] * 4 + [1] * 4


@given(st.lists(st.lists(st.tuples(st.sampled_from([100, 400, 700]), st.floats(0.6, 1)), max_size=3), max_size=25))
def test_every_sure_face_counts_and_numbers_begin_in_order(frames):
    frames = [list({x: (x, c) for x, c in faces}.values()) for faces in frames]
    rows = kept(frames)
    sure = {(i, float(x)) for i, faces in enumerate(frames) for x, c in faces if np.float32(c) >= 0.85}
    assert sure <= {(i, x) for i, x, _ in rows}
    firsts = list(dict.fromkeys(number for _, _, number in rows))
    assert firsts == sorted(firsts) == list(range(len(firsts)))
