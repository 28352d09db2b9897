"""What a flow run that Prefect started has to know of its surroundings."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
from datetime import datetime
from pathlib import Path
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.context import FlowRunContext
from prefect.runtime import flow_run
from prefect.states import Cancelled, State

from flows.publish import one_line

SERVED = "FACELINE_SERVED"
"""Environment variable that `serve` sets for the runs that it starts: the number of its process."""

_PR_SET_PDEATHSIG = 1
"""Of Linux's prctl(2): the signal that a process gets when its parent ends."""


def footage_name() -> str:
    """Name of a flow run: that of its footage, so that runs are told apart in the UI."""
    parameters: Any = flow_run.parameters
    return one_line(Path(str(parameters.get("footage", ""))).name)


def interrupted() -> State[Any]:
    """The last state of a run that was told to stop, and did so in order."""
    return Cancelled(name="Interrupted", message="told to stop; what is finished is kept, the next run goes on")


def belong_to_serve() -> None:
    """Have a run that `serve` started be ended by it alone, in order and once, and with it when it is killed.

    A terminal sends Ctrl-C to all that runs in it, so that is not listened to here. A run without its `serve` would go
    on with nobody to report to, and stand in the way of the next; it is killed, since in asking a server that is gone
    to write down its end it would spend more than a minute. Its journal says how far it came.
    """
    if not os.environ.get(SERVED) or threading.current_thread() is not threading.main_thread():
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if str(os.getppid()) != os.environ[SERVED]:
        # It was gone before the system could be asked to tell.
        os.kill(os.getpid(), signal.SIGKILL)


def next_run() -> datetime | None:
    """When this flow run's deployment is to run next; None where it is of no deployment, or nobody knows."""
    context = FlowRunContext.get()
    run = context.flow_run if context is not None else None
    if run is None or run.deployment_id is None:
        return None
    # What the page says of it is not worth a run.
    with contextlib.suppress(Exception), get_client(sync_client=True) as client:
        coming = client.read_flow_runs(
            deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[run.deployment_id])),
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED]))
            ),
            sort=FlowRunSort.EXPECTED_START_TIME_ASC,
            limit=10,
        )
        now = datetime.now().astimezone()
        times = [other.expected_start_time for other in coming if other.auto_scheduled and other.expected_start_time]
        return next((datetime.fromisoformat(time.isoformat()) for time in times if time > now), None)
    return None
