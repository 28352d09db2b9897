"""How a stage looks to Prefect: options that all stage tasks share, and outcomes as Prefect states.

Prefect orders, retries and shows; whether something is fresh is decided by the store. So nothing is cached or kept
by Prefect, and a hit is a state of its own, *Cached*, with the reason.
"""

from __future__ import annotations

import errno
import logging
from typing import Any, TypedDict

from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.states import Cancelled, Completed, State

from faceline.errors import FacelineError, FootageUnreadableError, StoreError
from tasks.remote_worker import Sent
from tasks.runner import StageOutcome, StageRequest
from tasks.worker_process import Interrupted
from tasks.workers import WorkerLostError, performing

log = logging.getLogger(__name__)

PASSING_ERRNOS = frozenset(
    {errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.EIO, errno.EMFILE, errno.ENETDOWN, errno.ENETUNREACH, errno.ENFILE}
    | {errno.ENOBUFS, errno.ENOLCK, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTUNREACH}
)
"""System errors that may be gone a moment later; a full disk or a missing file is not among them."""


def can_pass(error: BaseException | None) -> bool:
    """Whether trying again may help: a busy or unreachable resource, but no wrong input and no mistake in the code."""
    if isinstance(error, WorkerLostError):
        return True
    if isinstance(error, StoreError | FootageUnreadableError):
        return error.can_pass
    if isinstance(error, FacelineError):
        return False
    if isinstance(error, ConnectionError | TimeoutError | MemoryError):
        return True
    return isinstance(error, OSError) and error.errno in PASSING_ERRNOS


def retry_if_it_can_pass(task: Any, run: TaskRun, state: State[Any]) -> bool:
    """Prefect's ``retry_condition_fn``."""
    del task, run
    error = state.data
    again = can_pass(error if isinstance(error, BaseException) else None)
    if again and isinstance(error, WorkerLostError):
        log.warning("%s; the stage is begun again", error)
    return again


class StageTaskOptions(TypedDict):
    """Options of ``@task`` that all stages share."""

    cache_policy: Any
    persist_result: bool
    retry_condition_fn: Any
    log_prints: bool


STAGE_TASK: StageTaskOptions = {
    "cache_policy": NO_CACHE,
    "persist_result": False,
    "retry_condition_fn": retry_if_it_can_pass,
    "log_prints": False,
}


def perform(request: StageRequest | Sent) -> State[StageOutcome]:
    """Run the stage; *Completed* or *Cached*, with the reason as message and the outcome as data.

    A request that was sent to a cluster is run here as well: "here" is the cluster's worker then.
    """
    if isinstance(request, Sent):
        try:
            outcome = request.run()
        except Interrupted:
            return Cancelled(message="the run was interrupted")
    else:
        outcome = performing.get()(request)
    message = f"{outcome.reason} ({outcome.seconds:.1f} s)"
    if outcome.state == "cached":
        return Completed(name="Cached", message=outcome.reason, data=outcome)
    return Completed(message=message, data=outcome)
