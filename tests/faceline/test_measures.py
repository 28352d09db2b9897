"""Expression measures: invariances, directions, missing faces, and the table of what they are."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceline.measures import MEASURE_NAMES, MEASURES, compute_measures
from faceline.pose import RIGID_INDICES, mean_face, rotation_from_angles

FLIP = np.array([1.0, -1.0, -1.0])
PAIRS = (
    *((33, 263), (133, 362), (160, 387), (144, 373), (158, 385), (153, 380), (468, 473)),
    *((107, 336), (55, 285), (70, 300), (63, 293), (46, 276), (53, 283)),
    *((50, 280), (101, 330), (36, 266), (129, 358), (61, 291), (82, 312), (87, 317), (37, 267), (148, 377)),
)
"""Mesh points that the measures use, subject's right and left."""


def face() -> np.ndarray:
    """A symmetric face in head axes, [478, 3], with a plausible place for every point that a measure uses."""
    points = np.zeros((478, 3))
    points[:, 2] = 0.1
    middle = {0: (-0.66, 0.36), 13: (-0.71, 0.33), 14: (-0.73, 0.33), 17: (-0.82, 0.32), 152: (-1.24, 0.12)}
    for index, (y, z) in middle.items():
        points[index] = 0, y, z
    right = {
        160: (-0.41, 0.06, 0.05), 144: (-0.41, -0.05, 0.04), 158: (-0.28, 0.06, 0.08), 153: (-0.28, -0.06, 0.06),
        468: (-0.35, 0.01, 0.07), 107: (-0.15, 0.27, 0.23), 55: (-0.14, 0.2, 0.22), 70: (-0.62, 0.22, 0.0),
        63: (-0.5, 0.29, 0.1), 46: (-0.6, 0.15, 0.0), 53: (-0.5, 0.21, 0.1), 50: (-0.5, -0.35, 0.05),
        101: (-0.35, -0.3, 0.15), 36: (-0.3, -0.4, 0.2), 129: (-0.23, -0.43, 0.25), 61: (-0.28, -0.75, 0.17),
        82: (-0.07, -0.71, 0.32), 87: (-0.07, -0.73, 0.32), 37: (-0.06, -0.64, 0.35), 148: (-0.1, -1.23, 0.1),
    }  # fmt: skip
    mirror = dict(PAIRS)
    for index, (x, y, z) in right.items():
        points[index] = x, y, z
        points[mirror[index]] = -x, y, z
    points[list(RIGID_INDICES)] = mean_face()
    return points


def picture(points: np.ndarray, angles: tuple[float, float, float] = (0, 0, 0), scale: float = 100.0) -> np.ndarray:
    return (points @ rotation_from_angles(*angles).T) * scale * FLIP + [300.0, 200.0, 5.0]


def measure(points: np.ndarray, **kwargs: object) -> dict[str, float]:
    values = compute_measures(picture(points, **kwargs)[None])[0]  # type: ignore[arg-type]
    return dict(zip(MEASURE_NAMES, values.astype(float), strict=True))


@settings(max_examples=40)
@given(
    scale=st.floats(0.05, 20),
    x=st.floats(-2000, 2000),
    y=st.floats(-2000, 2000),
    roll=st.floats(-180, 180),
)
def test_moving_scaling_and_turning_the_picture_changes_nothing(scale: float, x: float, y: float, roll: float) -> None:
    rough = face() + np.random.default_rng(3).normal(0, 0.02, (478, 3))
    mesh = picture(rough)
    turn = np.radians(roll)
    rotate = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    moved = (mesh @ rotate.T) * scale + [x, y, 17.0]
    np.testing.assert_allclose(compute_measures(moved[None]), compute_measures(mesh[None]), atol=1e-5)


@settings(max_examples=40)
@given(angles=st.tuples(st.floats(-60, 60), st.floats(-40, 40), st.floats(-60, 60)))
def test_turning_the_head_changes_nothing_in_a_rigid_mesh(angles: tuple[float, float, float]) -> None:
    rough = face() + np.random.default_rng(4).normal(0, 0.02, (478, 3))
    still, turned = picture(rough), picture(rough, angles)
    np.testing.assert_allclose(compute_measures(turned[None]), compute_measures(still[None]), atol=1e-5)


def moved(indices: tuple[int, ...], shift: tuple[float, float, float]) -> np.ndarray:
    points = face()
    points[list(indices)] += shift
    return points


