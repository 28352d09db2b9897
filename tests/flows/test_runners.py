"""Wherever stages run, artifacts are the same, byte for byte: real stages on made footage, once per kind of runner."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from faceline.made.render import render
from faceline.made.script import short_test_script
from tests.flows.test_line import faceline

pytestmark = [pytest.mark.prefect, pytest.mark.models, pytest.mark.xdist_group("runners")]


def contents(store: Path) -> dict[str, object]:
    """Stage and key of every artifact → digests of its payloads."""
    found = {}
    for manifest in store.glob("[a-z]*/*/manifest.json"):
        payloads = json.loads(manifest.read_text())["payloads"]
        digests = {name: (payload["sha256"], payload["size"]) for name, payload in payloads.items()}
        found[f"{manifest.parent.parent.name}/{manifest.parent.name}"] = digests
    return found


@pytest.fixture(scope="module")
def by_processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, object]]]:
    folder = tmp_path_factory.mktemp("runners")
    render(short_test_script(), folder / "made.mp4")
    yield folder, run(folder, "processes")


def run(folder: Path, runner: str) -> dict[str, object]:
    arguments = (f"footage={folder / 'made.mp4'}", f"output={folder / runner}", "sample.fps=5", "sample.segment_s=2.5")
    ended = faceline(folder, "analyze", *arguments, "gridsearch=small", f"runner={runner}", store=f"store-{runner}")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    states = {entry["state"] for entry in json.loads((folder / runner / "run.json").read_text())["stages"]}
    assert states == {"run"}
    return contents(folder / f"store-{runner}")


@pytest.mark.parametrize("runner", ["threads", "dask", "ray"])
def test_the_same_keys_and_bytes(by_processes: tuple[Path, dict[str, object]], runner: str) -> None:
    folder, expected = by_processes
    assert len(expected) == 16
    assert run(folder, runner) == expected
