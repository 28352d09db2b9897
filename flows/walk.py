"""Walking the pipeline: to say what would run, and to run it. One graph, one way of making requests for both."""

from __future__ import annotations

import heapq
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from faceline.artifacts import ArtifactRef
from faceline.errors import TimeLimitError
from faceline.explain import Explanation
from faceline.latest import places_of
from faceline.stage import Runtime
from faceline.store import Store
from flows.console import Reporter
from flows.pipeline import Node, Pipeline
from tasks.runner import StageOutcome, StageRequest, explain_stage, run_stage

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Planned:
    """What a node will do, and why."""

    node: Node
    explanation: Explanation


def plan(pipeline: Pipeline) -> Iterator[Planned]:
    """Say of each node what it will do; runs and changes nothing."""
    store = Store(pipeline.store)
    store.foresee(*places_of(pipeline.footage))
    refs: dict[str, ArtifactRef] = {}
    for node in pipeline.nodes.values():
        pending = tuple(stage for stage, names in node.inputs.items() if any(name not in refs for name in names))
        explanation = explain_stage(pipeline.request(node, refs, pending=pending))
        if explanation.state == "cached" and explanation.finding is not None:
            segment = node.segment.index if node.segment is not None else None
            refs[node.name] = store.ref(explanation.finding, segment=segment, trial=node.trial)
        yield Planned(node, explanation)


TICK_S = 1.0


class Stopped(BaseException):
    """Raised inside a stage that is to end because the run was interrupted. Not an `Exception`: no stage catches it."""


@dataclass(frozen=True)
class Record:
    """One line of ``run.json``'s ``stages``."""

    stage: str
    segment: int | None
    trial: str | None
    key: str
    state: str
    reason: str
    seconds: float

    @classmethod
    def of(cls, node: Node, outcome: StageOutcome) -> Record:
        """The record of a finished node."""
        segment = node.segment.index if node.segment is not None else None
        return cls(
            node.stage.name, segment, node.trial, outcome.ref.key, outcome.state, outcome.reason, outcome.seconds
        )


Done = Callable[[Callable[[], StageOutcome]], None]
"""Called once when a node has ended, with a function that gives its outcome or raises what it failed with."""

Start = Callable[[Node, StageRequest, Done], None]
"""Begins work on a node and returns at once (or after the work, where there is only one thread)."""


def start_here(node: Node, request: StageRequest, done: Done) -> None:
    """A `Start` that works in the calling thread, without Prefect."""
    outcome = run_stage(request)
    done(lambda: outcome)


