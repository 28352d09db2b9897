"""Where stages run: in worker processes that begin before Prefect is there, in threads of this one, or in a cluster.

Starting Prefect keeps a core busy for seconds. Meanwhile the workers go through the pipeline on their own; what they
have begun by then is taken over by the flow's tasks, so that Prefect shows every stage with its outcome.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import threading
from collections.abc import Iterator
from typing import Any

from flows.console import Silent
from flows.job import Job, room_for
from flows.pipeline import Node
from flows.preload import libraries, preload
from flows.server import named_api_url
from flows.walk import Done, plan
from tasks.ray_settings import set_ray_up
from tasks.remote import Cluster, missing_extra, sent_to
from tasks.runner import StageOutcome, StageRequest
from tasks.worker_births import expect_none
from tasks.workers import Call, Workers, open_workers, performing

log = logging.getLogger(__name__)

EXTRAS = {"dask": ("dask", "distributed", "prefect_dask"), "ray": ("ray", "prefect_ray")}
"""What has to be installed for which kind of runner."""


@contextlib.contextmanager
def execution(first: Job, processes: int | None = None) -> Iterator[None]:
    """Within the block, stage tasks run as ``runner.kind`` says; with processes, the first job begins at once.

    To be entered before Prefect is imported or waited for: both take seconds that stages can use.

    Args:
        first: what is begun with.
        processes: at most so many; None for as many as this job alone can use.
    """
    kind = first.config.runner.kind
    if kind != "processes":
        expect_none()
    if kind == "threads":
        preload(due(first))
        yield
        return
    if kind in ("dask", "ray"):
        with sent_to(cluster_for(first)) as cluster, room_for(cluster.slots):
            yield
        return
    most = max(first.side_by_side, processes or 1)
    with open_workers(min(first.workers, most), first.workers, libraries(due(first))) as workers:
        start = HeadStart(first, workers)
        start.begin()
        token = performing.set(start.perform)
        try:
            yield
        finally:
            performing.reset(token)
            start.end()


def cluster_for(job: Job) -> Cluster:
    """The cluster that a job's configuration names, or one of its own.

    Raises:
        ClusterError: its libraries are not installed, or it cannot be reached or used; in one line.
    """
    runner = job.config.runner
    try:
        kind: Any
        if runner.kind == "dask":
            from tasks.remote_dask import DaskCluster as kind
        else:
            set_ray_up(own_cluster=runner.address is None)
            from tasks.remote_ray import RayCluster as kind
        for name in EXTRAS[runner.kind]:
            if importlib.util.find_spec(name) is None:
                raise ModuleNotFoundError(name=name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRAS[runner.kind]:
            raise
        raise missing_extra(runner.kind, error) from error
    cluster: Cluster = kind(
        runner.address,
        processes=job.workers,
        memory_mib=runner.memory_mib,
        retries=runner.retries,
        wait_s=runner.wait_s,
        worker_wait_s=runner.worker_wait_s,
        # Prefect as well: it is there that its tasks run.
        modules=("flows.submission", *libraries(due(job))),
        api_url=named_api_url(),
    )
    log.info("stages run on %s: %d at the same time", cluster.name, min(job.workers, cluster.slots))
    return cluster


def due(job: Job) -> list[str]:
    """Names of the stages that have something to compute."""
    return [item.node.stage.name for item in plan(job.pipeline) if item.explanation.state != "cached"]


class HeadStart:
    """Goes through a job's pipeline until the first request comes from elsewhere; then those requests are run.

    Args:
        job: the job to begin with.
        workers: where to run.
    """

    def __init__(self, job: Job, workers: Workers) -> None:
        self._workers = workers
        # Nothing is reported yet: whoever takes a stage over reports it.
        self._walk = job.walk(self._begin, Silent(), at_once=job.workers)
        self._thread = threading.Thread(target=self._go, name="head-start", daemon=True)
        self._lock = threading.Lock()
        self._begun: list[Call] = []
        self._ending = threading.Event()

    def begin(self) -> None:
        """Start the first worker and go."""
        self._workers.start()
        self._thread.start()

    def end(self) -> None:
        """Begin nothing more."""
        self._walk.leave()
        self._ending.set()
        self._workers.nudge()
        self._thread.join()

    def perform(self, request: StageRequest) -> StageOutcome:
        """Run a request, or wait for its end where it was begun already."""
        self.end()
        with self._lock:
            call = next((call for call in self._begun if call.request == request), None)
            if call is not None:
                self._begun.remove(call)
        if call is None:
            return self._workers.run(request)
        return call.result(request.runtime.progress)

    def _go(self) -> None:
        try:
            self._walk.run()
        except Exception as error:
            # It is met again, and told, by the task that takes the stage over.
            log.debug("the head start ended: %s", error)

    def _begin(self, node: Node, request: StageRequest, done: Done) -> None:
        call = self._workers.submit(request, wanted=lambda: not self._ending.is_set())
        with self._lock:
            self._begun.append(call)
        call.when_done(lambda: done(call.peek))
