"""Several footages at the same time, each in a thread of its own that waits for the workers."""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from flows.console import Reporter, Silent

Item = TypeVar("Item")

POLL_S = 0.5
"""How often a waiting main thread looks up, so that signals are heard."""


class Room:
    """Room for work of different size, given in the order in which it is asked for.

    Args:
        size: how much fits.
    """

    def __init__(self, size: int) -> None:
        self._size, self._free = size, size
        self._order = threading.Lock()
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def taken(self, size: int) -> Iterator[None]:
        """Wait for room, and take it for the block; what is larger than all there is takes all."""
        size = min(size, self._size)
        # One waits at a time, so that small work does not overtake large work for ever.
        with self._order, self._changed:
            self._changed.wait_for(lambda: self._free >= size)
            self._free -= size
        try:
            yield
        finally:
            with self._changed:
                self._free += size
                self._changed.notify_all()


def run_side_by_side(
    items: Sequence[Item],
    run: Callable[[Item], None],
    *,
    size: Callable[[Item], int],
    room: int,
    stopping: threading.Event,
) -> None:
    """Call ``run`` for each item, as many at a time as there is room for.

    Args:
        items: in the order in which they are begun.
        run: works on one; called in a thread, in a copy of this context.
        size: how much room an item takes.
        room: how much there is.
        stopping: set when this call is interrupted; ``run`` has to return soon after.

    Raises:
        BaseException: what ``run`` raised first, or what interrupted this thread; the others have ended by then.
    """
    if room <= 1 or len(items) <= 1:
        for item in items:
            run(item)
        return
    free = Room(room)

    def one(item: Item) -> None:
        with free.taken(size(item)):
            if not stopping.is_set():
                run(item)

    with ThreadPoolExecutor(max_workers=min(room, len(items)), thread_name_prefix="footage") as pool:
        pending: set[Future[None]] = {pool.submit(contextvars.copy_context().run, one, item) for item in items}
        try:
            while pending:
                done, pending = wait(pending, timeout=POLL_S, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
        except BaseException:
            stopping.set()
            for future in pending:
                future.cancel()
            raise


class Labelled(Silent):
    """Says whose stages are meant, where several footages are worked on at the same time.

    Args:
        reporter: who is told.
        label: name of the footage.
    """

    def __init__(self, reporter: Reporter, label: str) -> None:
        self._reporter, self._label = reporter, label

    def started(self, name: str) -> None:
        self._reporter.started(self._named(name))

    def progressed(self, name: str, done: int, total: int) -> None:
        self._reporter.progressed(self._named(name), done, total)

    def finished(self, name: str, state: str, reason: str, seconds: float) -> None:
        self._reporter.finished(self._named(name), state, reason, seconds)

    def noted(self, text: str) -> None:
        self._reporter.noted(f"{self._label}: {text}")

    def warned(self, text: str) -> None:
        self._reporter.warned(f"{self._label}: {text}")

    def _named(self, name: str) -> str:
        return f"{self._label} · {name}"
