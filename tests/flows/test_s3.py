"""The verbs on a store behind ``s3://``: artifacts as on a local one, few requests, no credentials in any file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from faceline import backends, remote, uses
from faceline import store as store_module
from faceline.remote import forget_folders
from faceline.store import Store
from flows.analyze import analyze
from flows.archive import archive
from flows.cli import main
from tests.flows.conftest import Line
from tests.s3 import BUCKET, KEY_ID, SECRET, S3Server

SEGMENTS = "sample.segment_s=10"


@pytest.fixture
def root(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store of the test's own on the server."""
    monkeypatch.setenv("FACELINE_CACHE", str(tmp_path / "cache"))
    return f"s3://{BUCKET}/{tmp_path.name}"


def another_process() -> None:
    """What a new process would not know."""
    store_module._sound.clear()
    uses._said_today.clear()
    forget_folders()


def contents(root: str | Path) -> dict[tuple[str, str], Any]:
    """Stage and key → digest of the content, and digest, size and rows of each payload."""
    store = Store(root)
    found = {}
    for stage, key in store.artifacts():
        manifest = store.inspect(stage, key).manifest
        assert manifest is not None
        payloads = {name: (p.kind, p.sha256, p.size, p.rows) for name, p in manifest.payloads.items()}
        found[stage, key] = manifest.digest, payloads
    return found


def stages_of(line: Line) -> list[tuple[Any, ...]]:
    run = json.loads((line.folder / "results" / "run.json").read_text())
    return [tuple(stage[name] for name in ("stage", "segment", "trial", "key", "digest")) for stage in run["stages"]]


@pytest.mark.prefect
def test_a_run_on_s3_leaves_what_a_local_run_leaves(
    prefect_line: Line, root: str, s3: S3Server, capsys: pytest.CaptureFixture[str]
) -> None:
    line = prefect_line
    assert analyze(line.arguments(SEGMENTS)) == 0
    local = stages_of(line)
    line.store = root
    line.calls.names()
    assert s3.total == 0
    assert analyze(line.arguments(SEGMENTS)) == 0
    assert "sample" in line.calls.names(), "nothing of the local store was used"
    assert stages_of(line) == local
    assert contents(root) == contents(line.folder / "artifacts")
    assert len(contents(root)) == 16

    another_process()
    servers = line.servers
    capsys.readouterr()
    assert main(["plan", *line.arguments(SEGMENTS)]) == 0
    assert "16 cached" in capsys.readouterr().out
    assert analyze(line.arguments(SEGMENTS)) == 0
    assert line.servers == servers, "a cached run needs no Prefect"
    assert line.calls.names() == []
    assert main(["verify", f"store.root={root}"]) == 0
    assert "16 artifacts sound, 0 damaged" in capsys.readouterr().out
    assert main(["config", f"store.root={root}"]) == 0
    assert root in capsys.readouterr().out


