import itertools
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from faceline.anomaly.features import BLOCKS, FEATURE_SETS, build_blocks, principal_components, window_table
from faceline.anomaly.rows import MaskParams, people_rows
from faceline.blendshapes import BLENDSHAPES, DEAD_BLENDSHAPES
from faceline.stage import MemoryInputs

OPTIONS = {"window_s": 1.0, "min_coverage": 0.4}


def blocks_of(scene, features="all"):
    rows = people_rows(scene.inputs, MaskParams())[0]
    return rows, build_blocks(scene.inputs, rows, features)


def with_blendshapes(scene):
    """The same with scores of the 52 channels, all of them moving."""
    rows = scene.inputs.array("emote", "blendshapes").shape[0]
    weights = np.random.default_rng(0).uniform(0, 1, (rows, len(BLENDSHAPES))).astype(np.float32)
    return replace(scene, inputs=MemoryInputs({**scene.inputs.payloads, ("emote", "blendshapes"): weights}))


def with_column(scene, name, change):
    """The same with one column of the expressions replaced: `change` takes float64 [n] values and times."""
    table = scene.inputs.table("emote", "expressions")
    values = table[name].to_numpy().astype(np.float64)
    changed = pa.array(change(values, table["time_s"].to_numpy()), pa.float32())
    table = table.set_column(table.column_names.index(name), name, changed)
    return replace(scene, inputs=MemoryInputs({**scene.inputs.payloads, ("emote", "expressions"): table}))


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("features", FEATURE_SETS)
def test_every_set_has_its_blocks(make_scene, features, weights):
    scene = make_scene()
    rows, blocks = blocks_of(with_blendshapes(scene) if weights else scene, features)
    expected = tuple(name for name in BLOCKS[features] if weights or name != "blendshapes")
    assert tuple(b.name for b in blocks) == expected
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
    edges = np.cumsum([0, *(len(b.columns) for b in blocks)])
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


def test_dead_channels_are_left_out(make_scene):
    _, blocks = blocks_of(with_blendshapes(make_scene()), "expressions")
    (columns,) = (set(b.columns) for b in blocks if b.name == "blendshapes")
    assert columns == set(BLENDSHAPES) - DEAD_BLENDSHAPES


def test_window_means_say_where_a_face_is_and_dynamics_how_much_it_moves(make_scene):
    """From 20 to 24 s the mouth stays wider, from 40 to 44 s it twitches about its usual."""

    def change(values, time_s):
        wider = (time_s > 20) & (time_s < 24)
        twitching = (time_s > 40) & (time_s < 44)
        return values + 0.1 * wider + 0.1 * twitching * np.where(np.arange(len(values)) % 2, 1, -1)

    scene = with_column(make_scene(bursts=((),)), "mouth_width", change)
    moments = {}
    for features in ("expressions", "dynamics"):
        rows, blocks = blocks_of(scene, features)
        x, _ = window_table(blocks, rows, **OPTIONS)
        size = np.sqrt((x**2).mean(axis=1))
        at = {name: np.median(size[np.abs(rows.time_s - t) < 1]) for name, t in (("wider", 22), ("twitching", 42))}
        usual = np.median(size)
        moments[features] = {name: value / usual for name, value in at.items()}
    assert moments["expressions"]["wider"] > 1.5 > 1.25 > moments["expressions"]["twitching"]
    assert moments["dynamics"]["twitching"] > 1.5 > 1.25 > moments["dynamics"]["wider"]


def test_dynamics_have_speed_and_deviation_and_the_others_their_mean(make_scene):
    rows, blocks = blocks_of(make_scene(), "dynamics")
    x, _ = window_table(blocks, rows, **OPTIONS)
    assert x.shape == (600, 2 * len(blocks[0].columns))
    rows, blocks = blocks_of(make_scene(), "expressions")
    x, _ = window_table(blocks, rows, **OPTIONS)
    assert x.shape == (600, sum(len(b.columns) for b in blocks))


EYES = ("eye_opening_left", "eye_opening_right")
"""Rows 300 to 302, 30 to 30.2 s: shut in `blinking`; the lids' way takes a row on both sides."""


def blinking(make_scene, eyes, share=0.2):
    scene = make_scene(bursts=((),), measures=("mouth_opening", "mouth_width", *EYES))
    for name in eyes:
        scene = with_column(scene, name, lambda v, t: np.where((t > 29.95) & (t < 30.25), share * v, v))
    return with_blendshapes(scene)


def test_faces_of_blinks_are_missing_but_for_dynamics(make_scene):
    scene = blinking(make_scene, EYES)
    rows, blocks = blocks_of(scene, "expressions")
    assert {b.name for b in blocks} == {"emotions", "measures", "blendshapes"}
    for block in blocks:
        assert list(np.flatnonzero(~block.present)) == [299, 300, 301, 302, 303]
        assert np.isnan(block.x[299:304]).all()
    (dynamics,) = blocks_of(scene, "dynamics")[1]
    assert dynamics.present.all()
    # A blink is a hole in the window, not the end of it.
    assert np.isfinite(window_table(blocks, rows, **OPTIONS)[0]).all()


def test_a_wink_and_narrowed_eyes_are_kept(make_scene):
    for scene in (blinking(make_scene, EYES[:1]), blinking(make_scene, EYES, share=0.87)):
        assert all(b.present.all() for b in blocks_of(scene, "expressions")[1])
