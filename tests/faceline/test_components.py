"""Components: UMAP's graph as umap-learn makes it, a layout that keeps neighbours, the same bytes every time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceline.components import ComponentParams, components_of
from faceline.manifold import Graph, _edge_colours, fuzzy_graph, layout, nearest, place

# Upper triangles of umap-learn 0.5.12's fuzzy_simplicial_set(POINTS, k, RandomState(0), "euclidean").
GRAPHS = {
    4: [
        0.3167, 0.4969, 0.7631, 1.0, 0.0, 0.0, 0.0, 0.5448, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.6833, 0.0, 1.0,
        0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.5002, 1.0, 0.0, 0.4998, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0,
        0.0, 0.0, 0.0, 0.0, 0.0, 0.4551, 0.3854, 0.0, 0.0, 0.0, 1.0, 0.0, 0.6146, 0.5, 0.5, 0.0, 0.0, 0.0,
        1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0,
    ],
    12: [
        0.4512, 0.7611, 0.8596, 1.0, 0.3496, 0.0611, 0.2909, 0.754, 0.4492, 0.1997, 0.1997, 0.3841, 0.107,
        0.3023, 0.7676, 0.1266, 1.0, 0.1679, 0.134, 0.365, 0.365, 0.5912, 1.0, 0.4469, 0.4653, 0.6457, 1.0,
        0.2894, 0.6992, 0.6992, 1.0, 0.3719, 0.0585, 0.227, 0.334, 1.0, 0.2498, 0.2498, 0.5409, 0.2017,
        0.5091, 0.6501, 0.5916, 0.5201, 0.5201, 0.1706, 1.0, 0.1168, 0.7977, 0.7216, 0.7216, 0.5162, 0.2602,
        0.0285, 1.0, 1.0, 0.2331, 0.2919, 1.0, 1.0, 0.0682, 0.245, 0.245, 0.2494, 0.2494, 1.0,
    ],
}  # fmt: skip


def _points() -> np.ndarray:
    points = np.round(np.random.RandomState(0).normal(size=(12, 3)), 3).astype(np.float32)
    points[11] = points[10]  # duplicates are the hard case of the bandwidth search
    return points


def _blobs(count: int = 240, groups: int = 6) -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(groups, 32))
    return (centres[np.arange(count) % groups] + 0.25 * rng.normal(size=(count, 32))).astype(np.float32)


def _helix() -> np.ndarray:
    rng = np.random.default_rng(1)
    t = np.linspace(0, 1, 300)
    noise = 0.05 * rng.normal(size=(300, 10))
    return np.column_stack([np.sin(7 * t), np.cos(7 * t), 3 * t, noise]).astype(np.float32)


def _kept_neighbours(points: np.ndarray, position: np.ndarray, count: int = 10) -> float:
    """Trustworthiness (Venna and Kaski 2001) by its definition: 1 = nobody new among the nearest in the layout."""
    n = len(points)
    far = np.linalg.norm(points[:, None] - points[None], axis=2)
    rank = np.argsort(np.argsort(far, axis=1), axis=1)
    near = np.argsort(np.linalg.norm(position[:, None] - position[None], axis=2), axis=1)[:, 1 : count + 1]
    excess = np.maximum(np.take_along_axis(rank, near, axis=1) - count, 0).sum()
    return float(1 - 2 * excess / (n * count * (2 * n - 3 * count - 1)))


@pytest.mark.parametrize("neighbours", sorted(GRAPHS))
def test_the_graph_is_umap_learns(neighbours: int) -> None:
    graph = fuzzy_graph(_points(), neighbours)
    dense = np.zeros((12, 12))
    dense[graph.low, graph.high] = graph.weight
    assert dense[np.triu_indices(12, 1)] == pytest.approx(GRAPHS[neighbours], abs=1e-4)


def test_nearest_is_exact() -> None:
    points, queries = _blobs(50), _blobs(70)[50:]
    indices, distances = nearest(points, queries, 7)
    every = np.linalg.norm(points[None].astype(float) - queries[:, None].astype(float), axis=2)
    assert np.allclose(distances, np.sort(every, axis=1)[:, :7])
    assert np.allclose(np.take_along_axis(every, indices, axis=1), distances)


# umap-learn's own layouts keep 0.973 (blobs, 3 components) and 0.997 (helix, 2) of the neighbours.
@pytest.mark.parametrize(("points", "dimensions", "least"), [(_blobs(), 3, 0.968), (_helix(), 2, 0.995)])
def test_the_layout_keeps_neighbours_as_well_as_umap_learns(points: np.ndarray, dimensions: int, least: float) -> None:
    position = layout(points, fuzzy_graph(points, 15), dimensions, seed=0)
    assert position.shape == (len(points), dimensions) and position.dtype == np.float32
    assert _kept_neighbours(points, position) > least
    assert _kept_neighbours(points, np.random.default_rng(0).normal(size=position.shape)) < 0.6


def test_groups_end_up_apart() -> None:
    points = _blobs(120, groups=3)
    position = layout(points, fuzzy_graph(points, 10), 2, seed=0)
    group = np.arange(120) % 3
    centres = np.array([position[group == g].mean(axis=0) for g in range(3)])
    within = max(np.linalg.norm(position[group == g] - centres[g], axis=1).max() for g in range(3))
    between = min(np.linalg.norm(centres[a] - centres[b]) for a in range(3) for b in range(a))
    assert between > 2 * within


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    points = _blobs(60)
    graph = fuzzy_graph(points, 10)
    first = layout(points, graph, 3, seed=0)
    assert first.tobytes() == layout(points, graph, 3, seed=0).tobytes()
    assert first.tobytes() != layout(points, graph, 3, seed=1).tobytes()


@settings(max_examples=60, deadline=None)
@given(edges=st.sets(st.tuples(st.integers(0, 15), st.integers(0, 15)).filter(lambda e: e[0] < e[1]), max_size=60))
def test_edges_of_one_colour_share_no_end(edges: set[tuple[int, int]]) -> None:
    low, high = (np.array([edge[i] for edge in sorted(edges)], np.int64) for i in (0, 1))
    colours = _edge_colours(16, low, high)
    for colour in set(colours.tolist()):
        ends = np.concatenate([low[colours == colour], high[colours == colour]])
        assert len(set(ends.tolist())) == len(ends)


def test_a_further_point_is_placed_among_its_neighbours() -> None:
    points = _blobs(120, groups=3)
    position = layout(points, fuzzy_graph(points, 10), 2, seed=0)
    assert np.array_equal(place(points, position, points[:5], 10), position[:5])
    further = _blobs(150, groups=3)[120:]
    placed = place(points, position, further, 10)
    for i, spot in enumerate(placed):
        nearest_group = np.argmin(np.linalg.norm(position - spot, axis=1)) % 3
        assert nearest_group == i % 3


def test_a_graph_without_edges_leaves_the_first_layout() -> None:
    none = np.empty(0, np.int64)
    assert np.isfinite(layout(_blobs(8), Graph(8, none, none, np.empty(0)), 2, seed=0)).all()


@pytest.mark.parametrize("count", [0, 1, 4, 9])
def test_too_few_faces_have_no_components(count: int) -> None:
    result = components_of(_blobs(240)[:count], ComponentParams())
    assert result.shape == (count, 3) and result.dtype == np.float32
    assert np.isnan(result).all()


@pytest.mark.parametrize("count", [10, 14, 15, 16, 40])
def test_enough_faces_have_all_their_components(count: int) -> None:
    result = components_of(_blobs(240)[:count], ComponentParams(components=4))
    assert result.shape == (count, 4)
    assert np.isfinite(result).all()


def test_faces_that_are_all_the_same_have_finite_components() -> None:
    assert np.isfinite(components_of(np.ones((20, 8), np.float32), ComponentParams())).all()


def test_of_very_many_faces_an_even_part_is_laid_out_and_the_rest_placed() -> None:
    points = _blobs(240, groups=3)
    params = ComponentParams(components=2, components_max_faces=60)
    result = components_of(points, params)
    assert np.isfinite(result).all()
    assert _kept_neighbours(points, result) > 0.85
    assert result.tobytes() == components_of(points, params).tobytes()
