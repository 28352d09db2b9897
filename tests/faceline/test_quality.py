"""Quality: one figure that falls with blur, dark, distance and turn, and hardly with the light's level alone."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceline.quality import CropStatistics, crop_statistics, quality

GOOD = CropStatistics(sharpness=0.03, luma_mean=120.0, contrast=40.0)


@pytest.fixture(scope="module")
def crop() -> np.ndarray:
    """A picture with detail of all sizes, [160, 160, 3]."""
    rng = np.random.default_rng(0)
    layers = [
        cv2.resize(rng.normal(0, 1, (n, n)), (160, 160), interpolation=cv2.INTER_CUBIC) for n in (5, 10, 20, 40, 80)
    ]
    gray = 120 + 22 * sum(layer / (2**i) for i, layer in enumerate(layers))
    return np.repeat(np.clip(gray, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def test_sharpness_falls_with_blur(crop: np.ndarray) -> None:
    values = [crop_statistics(crop).sharpness]
    values += [crop_statistics(cv2.GaussianBlur(crop, (0, 0), sigma)).sharpness for sigma in (1.0, 2.0, 4.0)]
    assert all(a > 1.3 * b for a, b in pairwise(values))


def test_sharpness_hardly_depends_on_light(crop: np.ndarray) -> None:
    dim = (crop * 0.5).astype(np.uint8)
    bright = np.clip(crop.astype(int) + 30, 0, 255).astype(np.uint8)
    for other in (dim, bright):
        assert crop_statistics(other).sharpness == pytest.approx(crop_statistics(crop).sharpness, rel=0.1)
    assert crop_statistics(dim).luma_mean == pytest.approx(crop_statistics(crop).luma_mean / 2, abs=1)
    assert crop_statistics(dim).contrast == pytest.approx(crop_statistics(crop).contrast / 2, rel=0.05)


def test_a_blank_crop_has_no_sharpness_and_no_quality() -> None:
    statistics = crop_statistics(np.full((160, 160, 3), 90, np.uint8))
    assert statistics.sharpness == 0 and statistics.contrast == 0 and statistics.luma_mean == 90
    assert quality(statistics, 100.0, 0.0, 0.0) == 0


@given(
    sharpness=st.floats(0, 1),
    contrast=st.floats(0, 128),
    eyes_px=st.floats(0, 2000),
    yaw=st.floats(-180, 180),
    pitch=st.floats(-90, 90),
)
def test_quality_lies_between_0_and_1(
    sharpness: float, contrast: float, eyes_px: float, yaw: float, pitch: float
) -> None:
    assert 0 <= quality(CropStatistics(sharpness, 100.0, contrast), eyes_px, yaw, pitch) <= 1


def test_a_good_face_has_full_quality_and_one_bad_part_spoils_it() -> None:
    assert quality(GOOD, 80.0, 5.0, -8.0) == pytest.approx(1.0)
    assert quality(GOOD, 8.0, 0.0, 0.0) == 0
    assert quality(GOOD, 80.0, 80.0, 0.0) == 0
    assert quality(CropStatistics(0.001, 120.0, 40.0), 80.0, 0.0, 0.0) == 0
    assert quality(CropStatistics(0.03, 5.0, 4.0), 80.0, 0.0, 0.0) == 0


def test_quality_is_the_geometric_mean_of_its_parts() -> None:
    # Halfway on the ramp of the size (12…60 px) alone: (1/2)^(1/4).
    assert quality(GOOD, 36.0, 0.0, 0.0) == pytest.approx(0.5**0.25)
    # Halfway on the turn's (25°…75°) too; yaw and pitch add up on the sphere.
    assert quality(GOOD, 36.0, 50.0, 0.0) == pytest.approx(0.25**0.25)
    assert quality(GOOD, 36.0, 0.0, -50.0) == pytest.approx(0.25**0.25)


def test_an_unknown_turn_or_size_counts_as_bad() -> None:
    assert quality(GOOD, 80.0, float("nan"), 0.0) == 0
    assert quality(GOOD, float("nan"), 0.0, 0.0) == 0
