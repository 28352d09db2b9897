"""The task ``embed``: the stage of that name as Prefect runs it."""

from __future__ import annotations

from prefect import State, task

from faceline.embedding import EMBED
from tasks.runner import StageOutcome, StageRequest
from tasks.states import STAGE_TASK, perform


@task(name=EMBED.name, **STAGE_TASK)
def embed(request: StageRequest) -> State[StageOutcome]:
    """Identity embeddings of a segment's well-chosen faces."""
    return perform(request)
