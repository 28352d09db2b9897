"""Network calls of one size, side by side, so that a result depends neither on the batch nor on the threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_fixed_batches(
    items: np.ndarray, size: int, run: Callable[[np.ndarray], np.ndarray], threads: int = 1
) -> np.ndarray:
    """Run a network over ``items`` in batches of exactly ``size``, the last one filled up with its first item.

    The libraries below choose other kernels for other sizes, and the last bits of a face would depend on how many
    others there are. What follows (UMAP) makes such bits visible.

    Args:
        items: ``[n, …]``, n at least 1.
        size: items per call.
        run: ``[size, …]`` → ``[size, …]``.
        threads: calls at the same time.

    Returns:
        The outputs of all items, ``[n, …]``.
    """

    def run_from(start: int) -> np.ndarray:
        batch = items[start : start + size]
        missing = size - len(batch)
        if missing:
            batch = np.concatenate([batch, np.repeat(batch[:1], missing, axis=0)])
        return run(batch)[: size - missing]

    return np.concatenate(side_by_side(run_from, range(0, len(items), size), threads))


def side_by_side(run: Callable[[_Item], _Result], items: Sequence[_Item], threads: int) -> list[_Result]:
    """``[run(item) for item in items]``, up to ``threads`` of them at a time.

    A network is given one thread for its arithmetic (`faceline.threads`) and work is spread by whole calls: with more
    threads inside a call, its sums are split otherwise, and boxes were seen to differ by 3e-5 px.
    """
    if threads <= 1 or len(items) <= 1:
        return [run(item) for item in items]
    with ThreadPoolExecutor(max_workers=min(threads, len(items)), thread_name_prefix="network") as pool:
        return list(pool.map(run, items))
