"""Runs as Prefect sees them. The only module of this package, beside `submission` and `publish`, that imports Prefect.

A flow's parameters are the footage's path and overrides as on the command line, so that the UI shows what was run and
a deployment can run the same. A run that comes from the command line has been made ready there (configuration,
opened footage, found weights) and is handed over in the context, not as a parameter.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from prefect import Flow, flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.context import FlowRunContext
from prefect.exceptions import TerminationSignal
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.states import Completed, Failed, State
from prefect.task_runners import ThreadPoolTaskRunner

from faceline.errors import ArtifactError, FacelineError
from faceline.report.results import check_replaceable
from faceline.runs import running
from faceline.stages import STAGES
from flows.analyze import log_folder
from flows.config import Config, load_config
from flows.console import Reporter
from flows.execution import execution
from flows.files import valid_text
from flows.job import Job, announce_device, prepare
from flows.logfile import log_path, session
from flows.places import check_places
from flows.publish import Publisher, one_line
from flows.results import Finished, finish
from flows.served import belong_to_serve, footage_name, interrupted
from flows.submission import Submission

log = logging.getLogger(__name__)

SETTLE_S = 10.0
"""How long a temporary server is given to write down the last task states before it is stopped."""


@dataclass(frozen=True)
class Ready:
    """A run that was made ready outside the flow.

    Attributes:
        job: what to run.
        reporter: who is told.
        began_s: when the run began, by `time.perf_counter`.
        temporary_server: whether the server ends with the run.
        stopping: set when the run is to end early; None where only its own thread is interrupted.
    """

    job: Job
    reporter: Reporter
    began_s: float
    temporary_server: bool = False
    stopping: threading.Event | None = None


_ready: ContextVar[Ready | None] = ContextVar("ready", default=None)


@contextlib.contextmanager
def handed_over(ready: Ready) -> Iterator[None]:
    """Within the block, the flow `analyze` runs this and not something of its own making."""
    token = _ready.set(ready)
    try:
        yield
    finally:
        _ready.reset(token)


def _made_ready() -> Ready | None:
    # A flow travels to the workers of a cluster, with all that its function names; a context variable could not.
    return _ready.get()


@flow(name="analyze", flow_run_name=footage_name, persist_result=False, log_prints=False)
def analyze(footage: str, overrides: list[str] | None = None) -> State[Finished]:
    """Analyse one footage: all stages, then the results folder.

    Args:
        footage: the video file.
        overrides: options as on the command line, such as ``output=/results/clip`` and ``sample.fps=5``.
    """
    ready = _made_ready()
    try:
        finished = _run_alone(footage, overrides or []) if ready is None else _run(ready)
    except TerminationSignal:
        if ready is not None:
            raise
        return interrupted()
    except FacelineError as error:
        return Failed(message=str(error), data=error)
    except Exception as error:
        # Returned, not raised: Prefect would pickle what a flow raises into its storage folder.
        log.exception("the run failed")
        return Failed(message=f"unexpected {type(error).__name__}: {error}", data=error)
    finally:
        if ready is not None and ready.temporary_server:
            settle()
    return Completed(message=f"{finished.found}; {finished.states}", data=finished)


def _run_alone(footage: str, overrides: Sequence[str]) -> Finished:
    """A run that Prefect began: from a deployment, with nothing made ready."""
    began_s = time.perf_counter()
    belong_to_serve()
    config = load_config([f"footage={footage}", *overrides], STAGES)
    job = prepare(config, STAGES)
    if config.until is None:
        check_replaceable(job.output)
    check_places(config, None if config.until is not None else job.output, replaced=True)
    job.check_precision()
    log_file = log_path(log_folder(config), "analyze", job.footage.name)
    with session(log_file) as reporter, running(job.pipeline.store, "analyze", job.footage.name), execution(job):
        announce_device(job.device, config)
        return _run(Ready(job, reporter, began_s))


def run_in_prefect(ready: Ready) -> Finished:
    """Run a job as a flow run named after the footage; raises what the flow fails with."""
    job = ready.job
    with handed_over(ready):
        run: Any = for_job(analyze, job, job.footage.name)
        with ending(ready.temporary_server):
            finished: Finished = run(footage=valid_text(job.footage.path), overrides=readable_arguments(job.config))
    return finished


def readable_arguments(config: Config) -> list[str]:
    """A configuration as a flow's parameter: text that a server can take."""
    return [valid_text(argument) for argument in config.arguments]


def for_job(flow: Flow[..., Any], job: Job, name: str) -> Flow[..., Any]:
    """A flow under a run name and with threads for a job's stages."""
    # Threads to spare: the walk itself decides how many stages are under way, and Prefect warns of too few threads
    # for a task's tags.
    runner: Any = ThreadPoolTaskRunner(max_workers=job.workers + 4)
    return flow.with_options(flow_run_name=lambda: one_line(name), task_runner=runner)


@contextlib.contextmanager
def ending(temporary_server: bool) -> Iterator[None]:
    """Around the call of a flow: a polite request to end is an exit code, and the server's log is completed.

    A temporary server gets no heartbeats: nobody there would miss them, and a flow's end would wait for the thread that
    sends them, which looks up once a second.
    """
    try:
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None} if temporary_server else None):
            yield
    except TerminationSignal as ended:
        raise SystemExit(128 + ended.signal) from ended
    finally:
        if temporary_server:
            APILogWorker.drain_all(timeout=SETTLE_S)


def _run(ready: Ready) -> Finished:
    job = ready.job
    publisher = Publisher(job)
    for again in (False, True):
        submit = Submission(job)
        walk = job.walk(submit, ready.reporter, at_once=job.workers, stopping=ready.stopping)
        ready.reporter.total(job.footage.name, len(job.pipeline.nodes))
        try:
            records = walk.run(tick=lambda walk=walk: publisher.progress(walk.share_done))  # type: ignore[misc]
            finished = finish(job, walk.outcomes, records, time.perf_counter() - ready.began_s)
            break
        except ArtifactError as error:
            # The damaged artifact was set aside when it was met; a second walk computes it anew, and only it.
            if again:
                raise
            log.warning("%s: %s; it is computed anew", error.where, error.what)
    publisher.progress(1.0, now=True)
    if finished.until is None:
        publisher.finished(finished)
    return finished


def settle() -> None:
    """Wait until the server has the last states of this flow run's tasks: they travel as events, some time behind."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    mine = FlowRunFilter(id=FlowRunFilterId(any_=[context.flow_run.id]))
    unfinished = TaskRunFilter(
        state=TaskRunFilterState(
            type=TaskRunFilterStateType(any_=[StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING])
        )
    )
    until_s = time.monotonic() + SETTLE_S
    with contextlib.suppress(Exception), get_client(sync_client=True) as client:
        while time.monotonic() < until_s:
            if not client.read_task_runs(flow_run_filter=mine, task_run_filter=unfinished, limit=1):
                return
            time.sleep(0.1)
