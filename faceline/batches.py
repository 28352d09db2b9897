"""Network calls of one size, so that a result never depends on what else was in the batch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def in_fixed_batches(items: np.ndarray, size: int, run: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Run a network over ``items`` in batches of exactly ``size``, the last one filled up with its first item.

    The libraries below choose other kernels for other sizes, and the last bits of a face would depend on how many
    others there are. What follows (UMAP) makes such bits visible.

    Args:
        items: ``[n, …]``, n at least 1.
        size: items per call.
        run: ``[size, …]`` → ``[size, …]``.

    Returns:
        The outputs of all items, ``[n, …]``.
    """
    outputs = []
    for start in range(0, len(items), size):
        batch = items[start : start + size]
        missing = size - len(batch)
        if missing:
            batch = np.concatenate([batch, np.repeat(batch[:1], missing, axis=0)])
        outputs.append(run(batch)[: size - missing])
    return np.concatenate(outputs)
