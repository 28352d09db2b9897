"""How much of a run goes into the store: a clock around its functions, switched on within one process."""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

CLOCKED = {
    "writing": (
        "faceline.drafts:Draft.append",
        "faceline.drafts:Draft.finish",
        "faceline.drafts:Draft.discard",
        "faceline.store:Store.commit",
        "faceline.store:Store.use",
        "faceline.familiar:note",
    ),
    "reading": (
        "faceline.artifacts:Artifact.__init__",
        "faceline.artifacts:Artifact.table",
        "faceline.artifacts:Artifact.batches",
        "faceline.artifacts:Artifact.array",
        "faceline.artifacts:Artifact.files",
    ),
    "looking up": (
        "faceline.store:Store.inspect",
        "tasks.runner:explain",
        "tasks.runner:points_at",
        "tasks.runner:remember",
    ),
    "keys": (
        "tasks.runner:key_parts",
        "faceline.video:_sha256",
        "faceline.weights:_digest",
    ),
}
"""What counts as the store, by kind of work: "module:name" of functions. A call inside another one of these counts for
the outer one. Payloads are hashed while they are written and before they are read, which counts there."""


@dataclass
class Spent:
    """Seconds of one kind of work: ``wall_s`` and ``cpu_s`` (of the threads at work), summed over threads."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    calls: int = 0


@dataclass
class StoreClock:
    """Adds up what is spent in the functions of `CLOCKED` while it is `running`."""

    spent: dict[str, Spent] = field(default_factory=lambda: {kind: Spent() for kind in CLOCKED})
    _local: threading.local = field(default_factory=threading.local)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextlib.contextmanager
    def running(self) -> Iterator[StoreClock]:
        """Within the block, the functions are clocked, in all threads of this process.

        Raises:
            AttributeError: one of them is no longer there.
        """
        with contextlib.ExitStack() as undone:
            for kind, names in CLOCKED.items():
                for name in names:
                    self._wrap(kind, name, undone)
            yield self

    def _wrap(self, kind: str, name: str, undone: contextlib.ExitStack) -> None:
        module, _, path = name.partition(":")
        *owners, last = path.split(".")
        owner: Any = importlib.import_module(module)
        for part in owners:
            owner = getattr(owner, part)
        original = getattr(owner, last)
        setattr(owner, last, self._clocked(kind, original))
        undone.callback(setattr, owner, last, original)

    def _clocked(self, kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def generator(*args: Any, **kwargs: Any) -> Iterator[Any]:
                items = function(*args, **kwargs)
                end = object()
                while True:
                    with self._outermost(kind):
                        item = next(items, end)
                    if item is end:
                        return
                    yield item

            return generator

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self._outermost(kind):
                return function(*args, **kwargs)

        return call

    @contextlib.contextmanager
    def _outermost(self, kind: str) -> Iterator[None]:
        if getattr(self._local, "inside", False):
            yield
            return
        self._local.inside = True
        wall, cpu = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            self._local.inside = False
            with self._lock:
                spent = self.spent[kind]
                spent.wall_s += time.perf_counter() - wall
                spent.cpu_s += time.thread_time() - cpu
                spent.calls += 1
