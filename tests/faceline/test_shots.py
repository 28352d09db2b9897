"""Cut scores: high between different scenes, low under light, motion and noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceline.sampling import SampleParams
from faceline.shots import cut_score

THRESHOLD = SampleParams().cut_threshold


def scene(seed: int) -> np.ndarray:
    """A random scene with structure at several sizes, uint8 RGB [48, 80, 3]."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((48, 80, 3))
    for side in (2, 4, 8, 16):
        coarse = rng.uniform(0, 1, (48 // side, 80 // side, 3))
        picture += coarse.repeat(side, 0).repeat(side, 1)
    return (picture / 4 * 255).astype(np.uint8)


def framed(picture: np.ndarray, x: int = 8, y: int = 6) -> np.ndarray:
    return np.ascontiguousarray(picture[y : y + 36, x : x + 64])


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30)
def test_the_same_frame_scores_nothing(seed):
    assert cut_score(framed(scene(seed)), framed(scene(seed))) == pytest.approx(0, abs=1e-5)


@given(seeds=st.lists(st.integers(0, 10_000), min_size=2, max_size=2, unique=True))
@settings(max_examples=30)
def test_another_scene_is_a_cut_whichever_comes_first(seeds):
    a, b = (framed(scene(seed)) for seed in seeds)
    assert cut_score(a, b) >= THRESHOLD
    assert cut_score(a, b) == pytest.approx(cut_score(b, a), abs=1e-6)


@given(seed=st.integers(0, 10_000), dx=st.integers(-4, 4), dy=st.integers(-4, 4))
@settings(max_examples=30)
def test_motion_is_no_cut(seed, dx, dy):
    picture = scene(seed)
    assert cut_score(framed(picture), framed(picture, 8 + dx, 6 + dy)) < THRESHOLD


@given(seed=st.integers(0, 10_000), gain=st.floats(0.6, 1.0), offset=st.floats(0, 40))
@settings(max_examples=30)
def test_a_lamp_is_no_cut(seed, gain, offset):
    dark = framed(scene(seed))
    lit = np.clip(dark * gain + offset, 0, 255).astype(np.uint8)
    assert cut_score(dark, lit) < THRESHOLD


def test_a_dip_to_white_and_a_blank_are_cuts_without_any_structure():
    white = np.full((36, 64, 3), 250, np.uint8)
    dark_red = np.zeros((36, 64, 3), np.uint8)
    dark_red[..., 0] = 60
    assert cut_score(dark_red, white) >= THRESHOLD
    assert cut_score(white, white) == 0
