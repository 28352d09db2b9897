"""The composition in deploy/: it holds together, asks for nothing unknown, and keeps secrets out of files.

It is read, not run: no container engine is needed for these tests.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
ROOT = DEPLOY.parent

SERVICE_KEYS = {
    *(
        "image",
        "build",
        "restart",
        "init",
        "cap_drop",
        "security_opt",
        "environment",
        "volumes",
        "healthcheck",
        "ports",
    ),
    *("hostname", "networks", "entrypoint", "command", "depends_on", "mem_limit", "stop_grace_period"),
}


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def variables(text: str) -> set[str]:
    return set(re.findall(r"\$\{(\w+)", text))


def test_services_networks_and_volumes_are_declared_and_used(compose: Any) -> None:
    services = compose["services"]
    assert set(services) == {"database", "server", "nights"}
    assert {key for key in compose if not key.startswith("x-")} == {"name", "services", "networks", "volumes"}
    used: set[str] = set()
    for name, service in services.items():
        assert set(service) <= SERVICE_KEYS, name
        assert set(service["networks"]) <= set(compose["networks"])
        assert set(service.get("depends_on", {})) <= set(services)
        for other, how in service.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"}
            assert "healthcheck" in services[other], "what is waited for says when it is ready"
        sources = [volume.split(":")[0] for volume in service.get("volumes", []) if not volume.startswith("$")]
        used |= set(sources)
    assert used == set(compose["volumes"])


def test_images_are_plain_names_and_what_is_offered_is_offered_to_this_machine(compose: Any) -> None:
    for service in compose["services"].values():
        assert "/" not in service["image"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    bases = re.findall(r"^FROM (\S+)", (DEPLOY / "Dockerfile").read_text(), re.M)
    assert bases == ["python:3.11-slim-bookworm"] * 2


def test_the_addresses_fit_together(compose: Any) -> None:
    database, server, nights = (compose["services"][name] for name in ("database", "server", "nights"))
    url = server["environment"]["PREFECT_SERVER_DATABASE_CONNECTION_URL"]
    match = re.fullmatch(r"postgresql\+asyncpg://(\w+):\$\{DATABASE_PASSWORD\}@database:5432/(\w+)", url)
    assert match is not None
    assert match.groups() == (database["environment"]["POSTGRES_USER"], database["environment"]["POSTGRES_DB"])
    assert nights["environment"]["PREFECT_API_URL"] == "http://server:4200/api"
    assert server["entrypoint"][-1] == "4200"


def test_a_server_that_restarts_knows_the_places_of_its_runs(
    compose: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from prefect.server.concurrency.lease_storage import get_concurrency_lease_storage
    from prefect.settings import Settings
    from prefect.settings.context import get_current_settings
    from prefect.settings.models.server.concurrency import ServerConcurrencySettings

    server = compose["services"]["server"]
    name = "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"
    monkeypatch.setenv(name, server["environment"][name])
    settings = Settings(home=tmp_path).model_copy(
        update={"server": get_current_settings().server.model_copy(update={"concurrency": ServerConcurrencySettings()})}
    )
    monkeypatch.setattr("prefect.server.concurrency.lease_storage.get_current_settings", lambda: settings)
    monkeypatch.setattr("prefect.server.concurrency.lease_storage.filesystem.get_current_settings", lambda: settings)
    storage: Any = get_concurrency_lease_storage()
    assert storage.storage_path == tmp_path / "concurrency_leases"
    home = re.search(r"PREFECT_HOME=(\S+)", (DEPLOY / "Dockerfile").read_text())
    assert home is not None
    mounted = [volume.split(":")[1] for volume in server["volumes"]]
    assert any(home[1].startswith(f"{place}/") for place in mounted), "they outlive the container"


def test_a_schedule_keeps_its_name_when_its_container_is_made_anew(compose: Any) -> None:
    assert compose["services"]["nights"]["hostname"] == "${FACELINE_HOSTNAME:-nights}"


def test_whom_a_night_is_told_comes_from_the_environment(compose: Any) -> None:
    assert compose["services"]["nights"]["environment"]["FACELINE_WEBHOOK"] == "${FACELINE_WEBHOOK:-}"


def test_every_variable_is_explained_and_no_secret_has_a_value() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    example = (DEPLOY / "example.env").read_text()
    named = dict(re.findall(r"^(\w+)=(.*)$", example, re.M))
    assert variables(text) == set(named)
    for name, value in named.items():
        assert not value or not re.search("PASSWORD|SECRET|KEY", name), name
    assert "/deploy/.env" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_image_installs_what_is_locked_and_runs_as_nobody_special() -> None:
    lines = (DEPLOY / "Dockerfile").read_text()
    assert lines.count("--require-hashes") == 2
    assert "USER faceline" in lines
    assert lines.index("USER faceline") > lines.rindex("RUN ")
    copied = [name for names in re.findall(r"^COPY (?!--)(.+) \S+$", lines, re.M) for name in names.split()]
    allowed = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"}
    assert set(copied) == allowed
    assert all((ROOT / name).exists() for name in copied)


def test_a_run_has_time_to_end_before_the_service_is_killed(compose: Any) -> None:
    from flows.serving import GRACE_S

    patience = compose["services"]["nights"]["stop_grace_period"]
    # `serve` waits for the run, then for Prefect's runner to pause the schedule.
    assert float(patience.removesuffix("s")) > 2 * GRACE_S


def test_the_options_of_the_service_are_options(compose: Any) -> None:
    verb, *overrides = compose["services"]["nights"]["command"]
    assert verb == "serve"
    known = {"footage", "output", "store.root"}
    assert {override.partition("=")[0] for override in overrides} == known
