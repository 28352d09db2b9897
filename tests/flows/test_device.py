"""Where a run runs: the GPU where asked for and there, else the CPU and a word about it; precisions it cannot do."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from faceline.devices import Device
from faceline.errors import ModelError
from faceline.stages import STAGES
from flows import analyze as analyze_module
from flows import console, job
from flows.config import load_config
from flows.console import Lines
from flows.job import announce_device, describe_device, device_of, prepare
from flows.results import run_facts
from flows.walk import start_here
from tests.flows.conftest import Line


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    job._device.cache_clear()
    yield
    job._device.cache_clear()


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "find_device", lambda wanted: Device("cpu", missing="none" if wanted == "cuda" else ""))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"cpu": Device("cpu"), "cuda": Device("cuda", "A GPU"), "auto": Device("cuda", "A GPU")}
    monkeypatch.setattr(job, "find_device", lambda wanted: there[wanted])


def made(line: Line, *overrides: str) -> job.Job:
    return prepare(load_config(line.arguments(*overrides), analyze_module.STAGES), analyze_module.STAGES)


def test_without_a_gpu_the_cpu_and_one_line_in_log_and_console(
    line: Line, no_gpu: None, caplog: pytest.LogCaptureFixture
) -> None:
    one = made(line, "runtime.device=cuda")
    assert one.runtime.device == "cpu" and one.runtime.batch_size == 32
    with caplog.at_level(logging.INFO, logger="flows"):
        announce_device(one.device, one.config)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage() == ("runtime.device=cuda: there is no usable GPU (none); the networks run on the CPU")


def test_auto_does_not_complain(line: Line, no_gpu: None, caplog: pytest.LogCaptureFixture) -> None:
    one = made(line, "runtime.device=auto")
    announce_device(one.device, one.config)
    assert one.runtime.device == "cpu" and not caplog.records
    assert describe_device(one.device, one.config) == "device: cpu (auto)"


def test_the_cpu_goes_without_saying(line: Line, no_gpu: None) -> None:
    one = made(line)
    assert describe_device(one.device, one.config) == ""


@pytest.mark.parametrize("wanted", ["cuda", "auto"])
def test_a_gpu_is_used_named_and_given_large_batches(
    wanted: str, line: Line, gpu: None, capsys: pytest.CaptureFixture
) -> None:
    one = made(line, f"runtime.device={wanted}")
    assert (one.runtime.device, one.runtime.batch_size) == ("cuda", 128)
    assert made(line, f"runtime.device={wanted}", "runtime.batch_size=7").runtime.batch_size == 7
    announce_device(one.device, one.config)
    assert capsys.readouterr().out == "device: cuda (A GPU)\n"
    assert run_facts(one, [], 0.0)["runtime"] | {"threads": 0, "workers": 0} == {
        "device": "cuda",
        "device_name": "A GPU",
        "batch_size": 128,
        "threads": 0,
        "workers": 0,
    }


def test_the_device_changes_no_key(line: Line, gpu: None) -> None:
    first, second = (made(line, f"runtime.device={device}") for device in ("cpu", "cuda"))
    keys = [
        {item.node.name: item.explanation.reason for item in analyze_module.plan(one.pipeline)}
        for one in (first, second)
    ]
    assert keys[0] == keys[1]


def test_a_precision_that_the_device_cannot_do_fails_before_any_work(
    line: Line, no_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = made(line)
    embed = load_config(["footage=x", "embed.precision=fp16"], STAGES).params["embed"]
    one = replace(one, config=replace(one.config, params={**one.config.params, "embed": embed}))
    monkeypatch.setattr(analyze_module, "prefect_server", lambda *args: pytest.fail("began to work"))
    with pytest.raises(ModelError, match=r"fp16 needs a GPU.*embed\.precision=fp32") as caught:
        analyze_module.run_job(one, Lines(), 0.0)
    assert "\n" not in str(caught.value)


def test_stored_results_of_another_precision_need_no_such_device(
    line: Line, no_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = made(line)
    monkeypatch.setattr(analyze_module, "is_cached", lambda job: True)
    monkeypatch.setattr(analyze_module, "run_here", lambda *args: "from the store")
    monkeypatch.setattr(job.Job, "check_precision", lambda self: pytest.fail("asked for a device"))
    assert analyze_module.run_job(one, Lines(), 0.0) == "from the store"


def test_it_is_looked_for_once(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []
    monkeypatch.setattr(job, "find_device", lambda wanted: looks.append(wanted) or Device("cpu"))
    config = load_config(line.arguments("runtime.device=cuda"), analyze_module.STAGES)
    assert device_of(config) is device_of(config) and looks == ["cuda"]


def test_run_json_says_where_it_ran(line: Line, no_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(console, "warning", lambda text, stream=None: said.append(text))
    results = Path(line.folder / "results")
    made(line).walk(start_here, Lines()).run()
    assert analyze_module.analyze(line.arguments("runtime.device=cuda")) == 0
    assert json.loads((results / "run.json").read_text())["runtime"]["device"] == "cpu"
    assert [text for text in said if "no usable GPU" in text]
