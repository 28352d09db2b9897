"""The task ``emote``: the stage of that name as Prefect runs it."""

from __future__ import annotations

from prefect import State, task

from faceline.emotion import EMOTE
from tasks.runner import StageOutcome, StageRequest
from tasks.states import STAGE_TASK, perform


@task(name=EMOTE.name, **STAGE_TASK)
def emote(request: StageRequest) -> State[StageOutcome]:
    """Emotion scores and expression measures of a segment's faces."""
    return perform(request)
