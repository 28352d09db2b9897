"""Computing an iterator's items in a thread, a few ahead of their use."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")


class _End:
    """Stands behind the last item."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def ahead(
    items: Generator[T, None, None], depth: int, stopped: threading.Event | None = None
) -> Generator[T, None, None]:
    """The same items, computed in a thread of their own: ``depth`` of them wait at most, and one more for its place.

    For producers that leave the interpreter for most of their time, such as decoders. The thread ends with the
    producer, or, when this iterator is closed or dropped early, after the item at hand; the producer is then closed.
    An error of the producer is raised where its item would have come.

    Args:
        items: the producer.
        depth: places for items that wait.
        stopped: set when nobody reads any more, for a producer that can take long over one item.
    """
    waiting: queue.Queue[T | _End] = queue.Queue(maxsize=depth)
    stopped = stopped or threading.Event()
    thread = threading.Thread(target=_produce, args=(items, waiting, stopped), name="read-ahead", daemon=True)
    thread.start()
    try:
        while True:
            item = waiting.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item
    finally:
        stopped.set()
        # Dropped in a cycle of references, this may be collected in the very thread that it would wait for.
        while thread.is_alive() and threading.current_thread() is not thread:
            # Whoever waits for room in the queue has to be woken to see that nobody reads any more.
            try:
                waiting.get_nowait()
            except queue.Empty:
                thread.join(0.01)


def _produce(items: Generator[T, None, None], waiting: queue.Queue[T | _End], stopped: threading.Event) -> None:
    error: BaseException | None = None
    try:
        for item in items:
            if not _put(waiting, item, stopped):
                break
        items.close()
    except BaseException as raised:
        error = raised
    _put(waiting, _End(error), stopped)


def _put(waiting: queue.Queue[T | _End], item: T | _End, stopped: threading.Event) -> bool:
    """Wait for a place, but not for one that nobody will make; whether anybody still reads."""
    while not stopped.is_set():
        try:
            waiting.put(item, timeout=0.1)
        except queue.Full:
            continue
        return not stopped.is_set()
    return False
