"""The task ``cluster``: the stage of that name as Prefect runs it."""

from __future__ import annotations

from prefect import State, task

from faceline.clustering import CLUSTER
from tasks.runner import StageOutcome, StageRequest
from tasks.states import STAGE_TASK, perform


@task(name=CLUSTER.name, **STAGE_TASK)
def cluster(request: StageRequest) -> State[StageOutcome]:
    """Who is who, over the whole footage, and the components of each person's embeddings."""
    return perform(request)
