"""One recording in one process: render, analyse, score, judge. What comes back is small and can be sent."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.anomalies.judging import Judged, judge_series
from benchmarks.anomalies.methods import FACELINE, Picker, pick, series_of
from benchmarks.anomalies.recordings import Analysis, Recording, Truth, analyse, one_thread
from benchmarks.anomalies.reported import (
    NaturalMoment,
    Nominal,
    ReportedEvent,
    found_events,
    judged_s,
    natural_moments,
    standing,
)

AncestorMode = Literal["all", "kept", "off"]
"""Embeddings for the ancestor: of every face, as it had them; only those that faceline makes; or no ancestor."""


@dataclass(frozen=True)
class Task:
    """What to do with one recording.

    Attributes:
        recording: which.
        folder: of footage, artifacts and kept scores.
        overrides: of the configuration.
        picker: how scores become reports.
        others: whether methods other than faceline are judged.
        ancestor: where its embeddings come from.
        calibration: settings to try where the recording has neither event nor confound.
    """

    recording: Recording
    folder: Path
    overrides: tuple[str, ...] = ()
    picker: Picker = "prominent"
    others: bool = True
    ancestor: AncestorMode = "kept"
    calibration: tuple[Nominal, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What came of a recording.

    Attributes:
        recording: which.
        truth: what is true of it.
        duration_s: its length.
        people: faces of every person that was told apart; the recording shows one.
        methods: difficulty → method → judgement; the difficulty of footage without events is "".
        trials: the same of every trial.
        events: faceline's, by rank; those that a cause beside expression explains are among them.
        calibration: number of reported events and judged seconds under each setting.
        natural: where the noted moments of a clip came.
        states: number of stages by state.
        seconds: wall time.
    """

    recording: Recording
    truth: Truth
    duration_s: float
    people: tuple[int, ...]
    methods: dict[str, dict[str, Judged]]
    trials: dict[str, dict[str, Judged]]
    events: list[ReportedEvent]
    calibration: dict[str, tuple[int, float]] = field(default_factory=dict)
    natural: list[NaturalMoment] = field(default_factory=list)
    states: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


def work(task: Task) -> Outcome:
    """Do a task."""
    began_s = time.perf_counter()
    recording, store = task.recording, task.folder / "store"
    recording.render()
    truth = recording.truth()
    analysis = analyse(recording.video, store, task.overrides)
    methods: dict[str, dict[str, Judged]] = {d: {} for d in truth.difficulties or ("",)}
    trials: dict[str, dict[str, Judged]] = {d: {} for d in methods}
    peak_s = np.zeros(0)
    people = analysis.people
    if people:

        def embedded() -> Analysis:
            if task.ancestor == "kept":
                return analysis
            return analyse(recording.video, store, (*task.overrides, "embed.interval_s=0"), "embed")

        series = series_of(
            analysis,
            people[0],
            cache=task.folder / "methods",
            others=task.others,
            embedded=None if task.ancestor == "off" else embedded,
        )
        methods, trials = judge_series(series, truth, analysis.duration_s, task.picker)
        peak_s, _ = pick(series.time_s, series.stretch, series.methods[FACELINE], picker=task.picker)
    events = found_events(analysis)
    counts = {}
    if not truth.events and not truth.confounds:
        for nominal in task.calibration:
            under = analyse(recording.video, store, (*task.overrides, *nominal.overrides))
            counts[nominal.name] = (len(standing(found_events(under))), judged_s(under))
    natural = []
    if recording.kind == "natural":
        natural = natural_moments(recording.video.stem, truth.events, events, peak_s)
    return Outcome(
        recording,
        truth,
        analysis.duration_s,
        tuple(len(rows) for rows in people),
        methods,
        trials,
        events,
        counts,
        natural,
        dict(analysis.states),
        round(time.perf_counter() - began_s, 1),
    )


def work_all(tasks: Sequence[Task], processes: int = 2) -> Iterator[tuple[Task, Outcome | Exception]]:
    """Do all tasks, one recording per process at a time; each with what came of it, as they end.

    A recording that fails does not keep the others from being done.
    """
    if processes <= 1:
        one_thread()
        for task in tasks:
            try:
                yield task, work(task)
            except Exception as error:
                yield task, error
        return
    with workers(processes) as pool:
        futures: dict[Future[Outcome], Task] = {pool.submit(work, task): task for task in tasks}
        for future in as_completed(futures):
            error = future.exception()
            if error is not None and not isinstance(error, Exception):
                raise error
            yield futures[future], future.result() if error is None else error


def workers(processes: int) -> ProcessPoolExecutor:
    """A pool whose processes keep to one thread and do not outlive this one."""
    # A fresh interpreter each: networks and forked threads do not go together. Not `max_tasks_per_child`: in Python
    # 3.11 the pool waits for ever once its processes have done their share (python/cpython#115634).
    return ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_begin)


def _begin() -> None:
    one_thread()
    threading.Thread(target=_end_with_parent, name="end-with-parent", daemon=True).start()


def _end_with_parent() -> None:
    """End this process at once when the one that started it is gone.

    A pool whose owner is killed is told nothing: its processes would do what is queued, and then wait for ever.
    """
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
