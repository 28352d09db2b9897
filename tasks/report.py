"""The task ``report``: the stage of that name as Prefect runs it."""

from __future__ import annotations

from prefect import State, task

from faceline.report.stage import REPORT
from tasks.runner import StageOutcome, StageRequest
from tasks.states import STAGE_TASK, perform


@task(name=REPORT.name, **STAGE_TASK)
def report(request: StageRequest) -> State[StageOutcome]:
    """Tables, plots and the page of the results."""
    return perform(request)
