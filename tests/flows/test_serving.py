"""What `serve` asks of Prefect's server, and what it sets right there."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta

import pytest

from tests.flows.conftest import Line

pytestmark = pytest.mark.prefect


def test_what_a_killed_serve_left_is_settled_on_any_server(prefect_line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that forgot who holds its places would cancel every night that follows."""
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.states import Pending, Running, Scheduled

    from flows import serving

    @flow(name="left")
    def other() -> None: ...

    monkeypatch.setattr(serving, "PAGE", 2, raising=False)

    async def go() -> tuple[list[str], str]:
        async with get_client() as client:
            deployment = await client.create_deployment(
                await client.create_flow(other), name=f"left-{os.urandom(4).hex()}", concurrency_limit=1
            )
            runs = []
            for _ in range(4):
                run = await client.create_flow_run_from_deployment(deployment, state=Scheduled())
                runs.append(run.id)
            for state in (Pending(), Running()):
                await client.set_flow_run_state(runs[0], state)
            await serving.settle_what_was_left([deployment], own_server=False)
            names = [str((await client.read_flow_run(run)).state.name) for run in runs]
            answer = await client.set_flow_run_state(runs[1], Pending())
            return names, answer.state.name

    names, after = asyncio.run(go())
    assert names == ["Crashed", "Scheduled", "Scheduled", "Scheduled"]
    assert after == "Pending", "the place is free again"


def test_a_run_whose_machine_slept_keeps_its_place() -> None:
    from prefect.server.concurrency.lease_storage.memory import ConcurrencyLeaseStorage
    from prefect.settings.models.server.services import ServerServicesRepossessorSettings

    from flows.server import LASTING

    async def renewed() -> bool:
        storage = ConcurrencyLeaseStorage()
        lease = await storage.create_lease([], timedelta(seconds=-3600))
        assert lease.expiration < datetime.now(UTC)
        return await storage.renew_lease(lease.id, timedelta(seconds=300))

    assert asyncio.run(renewed()), "nobody but the service below takes an old one away"
    with pytest.MonkeyPatch.context() as patch:
        assert ServerServicesRepossessorSettings().enabled
        for name, value in LASTING.items():
            patch.setenv(name, value)
        assert not ServerServicesRepossessorSettings().enabled
