"""Isolation Forest (Liu, Ting & Zhou, ICDM 2008), all trees grown and walked at once.

Scikit-learn grows one Python object per tree; for the windows of one face, that overhead is most of the time of a grid
search that fits a forest four times per trial. Here a forest is three arrays, one row per tree and one column per node
of a complete binary tree (children of node i at 2i + 1 and 2i + 2), and a level of all trees is one step. Scores follow
the same formula and rank as scikit-learn's (a test compares them).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

REDRAWS = 8
"""How often a node whose drawn feature is constant draws another before it becomes a leaf."""


@dataclass(frozen=True)
class Forest:
    """A grown forest.

    Attributes:
        feature: int32 [trees, nodes], the column that a node compares; −1 at leaves.
        threshold: float64 [trees, nodes]; a row goes left when its value is at most this.
        length: float64 [trees, nodes], path length of rows that end in this leaf, the expected rest included.
        levels: number of comparisons on the longest path.
        usual_length: expected path length in a tree of that many rows; it normalises.
    """

    feature: np.ndarray
    threshold: np.ndarray
    length: np.ndarray
    levels: int
    usual_length: float

    @classmethod
    def grow(cls, x: np.ndarray, *, trees: int, max_samples: int, max_features: float, seed: int) -> Forest:
        """Grow `trees` trees on samples (without replacement) of at most `max_samples` rows of x float64 [n, d]."""
        rng = np.random.default_rng(seed)
        n, d = x.shape
        size = min(max_samples, n)
        levels = max(1, int(np.ceil(np.log2(max(size, 2)))))
        rows = np.stack([rng.choice(n, size, replace=False, shuffle=False) for _ in range(trees)])
        width = max(1, round(max_features * d))
        pools = np.stack([rng.choice(d, width, replace=False) for _ in range(trees)])
        nodes = 2 ** (levels + 1) - 1
        feature = np.full((trees, nodes), -1, dtype=np.int32)
        threshold = np.zeros((trees, nodes))
        length = np.zeros((trees, nodes))
        tree = np.repeat(np.arange(trees), size)
        row = rows.ravel()
        node = np.zeros(trees * size, dtype=np.int64)
        for level in range(levels + 1):
            first, count = 2**level - 1, 2**level
            cell = tree * count + node - first
            rows_in = np.bincount(cell, minlength=trees * count)
            split = (rows_in > 1) & (level < levels)
            drawn = np.full(trees * count, -1, dtype=np.int64)
            low, high = np.zeros(trees * count), np.zeros(trees * count)
            for _ in range(REDRAWS):
                if not split.any():
                    break
                todo = split & (low >= high)
                if not todo.any():
                    break
                drawn[todo] = pools[np.flatnonzero(todo) // count, rng.integers(width, size=int(todo.sum()))]
                here = todo[cell]
                value = x[row[here], drawn[cell[here]]]
                low[todo], high[todo] = np.inf, -np.inf
                np.minimum.at(low, cell[here], value)
                np.maximum.at(high, cell[here], value)
            split &= low < high
            at = np.where(split, low + rng.random(trees * count) * (high - low), 0.0)
            at = np.where(at >= high, low, at)  # rounding must not leave the right side empty
            block = slice(first, first + count)
            feature[:, block] = np.where(split, drawn, -1).reshape(trees, count)
            threshold[:, block] = at.reshape(trees, count)
            length[:, block] = (level + expected_length(rows_in)).reshape(trees, count)
            on = split[cell]
            tree, row, node, cell = tree[on], row[on], node[on], cell[on]
            node = 2 * node + 1 + (x[row, drawn[cell]] > at[cell])
        return cls(feature, threshold, length, levels, float(expected_length(np.array([size]))[0]))

    def score(self, x: np.ndarray) -> np.ndarray:
        """Anomaly score 2^(−mean path / usual path) float64 [n] in (0, 1); about 0.5 is usual, higher is unusual."""
        out = np.empty(len(x))
        trees = np.arange(len(self.feature))[:, None]
        for i in range(0, len(x), 2048):
            part = x[i : i + 2048]
            columns = np.arange(len(part))[None, :]
            node = np.zeros((len(self.feature), len(part)), dtype=np.int64)
            for _ in range(self.levels):
                feature = self.feature[trees, node]
                right = part[columns, np.maximum(feature, 0)] > self.threshold[trees, node]
                node = np.where(feature >= 0, 2 * node + 1 + right, node)
            out[i : i + 2048] = self.length[trees, node].mean(axis=0)
        return np.asarray(np.exp2(-out / max(self.usual_length, 1e-9))) if self.usual_length else np.full(len(x), 0.5)


def expected_length(rows: np.ndarray) -> np.ndarray:
    """Expected path length of an unsuccessful search in a binary tree of that many rows (Liu et al., equation 1)."""
    rows = np.asarray(rows, dtype=np.float64)
    more = np.maximum(rows, 3.0)
    harmonic = np.log(more - 1.0) + np.euler_gamma
    return np.asarray(np.where(rows > 2, 2.0 * harmonic - 2.0 * (more - 1.0) / more, np.where(rows == 2, 1.0, 0.0)))