class Walk:
    """One run over a pipeline: every node as soon as what it reads is there, a few at a time.

    Args:
        pipeline: what to run.
        start: begins a node.
        reporter: who is told.
        runtime: how stages are executed; its ``progress`` is replaced for each node.
        at_once: how many nodes may be under way at the same time. Prefect servers suffer from thousands of runs at
            once, and a waiting node would hold a thread.
        stopping: ends the walk when set, as an interruption of its own thread does.
        limit_s: most wall seconds of the walk; None for no limit.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        start: Start,
        reporter: Reporter,
        *,
        runtime: Runtime,
        at_once: int = 1,
        stopping: threading.Event | None = None,
        limit_s: float | None = None,
    ) -> None:
        self._pipeline, self._start, self._reporter = pipeline, start, reporter
        self._limit_s = limit_s
        self._until_s = None if limit_s is None else time.monotonic() + limit_s
        self._runtime, self._at_once = runtime, at_once
        self._stop = threading.Event()
        self._stopping = stopping or threading.Event()
        self._left = threading.Event()
        self._ended: queue.SimpleQueue[tuple[str, Callable[[], StageOutcome]] | None] = queue.SimpleQueue()
        self._shares: dict[str, float] = {}
        self.outcomes: dict[str, StageOutcome] = {}

    @property
    def share_done(self) -> float:
        """How much of the run is done, 0 to 1, by number of nodes; those under way count with their own progress."""
        total = len(self._pipeline.nodes)
        return (len(self.outcomes) + sum(self._shares.values())) / total if total else 1.0

    def run(self, tick: Callable[[], Any] = lambda: None) -> list[Record]:
        """Run all nodes; records in the pipeline's order. ``tick`` is called about once a second, in this thread.

        When a node fails, those under way are finished (and kept) and its error is raised; when the run is
        interrupted, those under way are asked to stop.
        """
        nodes = self._pipeline.nodes
        order = {name: position for position, name in enumerate(nodes)}
        missing = {name: len(set(node.before)) for name, node in nodes.items()}
        readers: dict[str, list[str]] = {name: [] for name in nodes}
        for name, node in nodes.items():
            for before in dict.fromkeys(node.before):
                readers[before].append(name)
        ready = [(order[name], name) for name, count in missing.items() if not count]
        heapq.heapify(ready)
        running: set[str] = set()
        failure: Exception | None = None
        try:
            while (running or (ready and failure is None)) and not self._left.is_set():
                if self._stopping.is_set():
                    raise Stopped("the run was interrupted")
                if failure is None and self._is_late:
                    failure = self._too_late()
                while ready and failure is None and len(running) < self._at_once:
                    _, name = heapq.heappop(ready)
                    failure = self._begin(nodes[name])
                    if failure is None:
                        running.add(name)
                if not running:
                    continue
                try:
                    end = self._ended.get(timeout=TICK_S)
                except queue.Empty:
                    tick()
                    continue
                if end is None:
                    continue
                name, get = end
                running.discard(name)
                try:
                    outcome = get()
                except Exception as error:
                    failure = failure or error
                    self._end(name, None)
                    continue
                self._end(name, outcome)
                tick()
                for reader in readers[name]:
                    missing[reader] -= 1
                    if not missing[reader]:
                        heapq.heappush(ready, (order[reader], reader))
        except BaseException:
            self._stop.set()
            while running:
                end = self._ended.get()
                running.discard(end[0] if end is not None else "")
            raise
        if failure is not None:
            raise failure
        return [Record.of(node, self.outcomes[name]) for name, node in nodes.items() if name in self.outcomes]

    def leave(self) -> None:
        """Have `run`, in another thread, return at once: it begins nothing more and leaves alone what is under way."""
        self._left.set()
        self._ended.put(None)

    @property
    def _is_late(self) -> bool:
        return self._until_s is not None and time.monotonic() >= self._until_s

    def _too_late(self) -> TimeLimitError:
        return TimeLimitError(
            f"it took longer than {self._limit_s:g} s",
            where=str(self._pipeline.footage.path),
            cure="raise archive.time_limit_s, or lower sample.fps",
        )

    def _begin(self, node: Node) -> Exception | None:
        refs = {name: self.outcomes[name].ref for name in node.before}
        runtime = replace(self._runtime, progress=self._progress_of(node.name), until_s=self._until_s)
        self._reporter.started(node.name)
        try:
            request = self._pipeline.request(node, refs, runtime=runtime)
            self._start(node, request, lambda get: self._ended.put((node.name, get)))
        except Exception as error:
            self._end(node.name, None)
            return error
        return None

    def _end(self, name: str, outcome: StageOutcome | None) -> None:
        self._shares.pop(name, None)
        if outcome is None:
            self._reporter.finished(name, "failed", "", 0.0)
            return
        self.outcomes[name] = outcome
        self._reporter.finished(name, outcome.state, outcome.reason, outcome.seconds)

    def _progress_of(self, name: str) -> Callable[[int, int], None]:
        def progress(done: int, total: int) -> None:
            # The one place that every long stage passes often: where an interrupted run can end it.
            if self._stop.is_set():
                raise Stopped(name)
            if self._is_late:
                raise self._too_late()
            self._shares[name] = min(1.0, done / total) if total else 0.0
            self._reporter.progressed(name, done, total)

        return progress
