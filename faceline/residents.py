"""Loaded models, kept from one stage to the next that asks for the same.

Loading networks takes seconds, and a long footage has many segments: a worker process keeps what it has loaded. Models
are functions of their inputs, so that it never shows in a result who used one before.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Hashable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


class Residents:
    """Models at rest, lent to one stage at a time.

    Args:
        most: models kept at rest; the one that rested longest goes first. 0 keeps none: each is closed after use.
    """

    def __init__(self, most: int = 0) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._resting: list[tuple[Hashable, Any]] = []

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
            self._resting.append((key, model))
            gone = [model for _, model in self._resting[: max(0, len(self._resting) - self._most)]]
            del self._resting[: len(gone)]
        for model in gone:
            _close(model)

    def _taken(self, key: Hashable) -> Any:
        with self._lock:
            for position, (resting, model) in enumerate(self._resting):
                if resting == key:
                    del self._resting[position]
                    return model
        return None

    def close(self) -> None:
        """Close all models at rest."""
        with self._lock:
            gone, self._resting = self._resting, []
        for _, model in gone:
            _close(model)


def _close(model: Any) -> None:
    close = getattr(model, "close", None)
    if close is not None:
        close()
