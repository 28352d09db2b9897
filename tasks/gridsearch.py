"""The task ``gridsearch``: the stage of that name as Prefect runs it."""

from __future__ import annotations

from prefect import State, task

from faceline.anomaly.gridsearch import GRIDSEARCH
from tasks.runner import StageOutcome, StageRequest
from tasks.states import STAGE_TASK, perform


@task(name=GRIDSEARCH.name, **STAGE_TASK)
def gridsearch(request: StageRequest) -> State[StageOutcome]:
    """Choose among the trials, score every face, and cut the scores into events."""
    return perform(request)
