"""Isolation Forest (Liu, Ting & Zhou, ICDM 2008), all trees grown and walked at once.

Scikit-learn grows one Python object per tree; for the windows of one face, that overhead is most of the time of a grid
search that fits a forest four times per trial. Here a forest is three arrays, one row per tree and one column per node
of a complete binary tree (children of node i at 2i + 1 and 2i + 2), and a level of all trees is one step. Scores follow
the same formula and rank as scikit-learn's (a test compares them).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_BATCH = 256
"""Rows that walk down all trees at once: few enough for a processor's cache."""

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
        rest = expected_length(np.arange(size + 1))
        values = np.ascontiguousarray(x).ravel()
        # The rows of all trees that have not come to a leaf, as offsets into `values`; those of one node lie together.
        row = rows.ravel() * d
        cell = np.repeat(np.arange(trees), size)
        for level in range(levels + 1):
            first, count = 2**level - 1, 2**level
            rows_in = np.bincount(cell, minlength=trees * count)
            split = (rows_in > 1) & (level < levels)
            drawn = np.full(trees * count, -1, dtype=np.int64)
            low, high = np.zeros(trees * count), np.zeros(trees * count)
            value = np.zeros(len(row))
            for _ in range(REDRAWS):
                todo = split & (low >= high)
                if not todo.any():
                    break
                nodes_in = np.flatnonzero(todo)
                drawn[nodes_in] = pools[nodes_in // count, rng.integers(width, size=len(nodes_in))]
                here = np.flatnonzero(todo.take(cell))
                cell_here = cell.take(here)
                value[here] = part = values.take(row.take(here) + drawn.take(cell_here))
                starts = np.flatnonzero(np.diff(cell_here, prepend=-1))
                changed = cell_here[starts]
                low[changed], high[changed] = np.minimum.reduceat(part, starts), np.maximum.reduceat(part, starts)
            split &= low < high
            at = np.where(split, low + rng.random(trees * count) * (high - low), 0.0)
            at = np.where(at >= high, low, at)  # rounding must not leave the right side empty
            block = slice(first, first + count)
            feature[:, block] = np.where(split, drawn, -1).reshape(trees, count)
            threshold[:, block] = at.reshape(trees, count)
            length[:, block] = (level + rest.take(rows_in)).reshape(trees, count)
            goes_on = split.take(cell)
            above = value > at.take(cell)
            left, right = np.flatnonzero(goes_on & ~above), np.flatnonzero(goes_on & above)
            # First all that go left, then all that go right: those of one node stay together.
            row = row.take(np.concatenate([left, right]))
            cell = np.concatenate([2 * cell.take(left), 2 * cell.take(right) + 1])
        return cls(feature, threshold, length, levels, float(expected_length(np.array([size]))[0]))

    def score(self, x: np.ndarray) -> np.ndarray:
        """Anomaly score 2^(−mean path / usual path) float64 [n] in (0, 1); about 0.5 is usual, higher is unusual."""
        if not self.usual_length:
            return np.full(len(x), 0.5)
        feature, threshold, length = self._unbroken()
        trees, nodes = length.shape
        first = (np.arange(trees) * nodes)[:, None]
        values, d = np.ascontiguousarray(x).ravel(), x.shape[1]
        out = np.empty(len(x))
        for i in range(0, len(x), _BATCH):
            at = (np.arange(i, min(i + _BATCH, len(x))) * d)[None, :]
            node = np.zeros((trees, at.shape[1]), dtype=np.int64)
            for _ in range(self.levels):
                here = node + first
                right = values.take(at + feature.take(here)) > threshold.take(here)
                node *= 2
                node += 1
                node += right
            out[i : i + _BATCH] = length.take(node + first).mean(axis=0)
        return np.asarray(np.exp2(-out / max(self.usual_length, 1e-9)))

    def _unbroken(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """feature, threshold, length of the same forest with all leaves brought down to the lowest level, to the left,
        so that every row takes as many steps."""
        feature = np.maximum(self.feature, 0).astype(np.int64)
        threshold = np.where(self.feature >= 0, self.threshold, np.inf)
        length, leaf = self.length.copy(), self.feature < 0
        for level in range(self.levels):
            parents = slice(2**level - 1, 2 ** (level + 1) - 1)
            left = slice(2 ** (level + 1) - 1, 2 ** (level + 2) - 1, 2)
            length[:, left] = np.where(leaf[:, parents], length[:, parents], length[:, left])
            leaf[:, left] |= leaf[:, parents]
        return feature, threshold, length


def expected_length(rows: np.ndarray) -> np.ndarray:
    """Expected path length of an unsuccessful search in a binary tree of that many rows (Liu et al., equation 1)."""
    rows = np.asarray(rows, dtype=np.float64)
    more = np.maximum(rows, 3.0)
    harmonic = np.log(more - 1.0) + np.euler_gamma
    return np.asarray(np.where(rows > 2, 2.0 * harmonic - 2.0 * (more - 1.0) / more, np.where(rows == 2, 1.0, 0.0)))
