"""Head pose: turns put in come out, signs are as documented, the frontal mesh is the same whatever the turn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceline.pose import (
    RIGID_INDICES,
    angles_from_rotation,
    fit_heads,
    frontalise,
    mean_face,
    rotation_from_angles,
    yaw_from_points,
)

FLIP = np.array([1.0, -1.0, -1.0])
ANGLES = st.tuples(st.floats(-80, 80), st.floats(-70, 70), st.floats(-170, 170))


def head(seed: int = 0, roughness: float = 0.0) -> np.ndarray:
    """A head in head axes, [478, 3]: the mean face at its own points, others strewn about it."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-0.6, 0.6, (478, 3))
    points[list(RIGID_INDICES)] = mean_face() + rng.normal(0, 1, (len(RIGID_INDICES), 3)) * roughness
    return points


def picture(points: np.ndarray, angles: tuple[float, float, float], scale: float = 120.0) -> np.ndarray:
    """The mesh, in frame pixels, of a head turned by the angles."""
    return (points @ rotation_from_angles(*angles).T) * scale * FLIP + [640.0, 360.0, 0.0]


@given(angles=ANGLES, scale=st.floats(5, 900))
def test_a_turn_is_recovered(angles: tuple[float, float, float], scale: float) -> None:
    fit = fit_heads(picture(head(), angles, scale)[None])
    np.testing.assert_allclose(fit.angles_deg[0], angles, atol=1e-6)
    assert fit.scale[0] == pytest.approx(scale)


@given(angles=st.tuples(st.floats(-60, 60), st.floats(-40, 40), st.floats(-60, 60)), seed=st.integers(0, 50))
def test_a_turn_between_two_pictures_of_another_face_is_recovered(
    angles: tuple[float, float, float], seed: int
) -> None:
    """A face unlike the mean face has an offset of its own, but the turn between two of its pictures is exact."""
    other = head(seed, roughness=0.03)
    still, turned = fit_heads(np.stack([picture(other, (0, 0, 0)), picture(other, angles)])).rotation
    np.testing.assert_allclose(angles_from_rotation((turned @ still.T)[None])[0], angles, atol=1e-5)
    assert np.abs(angles_from_rotation(still[None])).max() < 5


@pytest.mark.parametrize(
    ("angles", "moves"),
    [
        ((20, 0, 0), (1, 0)),  # the nose goes to the right of the picture
        ((0, 20, 0), (0, -1)),  # up
    ],
)
def test_signs_of_yaw_and_pitch_are_as_documented(angles: tuple[float, float, float], moves: tuple[int, int]) -> None:
    nose_tip, between_eyes = 4, 168
    still = picture(head(), (0, 0, 0))
    turned = picture(head(), angles)
    shift = (turned[nose_tip] - turned[between_eyes]) - (still[nose_tip] - still[between_eyes])
    assert shift[0] * moves[0] + shift[1] * moves[1] > 10


def test_roll_is_positive_clockwise() -> None:
    right_eye, left_eye = 33, 263
    turned = picture(head(), (0, 0, 15))
    assert turned[left_eye, 1] > turned[right_eye, 1]  # y grows downwards


@given(angles=ANGLES)
def test_a_mirrored_picture_has_yaw_and_roll_reversed(angles: tuple[float, float, float]) -> None:
    mirror = np.arange(478)
    half = (len(RIGID_INDICES) - 11) // 2
    right, left = RIGID_INDICES[11 : 11 + half], RIGID_INDICES[11 + half :]
    mirror[list(right)], mirror[list(left)] = left, right
    mesh = picture(head(), angles)
    mirrored = (mesh * [-1, 1, 1] + [1280, 0, 0])[mirror]
    yaw, pitch, roll = fit_heads(mirrored[None]).angles_deg[0]
    np.testing.assert_allclose((-yaw, pitch, -roll), angles, atol=1e-5)


@given(angles=ANGLES, scale=st.floats(5, 900))
def test_the_frontal_mesh_does_not_depend_on_turn_place_or_size(
    angles: tuple[float, float, float], scale: float
) -> None:
    points = head(1)
    np.testing.assert_allclose(frontalise(picture(points, angles, scale)[None])[0], points, atol=1e-6)


def test_a_face_without_mesh_stays_missing_and_harms_no_other() -> None:
    faces = np.stack([picture(head(), (10, 0, 0)), np.full((478, 3), np.nan), picture(head(), (0, 10, 0))])
    with np.errstate(all="raise"):
        fit = fit_heads(faces)
        frontal = frontalise(faces, fit)
    assert np.isnan(fit.angles_deg[1]).all() and np.isnan(frontal[1]).all()
    np.testing.assert_allclose(fit.angles_deg[[0, 2]], [(10, 0, 0), (0, 10, 0)], atol=1e-6)
    assert fit_heads(np.zeros((0, 478, 3))).angles_deg.shape == (0, 3)


def test_the_mean_face_is_symmetric_and_in_its_unit() -> None:
    face = mean_face()
    half = (len(face) - 11) // 2
    np.testing.assert_array_equal(face[11 : 11 + half] * [-1, 1, 1], face[11 + half :])
    assert len(set(RIGID_INDICES)) == len(face) == 33
    corners = face[[RIGID_INDICES.index(33), RIGID_INDICES.index(263)]]
    assert np.linalg.norm(corners[1] - corners[0]) == pytest.approx(1.0)


@pytest.mark.parametrize("yaw_deg", [-50, -20, 0, 30, 60])
def test_five_points_tell_the_yaw_roughly(yaw_deg: float) -> None:
    # Eye centres, nose tip and mouth corners of the mean face.
    points = np.array(
        [(-0.347, 0, 0.03), (0.347, 0, 0.03), (0, -0.338, 0.537), (-0.25, -0.72, 0.2), (0.25, -0.72, 0.2)]
    )
    turned = points @ rotation_from_angles(yaw_deg, 0, 0).T
    for tilt_deg in (0.0, 25.0):  # of the picture
        tilted = turned @ rotation_from_angles(0, 0, tilt_deg).T * 100 * FLIP
        assert yaw_from_points(tilted[:, :2]) == pytest.approx(yaw_deg, abs=5)


def test_five_points_in_one_place_tell_nothing() -> None:
    assert np.isnan(yaw_from_points(np.ones((5, 2))))
    assert np.isnan(yaw_from_points(np.full((5, 2), np.nan)))
