"""A Prefect server on PostgreSQL, by Prefect's own setting: runs report to it, and a restart loses none of them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.postgres import PASSWORD, binaries, cluster, free_port

ROOT = Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def server(database: str, home: Path) -> Iterator[str]:
    """``prefect server start`` on a database; yields the address of its API."""
    port = free_port()
    environment = {
        **os.environ,
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": database,
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_ENABLED": "false",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    home.mkdir(exist_ok=True)
    with (home / "server.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=home, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{port}/api"
        for _ in range(1200):
            assert process.poll() is None, (home / "server.log").read_text()
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5):
                break
            time.sleep(0.1)
        yield url
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def ask(url: str, path: str, **body: Any) -> Any:
    request = urllib.request.Request(
        f"{url}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


def states(url: str) -> tuple[dict[str, str], dict[str, str]]:
    """Names and states of all flow runs and of all task runs."""
    flows = {run["name"]: run["state_name"] for run in ask(url, "flow_runs/filter")}
    tasks = {run["name"]: run["state_name"] for run in ask(url, "task_runs/filter")}
    return flows, tasks


@pytest.mark.prefect
def test_runs_on_postgresql_outlive_their_server(tmp_path: Path) -> None:
    if binaries() is None:
        pytest.skip("PostgreSQL is not on this machine: install it (Debian: postgresql)")
    environment = {**os.environ, "FACELINE_STATE": str(tmp_path / "state"), "PREFECT_HOME": str(tmp_path / "client")}
    command = [sys.executable, "-m", "tests.flows.fake_run", str(tmp_path / "work")]
    with cluster() as database:
        with server(database, tmp_path / "home") as url:
            for _ in range(2):
                done = subprocess.run(
                    command,
                    cwd=ROOT,
                    env={**environment, "PREFECT_API_URL": url},
                    capture_output=True,
                    text=True,
                    timeout=300,
                )
                assert done.returncode == 0, done.stdout + done.stderr
            # States of tasks travel as events, so the last ones are waited for.
            for _ in range(300):
                before = states(url)
                if len(before[1]) == 16 and set(before[1].values()) == {"Completed"}:
                    break
                time.sleep(0.1)
        with server(database, tmp_path / "home") as url:
            after = states(url)
    assert before == after
    assert after[0] == {"clip": "Completed"}, "the second run found everything cached and asked no server"
    assert len(after[1]) == 16
    assert set(after[1].values()) == {"Completed"}
    assert not (tmp_path / "home" / "prefect.db").exists(), "no SQLite beside it"
    for path in (tmp_path / "work", tmp_path / "state"):
        for file in path.rglob("*"):
            assert not file.is_file() or PASSWORD.encode() not in file.read_bytes(), file