MOVES = [
    # points, shift (right of picture, up, forwards), measure that rises, measure that falls
    ((14, 17, 87, 317, 152), (0, -0.2, 0), "mouth_opening", None),
    ((152,), (0, -0.2, 0), "jaw_drop", None),
    ((152, 148, 377), (0.1, 0, 0), "jaw_sideways", None),
    ((291,), (0.1, 0.1, 0), "corner_lift_left", None),
    ((61,), (-0.1, 0.1, 0), "corner_lift_right", "mouth_asymmetry"),
    ((61, 291), (0, -0.1, 0), None, "mouth_curve"),
    ((291,), (0.1, 0, 0), "mouth_width", None),
    ((0, 13, 14, 17), (0, 0, 0.1), "lip_pucker", None),
    ((0,), (0, -0.03, 0), None, "upper_lip_thickness"),
    ((17,), (0, 0.05, 0), "lip_to_chin", "lower_lip_thickness"),
    ((37, 0, 267), (0, 0.05, 0), "upper_lip_raise", None),
    ((336, 285), (0, 0.1, 0), "brow_inner_left", "brow_inner_right"),
    ((107, 55), (0, 0.1, 0), "brow_inner_right", "brow_asymmetry"),
    ((300, 293, 276, 283), (0, 0.1, 0), "brow_outer_left", None),
    ((70, 63, 46, 53), (0, 0.1, 0), "brow_outer_right", "brow_asymmetry"),
    ((107, 55), (0.05, 0, 0), None, "brow_gap"),
    ((387, 385), (0, 0.05, 0), "eye_opening_left", None),
    ((160, 158), (0, -0.05, 0), "eye_asymmetry", "eye_opening_right"),
    ((280, 330, 266), (0, 0.05, 0), "cheek_raise_left", None),
    ((50, 101, 36), (0, 0.05, 0), "cheek_raise_right", None),
    ((129, 358), (0, 0.05, 0), "nose_wrinkle", None),
    ((468, 473), (0.03, 0, 0), "gaze_sideways", None),
    ((468, 473), (0, 0.03, 0), "gaze_up", None),
]


@pytest.mark.parametrize(("indices", "shift", "rises", "falls"), MOVES)
def test_a_movement_of_the_face_moves_its_measure(
    indices: tuple[int, ...], shift: tuple[float, float, float], rises: str | None, falls: str | None
) -> None:
    before, after = measure(face()), measure(moved(indices, shift))
    if rises:
        assert after[rises] - before[rises] > 0.015
    if falls and falls not in ("brow_inner_right",):
        assert after[falls] - before[falls] < -0.015
    if falls == "brow_inner_right":  # the other side stays
        assert after[falls] == pytest.approx(before[falls], abs=1e-6)


def test_every_measure_is_moved_by_some_movement() -> None:
    assert {name for *_, rises, falls in MOVES for name in (rises, falls) if name} == set(MEASURE_NAMES)


def test_golden_values() -> None:
    values = measure(face())
    expected = {
        "mouth_opening": 0.02, "mouth_width": 0.56, "jaw_drop": float(np.hypot(1.24 - 0.5005, 0.12 - 0.3492)),
        "corner_lift_left": -0.75 + 0.5005, "jaw_sideways": 0.0, "brow_gap": 0.29, "mouth_asymmetry": 0.0,
    }  # fmt: skip
    for name, value in expected.items():
        assert values[name] == pytest.approx(value, abs=1e-6), name
    # Soukupová & Čech's eye aspect ratio, written out for the right eye.
    p = face()
    heights = np.linalg.norm(p[160] - p[144]) + np.linalg.norm(p[158] - p[153])
    assert values["eye_opening_right"] == pytest.approx(heights / (2 * np.linalg.norm(p[33] - p[133])), abs=1e-6)


def test_a_mirrored_face_swaps_its_sides() -> None:
    rough = face() + np.random.default_rng(5).normal(0, 0.03, (478, 3))
    rough[list(RIGID_INDICES)] = mean_face()
    mirror = np.arange(478)
    for right, left in PAIRS:
        mirror[[right, left]] = left, right
    half = (len(RIGID_INDICES) - 11) // 2
    mirror[list(RIGID_INDICES[11 : 11 + half])] = RIGID_INDICES[11 + half :]
    mirror[list(RIGID_INDICES[11 + half :])] = RIGID_INDICES[11 : 11 + half]
    one, other = measure(rough), measure((rough * [-1, 1, 1])[mirror])
    for name in MEASURE_NAMES:
        if name.endswith(("_asymmetry", "_sideways")):
            expected = -one[name]
        else:
            stem, _, side = name.rpartition("_")
            expected = one[{"left": f"{stem}_right", "right": f"{stem}_left"}.get(side, name)]
        assert other[name] == pytest.approx(expected, abs=1e-5), name


def test_a_missing_face_is_missing_without_a_warning() -> None:
    whole = picture(face())
    holed = whole.copy()
    holed[17, 2] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = compute_measures(np.stack([whole, np.full((478, 3), np.nan), holed]))
        assert compute_measures(np.zeros((0, 478, 3), np.float32)).shape == (0, len(MEASURES))
    assert values.dtype == np.float32
    assert np.isfinite(values[0]).all() and np.isnan(values[1:]).all()


def test_one_face_does_not_depend_on_the_others() -> None:
    faces = np.stack([picture(face() + np.random.default_rng(s).normal(0, 0.05, (478, 3))) for s in range(6)])
    faces[2] = np.nan
    together = compute_measures(faces)
    alone = np.concatenate([compute_measures(one[None]) for one in faces])
    np.testing.assert_allclose(together, alone, atol=1e-6, equal_nan=True)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="478"):
        compute_measures(np.zeros((1, 468, 3)))


def test_every_measure_says_what_it_is() -> None:
    assert len(set(MEASURE_NAMES)) == len({m.words for m in MEASURES}) == len(MEASURES)
    for one in MEASURES:
        assert re.fullmatch("[a-z]+(_[a-z]+)*", one.name)
        assert one.definition and one.action_unit.count("AU") + one.action_unit.count("AD") and one.source
        assert one.unit in ("outer eye distances", "ratio")
