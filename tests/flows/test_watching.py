"""What `serve` looks after while it lives: nights that were missed or failed, and nights that were not begun."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from faceline.nightly.missed import CATCHING_UP
from tests.flows.conftest import Line

pytestmark = pytest.mark.prefect


class Asked:
    """Stands in for the journals: a reason as long as nobody has tried, and how it was asked."""

    def __init__(self) -> None:
        self.tries: list[datetime | None] = []

    def __call__(self, now: datetime, *, meanwhile: bool = False, tried_at: datetime | None = None) -> str:
        self.tries.append(tried_at)
        return "" if tried_at else f"{CATCHING_UP}: one was missed"


async def a_deployment(client: Any) -> UUID:
    from prefect import flow

    @flow(name="watched")
    def other() -> None: ...

    made: UUID = await client.create_deployment(
        await client.create_flow(other),
        name=f"watched-{os.urandom(4).hex()}",
        concurrency_limit=1,
        concurrency_options={"collision_strategy": "CANCEL_NEW"},
    )
    return made


async def runs_of(client: Any, deployment: UUID) -> list[Any]:
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId

    mine = DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))
    found: list[Any] = await client.read_flow_runs(deployment_filter=mine)
    return found


def test_a_night_that_was_missed_begins_while_serve_lives(
    prefect_line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    from prefect.client.orchestration import get_client
    from prefect.states import Completed, Pending, Running, Scheduled

    from flows.watching import Watcher

    asked = Asked()

    begun: list[Any] = [Pending(), Running()]

    async def go() -> list[int]:
        counts: list[int] = []
        async with get_client() as client:
            deployment = await a_deployment(client)
            watcher = Watcher(deployment, asked, pytest.fail)

            async def look() -> None:
                await watcher.look_for_missed()
                counts.append(len(await runs_of(client, deployment)))

            tomorrow: Any = Scheduled(scheduled_time=datetime.now(UTC) + timedelta(days=1))
            await client.create_flow_run_from_deployment(deployment, state=tomorrow)
            run = await client.create_flow_run_from_deployment(deployment, state=Scheduled())
            await look()  # It is about to begin,
            for state in begun:
                await client.set_flow_run_state(run.id, state)
            await look()  # is under way,
            await client.set_flow_run_state(run.id, Completed())
            await look()  # and is over.
            again = [run for run in await runs_of(client, deployment) if CATCHING_UP in run.tags]
            assert [run.parameters for run in again] == [{"reason": f"{CATCHING_UP}: one was missed"}]
            await client.set_flow_run_state(again[0].id, Completed(), force=True)
            await look()
        return counts

    assert asyncio.run(go()) == [2, 2, 3, 3]
    assert asked.tries[0] is None
    assert asked.tries[1] is not None, "whoever decides knows of the try before"
    assert capsys.readouterr().out.count("it begins now") == 1


def test_a_run_that_was_skipped_does_not_use_up_the_try(prefect_line: Line) -> None:
    from prefect.client.orchestration import get_client
    from prefect.states import Cancelled, Completed

    from flows.watching import Watcher

    asked = Asked()

    async def go() -> None:
        ends: list[Any] = [Cancelled(name="Skipped", message="another run works on this archive"), Completed()]
        async with get_client() as client:
            deployment = await a_deployment(client)
            watcher = Watcher(deployment, asked, pytest.fail)
            for number, end in enumerate(ends, start=1):
                await watcher.look_for_missed()
                runs = await runs_of(client, deployment)
                assert len(runs) == number
                begun = next(run for run in runs if run.state is not None and run.state.is_scheduled())
                await client.set_flow_run_state(begun.id, end, force=True)
            await watcher.look_for_missed()
            assert len(await runs_of(client, deployment)) == 2

    asyncio.run(go())
    assert [tried is None for tried in asked.tries] == [True, True, False]


def test_a_night_that_is_not_begun_is_told_once(prefect_line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.client.orchestration import get_client
    from prefect.states import Cancelled, Pending, Running, Scheduled

    from flows import watching

    # Only the server's scheduler can make runs that count as scheduled.
    monkeypatch.setattr(watching, "_met_another", lambda run: run.state.message == watching.DROPPED)
    told: list[str] = []
    begun: list[Any] = [Pending(), Running()]

    async def go() -> None:
        async with get_client() as client:
            deployment = await a_deployment(client)
            watcher = watching.Watcher(deployment, Asked(), told.append)
            runs = [await client.create_flow_run_from_deployment(deployment, state=Scheduled()) for _ in range(4)]
            for state in begun:
                await client.set_flow_run_state(runs[0].id, state)
            await watcher.tell_what_was_not_begun()
            assert told == []
            for run in runs[1:3]:
                await client.set_flow_run_state(run.id, Pending())
            await client.set_flow_run_state(runs[3].id, Cancelled(message="by hand"))
            for _ in range(2):
                await watcher.tell_what_was_not_begun()

    asyncio.run(go())
    assert len(told) == 1
    assert told[0].startswith("the run due ")
    assert told[0].endswith("UTC (and 1 before it) was not begun, since another is still under way")


@pytest.mark.parametrize(
    ("auto", "name", "message", "met"),
    [
        (True, "Cancelled", "Deployment concurrency limit reached.", True),
        (True, "Skipped", "another run works on this archive", True),
        (True, "Cancelled", "by hand", False),
        (False, "Cancelled", "Deployment concurrency limit reached.", False),
    ],
)
def test_which_runs_were_not_begun(auto: bool, name: str, message: str, met: bool) -> None:
    from prefect.client.schemas.objects import FlowRun
    from prefect.states import Cancelled

    from flows.watching import _met_another

    run = FlowRun(flow_id=uuid4(), auto_scheduled=auto, state=Cancelled(name=name, message=message))
    assert _met_another(run) == met


def test_a_server_that_does_not_answer_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows import watching

    looks: list[str] = []

    class Watcher(watching.Watcher):
        async def look_for_missed(self) -> None:
            looks.append("missed")
            if looks.count("missed") == 2:
                raise asyncio.CancelledError

        async def tell_what_was_not_begun(self) -> None:
            looks.append("told")
            raise ConnectionError("nobody there")

    monkeypatch.setattr(watching, "FIRST_LOOK_S", 0.0)
    monkeypatch.setattr(watching, "LOOK_S", 0.0)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(Watcher(uuid4(), Asked(), pytest.fail).watch())
    assert looks == ["told", "missed"] * 2
