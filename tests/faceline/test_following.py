"""Following a picture patch between two frames."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceline.following import Sight, followed

SIDE = 60


def texture(seed=0):
    """A smooth random picture, uint8 [240, 320]."""
    import cv2

    noise = np.random.default_rng(seed).normal(0, 1, (240, 320)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 4)
    return np.clip(smooth / smooth.std() * 50 + 128, 0, 255).astype(np.uint8)


def with_patch(x, y, seed=1, gain=1.0):
    picture = texture()
    picture[y : y + SIDE, x : x + SIDE] = np.clip(texture(seed)[:SIDE, :SIDE] * gain, 0, 255)
    return picture


def box(x, y):
    return np.array([[x, y, SIDE, SIDE]], float)


@given(dx=st.integers(-25, 25), dy=st.integers(-25, 25), gain=st.floats(0.7, 1.0), share=st.floats(0, 1))
@settings(max_examples=40)
def test_a_patch_is_found_where_it_is_in_any_light(dx, dy, gain, share):
    before = Sight(with_patch(100, 80), box(100, 80))
    after = Sight(with_patch(110, 80), box(110, 80))
    expected = Sight(with_patch(130 + dx, 90 + dy, gain=gain), box(130, 90))
    offset = followed(before, expected, after, share)
    assert offset is not None
    np.testing.assert_allclose(offset, [[dx, dy]], atol=1.5)


def test_size_may_change():
    import cv2

    before = Sight(with_patch(100, 80), box(100, 80))
    large = cv2.resize(before.gray, None, fx=1.25, fy=1.25)
    expected = Sight(large, box(100, 80) * 1.25 + [[6, -4, 0, 0]])
    offset = followed(before, expected, before, 0.5)
    np.testing.assert_allclose(offset, [[-6, 4]], atol=1.5)


@pytest.mark.parametrize("seed", range(5, 15))
def test_another_patch_is_in_doubt(seed):
    before = Sight(with_patch(100, 80), box(100, 80))
    hidden = Sight(with_patch(100, 80, seed=seed), box(100, 80))
    assert followed(before, hidden, before, 0.5) is None


def test_disagreement_is_doubt():
    """The patch from before and the patch from after both lie in the frame, at different places."""
    before = Sight(with_patch(40, 80, seed=1), box(40, 80))
    after = Sight(with_patch(40, 80, seed=2), box(40, 80))
    both = with_patch(85, 80, seed=1)
    both[80 : 80 + SIDE, 145 : 145 + SIDE] = texture(2)[:SIDE, :SIDE]
    assert followed(before, Sight(both, box(115, 80)), after, 0.5) is None


def test_a_flat_patch_and_a_face_beyond_reach_are_in_doubt():
    flat = Sight(np.full((240, 320), 200, np.uint8), box(100, 80))
    assert followed(flat, flat, flat, 0.5) is None
    before = Sight(with_patch(100, 80), box(100, 80))
    gone = Sight(with_patch(180, 80), box(100, 80))
    assert followed(before, gone, before, 0.5) is None


def test_no_faces_have_no_offsets():
    nothing = Sight(texture(), np.zeros((0, 4)))
    assert followed(nothing, nothing, nothing, 0.5).shape == (0, 2)
