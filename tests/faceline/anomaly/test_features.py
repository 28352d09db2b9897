import itertools

import numpy as np
import pytest

from faceline.anomaly.features import BLOCKS, FEATURE_SETS, build_blocks, principal_components, window_table
from faceline.anomaly.rows import MaskParams, people_rows

OPTIONS = {"window_s": 1.0, "min_coverage": 0.4}


def blocks_of(scene, features="all"):
    rows = people_rows(scene.inputs, MaskParams())[0]
    return rows, build_blocks(scene.inputs, rows, features)


@pytest.mark.parametrize("features", FEATURE_SETS)
def test_every_set_has_its_blocks(make_scene, features):
    rows, blocks = blocks_of(make_scene(), features)
    assert tuple(b.name for b in blocks) == BLOCKS[features]
    for block in blocks:
        assert block.x.shape == (len(rows), len(block.columns))
        np.testing.assert_array_equal(np.isfinite(block.x).all(axis=1), block.present)


def test_sparse_blocks_know_their_spacing_and_are_not_filled_in(make_scene):
    rows, blocks = blocks_of(make_scene())
    by_name = {b.name: b for b in blocks}
    assert by_name["measures"].interval_s == pytest.approx(0.1)
    assert by_name["embeddings"].interval_s == pytest.approx(0.5)
    assert by_name["components"].present.sum() == len(rows) // 5


def test_all_rows_between_embedded_faces_have_windows(make_scene):
    rows, blocks = blocks_of(make_scene(), "embeddings")
    x, _ = window_table(blocks, rows, window_s=0.5, min_coverage=0.4)
    assert np.isfinite(x).all()


def test_masked_rows_carry_nothing_and_have_no_window(make_scene):
    rows, blocks = blocks_of(make_scene(hidden_s=[(20.0, 20.65)]))
    assert not any(b.present[~rows.usable].any() for b in blocks)
    x, _ = window_table(blocks, rows, **OPTIONS)
    np.testing.assert_array_equal(np.isfinite(x).all(axis=1), np.isfinite(x).any(axis=1))
    assert np.isnan(x[~rows.usable]).all() and np.isfinite(x[rows.time_s < 19]).all()


def test_values_are_in_units_of_the_baseline(make_scene):
    _, blocks = blocks_of(make_scene(bursts=((),), duration_s=120), "expressions")
    for block in blocks:
        x = block.x[block.present]
        np.testing.assert_allclose(np.median(x, axis=0), 0, atol=1e-9)
        assert (np.abs(1.4826 * np.median(np.abs(x), axis=0) - 1) < 0.5).all()


def test_blocks_weigh_the_same_whatever_their_size(make_scene):
    rows, blocks = blocks_of(make_scene(bursts=((),), duration_s=120))
    x, _ = window_table(blocks, rows, **OPTIONS)
    edges = np.cumsum([0, *(3 * len(b.columns) for b in blocks)])
    squares = [np.nansum(x[:, a:b] ** 2) for a, b in itertools.pairwise(edges)]
    assert max(squares) < 2 * min(squares)


def test_a_burst_moves_its_own_window(make_scene):
    rows, blocks = blocks_of(make_scene(), "expressions")
    x, _ = window_table(blocks, rows, **OPTIONS)
    size = np.sqrt((x**2).mean(axis=1))
    assert abs(rows.time_s[np.nanargmax(size)] - np.array([12, 30, 47])).min() < 0.6


def test_a_block_that_a_person_lacks_is_left_out(make_scene):
    scene = make_scene()
    payloads = dict(scene.inputs.payloads)
    payloads["cluster", "components"] = np.full_like(payloads["cluster", "components"], np.nan)
    rows = people_rows(scene.inputs, MaskParams())[0]
    inputs = type(scene.inputs)(payloads)
    assert [b.name for b in build_blocks(inputs, rows, "all")] == ["emotions", "measures", "embeddings"]
    assert build_blocks(inputs, rows, "components") == []


def test_principal_components_find_the_direction_whatever_the_sign():
    rng = np.random.default_rng(0)
    direction = np.array([0.6, 0.0, 0.8])
    x = np.outer(rng.standard_normal(200), direction) + 0.01 * rng.standard_normal((200, 3)) + 7.0
    one, two = principal_components(x, 2), principal_components(np.flipud(x), 2)
    np.testing.assert_allclose(one, np.flipud(two), atol=1e-9)
    assert one.shape == (200, 2) and one[:, 0].std() > 50 * one[:, 1].std()
