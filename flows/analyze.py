"""The verb ``analyze``: one footage, from the file to the results folder.

A run whose stages are all cached never imports Prefect: it only makes the results folder anew. Any other run is a
Prefect flow (`flows.flow`), on the server that is named or on a temporary one.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from faceline.errors import ArtifactError
from faceline.names import printable
from faceline.report.results import RUN, check_replaceable
from faceline.runs import running
from faceline.stages import STAGES
from faceline.store import Store
from flows import console
from flows.config import Config, load_config
from flows.console import Reporter
from flows.execution import execution
from flows.job import Job, announce_device, describe_models, prepare
from flows.logfile import log_path, session
from flows.places import check_places
from flows.results import Finished, finish
from flows.server import prefect_server, state_folder
from flows.walk import plan, start_here
from tasks.importing import without_collecting
from tasks.worker_births import expect_none

log = logging.getLogger(__name__)


def analyze(arguments: Sequence[str]) -> int:
    """Run the verb; exit code.

    Raises:
        FacelineError: the run failed, in one line.
    """
    began_s = time.perf_counter()
    config = load_config(arguments, STAGES)
    job = prepare(config, STAGES)
    if config.until is None:
        check_replaceable(job.output)
    check_places(config, None if config.until is not None else job.output, replaced=True)
    with session(log_path(log_folder(config), "analyze", job.footage.name)) as reporter:
        console.say(describe_models(job.models, config))
        announce_device(job.device, config)
        finished = run_job(job, reporter, began_s)
    tell(job, finished, time.perf_counter() - began_s)
    return 0


def log_folder(config: Config) -> Path:
    """Where logs of runs go: beside the artifacts, or into the state folder when these lie on an object store."""
    root = config.store.root
    return state_folder().parent / "logs" if "://" in root else Path(root) / "_logs"


def run_job(job: Job, reporter: Reporter, began_s: float) -> Finished:
    """Run a job where it needs to be run: here if everything is cached, as a Prefect flow otherwise."""
    with running(job.pipeline.store, "analyze", job.footage.name):
        return _run_job(job, reporter, began_s)


def _run_job(job: Job, reporter: Reporter, began_s: float) -> Finished:
    if is_cached(job):
        expect_none()
        try:
            return run_here(job, reporter, began_s)
        except ArtifactError as error:
            # What only reading could show. The artifact has been set aside, so now there is something to run.
            log.warning("%s: %s; it is computed anew", error.where, error.what)
    job.check_precision()
    with prefect_server(reporter.noted) as server, execution(job):
        with without_collecting():
            server.ready()
            from flows.flow import Ready, run_in_prefect

        return run_in_prefect(Ready(job, reporter, began_s, server.temporary))


def is_cached(job: Job) -> bool:
    """Whether nothing has to be computed. What is found on the way is used from here on: no cleaner takes it."""
    store = Store(job.pipeline.store)
    cached = True
    for item in plan(job.pipeline):
        key = item.explanation.key
        if item.explanation.state != "cached" or key is None or not store.use(item.node.stage.name, key):
            cached = False
    return cached


def run_here(job: Job, reporter: Reporter, began_s: float) -> Finished:
    """Run a job in this thread, without Prefect."""
    walk = job.walk(start_here, reporter)
    reporter.total(job.footage.name, len(job.pipeline.nodes))
    records = walk.run()
    return finish(job, walk.outcomes, records, time.perf_counter() - began_s)


def tell(job: Job, finished: Finished, seconds: float) -> None:
    """Print what a run came to."""
    console.say(f"{finished.states}, {seconds:.1f} s")
    if finished.until is None:
        console.say(f"results: {printable(str(job.output))}")
        console.say(f"run.json: SHA-256 {hashlib.sha256((job.output / RUN).read_bytes()).hexdigest()}")
    console.say()
    console.say(finished.summary)
