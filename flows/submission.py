"""Nodes of a walk as Prefect task runs, in this process or on a cluster."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from prefect import Task
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateDetails
from prefect.futures import PrefectFuture
from prefect.states import Completed, Crashed, State
from prefect.utilities.annotations import quote

from flows.job import Job
from flows.pipeline import Node
from flows.walk import Done
from tasks.align import align
from tasks.cluster import cluster
from tasks.detect import detect
from tasks.embed import embed
from tasks.emote import emote
from tasks.gridsearch import gridsearch
from tasks.remote import Cluster, remote
from tasks.report import report
from tasks.runner import StageOutcome, StageRequest
from tasks.sample import sample
from tasks.trial import trial

log = logging.getLogger(__name__)

StageTask = Task[[StageRequest], State[StageOutcome]]

TASKS: Mapping[str, StageTask] = {
    task.name: task for task in (sample, detect, align, embed, emote, cluster, trial, gridsearch, report)
}


class Submission:
    """Begins nodes as Prefect task runs; a `Start`.

    Args:
        job: the job that they belong to.

    Tasks have no tags: Prefect asks its server for a place before it begins a task that has some, and on SQLite two
    that ask at the same time may cost each other two seconds (docs/adr/0007-speed.md).
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._futures: dict[str, PrefectFuture[Any]] = {}
        self._sent: dict[str, UUID] = {}

    def __call__(self, node: Node, request: StageRequest, done: Done) -> None:
        runner, name = self._job.config.runner, node.name
        task: Any = TASKS[node.stage.name].with_options(
            task_run_name=lambda: name,
            retries=runner.retries,
            retry_delay_seconds=runner.retry_delay_s,
        )
        if (cluster := remote.get()) is not None:
            before = [self._sent[name] for name in node.before]
            self._sent[name] = _send(task, cluster, request, before, runner.retries, done)
            return
        # Quoted: Prefect would otherwise search the request, down to the footage's keyframes, for futures.
        future = task.submit(quote(request), wait_for=[self._futures[name] for name in node.before])
        self._futures[name] = future
        future.add_done_callback(lambda ended: done(_outcome_of(ended)))


def _outcome_of(future: PrefectFuture[Any]) -> Callable[[], StageOutcome]:
    def outcome() -> StageOutcome:
        result: StageOutcome = future.result()
        return result

    return outcome


def _send(task: Any, cluster: Cluster, request: StageRequest, before: list[UUID], retries: int, done: Done) -> UUID:
    """Submit to a cluster; id of the task run."""
    call = cluster.send(request)
    # What it follows from is done: Prefect is told by state, for its graph. The cluster's futures would have it keep
    # every outcome, and run a stage again when a worker that once ran it is lost.
    waited: list[Any] = [Completed(data=True, state_details=StateDetails(task_run_id=run)) for run in before]
    with cluster.submitting(retries):
        # By the cluster's own task runner, whatever the flow was begun with: a deployment's flow has begun before its
        # configuration was read. Not quoted: Dask would take the quotes off.
        future: PrefectFuture[Any] = cluster.runner.submit(task, {"request": call.sent}, wait_for=waited)
    cluster.watch(call, future, done, crashed)
    return future.task_run_id


def crashed(task_run_id: UUID, why: str) -> None:
    """Tell Prefect of a task run whose worker cannot."""
    with contextlib.suppress(Exception), get_client(sync_client=True) as client:
        client.set_task_run_state(task_run_id, Crashed(message=why), force=True)
