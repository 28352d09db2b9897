"""MTCNN: agrees with facenet-pytorch's own loop, and does not care what else is in the batch."""

from __future__ import annotations

import numpy as np
import pytest

from faceline.adapters.mtcnn import MtcnnDetector, _nms, _nms_within
from faceline.tracking import overlaps
from faceline.weights import resolve

pytestmark = pytest.mark.models

SIZE = (240, 320)


@pytest.fixture(scope="module")
def detector():
    return MtcnnDetector(resolve("detector").path, min_face_px=30, threads=1)


def scene(*places, seed=0):
    """uint8 RGB [240, 320, 3]: the astronaut's head, 160 px wide, at these corners (may be cut off) on soft noise."""
    from skimage.data import astronaut

    head = astronaut()[0:200, 140:300]
    picture = np.random.default_rng(seed).integers(90, 120, (*SIZE, 3), dtype=np.uint8)
    for x, y in places:
        top, left = max(0, y), max(0, x)
        part = head[top - y : top - y + SIZE[0] - top, left - x : left - x + SIZE[1] - left]
        picture[top : top + part.shape[0], left : left + part.shape[1]] = part
    return picture


SCENES = [
    scene((80, 20)),
    scene(),
    scene((-45, 10)),
    scene((0, 20), (160, 20)),
    scene((205, 10)),
    scene((80, -30)),
    scene((80, 75)),
]


def same(first, second):
    for name in ("boxes_px", "confidence", "points_px"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes()


def test_what_else_is_in_the_batch_changes_nothing(detector):
    alone = [detector.detect([picture])[0] for picture in SCENES]
    assert sum(len(found) for found in alone) >= 6
    for order in (range(len(SCENES)), reversed(range(len(SCENES))), [0, 0, 3, 2, 2, 5, 6, 1]):
        order = list(order)
        for index, found in zip(order, detector.detect([SCENES[i] for i in order]), strict=True):
            same(found, alone[index])


def test_threads_change_nothing(detector):
    threaded = MtcnnDetector(resolve("detector").path, min_face_px=30, threads=3)
    for one, other in zip(detector.detect(SCENES), threaded.detect(SCENES), strict=True):
        same(one, other)


def test_a_large_batch_is_its_frames(detector):
    many = detector.detect([SCENES[0], SCENES[3]] * 20)
    for found in many[2::2]:
        same(found, many[0])
    for found in many[3::2]:
        same(found, many[1])


def test_it_agrees_with_facenet_pytorch(detector):
    from facenet_pytorch import MTCNN

    theirs = MTCNN(min_face_size=30, keep_all=True)
    for picture in (SCENES[0], SCENES[3]):
        boxes, confidence, points = theirs.detect(picture, landmarks=True)
        (found,) = detector.detect([picture])
        assert len(found) == len(boxes)
        boxes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).astype(float)
        for i, j in enumerate(overlaps(found.boxes_px, boxes).argmax(axis=1)):
            width = boxes[j, 2]
            np.testing.assert_allclose(found.boxes_px[i], boxes[j], atol=0.1 * width)
            np.testing.assert_allclose(found.points_px[i], points[j].astype(float), atol=0.06 * width)
            assert found.confidence[i] == pytest.approx(float(confidence[j]), abs=0.02)


def test_faces_lie_where_they_were_put(detector):
    """Eyes, nose and mouth of the head of `scene`, read off the picture."""
    (found,) = detector.detect([SCENES[0]])
    assert len(found) == 1
    (points,) = found.points_px - [80, 20]
    np.testing.assert_allclose(points, [[65, 100], [103, 103], [85, 125], [66, 141], [100, 143]], atol=9)


def test_colour_order_matters_to_it(detector):
    """The network sees RGB: with red and blue exchanged, it is less sure or measures another face."""
    (rgb,) = detector.detect([SCENES[0]])
    (bgr,) = detector.detect([np.ascontiguousarray(SCENES[0][..., ::-1])])
    assert len(rgb) == 1
    assert rgb.confidence[0] > 0.999
    assert len(bgr) != 1 or bgr.confidence[0] < rgb.confidence[0]


def test_known_faces_are_measured_as_they_are_found(detector):
    """From boxes that lie a tenth of a side off; and a place without a face is told from one with."""
    pictures = [SCENES[0], SCENES[3], SCENES[1]]
    found = detector.detect(pictures)
    nowhere = np.array([[20.0, 20, 90, 90]], np.float32)
    places = [faces.boxes_px + 0.1 * faces.boxes_px[:, 2:3] * [1, -1, 0, 0] for faces in found[:2]] + [nowhere]
    measured = detector.refine(pictures, places)
    for one, other in zip(found[:2], measured, strict=False):
        assert len(one) == len(other) > 0
        width = one.boxes_px[:, 2:3]
        np.testing.assert_allclose(other.boxes_px / width, one.boxes_px / width, atol=0.06)
        np.testing.assert_allclose(other.points_px / width[..., None], one.points_px / width[..., None], atol=0.03)
        assert other.confidence.min() > 0.95
    assert measured[2].confidence[0] < 0.5
    assert detector.refine([], []) == []


def test_measuring_depends_neither_on_the_batch_nor_on_threads(detector):
    places = [faces.boxes_px for faces in detector.detect(SCENES)]
    alone = [detector.refine([picture], [place])[0] for picture, place in zip(SCENES, places, strict=True)]
    threaded = MtcnnDetector(resolve("detector").path, min_face_px=30, threads=3)
    for other in (detector, threaded):
        for one, found in zip(alone, other.refine(SCENES, places), strict=True):
            same(one, found)


def test_nothing_to_find(detector):
    assert detector.detect([]) == []
    for picture in (
        np.zeros((240, 320, 3), np.uint8),
        np.zeros((8, 8, 3), np.uint8),
        np.full((40, 600, 3), 255, np.uint8),
    ):
        (found,) = detector.detect([picture])
        assert found.boxes_px.shape == (0, 4)
        assert found.confidence.shape == (0,)
        assert found.points_px.shape == (0, 5, 2)


def test_frames_of_a_batch_must_be_of_one_size(detector):
    with pytest.raises(ValueError, match="differ in size"):
        detector.detect([SCENES[0], SCENES[0][:100]])


def test_suppression_treats_each_frame_alone_even_beyond_its_edges():
    """Boxes that reach beyond the left edge do not suppress those at the right edge of the frame before."""
    rng = np.random.default_rng(7)
    boxes = rng.uniform(-80, 300, (200, 2))
    boxes = np.hstack([boxes, boxes + rng.uniform(20, 120, (200, 1))]).astype(np.float32)
    scores = rng.permutation(200).astype(np.float32)
    owners = rng.integers(0, 5, 200)
    together = set(_nms(boxes, scores, owners, 0.5).tolist())
    alone = set()
    for owner in range(5):
        own = np.flatnonzero(owners == owner)
        alone |= set(own[_nms(boxes[own], scores[own], np.zeros(len(own), int), 0.5)].tolist())
    assert together == alone


def test_nested_boxes_are_one_face():
    boxes = np.array([[0, 0, 100, 100], [20, 20, 70, 70], [90, 0, 190, 100]], float)
    assert sorted(_nms_within(boxes, np.array([0.8, 0.9, 0.7]), 0.7)) == [1, 2]
    assert _nms_within(np.zeros((0, 4)), np.zeros(0), 0.7) == []
