"""The task ``align``: the stage of that name as Prefect runs it."""

from __future__ import annotations

from prefect import State, task

from faceline.alignment import ALIGN
from tasks.runner import StageOutcome, StageRequest
from tasks.states import STAGE_TASK, perform


@task(name=ALIGN.name, **STAGE_TASK)
def align(request: StageRequest) -> State[StageOutcome]:
    """Landmarks, head pose, quality and the aligned crop of every face of a segment."""
    return perform(request)
