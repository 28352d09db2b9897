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


def ahead(items: Generator[T, None, None], depth: int) -> Generator[T, None, None]:
    """The same items, computed in a thread of their own, at most ``depth`` of them ahead.

    For producers that leave the interpreter for most of their time, such as decoders. The thread ends with the
    producer, or, when this iterator is closed or dropped early, after the item at hand; the producer is then closed.
    An error of the producer is raised where its item would have come.
    """
    waiting: queue.Queue[T | _End] = queue.Queue(maxsize=depth)
    stopped = threading.Event()
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
        while thread.is_alive():
            # Whoever waits for room in the queue has to be woken to see that nobody reads any more.
            try:
                waiting.get_nowait()
            except queue.Empty:
                thread.join(0.01)


def _produce(items: Generator[T, None, None], waiting: queue.Queue[T | _End], stopped: threading.Event) -> None:
    error: BaseException | None = None
    try:
        for item in items:
            if stopped.is_set():
                break
            waiting.put(item)
        items.close()
    except BaseException as raised:
        error = raised
    waiting.put(_End(error))
