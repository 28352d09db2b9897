"""Logs and tables name people's footage: whatever the umask, only their owner can read them."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.files import replace_text
from flows.logfile import append_traceback, session


@pytest.fixture(autouse=True)
def generous_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def modes(root: Path) -> dict[str, int]:
    return {str(path.relative_to(root)): stat.S_IMODE(path.stat().st_mode) for path in root.rglob("*")}


def test_a_log_and_its_folder(tmp_path: Path) -> None:
    with session(tmp_path / "store" / "_logs" / "run.log"):
        logging.getLogger("faceline.test").warning("something")
    assert "something" in (tmp_path / "store" / "_logs" / "run.log").read_text()
    assert modes(tmp_path) == {"store": 0o700, "store/_logs": 0o700, "store/_logs/run.log": 0o600}


def test_a_traceback(tmp_path: Path) -> None:
    error = ValueError("x")
    error.log_path = tmp_path / "logs" / "new.log"  # type: ignore[attr-defined]
    append_traceback(error)
    assert modes(tmp_path) == {"logs": 0o700, "logs/new.log": 0o600}


def test_a_table_that_replaces_a_public_one(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o755)
    path = tmp_path / "out" / "archive.csv"
    path.write_text("old")
    replace_text(path, "new")
    assert path.read_text() == "new"
    assert modes(tmp_path) == {"out": 0o755, "out/archive.csv": 0o600}  # a folder that was there is its owner's choice


def test_artifacts_drafts_locks_and_results(tmp_path: Path) -> None:
    from benchmarks.fuzz.texts import make_store
    from faceline.report.swap import replacing
    from faceline.store import Store

    make_store(tmp_path / "artifacts")
    store = Store(tmp_path / "artifacts")
    stage, key = next(store.artifacts())
    with store.lock(stage, "0" * 64), store.draft(stage, "0" * 64, ()):
        store.set_aside(stage, key, "a test")
        with replacing(tmp_path / "results" / "clip"):
            found = modes(tmp_path)
    assert any(name.endswith(".tmp") for name in found), "the draft is there while it is written"
    assert any(".new-" in name for name in found), "and so are the results"
    assert any(name.endswith("damage.json") for name in found)
    public = {name: oct(mode) for name, mode in found.items() if mode & 0o077}
    assert public == {}
