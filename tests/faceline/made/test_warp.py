"""Grids: mixing, inversion, and maps per pixel."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceline.made.fields import face_fields
from faceline.made.landmarks import FaceFrame
from faceline.made.motion import ACTIONS
from faceline.made.portrait import PORTRAITS
from faceline.made.warp import Basis, BlockNodes


@functools.cache
def face_basis() -> Basis:
    portrait = PORTRAITS["astronaut"]
    marks = portrait.landmarks_px * 2
    frame = FaceFrame.of(marks)
    fields = face_fields(marks, portrait.lid_room)
    low, high = marks[:468, :2].min(axis=0) - 60, marks[:468, :2].max(axis=0) + 80
    return Basis.of({**fields.common, **fields.upper}, frame, marks, np.concatenate([low, high]), 4)


@pytest.fixture
def basis() -> Basis:
    return face_basis()


def test_mix_is_the_weighted_sum(basis: Basis) -> None:
    weights = {basis.channels[0]: 0.1, basis.channels[3]: -0.05, "unknown": 1.0}
    expected = np.float32(0.1) * basis.grid[0] + np.float32(-0.05) * basis.grid[3]
    np.testing.assert_array_equal(basis.mix(weights), expected)
    np.testing.assert_allclose(basis.mix_points(weights), 0.1 * basis.points[0] - 0.05 * basis.points[3])
    assert not basis.mix({}).any()


def test_sample_is_zero_outside(basis: Basis) -> None:
    outside = np.array([[[-500.0, -500.0], [5000.0, 5000.0]]], np.float32)
    assert not basis.sample(np.ones((*basis.grid.shape[1:3], 2), np.float32), outside).any()


def test_sample_meets_the_nodes(basis: Basis) -> None:
    grid = basis.grid[5]
    rows, columns = np.mgrid[3:9, 4:12]
    at = np.stack([columns, rows], axis=-1).astype(np.float32) * basis.step_px + basis.origin_px
    np.testing.assert_allclose(basis.sample(grid, at), grid[3:9, 4:12], atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(kind=st.sampled_from(sorted(ACTIONS)), strength=st.floats(0.1, 1.2), where=st.integers(0, 1000))
def test_inverse_leads_back(kind: str, strength: float, where: int) -> None:
    """p + displacement(p) is the target again, to a tenth of a pixel, for every burst."""
    basis = face_basis()
    displacement = basis.mix({channel: strength * amount for channel, amount in ACTIONS[kind].items()})
    rng = np.random.default_rng(where)
    size = (np.array(displacement.shape[1::-1]) - 1) * basis.step_px
    targets = (basis.origin_px + rng.uniform(0.05, 0.95, (40, 40, 2)) * size).astype(np.float32)
    points = basis.invert(displacement, targets)
    error = points + basis.sample(displacement, points) - targets
    assert np.percentile(np.abs(error), 99) < 0.1
    assert np.abs(error).max() < 0.3


def test_inverse_of_nothing_is_nothing(basis: Basis) -> None:
    targets = np.zeros((3, 3, 2), np.float32)
    assert basis.invert(basis.mix({}), targets) is targets


@given(width=st.integers(10, 90), height=st.integers(10, 90), data=st.data())
@settings(max_examples=40, deadline=None)
def test_maps_per_pixel_are_exact_for_affine_maps(width: int, height: int, data: st.DataObject) -> None:
    nodes = BlockNodes(width, height, 4)
    turn = np.array([[1.1, 0.2], [-0.1, 0.9]], np.float32)
    shift = np.array([3.5, -7.25], np.float32)
    x0 = data.draw(st.integers(0, width - 1))
    y0 = data.draw(st.integers(0, height - 1))
    x1, y1 = data.draw(st.integers(x0 + 1, width)), data.draw(st.integers(y0 + 1, height))
    mapped = nodes.per_pixel(nodes.positions_px @ turn + shift, (x0, y0, x1, y1))
    pixels = np.stack(np.meshgrid(np.arange(x0, x1), np.arange(y0, y1)), axis=-1)
    np.testing.assert_allclose(mapped, pixels @ turn + shift, atol=2e-3)


def test_halved_nodes_are_the_nodes_of_half_the_size() -> None:
    coarse, fine = BlockNodes(101, 67, 8), BlockNodes(101, 67, 4)
    np.testing.assert_allclose(coarse.halved(coarse.positions_px), fine.positions_px, atol=1e-3)


def test_window_covers_its_box() -> None:
    nodes = BlockNodes(200, 120, 4)
    rows, columns = nodes.window((30.0, 20.0, 90.0, 70.0))
    inside = nodes.positions_px[rows, columns]
    assert inside[0, 0, 0] <= 30 and inside[0, 0, 1] <= 20
    assert inside[-1, -1, 0] >= 90 and inside[-1, -1, 1] >= 70
    assert inside.size < nodes.positions_px.size / 3
    rows, columns = nodes.window((500.0, 500.0, 600.0, 600.0))
    assert nodes.positions_px[rows, columns].size == 0
