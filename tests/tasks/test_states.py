"""How stages look to Prefect: states, and what is tried again."""

from __future__ import annotations

import errno
import pickle
from pathlib import Path
from typing import Any

import pytest

from faceline.artifacts import ArtifactRef
from faceline.errors import ArtifactError, FootageChangedError, ModelError, UsageError
from faceline.stages import STAGES
from tasks import states
from tasks.runner import StageOutcome
from tasks.workers import performing

REF = ArtifactRef("detect", "k" * 64, "d" * 64, "artifacts", segment=0)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "input/output error"),
        OSError(errno.ESTALE, "stale file handle"),
        ConnectionResetError(),
        TimeoutError(),
        BlockingIOError(errno.EAGAIN, "try again"),
        MemoryError(),
    ],
)
def test_what_can_pass_is_tried_again(error: BaseException) -> None:
    assert states.can_pass(error)


@pytest.mark.parametrize(
    "error",
    [
        ArtifactError("torn"),
        FootageChangedError("changed"),
        ModelError("missing"),
        UsageError("wrong"),
        FileNotFoundError(errno.ENOENT, "gone"),
        PermissionError(errno.EACCES, "denied"),
        OSError(errno.ENOSPC, "No space left on device"),
        ValueError("a mistake in the code"),
        KeyboardInterrupt(),
        None,
    ],
)
def test_what_cannot_pass_is_not(error: BaseException | None) -> None:
    assert not states.can_pass(error)


@pytest.mark.parametrize(
    ("state", "name", "message"),
    [("cached", "Cached", "unchanged"), ("run", "Completed", "unchanged (1.5 s)")],
)
def test_an_outcome_becomes_a_state(state: Any, name: str, message: str) -> None:
    outcome = StageOutcome(REF, state, "unchanged", 1.5, {"faces": 3})
    token = performing.set(lambda request: outcome)
    made = states.perform(None)  # type: ignore[arg-type]
    performing.reset(token)
    assert (made.name, made.message, made.data) == (name, message, outcome)
    assert made.is_completed()


def test_every_stage_has_a_task_of_its_name_in_a_file_of_its_name() -> None:
    from flows.submission import TASKS

    assert list(TASKS) == [stage.name for stage in STAGES]
    for name, task in TASKS.items():
        assert task.fn.__module__ == f"tasks.{name}"
        assert task.persist_result is False
        assert task.cache_policy is states.NO_CACHE
        assert task.description


def test_task_files_are_thin() -> None:
    folder = Path(states.__file__).parent
    for stage in STAGES:
        assert len((folder / f"{stage.name}.py").read_text().splitlines()) < 25


def test_outcomes_and_references_travel_between_processes() -> None:
    outcome = StageOutcome(REF, "run", "first run", 1.0, {"faces": 3})
    assert pickle.loads(pickle.dumps(outcome)) == outcome  # noqa: S301 (what a process pool does)
