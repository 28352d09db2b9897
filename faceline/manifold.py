"""UMAP (McInnes, Healy and Melville 2018) for some thousand points, in plain NumPy.

The same graph as umap-learn and the same stochastic gradient descent, for exact neighbours, Euclidean distance and an
initial layout by principal components. It exists because umap-learn compiles itself anew in every process: 25 s of
one core before the first point is laid out, where the layout itself takes a second or two. The tests hold
graph and layout against umap-learn's.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

# Curve 1 / (1 + a·d^(2b)) fitted by umap-learn to min_dist = 0.1, spread = 1.
_A, _B = 1.5769434603113077, 0.8950608779109733
_NEGATIVES = 5
_GRADIENT_LIMIT = 4.0
# umap-learn takes 500 for few points; more than 200 changed neither the kept neighbours nor the spread here.
_EPOCHS = 200
_TINY = np.float32(1e-12)
# Made once: thousands of small steps are taken.
_ONE, _NEAR, _CURVE = np.float32(1.0), np.float32(0.001), np.float32(_A)
_PULL, _PULL_POWER = np.float32(-2.0 * _A * _B), np.float32(_B - 1.0)
_PUSH, _PUSH_POWER = np.float32(2.0 * _B), np.float32(_B)


@dataclass(frozen=True)
class Graph:
    """Fuzzy neighbour graph: undirected edges, each once, with weight in 0..1.

    Attributes:
        points: number of points.
        low, high: int64 [e], the edge's ends, low < high.
        weight: float64 [e].
    """

    points: int
    low: np.ndarray
    high: np.ndarray
    weight: np.ndarray


def nearest(points: np.ndarray, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Exact nearest neighbours by Euclidean distance, nearest first, the earlier point of equals first.

    Returns:
        indices int64 [q, count] into ``points`` and distances float64 [q, count].
    """
    points, queries = points.astype(np.float64), queries.astype(np.float64)
    squared = np.einsum("ij,ij->i", points, points)
    indices = np.empty((len(queries), count), np.int64)
    distances = np.empty((len(queries), count), np.float64)
    block = max(1, 4_000_000 // max(len(points), 1))
    for start in range(0, len(queries), block):
        part = queries[start : start + block]
        rough = squared[None, :] - 2.0 * part @ points.T
        found = np.argsort(rough, axis=1, kind="stable")[:, :count]
        # The expanded square loses digits just where they matter, between near points.
        exact = np.linalg.norm(points[found] - part[:, None, :], axis=2)
        order = np.lexsort((found, exact), axis=1)
        indices[start : start + block] = np.take_along_axis(found, order, axis=1)
        distances[start : start + block] = np.take_along_axis(exact, order, axis=1)
    return indices, distances


def fuzzy_graph(points: np.ndarray, neighbours: int) -> Graph:
    """UMAP's fuzzy simplicial set of the points.

    Args:
        points: float [n, d].
        neighbours: neighbours per point, the point itself counted, as umap-learn counts them; 2 to n.
    """
    count = len(points)
    indices, distances = nearest(points, points, neighbours)
    distances[indices == np.arange(count)[:, None]] = 0.0
    # Among duplicates a point need not be its own first neighbour; everywhere else it is.
    nonzero = np.where(distances > 0, distances, np.inf)
    rho = nonzero.min(axis=1)
    rho = np.where(np.isfinite(rho), rho, 0.0)
    sigma = _bandwidth(distances, rho, np.log2(neighbours))
    excess = np.maximum(distances - rho[:, None], 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        strength = np.where(excess <= 0, 1.0, np.exp(-excess / sigma[:, None]))
    directed = np.zeros((count, count))
    directed[np.repeat(np.arange(count), neighbours), indices.ravel()] = strength.ravel()
    np.fill_diagonal(directed, 0.0)
    union = directed + directed.T - directed * directed.T
    low, high = np.nonzero(np.triu(union, 1))
    return Graph(count, low, high, union[low, high])


def layout(points: np.ndarray, graph: Graph, dimensions: int, seed: int) -> np.ndarray:
    """Coordinates in which near points stay near: float32 [n, dimensions]; the same bytes for the same arguments.

    umap-learn's gradient descent, edge by edge, with one difference in order: edges are visited in classes without a
    common end, so that a class can be moved in one step with the same result as one edge after the other.
    """
    random = np.random.default_rng(seed)
    position = _principal_components(points, dimensions)
    position = (position * (10.0 / max(np.abs(position).max(), 1e-12))).astype(np.float32)
    position += random.normal(scale=1e-4, size=position.shape).astype(np.float32)
    if len(graph.weight) == 0:
        return position
    strong = graph.weight >= graph.weight.max() / _EPOCHS
    low, high, weight = graph.low[strong], graph.high[strong], graph.weight[strong]
    colour = _edge_colours(graph.points, low, high)
    order = np.argsort(colour, kind="stable")
    low, high, colour = low[order], high[order], colour[order]
    period = (weight.max() / weight)[order]  # An edge of weight w is visited every max/w epochs.
    due = period.copy()
    for epoch in range(_EPOCHS):
        rate = np.float32(1.0 - epoch / _EPOCHS)
        active = np.flatnonzero(due <= epoch)
        due[active] += period[active]
        others = random.integers(graph.points, size=(_NEGATIVES, 2 * len(active)), dtype=np.int32)
        stops = np.searchsorted(colour[active], np.arange(colour[-1] + 2)).tolist()
        lows, highs = low[active], high[active]
        for start, stop in itertools.pairwise(stops):
            if start < stop:
                _move(position, lows[start:stop], highs[start:stop], others[:, 2 * start : 2 * stop], rate)
    return position


def place(points: np.ndarray, position: np.ndarray, queries: np.ndarray, neighbours: int) -> np.ndarray:
    """Coordinates for further points: the mean of their nearest neighbours' coordinates, weighted as in the graph.

    This is where umap-learn's ``transform`` starts from. A query that equals a point gets that point's coordinates.
    """
    indices, distances = nearest(points, queries, neighbours)
    rho = distances[:, 0]
    sigma = _bandwidth(distances, rho, np.log2(neighbours))
    with np.errstate(divide="ignore", invalid="ignore"):
        excess = distances - rho[:, None]
        strength = np.where(excess <= 0, 1.0, np.exp(-excess / sigma[:, None]))
    strength = np.where((rho == 0)[:, None], distances == 0, strength)
    strength /= strength.sum(axis=1, keepdims=True)
    return np.einsum("qk,qkd->qd", strength, position[indices].astype(np.float64)).astype(np.float32)


def _bandwidth(distances: np.ndarray, rho: np.ndarray, target: float) -> np.ndarray:
    """sigma [n] with Σ exp(−max(0, d − rho) / sigma) = target over the neighbours but the first, by bisection."""
    excess = np.maximum(distances[:, 1:] - rho[:, None], 0.0)
    low = np.zeros(len(distances))
    high = np.full(len(distances), np.inf)
    sigma = np.ones(len(distances))
    for _ in range(64):
        total = np.exp(-excess / sigma[:, None]).sum(axis=1)
        above = total > target
        high = np.where(above, sigma, high)
        low = np.where(above, low, sigma)
        sigma = np.where(np.isinf(high), sigma * 2, (low + high) / 2)
        sigma = np.maximum(sigma, 1e-300)
    # A floor, so that a point amid duplicates still has neighbours.
    return np.maximum(sigma, 1e-3 * np.where(rho > 0, distances.mean(axis=1), distances.mean()))


def _principal_components(points: np.ndarray, dimensions: int) -> np.ndarray:
    """Scores float64 [n, dimensions]; the sign is set by the largest loading, zeros beyond the rank."""
    centred = points.astype(np.float64) - points.mean(axis=0, dtype=np.float64)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:dimensions]
    axes = axes * np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]
    scores = np.zeros((len(points), dimensions))
    scores[:, : len(axes)] = centred @ axes.T
    return scores


