"""Fixtures for flows: one Prefect test server for all tests, and the real pipeline with stand-ins for the work."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from faceline.stages import STAGES
from tests.flows.fakes import Calls, fake_finish, fake_span, fake_stages, open_fake


@pytest.fixture(scope="session")
def prefect_api(private_state: Path) -> Iterator[None]:
    """A real Prefect server with a database of its own, for the whole session."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=300):
        yield


@dataclass
class Line:
    """The pipeline with fake stages, ready to be called like the command line.

    Attributes:
        folder: where footage, store and results lie.
        calls: what the fake stages did.
        servers: how often a Prefect server was asked for.
        store: root of the store; a folder beside the footage by default.
    """

    folder: Path
    calls: Calls
    servers: int = 0
    store: str = ""

    def footage(self, name: str = "clip", content: str = "") -> Path:
        """A fake footage; what is there stays as it is unless there is new content for it."""
        path = self.folder / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        if content or not path.exists():
            path.write_text(content or "pictures")
        return path

    def arguments(self, *overrides: str, footage: Path | None = None) -> list[str]:
        """A command line after its verb."""
        own = [f"footage={footage or self.footage()}", f"store.root={self.store or self.folder / 'artifacts'}"]
        return [
            *own,
            f"output={self.folder / 'results'}",
            "archive.quiet_s=0",
            "gridsearch=small",
            "runner=threads",
            "runner.retry_delay_s=0",
            *overrides,
        ]


def fake_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Line:
    """Put fake stages in place of the real ones."""
    import faceline.video
    from flows import analyze, archive, archive_plan, models, night, plan, show, sweep, verify

    calls = Calls()
    stages = fake_stages(STAGES, calls)
    for module in (analyze, archive, archive_plan, models, night, plan, show, sweep, verify):
        monkeypatch.setattr(module, "STAGES", stages)
    monkeypatch.setattr(sweep, "SWEPT", stages[:-1])
    monkeypatch.setattr(faceline.video, "open_footage", open_fake)
    monkeypatch.setattr(analyze, "finish", fake_finish)
    # A stand-in has no code of its own.
    for where in ("tasks.runner", "faceline.nightly.recipe"):
        monkeypatch.setattr(f"{where}.code_digests", lambda stage: {stage.name: calls.code.get(stage.name, "as it is")})
    monkeypatch.setattr(archive_plan, "stated_span", fake_span)
    monkeypatch.setattr(archive_plan, "open_footage", open_fake)
    return Line(folder, calls)


def fake_flows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the flows know of the fake stages; imports Prefect."""
    from flows import analyze, flow, flow_many

    for module in (flow, flow_many):
        monkeypatch.setattr(module, "STAGES", analyze.STAGES)
    monkeypatch.setattr(flow, "finish", fake_finish)


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Line:
    """Fake stages in place of the real ones; no Prefect server is there."""
    from flows import analyze, archive, sweep

    made = fake_line(tmp_path, monkeypatch)

    @contextlib.contextmanager
    def no_server(say: Any) -> Iterator[Any]:
        made.servers += 1
        raise AssertionError("a Prefect server was asked for")
        yield

    for module in (analyze, archive, sweep):
        monkeypatch.setattr(module, "prefect_server", no_server)
    return made


@pytest.fixture
def prefect_line(line: Line, prefect_api: None, monkeypatch: pytest.MonkeyPatch) -> Line:
    """The same, on the session's Prefect server."""
    from flows import analyze, archive, sweep

    class Server:
        temporary = False

        def ready(self) -> None:
            pass

    @contextlib.contextmanager
    def session_server(say: Any) -> Iterator[Server]:
        line.servers += 1
        yield Server()

    for module in (analyze, archive, sweep):
        monkeypatch.setattr(module, "prefect_server", session_server)
    fake_flows(monkeypatch)
    return line
