"""What `serve` looks after while it lives: nights that were missed or failed, and nights that were not begun."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateName,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.states import Scheduled

from faceline.nightly.missed import CATCHING_UP
from faceline.nightly.words import when_words
from flows import console

log = logging.getLogger(__name__)

FIRST_LOOK_S = 90.0
"""How long after the start it is looked first: the server has planned the first runs by then."""

LOOK_S = 300.0
"""How often it is looked after that."""

SOON = timedelta(minutes=1)
"""A run that is due within this time is left to itself."""

DROPPED = "Deployment concurrency limit reached."
"""What Prefect says of a run that it cancels because another of its deployment is under way (`CANCEL_NEW`)."""


class Missed(Protocol):
    """Says why a run has to catch up, in words; empty where none has to. Reads journals."""

    def __call__(self, now: datetime, *, meanwhile: bool = False, tried_at: datetime | None = None) -> str: ...


class Watcher:
    """Looks after the nights of one deployment.

    Args:
        deployment: of the archive.
        missed: says why a run has to catch up.
        not_begun: told, in a line, of runs of the schedule that were not begun; may take its time.
    """

    def __init__(self, deployment: UUID, missed: Missed, not_begun: Callable[[str], None]) -> None:
        self._deployment, self._missed, self._not_begun = deployment, missed, not_begun
        self._mine = DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))
        self._since = datetime.now(UTC)
        self._told: set[UUID] = set()
        self._tried_at: datetime | None = None
        self._trying: tuple[UUID, datetime | None] | None = None

    async def watch(self) -> None:
        """Look every few minutes, for ever. A server that does not answer is asked again the next time."""
        await asyncio.sleep(FIRST_LOOK_S)
        while True:
            for look in (self.tell_what_was_not_begun, self.look_for_missed):
                try:
                    await look()
                except Exception as error:
                    log.warning("what became of the last runs could not be seen (%s); seen to later", error)
            await asyncio.sleep(LOOK_S)

    async def catch_up(self, *, meanwhile: bool = False) -> None:
        """Have one run begin if one has to catch up."""
        await self._forget_a_try_that_was_skipped()
        now = datetime.now(UTC)
        reason = await asyncio.to_thread(self._missed, now, meanwhile=meanwhile, tried_at=self._tried_at)
        if not reason:
            return
        console.say(f"{reason}; it begins now")
        async with get_client() as client:
            run = await client.create_flow_run_from_deployment(
                self._deployment, parameters={"reason": reason}, tags=[CATCHING_UP], state=Scheduled(message=reason)
            )
        self._trying, self._tried_at = (run.id, self._tried_at), now

    async def _forget_a_try_that_was_skipped(self) -> None:
        """One that met another run did nothing, and does not use up the day's try."""
        if self._trying is None:
            return
        tried, before = self._trying
        try:
            async with get_client() as client:
                run = await client.read_flow_run(tried)
        except ObjectNotFound:
            self._trying = None
            return
        if run.state is not None and run.state.is_final():
            self._trying = None
            if _did_not_begin(run):
                self._tried_at = before

    async def look_for_missed(self) -> None:
        """Have one run begin if one has to catch up, unless one is under way or about to be."""
        # The server first: a run that ends in between has written the end of its journal before.
        if not await self._is_busy():
            await self.catch_up(meanwhile=True)

    async def _is_busy(self) -> bool:
        types = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED, StateType.CANCELLING]
        begun_or_due = FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=types)),
            expected_start_time=FlowRunFilterExpectedStartTime(before_=datetime.now(UTC) + SOON),
        )
        async with get_client() as client:
            return bool(
                await client.read_flow_runs(flow_run_filter=begun_or_due, deployment_filter=self._mine, limit=1)
            )

    async def tell_what_was_not_begun(self) -> None:
        """Tell of runs of the schedule that met another one under way, those of one look together."""
        cancelled = FlowRunFilter(
            state=FlowRunFilterState(name=FlowRunFilterStateName(any_=["Cancelled", "Skipped"])),
            end_time=FlowRunFilterEndTime(after_=self._since),
        )
        async with get_client() as client:
            found = await client.read_flow_runs(
                flow_run_filter=cancelled, deployment_filter=self._mine, sort=FlowRunSort.END_TIME_DESC, limit=50
            )
        new = [run for run in found if run.id not in self._told and _met_another(run)]
        if not new:
            return
        self._told.update(run.id for run in new)
        due = max((run.expected_start_time for run in new if run.expected_start_time), default=None)
        when = "" if due is None else f" due {when_words(due.isoformat(timespec='minutes'))}"
        others = f" (and {len(new) - 1} before it)" if len(new) > 1 else ""
        what = f"the run{when}{others} was not begun, since another is still under way"
        await asyncio.to_thread(self._not_begun, what)


def _met_another(run: FlowRun) -> bool:
    return run.auto_scheduled and _did_not_begin(run)


def _did_not_begin(run: FlowRun) -> bool:
    """Whether it met another run that was under way."""
    if run.state is None:
        return False
    return run.state.name == "Skipped" or run.state.message == DROPPED
