"""The task ``detect``: the stage of that name as Prefect runs it."""

from __future__ import annotations

from prefect import State, task

from faceline.detection import DETECT
from tasks.runner import StageOutcome, StageRequest
from tasks.states import STAGE_TASK, perform


@task(name=DETECT.name, **STAGE_TASK)
def detect(request: StageRequest) -> State[StageOutcome]:
    """Find every face of a segment's frames and link them into tracklets."""
    return perform(request)
