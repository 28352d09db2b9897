"""Items computed ahead in a thread: the same ones, bounded, and no thread left behind."""

from __future__ import annotations

import gc
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceline.ahead import ahead


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "read-ahead"]


def gone():
    """Whether all read-ahead threads end within a few seconds."""
    for _ in range(500):
        if not threads():
            return True
        time.sleep(0.01)
    return False


class Producer:
    """Counts what was asked of it, and whether it was closed."""

    def __init__(self, count, fails_at=None):
        self.count, self.fails_at, self.made, self.closed = count, fails_at, 0, False

    def items(self):
        try:
            for i in range(self.count):
                if i == self.fails_at:
                    raise OSError("torn")
                self.made += 1
                yield i
        finally:
            self.closed = True


@given(count=st.integers(0, 30), depth=st.integers(1, 8))
def test_the_same_items_in_the_same_order(count, depth):
    producer = Producer(count)
    assert list(ahead(producer.items(), depth)) == list(range(count))
    assert producer.closed
    assert gone()


def test_an_error_comes_where_its_item_would_have():
    items = ahead(Producer(9, fails_at=4).items(), 2)
    assert [next(items) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(OSError, match="torn"):
        next(items)
    assert gone()


def test_it_runs_ahead_and_no_further_than_it_may():
    producer = Producer(1000)
    items = ahead(producer.items(), 3)
    assert next(items) == 0
    for _ in range(500):
        if producer.made >= 5:
            break
        time.sleep(0.01)
    time.sleep(0.05)
    # Taken, waiting, and the one that waits for room.
    assert producer.made == 1 + 3 + 1
    items.close()
    assert producer.closed
    assert gone()


def test_dropping_it_half_way_ends_the_thread_and_closes_the_producer():
    producer = Producer(1000)
    items = ahead(producer.items(), 2)
    next(items)
    del items
    gc.collect()
    assert gone()
    assert producer.closed


def test_nothing_starts_before_the_first_item_is_asked_for():
    producer = Producer(5)
    ahead(producer.items(), 2)
    assert not threads()
    assert producer.made == 0
