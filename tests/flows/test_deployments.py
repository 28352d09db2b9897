"""prefect.yaml: what it names is there, and what it hands over is allowed."""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

import pytest
import yaml

from faceline.stages import STAGES
from flows.config import load_config
from flows.timetable import check_cron, check_zone
from tests.conftest import ROOT

FILE: dict[str, Any] = yaml.safe_load((ROOT / "prefect.yaml").read_text("utf-8"))


@pytest.mark.parametrize("deployment", FILE["deployments"], ids=lambda deployment: str(deployment["name"]))
def test_a_deployment_can_be_run(deployment: dict[str, Any]) -> None:
    from prefect import Flow
    from prefect.client.schemas.objects import ConcurrencyLimitConfig

    module, _, name = deployment["entrypoint"].rpartition(".")
    flow = getattr(importlib.import_module(module), name)
    assert isinstance(flow, Flow)
    given = deployment["parameters"]
    assert set(given) <= set(inspect.signature(flow.fn).parameters)
    plain = [re.sub(r"\{\{ \$\w+ }}", "/somewhere", override) for override in given["overrides"]]
    load_config(["footage=/somewhere", *plain], STAGES)
    for schedule in deployment.get("schedules", []):
        check_cron(schedule["cron"])
        check_zone(schedule["timezone"])
    if "concurrency_limit" in deployment:
        assert ConcurrencyLimitConfig(**deployment["concurrency_limit"]).limit == 1


def test_only_the_archive_has_times_and_never_runs_twice_at_once() -> None:
    scheduled = [deployment for deployment in FILE["deployments"] if deployment.get("schedules")]
    assert [deployment["entrypoint"] for deployment in scheduled] == ["flows.flow_many.archive"]
    assert scheduled[0]["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}


def test_it_is_for_the_prefect_that_is_locked() -> None:
    lock = (ROOT / "requirements.lock").read_text("ascii")
    assert f"\nprefect=={FILE['prefect-version']} " in lock
    assert re.search(r"\nsqlalchemy==2\.0\.", lock), "with 2.1 the scheduler of this Prefect plans nothing"