@pytest.mark.prefect
def test_how_much_a_run_asks(prefect_line: Line, root: str, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    line = prefect_line
    # However slow this machine is: what was asked of late is not asked again.
    monkeypatch.setattr(remote, "RECENT_S", 1e6)
    monkeypatch.setattr(store_module, "_RECENT_S", 1e6)
    line.store = root
    assert analyze(line.arguments(SEGMENTS)) == 0
    cold = s3.total
    # 16 stages of one payload: looked for by the plan, by the run, under the lock and at the commit; two objects, two
    # pointers, a sign of use. Besides, a greeting, listings of what explains, and the registration of the run.
    assert cold <= 16 * 9 + 18, s3.requests
    another_process()
    s3.forget()
    assert analyze(line.arguments(SEGMENTS)) == 0
    # Two pointers, a manifest and a listing of the payloads for each; payloads come from the copies.
    assert s3.total <= 16 * 4 + 16, s3.requests


def test_damage_on_s3_is_found_set_aside_and_made_good(
    prefect_line: Line, root: str, s3: S3Server, capsys: pytest.CaptureFixture[str]
) -> None:
    line = prefect_line
    line.store = root
    assert analyze(line.arguments(SEGMENTS)) == 0
    before = contents(root)
    store = Store(root)
    key = next(key for stage, key in before if stage == "cluster")
    path = next(path for path in store.folder.written(f"cluster/{key}") if path.endswith(".parquet"))
    store.folder.put(path, store.folder.read(path)[:-1])
    another_process()
    line.calls.names()
    assert analyze(line.arguments(SEGMENTS)) == 0
    assert line.calls.names() == ["cluster"], "the same bytes, so that nothing after it runs"
    assert contents(root) == before
    capsys.readouterr()
    assert main(["verify", f"store.root={root}"]) == 0


@pytest.mark.prefect
def test_an_archive_on_s3(prefect_line: Line, root: str, s3: S3Server) -> None:
    line = prefect_line
    home = line.folder / "archive"
    for name in ("one", "two"):
        path = line.footage(f"archive/{name}", f"pictures of {name}")
        os.utime(path, (1e9, 1e9))
    assert archive(line.arguments(footage=home)) == 0
    line.store = root
    results = line.folder / "results-s3"
    assert archive([*line.arguments(footage=home)[:2], *line.arguments(f"output={results}")[3:]]) == 0
    assert contents(root) == contents(line.folder / "artifacts")
    another_process()
    s3.forget()
    line.calls.names()
    assert archive([*line.arguments(footage=home)[:2], *line.arguments(f"output={results}")[3:]]) == 0
    assert line.calls.names() == []
    assert s3.total <= 8, f"what is unchanged is known without the store; the run registers there: {s3.requests}"


@pytest.mark.prefect
def test_trouble_of_the_store_is_tried_again_by_its_task(
    prefect_line: Line, root: str, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "_S3_CONFIG", {"retries": {"total_max_attempts": 1}})
    monkeypatch.setattr(backends, "_S3_ROUNDS", 1)
    monkeypatch.setattr(remote, "PATIENCE_S", 0.0)
    failed: list[str] = []

    def twice(environ: dict[str, Any], number: int) -> str:
        if environ["REQUEST_METHOD"] == "PUT" and "/cluster/" in environ["PATH_INFO"] and len(failed) < 2:
            failed.append(environ["PATH_INFO"])
            return "503"
        return ""

    prefect_line.store = root
    s3.fault = twice
    assert analyze(prefect_line.arguments(SEGMENTS)) == 0
    assert len(failed) == 2


@pytest.fixture
def hopeless(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nobody answers at the address of the store."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setattr(backends, "_S3_CONFIG", {"retries": {"total_max_attempts": 1}})
    forget_folders()
    yield
    forget_folders()


@pytest.mark.parametrize("verb", ["analyze", "plan", "verify"])
def test_a_store_that_is_out_of_reach_is_one_line(
    line: Line, root: str, hopeless: None, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line.store = root
    assert main([verb, f"store.root={root}"] if verb == "verify" else [verb, *line.arguments()]) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert f"{root}: the object store does not answer" in said[0]


@pytest.mark.prefect
def test_no_file_of_a_run_holds_credentials(prefect_line: Line, root: str, s3: S3Server) -> None:
    prefect_line.store = root
    assert analyze(prefect_line.arguments(SEGMENTS)) == 0
    state = Path(os.environ["FACELINE_STATE"])
    for folder in (prefect_line.folder, state):
        for path in folder.rglob("*"):
            if path.is_file():
                data = path.read_bytes()
                assert SECRET.encode() not in data, path
                assert KEY_ID.encode() not in data, path
    store = Store(root)
    for name in store.folder.written(""):
        data = store.folder.read(name)
        assert SECRET.encode() not in data
        assert KEY_ID.encode() not in data
    assert not [name for name in store.folder.names() if name == "_logs"], "logs stay on this machine"
