"""Fixed batches and calls side by side: each call of one size, results in order, none for the filling."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceline.batches import in_fixed_batches, side_by_side


@given(count=st.integers(1, 40), size=st.integers(1, 12), threads=st.integers(1, 4))
def test_every_item_once_and_every_call_of_one_size(count, size, threads):
    items = np.arange(count * 3, dtype=np.float32).reshape(count, 3)
    sizes = []

    def run(batch):
        sizes.append(len(batch))
        return batch * 2 + 1

    out = in_fixed_batches(items, size, run, threads)
    np.testing.assert_array_equal(out, items * 2 + 1)
    assert sizes == [size] * -(-count // size)


def test_side_by_side_keeps_order_and_really_is():
    meeting = threading.Barrier(3)

    def run(number):
        meeting.wait(timeout=20)  # breaks unless three calls are under way at once
        return number * 10

    assert side_by_side(run, [1, 2, 3], threads=3) == [10, 20, 30]


def test_an_error_of_one_call_is_raised():
    def run(number):
        if number == 2:
            raise ValueError("two")
        return number

    with pytest.raises(ValueError, match="two"):
        side_by_side(run, [1, 2, 3], threads=2)
