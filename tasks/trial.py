"""The task ``trial``: the stage of that name as Prefect runs it."""

from __future__ import annotations

from prefect import State, task

from faceline.anomaly.trial import TRIAL
from tasks.runner import StageOutcome, StageRequest
from tasks.states import STAGE_TASK, perform


@task(name=TRIAL.name, **STAGE_TASK)
def trial(request: StageRequest) -> State[StageOutcome]:
    """One trial of the grid search: score every person with one model, feature set and window."""
    return perform(request)
