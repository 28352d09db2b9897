"""Stages begun before Prefect is there: each is computed once, and whoever takes it over gets what came of it."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from faceline.errors import FacelineError
from flows import analyze
from flows.config import load_config
from flows.console import Silent
from flows.execution import HeadStart, execution
from flows.job import Job, prepare
from tasks.runner import StageOutcome, StageRequest, run_stage
from tasks.workers import Call, performing
from tests.flows.conftest import Line


class Threads:
    """Stands in for worker processes, which stand-ins of stages cannot travel to."""

    def __init__(self) -> None:
        self.numbers = itertools.count()
        self.hold = threading.Event()
        self.hold.set()

    def start(self) -> None:
        pass

    def nudge(self) -> None:
        pass

    def submit(self, request: StageRequest, wanted: Callable[[], bool] = lambda: True) -> Call:
        assert wanted()
        call = Call(next(self.numbers), request)

        def work() -> None:
            self.hold.wait(30)
            try:
                call.hear(("done", run_stage(request)))
            except Exception as error:
                call.hear(("failed", error))

        threading.Thread(target=work).start()
        return call

    def run(self, request: StageRequest) -> StageOutcome:
        return self.submit(request).result(request.runtime.progress)


def job_of(line: Line, *overrides: str, footage: Path | None = None) -> Job:
    return prepare(load_config(line.arguments(*overrides, footage=footage), analyze.STAGES), analyze.STAGES)


def walk(job: Job, perform: Callable[[StageRequest], StageOutcome]) -> dict[str, StageOutcome]:
    def start(node: Any, request: Any, done: Any) -> None:
        try:
            outcome = perform(request)
        except Exception as error:
            raised = error

            def fail() -> StageOutcome:
                raise raised

            done(fail)
        else:
            done(lambda: outcome)

    made = job.walk(start, Silent())
    made.run()
    return made.outcomes


def wait_for(condition: Callable[[], bool]) -> None:
    until_s = time.monotonic() + 60
    while not condition() and time.monotonic() < until_s:
        time.sleep(0.01)
    assert condition()


def test_what_was_begun_is_taken_over_and_computed_once(line: Line) -> None:
    job = job_of(line)
    head = HeadStart(job, Threads())  # type: ignore[arg-type]
    head.begin()
    wait_for(lambda: "report" in line.calls.computed)
    outcomes = walk(job, head.perform)
    assert {outcome.state for outcome in outcomes.values()} == {"run"}, (
        "that it was begun early does not make it cached"
    )
    assert sorted(line.calls.computed) == sorted(node.stage.name for node in job.pipeline.nodes.values())


def test_it_begins_nothing_more_once_it_is_asked(line: Line) -> None:
    job = job_of(line)
    workers = Threads()
    workers.hold.clear()
    head = HeadStart(job, workers)  # type: ignore[arg-type]
    head.begin()
    wait_for(lambda: bool(head._begun))
    head.end()
    workers.hold.set()
    time.sleep(0.2)
    assert set(line.calls.computed) <= {"sample"}
    outcomes = walk(job, head.perform)
    assert len(outcomes) == len(job.pipeline.nodes)
    assert line.calls.computed.count("sample") == 1


def test_an_early_failure_is_met_by_whoever_takes_over_and_can_be_tried_again(line: Line) -> None:
    line.calls.errors["detect"] = [FacelineError("the disk stumbled")]
    job = job_of(line)
    head = HeadStart(job, Threads())  # type: ignore[arg-type]
    head.begin()
    wait_for(lambda: not head._thread.is_alive())
    with pytest.raises(FacelineError, match="the disk stumbled"):
        walk(job, head.perform)
    assert line.calls.computed.count("detect") == 1
    assert {outcome.state for outcome in walk(job, head.perform).values()} == {"run", "cached"}
    assert line.calls.computed.count("detect") == 2


def test_another_footage_is_not_mistaken_for_the_first(line: Line) -> None:
    first = job_of(line)
    other = job_of(line, footage=line.footage("other", "other pictures"))
    head = HeadStart(first, Threads())  # type: ignore[arg-type]
    head.begin()
    wait_for(lambda: "report" in line.calls.computed)
    outcomes = walk(other, head.perform)
    assert {outcome.state for outcome in outcomes.values()} == {"run"}
    assert line.calls.computed.count("sample") == 2


def test_with_threads_stages_run_where_they_are_called(line: Line) -> None:
    with execution(job_of(line)):
        assert performing.get() is run_stage
    assert line.calls.computed == []
