"""Several footages at the same time, each in a thread of its own that waits for the workers."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from flows.console import Reporter, Silent

Item = TypeVar("Item")

POLL_S = 0.5
"""How often a waiting main thread looks up, so that signals are heard."""


def run_side_by_side(
    items: Iterable[Item], run: Callable[[Item], None], *, room: int, stopping: threading.Event
) -> None:
    """Call ``run`` for each item, ``room`` of them at the same time.

    Args:
        items: taken one by one, in order, each when there is room for it.
        run: works on one; called in a thread, in a copy of this context (in this thread if there is room for one).
        room: how many at the same time.
        stopping: set when this call is interrupted; ``run`` has to return soon after.

    Raises:
        BaseException: what ``run`` raised first, or what interrupted this thread; the others have ended by then.
    """
    if room <= 1:
        for item in items:
            run(item)
        return
    source, taking = iter(items), threading.Lock()

    def take_turns() -> None:
        while not stopping.is_set():
            with taking:
                try:
                    item = next(source)
                except StopIteration:
                    return
            # Each in a copy of its own: what one leaves in its context is nothing to the next.
            contextvars.copy_context().run(run, item)

    with ThreadPoolExecutor(max_workers=room, thread_name_prefix="footage") as pool:
        pending: set[Future[None]] = {pool.submit(contextvars.copy_context().run, take_turns) for _ in range(room)}
        try:
            while pending:
                done, pending = wait(pending, timeout=POLL_S, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
        except BaseException:
            stopping.set()
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