def _edge_colours(points: int, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """int64 [e]: edges of one colour share no end. Greedy: each edge takes the first colour free at both ends."""
    used = [0] * points
    colours = np.empty(len(low), np.int64)
    for edge, (a, b) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
        taken = used[a] | used[b]
        bit = ~taken & (taken + 1)
        used[a] |= bit
        used[b] |= bit
        colours[edge] = bit.bit_length() - 1
    return colours


def _move(position: np.ndarray, low: np.ndarray, high: np.ndarray, others: np.ndarray, rate: np.float32) -> None:
    """Pull the ends of the edges together, once from either end, and push both ends from ``others``; in place.

    Args:
        position: float32 [n, k].
        low, high: ends of m edges that share none.
        others: int [negatives, 2m], for each of the low and then the high ends the points to push it from.
        rate: factor of all steps.
    """
    for _ in range(2):
        apart = position.take(low, axis=0)
        apart -= position.take(high, axis=0)
        squared = np.einsum("ij,ij->i", apart, apart) + _TINY
        shared = squared**_PULL_POWER
        pull = _PULL * shared / (_CURVE * shared * squared + _ONE)
        apart *= pull[:, None]
        _limit(apart)
        apart *= rate
        position[low] += apart
        position[high] -= apart
    ends = np.concatenate([low, high])
    here = position.take(ends, axis=0)
    apart = here - position.take(others, axis=0)
    squared = np.einsum("nij,nij->ni", apart, apart)
    push = _PUSH / ((_NEAR + squared) * (_CURVE * squared**_PUSH_POWER + _ONE))
    apart *= push[:, :, None]  # A point is never pushed from itself: that difference is zero.
    _limit(apart)
    position[ends] = here + rate * apart.sum(axis=0)


def _limit(step: np.ndarray) -> None:
    """Keep each coordinate of a step within the limit, in place; `numpy.clip` costs as much again in Python."""
    np.minimum(step, _GRADIENT_LIMIT, out=step)
    np.maximum(step, -_GRADIENT_LIMIT, out=step)
