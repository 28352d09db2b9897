"""Loaded models, kept from one stage to the next that asks for the same.

Loading networks takes seconds, and a long footage has many segments: a worker process keeps what it has loaded. Models
are functions of their inputs, so that it never shows in a result who used one before. What nobody has asked for in a
while is closed: the trials of an hour of footage need the memory, and no network.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")
log = logging.getLogger(__name__)


class Residents:
    """Models at rest, lent to one stage at a time.

    Args:
        most: models kept at rest; the one that rested longest goes first. 0 keeps none: each is closed after use.
        rest_s: how long a model may rest before `tidy` closes it.
        clock: seconds that never go back.
    """

    def __init__(self, most: int = 0, rest_s: float = math.inf, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._rest_s, self._clock = most, rest_s, clock
        self._lock = threading.Lock()
        self._resting: list[tuple[Hashable, Any, float]] = []

    @contextlib.contextmanager
    def lend(self, key: Hashable, load: Callable[[], T]) -> Iterator[T]:
        """A model for the block: one at rest under the same key, or a new one; nobody else has it meanwhile.

        A model that was in use when something failed is not kept.

        Args:
            key: everything that the model depends on: kind, file, digest, options, device.
            load: makes one. What has a method ``close`` is closed in the end.
        """
        model: Any = self._taken(key)
        if model is None:
            model = load()
        try:
            yield model
        except BaseException:
            _close(model)
            raise
        with self._lock:
            self._resting.append((key, model, self._clock()))
            gone = [model for _, model, _ in self._resting[: max(0, len(self._resting) - self._most)]]
            del self._resting[: len(gone)]
        for model in gone:
            _close(model)

    def tidy(self) -> None:
        """Close what has rested too long."""
        with self._lock:
            long_since = self._clock() - self._rest_s
            gone = [model for _, model, since in self._resting if since < long_since]
            self._resting = [each for each in self._resting if each[2] >= long_since]
        for model in gone:
            _close(model)

    def _taken(self, key: Hashable) -> Any:
        with self._lock:
            for position, (resting, model, _) in enumerate(self._resting):
                if resting == key:
                    del self._resting[position]
                    return model
        return None

    def close(self) -> None:
        """Close all models at rest."""
        with self._lock:
            gone, self._resting = self._resting, []
        for _, model, _ in gone:
            _close(model)


def _close(model: Any) -> None:
    close = getattr(model, "close", None)
    if close is None:
        return
    try:
        close()
    except Exception:
        # What was computed with it is computed; the others at rest are to be closed as well.
        log.warning("a network could not be closed", exc_info=True)
