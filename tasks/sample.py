"""The task ``sample``: the stage of that name as Prefect runs it."""

from __future__ import annotations

from prefect import State, task

from faceline.sampling import SAMPLE
from tasks.runner import StageOutcome, StageRequest
from tasks.states import STAGE_TASK, perform


@task(name=SAMPLE.name, **STAGE_TASK)
def sample(request: StageRequest) -> State[StageOutcome]:
    """Choose the frames of a segment at the wanted rate, by presentation time."""
    return perform(request)
