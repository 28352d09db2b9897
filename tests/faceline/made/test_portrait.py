"""The portraits and their frozen landmarks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from faceline.errors import FacelineError
from faceline.made import landmarks as lm
from faceline.made.landmarks import FaceFrame
from faceline.made.portrait import LANDMARKS, PORTRAITS, Portrait

ALL = pytest.mark.parametrize("portrait", PORTRAITS.values(), ids=PORTRAITS)


@ALL
def test_picture_and_landmarks_belong_together(portrait: Portrait) -> None:
    height, width, channels = portrait.rgb.shape
    assert portrait.rgb.dtype == np.uint8 and channels == 3
    assert portrait.landmarks_px.shape == (LANDMARKS, 3)
    assert (portrait.landmarks_px[:, :2] >= 0).all()
    assert (portrait.landmarks_px[:, :2] <= (width, height)).all()


@ALL
def test_colours_are_rgb(portrait: Portrait) -> None:
    x, y = np.rint(portrait.landmarks_px[205, :2]).astype(int)  # a cheek
    red, green, blue = portrait.rgb[y - 3 : y + 4, x - 3 : x + 4].reshape(-1, 3).mean(axis=0)
    assert red > green > blue


@ALL
def test_contours_run_from_left_to_right(portrait: Portrait) -> None:
    face = FaceFrame.of(portrait.landmarks_px).to_face(portrait.landmarks_px[:, :2])
    contours = [lm.INNER_LIP_UPPER, lm.INNER_LIP_LOWER, lm.OUTER_LIP_UPPER, lm.OUTER_LIP_LOWER]
    for table in (lm.UPPER_LID, lm.LOWER_LID, lm.BROW_UPPER, lm.BROW_LOWER):
        contours += table.values()
    for contour in contours:
        assert (np.diff(face[list(contour), 0]) > 0).all()
    for side in ("left", "right"):
        assert np.sign(face[list(lm.UPPER_LID[side]), 0].mean()) == (-1 if side == "left" else 1)


def test_a_changed_picture_is_refused() -> None:
    other = dataclasses.replace(PORTRAITS["astronaut"], sha256="0" * 64)
    with pytest.raises(FacelineError, match=r"not the picture .* make setup"):
        _ = other.rgb


def test_a_missing_picture_is_named() -> None:
    other = dataclasses.replace(PORTRAITS["astronaut"], path_in_package="data/nobody.png")
    with pytest.raises(FacelineError, match=r"lacks data/nobody\.png"):
        _ = other.path


def test_face_frame_measures_in_eye_distances() -> None:
    points = np.zeros((LANDMARKS, 2))
    points[33], points[263] = (10.0, 20.0), (40.0, 60.0)  # 50 px apart, turned
    frame = FaceFrame.of(points)
    assert frame.eye_distance_px == pytest.approx(50)
    np.testing.assert_allclose(frame.to_face(points[[33, 263]]), [[-0.5, 0], [0.5, 0]], atol=1e-12)
    chin = frame.origin_px + frame.vectors_to_px(np.array([0.0, 1.25]))
    np.testing.assert_allclose(frame.to_face(chin), [0, 1.25], atol=1e-12)
    assert chin[1] > frame.origin_px[1]


@pytest.mark.models
@ALL
def test_face_mesh_still_agrees(portrait: Portrait) -> None:
    """The frozen tables are what MediaPipe sees today."""
    import cv2
    import mediapipe as mp

    low = np.maximum(portrait.landmarks_px[:, :2].min(axis=0) - 60, 0).astype(int)
    high = (portrait.landmarks_px[:, :2].max(axis=0) + 60).astype(int)
    crop = portrait.rgb[low[1] : high[1], low[0] : high[0]]
    scale = 720 / crop.shape[0]
    crop = cv2.resize(crop, None, fx=scale, fy=scale, interpolation=cv2.INTER_LANCZOS4)
    with mp.solutions.face_mesh.FaceMesh(static_image_mode=True, max_num_faces=1, refine_landmarks=True) as mesh:
        result = mesh.process(np.ascontiguousarray(crop))
    seen = np.array([[p.x, p.y] for p in result.multi_face_landmarks[0].landmark])
    seen = seen * (crop.shape[1], crop.shape[0]) / scale + low
    distance = np.hypot(*(seen - portrait.landmarks_px[:, :2]).T) / FaceFrame.of(portrait.landmarks_px).eye_distance_px
    assert np.median(distance) < 0.02
    assert np.max(distance) < 0.08
