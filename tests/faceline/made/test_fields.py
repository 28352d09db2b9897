"""Displacement fields: right where they should act, nowhere else, smooth, and never folding."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceline.made import landmarks as lm
from faceline.made.fields import HEAD_CHANNELS, FaceFields, face_fields, head_fields, limits, ramp
from faceline.made.landmarks import FaceFrame
from faceline.made.motion import ACTIONS
from faceline.made.portrait import PORTRAITS, Portrait
from faceline.made.script import NEEDS_BROWS


def fields_of(portrait: Portrait) -> FaceFields:
    return face_fields(portrait.landmarks_px, portrait.lid_room)


def face_of(portrait: Portrait) -> np.ndarray:
    return FaceFrame.of(portrait.landmarks_px).to_face(portrait.landmarks_px[:, :2])


def grid(step: float = 0.02) -> np.ndarray:
    axis_x, axis_y = np.arange(-1.2, 1.2, step), np.arange(-1.0, 2.0, step)
    return np.stack(np.meshgrid(axis_x, axis_y), axis=-1)


def smallest_area(displacement: np.ndarray, step: float = 0.02) -> float:
    """The least area that a grid cell keeps, as a share of its own."""
    moved_y, moved_x = np.gradient(displacement, step, axis=(0, 1))
    a, c, b, d = 1 + moved_x[..., 0], moved_x[..., 1], moved_y[..., 0], 1 + moved_y[..., 1]
    return float((a * d - b * c).min())


PORTRAIT = pytest.mark.parametrize("portrait", PORTRAITS.values(), ids=PORTRAITS)


def test_ramp_is_a_smooth_step() -> None:
    t = np.linspace(-1, 2, 301)
    values = ramp(t)
    assert values[0] == 1 and values[-1] == 0
    assert (np.diff(values) <= 1e-12).all()
    assert np.abs(np.diff(values)).max() < 0.02


@PORTRAIT
def test_each_channel_moves_its_landmarks_by_the_amount(portrait: Portrait) -> None:
    fields, face = fields_of(portrait), face_of(portrait)

    def moved(group: dict, channel: str, index: int) -> np.ndarray:  # type: ignore[type-arg]
        return group[channel](face[index])

    corner = {"left": lm.MOUTH_CORNERS[0], "right": lm.MOUTH_CORNERS[1]}
    for side, out in (("left", -1.0), ("right", 1.0)):
        np.testing.assert_allclose(moved(fields.common, f"corner_up_{side}", corner[side]), [0, -1], atol=1e-9)
        np.testing.assert_allclose(moved(fields.common, f"corner_out_{side}", corner[side]), [out, 0], atol=1e-9)
        middle = lm.UPPER_LID[side][4]
        below = lm.LOWER_LID[side][4]
        closing = moved(fields.sheet, f"lid_close_{side}", middle)[1]
        assert closing == pytest.approx(face[below, 1] - face[middle, 1], abs=0.012)
        brow = face[list(lm.BROW_UPPER[side])]
        raised = fields.common[f"brow_inner_up_{side}"](brow) + fields.common[f"brow_outer_up_{side}"](brow)
        assert (raised[:, 1] < -0.75).all() and (raised[:, 0] == 0).all()
    np.testing.assert_allclose(moved(fields.upper, "upper_lip_up", 13), [0, -1], atol=0.03)
    np.testing.assert_allclose(moved(fields.sheet, "lower_lip_down", 14), [0, 1], atol=0.03)
    np.testing.assert_allclose(moved(fields.sheet, "jaw_open", 14), [0, 1], atol=0.03)
    np.testing.assert_allclose(moved(fields.sheet, "jaw_open", lm.CHIN), [0, 1], atol=0.03)


@PORTRAIT
def test_surroundings_stay(portrait: Portrait) -> None:
    """Nothing moves at the temples, beside the head and far above or below the face."""
    fields, face = fields_of(portrait), face_of(portrait)
    far = np.array([[-1.3, 0.5], [1.3, 0.5], [0.0, -1.2], [0.0, 2.2], [-1.3, 1.5], [1.3, 1.5]])
    anchors = np.concatenate([far, face[[234, 454, 127, 356]]])
    for group in (fields.common, fields.upper, fields.sheet):
        for channel, field in group.items():
            limit = 0.2 if channel.startswith("brow_outer") else 0.02
            assert np.abs(field(anchors)).max() < limit, channel


@PORTRAIT
def test_mouth_opens_only_below_the_lip_line(portrait: Portrait) -> None:
    """The sheet's edge is the lower lip: beyond the corners both layers agree, or the cheeks would tear."""
    fields, face = fields_of(portrait), face_of(portrait)
    outwards = np.array([0, 0.1, 0.3, 0.6])[:, None] * np.array([1.0, 0.0])
    left, right = face[lm.INNER_LIP_LOWER[0]], face[lm.INNER_LIP_LOWER[-1]]
    beyond = np.concatenate([left - outwards, right + outwards])
    for channel in ("jaw_open", "lower_lip_down"):
        assert np.abs(fields.sheet[channel](beyond)).max() < 1e-9
    assert np.abs(fields.upper["upper_lip_up"](beyond)).max() < 1e-9


@PORTRAIT
def test_no_channel_folds_within_its_limits(portrait: Portrait) -> None:
    fields, points = fields_of(portrait), grid()
    for group in (fields.common, fields.upper, fields.sheet):
        for channel, field in group.items():
            shape = field(points)
            for amplitude in limits(channel):
                assert smallest_area(amplitude * shape) > 0, (channel, amplitude)
            assert np.abs(np.diff(shape, axis=0)).max() < 0.35 and np.abs(np.diff(shape, axis=1)).max() < 0.35, channel


@PORTRAIT
def test_no_burst_folds_a_layer(portrait: Portrait) -> None:
    fields, points = fields_of(portrait), grid()
    for kind, action in ACTIONS.items():
        if kind in NEEDS_BROWS and not portrait.brows_free:
            continue
        for layer in (fields.upper, fields.sheet):
            total = np.zeros_like(points)
            for channel, amount in action.items():
                field = fields.common.get(channel) or layer.get(channel)
                if field is not None and (portrait.brows_free or not channel.startswith("brow")):
                    total += np.clip(1.3 * amount, *limits(channel)) * field(points)
            assert smallest_area(total) > 0, kind


@functools.cache
def head_shapes(name: str) -> dict[str, np.ndarray]:
    axis = np.arange(-2.8, 2.81, 0.05)
    points = np.stack(np.meshgrid(axis, axis), axis=-1)
    return {channel: field(points) for channel, field in head_fields(PORTRAITS[name].landmarks_px).items()}


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(PORTRAITS)), st.tuples(*[st.floats(-1, 1)] * len(HEAD_CHANNELS)))
def test_head_movements_do_not_fold(name: str, amounts: tuple[float, ...]) -> None:
    most = {"shift_x": 0.12, "shift_y": 0.12, "roll": 0.09, "scale": 0.05, "yaw": 0.25, "pitch": 0.15}
    shapes = head_shapes(name)
    total = sum(
        amount * most[channel] * shapes[channel] for channel, amount in zip(HEAD_CHANNELS, amounts, strict=True)
    )
    assert smallest_area(np.asarray(total), 0.05) > 0


@pytest.mark.parametrize("name", PORTRAITS)
def test_head_movements_end_before_the_edge(name: str) -> None:
    for shape in head_shapes(name).values():
        edge = np.concatenate([shape[0], shape[-1], shape[:, 0], shape[:, -1]])
        assert np.abs(edge).max() < 1e-9 < np.abs(shape).max()
