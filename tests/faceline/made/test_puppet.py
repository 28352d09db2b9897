"""The posed portrait: measured in its pixels, independently of the fields that moved them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from faceline.made import landmarks as lm
from faceline.made.motion import ACTIONS
from faceline.made.portrait import PORTRAITS
from faceline.made.puppet import EYE_DISTANCE_SHARE, Camera, Puppet

SIDE = 320
UNIT = EYE_DISTANCE_SHARE * SIDE


@pytest.fixture(scope="module", params=PORTRAITS)
def puppet(request: pytest.FixtureRequest) -> Puppet:
    return Puppet(PORTRAITS[request.param], SIDE, SIDE)


@pytest.fixture(scope="module")
def astronaut() -> Puppet:
    return Puppet(PORTRAITS["astronaut"], SIDE, SIDE)


def both(name: str, amount: float) -> dict[str, float]:
    return {f"{name}_left": amount, f"{name}_right": amount}


def gray(rgb: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)


def patch_shift(before: np.ndarray, after: np.ndarray, at: np.ndarray, half: int = 9, reach: int = 16) -> np.ndarray:
    """How far the patch around a point moved, by template matching, pixels (x, y)."""
    x, y = np.rint(at).astype(int)
    patch = gray(before)[y - half : y + half + 1, x - half : x + half + 1]
    area = gray(after)[y - half - reach : y + half + reach + 1, x - half - reach : x + half + reach + 1]
    score = cv2.matchTemplate(area, patch, cv2.TM_CCOEFF_NORMED)
    _, _, _, (best_x, best_y) = cv2.minMaxLoc(score)
    return np.array([best_x - reach, best_y - reach])


def test_at_rest_it_is_the_portrait(puppet: Puppet) -> None:
    """The rendered still equals the plainly resized picture, cut at the landmarks."""
    name = next(n for n, p in PORTRAITS.items() if np.allclose(Puppet(p, SIDE, SIDE).landmarks_px, puppet.landmarks_px))
    portrait = PORTRAITS[name]
    face = portrait.landmarks_px[:, :2]
    scale = UNIT / float(np.hypot(*(face[263] - face[33])))
    seen = puppet.landmarks_at({})
    matrix = np.array([[scale, 0, 0], [0, scale, 0]])
    matrix[:, 2] = seen[1] - scale * face[1]
    expected = cv2.warpAffine(portrait.rgb, matrix, (SIDE, SIDE), flags=cv2.INTER_CUBIC)
    middle = slice(60, 260)
    difference = np.abs(puppet.render({})[middle, middle].astype(int) - expected[middle, middle])
    assert difference.mean() < 4
    assert np.percentile(difference, 95) < 16


def test_size_and_type(puppet: Puppet) -> None:
    picture = puppet.render({})
    assert picture.shape == (SIDE, SIDE, 3) and picture.dtype == np.uint8
    eyes = puppet.landmarks_at({})[list(lm.EYE_CORNERS)]
    assert np.hypot(*(eyes[1] - eyes[0])) == pytest.approx(UNIT, abs=0.01)


def test_same_pose_same_pixels(puppet: Puppet) -> None:
    pose = {**ACTIONS["smile"], **both("lid_close", 0.4), "jaw_open": 0.1, "yaw": 0.1}
    pose.pop("lips_together", None)
    np.testing.assert_array_equal(puppet.render(pose), puppet.render(dict(pose)))


@pytest.mark.parametrize(
    ("pose", "landmark"),
    [
        (both("brow_outer_up", 0.1) | both("brow_inner_up", 0.1), 105),
        ({"jaw_open": 0.15}, lm.CHIN),
        ({"jaw_open": 0.15}, 200),
        ({"shift_x": 0.12}, 1),
        ({"pitch": 0.12}, 1),
        ({"roll": 0.06}, 168),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else str(value),
)
def test_pixels_go_where_the_landmarks_are_said_to_go(astronaut: Puppet, pose: dict[str, float], landmark: int) -> None:
    before, after = astronaut.render({}), astronaut.render(pose)
    start, end = astronaut.landmarks_at({})[landmark], astronaut.landmarks_at(pose)[landmark]
    said = end - start
    assert np.hypot(*said) > 3
    np.testing.assert_allclose(patch_shift(before, after, start), said, atol=1.6)


def test_an_open_mouth_is_dark_inside(puppet: Puppet) -> None:
    pose = {"jaw_open": 0.2}
    marks = puppet.landmarks_at(pose)
    low, high = marks[13], marks[14]
    assert (high - low)[1] > 0.15 * UNIT
    x, y = np.rint(low * 0.25 + high * 0.75).astype(int)
    inside = gray(puppet.render(pose))[y - 2 : y + 3, x - 3 : x + 4].mean()
    lip = gray(puppet.render(pose))[int(high[1]) + 3 : int(high[1]) + 7, x - 3 : x + 4].mean()
    assert inside < 60 < lip


def test_lips_meet_but_never_cross(puppet: Puppet) -> None:
    pose = {"lower_lip_down": -0.12, "upper_lip_up": -0.12}
    assert np.isfinite(puppet.render(pose)).all()
    crossed = puppet.landmarks_at(pose)
    assert crossed[14, 1] < crossed[13, 1] + 0.5 * UNIT


def test_shut_lids_cover_the_iris(puppet: Puppet) -> None:
    open_eyes, shut = gray(puppet.render({})), gray(puppet.render(both("lid_close", 1.0)))
    marks = puppet.landmarks_at({})
    for upper, iris in ((159, 468), (386, 473)):
        # Between the upper lid and the pupil: dark iris with open eyes, skin with shut ones.
        x, y = np.rint(0.5 * marks[upper] + 0.5 * marks[iris]).astype(int)
        patch = np.s_[y - 1 : y + 2, x - 2 : x + 3]
        assert shut[patch].mean() > open_eyes[patch].mean() + 15


def test_half_shut_lids_lie_between(astronaut: Puppet) -> None:
    heights = [astronaut.landmarks_at(both("lid_close", c))[159, 1] for c in (0, 0.5, 1)]
    lower = astronaut.landmarks_at({})[145, 1]
    assert heights[0] < heights[1] < heights[2] == pytest.approx(lower, abs=1.5)


def test_expression_stays_inside_the_face(puppet: Puppet) -> None:
    pose = {channel: amount for channel, amount in ACTIONS["frown"].items() if channel != "lips_together"}
    pose["jaw_open"] = 0.2
    changed = np.abs(puppet.render(pose).astype(int) - puppet.render({})).max(axis=2) > 3
    rows, columns = np.nonzero(changed)
    marks = puppet.landmarks_at(pose)
    assert columns.min() > marks[:, 0].min() - 0.3 * UNIT and columns.max() < marks[:, 0].max() + 0.3 * UNIT
    assert rows.min() > marks[:, 1].min() - 0.5 * UNIT and rows.max() < marks[:, 1].max() + 0.7 * UNIT


def test_head_movement_leaves_the_background() -> None:
    wide = Puppet(PORTRAITS["commodore"], 400, 240)
    moved = wide.render({"shift_x": 0.1, "roll": 0.05, "yaw": 0.2}).astype(int)
    changed = np.abs(moved - wide.render({})).max(axis=2) > 0
    assert not changed[:, :50].any() and not changed[:, -50:].any()
    assert changed[:, 100:300].mean() > 0.4


def test_camera_zooms_and_shifts(puppet: Puppet) -> None:
    plain, near = puppet.landmarks_at({}), puppet.landmarks_at({}, Camera(zoom=1.5))
    middle = (SIDE - 1) / 2
    np.testing.assert_allclose(near - middle, 1.5 * (plain - middle), atol=1e-6)
    shifted = puppet.landmarks_at({}, Camera(shift_x=0.5))
    np.testing.assert_allclose(shifted - plain, np.tile([-0.5 * UNIT, 0], (len(plain), 1)), atol=1e-6)
    rendered = patch_shift(puppet.render({}), puppet.render({}, Camera(shift_x=0.1)), plain[1])
    np.testing.assert_allclose(rendered, [-0.1 * UNIT, 0], atol=1)


def test_a_face_out_of_view_can_still_move(puppet: Puppet) -> None:
    away = Camera(shift_x=4.3)
    empty = puppet.render({}, away)
    np.testing.assert_array_equal(puppet.render({**both("corner_up", 0.05), "jaw_open": 0.1}, away), empty)
    assert puppet.landmarks_at({}, away)[:, 0].max() < 0


def test_channels_are_all_known(puppet: Puppet) -> None:
    for action in ACTIONS.values():
        assert set(action) - {"lips_together"} <= set(puppet.channels)
    still = puppet.render({})
    for channel in puppet.channels:
        assert (puppet.render({channel: 0.3 if channel.startswith("lid_close") else 0.05}) != still).any(), channel
