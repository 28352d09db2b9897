"""What `serve` has Prefect do: two deployments, one runner, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from prefect import State
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy, FlowRun, StateType
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import EntrypointType, RunnerDeployment
from prefect.runner import Runner
from prefect.states import Cancelled, Crashed

import faceline
from faceline.errors import FacelineError
from flows import console
from flows.files import valid_text
from flows.flow import analyze
from flows.flow_many import archive
from flows.serve import Plan
from flows.served import SERVED
from flows.watching import Missed, Watcher

log = logging.getLogger(__name__)

GRACE_S = 60.0
"""How long a run that is told to end is given to write down what it has."""

PLAN_S = 90.0
"""How long the server is given to plan the first runs; its scheduler looks for new schedules every few seconds."""

PAGE = 200
"""Flow runs that a server gives at a time."""

LOOK_S = 1.0
"""How often it is looked whether the server is still there."""


def deployments(plan: Plan) -> tuple[RunnerDeployment, RunnerDeployment]:
    """The deployments of an archive and of single footages."""
    # A run that falls due while another one works is dropped: what it would find, the next one finds.
    alone = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
    schedules = [] if plan.cron is None else [CronSchedule(cron=plan.cron, timezone=plan.zone)]
    nightly = RunnerDeployment.from_flow(
        archive,
        name=plan.place,
        schedules=schedules,
        parameters={"footage": valid_text(plan.folder), "overrides": list(plan.archive)},
        concurrency_limit=alone,
        description="Every footage of the archive that has something to compute, as `faceline archive` does it.",
        version=faceline.__version__,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    single = RunnerDeployment.from_flow(
        analyze,
        name=plan.place,
        parameters={"overrides": list(plan.single)},
        description="One footage, as `faceline analyze` does it; output=DIR is one of the overrides.",
        version=faceline.__version__,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    return nightly, single


def run_service(
    plan: Plan, missed: Missed, not_begun: Callable[[str], None], *, own_server: bool, alive: Callable[[], bool]
) -> None:
    """Run until this process is told to end (SIGINT, SIGTERM).

    Args:
        plan: what is served.
        missed: says why a run has to catch up.
        not_begun: told, in a line, of runs of the schedule that were not begun.
        own_server: whether nobody else uses the server.
        alive: whether the server still runs.

    Raises:
        FacelineError: the server ended, or Prefect's runner did.
    """
    os.environ[SERVED] = str(os.getpid())
    try:
        asyncio.run(_run_service(plan, missed, not_begun, own_server, alive))
    finally:
        os.environ.pop(SERVED, None)


async def _run_service(
    plan: Plan, missed: Missed, not_begun: Callable[[str], None], own_server: bool, alive: Callable[[], bool]
) -> None:
    # Paused while nobody serves, so that a server that lives on piles up no runs.
    runner = Runner(name=f"faceline-{plan.place}", limit=plan.concurrency, pause_on_shutdown=True)
    nightly, single = deployments(plan)
    served = [await runner.aadd_deployment(deployment) for deployment in (nightly, single)]
    await settle_what_was_left(served, own_server=own_server)
    watcher = Watcher(served[0], missed, not_begun)
    # Only now, since the server plans from here on; what falls between is found by the first look.
    await watcher.catch_up()
    stop = asyncio.Event()
    running = asyncio.create_task(runner.start())
    try:
        # Only then, since the runner puts its own handler in place.
        while not runner.started and not running.done():
            await asyncio.sleep(0.05)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        watching = [asyncio.create_task(watcher.watch())]
        if plan.cron is not None:
            watching.append(asyncio.create_task(watch_for_a_plan(served[0])))
        while not stop.is_set() and not running.done() and alive():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), LOOK_S)
        for task in watching:
            task.cancel()
    finally:
        await end_runs()
        ended_by_itself = running.done()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            # Its schedules are paused on the way out, for which it needs the server.
            await asyncio.wait([running], timeout=GRACE_S)
    if ended_by_itself:
        running.result()
    if not stop.is_set():
        raise FacelineError(
            "the Prefect server ended" if not alive() else "Prefect's runner ended",
            cure="see the log, and start `faceline serve` again",
        )


async def watch_for_a_plan(deployment: UUID) -> None:
    """Warn if the server plans no run of a schedule: a night that nobody plans fails without a word."""
    await asyncio.sleep(PLAN_S)
    with contextlib.suppress(Exception):
        async with get_client() as client:
            states = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED]))
            mine = DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))
            found = await client.read_flow_runs(
                flow_run_filter=FlowRunFilter(state=states), deployment_filter=mine, limit=1
            )
        if not found:
            log.warning(
                "the Prefect server has planned no run of this schedule for %.0f s: see whether its scheduler works",
                PLAN_S,
            )


async def end_runs() -> None:
    """End the runs under way as a polite request does: they write down what they have."""
    import psutil

    def engines() -> list[Any]:
        found = []
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.Error):
                if "prefect.engine" in child.cmdline():
                    found.append(child)
        return found

    runs = engines()
    if not runs:
        return
    console.say("ending the run under way; what is finished is kept")
    for run in runs:
        with contextlib.suppress(psutil.Error):
            run.terminate()
    _, left = await asyncio.to_thread(psutil.wait_procs, runs, GRACE_S)
    for run in left:
        log.warning("the run of process %d did not end within %.0f s and is killed", run.pid, GRACE_S)
        with contextlib.suppress(psutil.Error):
            for process in (*run.children(recursive=True), run):
                process.kill()


async def settle_what_was_left(served: list[UUID], *, own_server: bool) -> None:
    """Give runs that nobody will begin, or that nobody works on any more, the state that says so."""
    # Whatever is said to be under way was under way when the `serve` before was killed, which took its runs along: two
    # never serve one archive. A server that lost its memory since would hold the place of such a run for ever, and
    # cancel every night that follows.
    types = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
    states = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=types)))
    # On a server of its own, runs within runs, which have no deployment, are among them.
    mine = None if own_server else DeploymentFilter(id=DeploymentFilterId(any_=served))
    now = datetime.now(UTC)
    async with get_client() as client:
        left: list[FlowRun] = []
        # All of them: a server gives so many at a time, and after weeks without `serve` there are more.
        while page := await client.read_flow_runs(
            flow_run_filter=states, deployment_filter=mine, limit=PAGE, offset=len(left)
        ):
            left += page
        for run in left:
            state: State[Any]
            if run.state is None or not run.state.is_scheduled():
                state = Crashed(message="faceline serve was killed; what was finished is kept, and a run catches up")
            elif run.auto_scheduled and run.expected_start_time is not None and run.expected_start_time < now:
                state = Cancelled(name="Missed", message="nobody was serving at that time; one run catches up")
            else:
                continue
            with contextlib.suppress(Exception):
                await client.set_flow_run_state(run.id, state, force=True)
