"""A process that can be lost: whatever ends a call is told in one line, and the next call works."""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import psutil
import pytest

from faceline.errors import FootageError
from faceline.limits import Limits
from faceline.video import open_footage
from tasks.guarded import Guard, GuardedOpener, GuardError
from tests.tasks.guarded_calls import do

MEMORY = 2**30


@pytest.fixture(scope="module")
def guard() -> Iterator[Guard]:
    """One guard for all tests; it has to work after each of them."""
    with Guard(do, 120, MEMORY) as made:
        yield made


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("guarded") / "clip.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for i in range(10):
            image = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 20 * i, np.uint8), format="rgb24")
            output.mux(stream.encode(image.reformat(format="yuv420p")))
        output.mux(stream.encode(None))
    return path


def test_calls_run_elsewhere_in_one_process(guard: Guard) -> None:
    first = guard.call("nothing")
    assert first != os.getpid()
    assert guard.call("nothing") == first


def test_its_own_errors_arrive_whole_and_cost_no_process(guard: Guard) -> None:
    before = guard.call("nothing")
    with pytest.raises(FootageError, match=r"x\.mp4: no such file; check the path") as caught:
        guard.call("refuse")
    assert type(caught.value) is FootageError
    assert guard.call("nothing") == before


@pytest.mark.parametrize(
    ("what", "cause", "said"),
    [
        ("crash", "crash", r"was ended by signal 11 \(SIGSEGV\)"),
        ("exit", "crash", "ended with exit code 7"),
        ("memory", "memory", "took more than 1024 MiB of memory"),
        ("fail", "error", "unexpected KeyError: 'surprise'"),
    ],
)
def test_what_goes_wrong_is_told_and_the_next_call_works(guard: Guard, what: str, cause: str, said: str) -> None:
    guard.call("nothing")
    started = guard.started
    with pytest.raises(GuardError, match=said) as caught:
        guard.call(what)
    assert caught.value.cause == cause
    assert "\n" not in str(caught.value)
    assert guard.call("nothing") != os.getpid()
    assert guard.started == started + 1
    if cause == "error":
        assert "guarded_calls.py" in caught.value.__notes__[0]


@pytest.mark.parametrize("what", ["hang", "hang in C"])
def test_what_hangs_is_killed(what: str) -> None:
    with Guard(do, 1.0, MEMORY) as guard:
        child = guard.call("nothing")
        with pytest.raises(GuardError, match="took more than 1 s") as caught:
            guard.call(what)
        assert caught.value.cause == "time"
        assert not psutil.pid_exists(child)
        assert guard.call("nothing") != child


def test_threads_wait_for_each_other(guard: Guard) -> None:
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(guard.call("nothing"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_no_core_file_is_left_with_footage_in_it(guard: Guard) -> None:
    assert guard.call("core") == (0, 0)


def test_nothing_is_left_running() -> None:
    guard = Guard(do, 60, MEMORY)
    child = guard.call("nothing")
    guard.close()
    until_s = time.monotonic() + 10
    while psutil.pid_exists(child) and time.monotonic() < until_s:
        time.sleep(0.05)
    assert not psutil.pid_exists(child)
    with pytest.raises(RuntimeError, match="closed"):
        guard.call("nothing")


@pytest.mark.parametrize(("limit_s", "memory_bytes"), [(0, 1), (-1, 1), (1, 0)])
def test_limits_that_are_none_are_refused(limit_s: float, memory_bytes: int) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        Guard(do, limit_s, memory_bytes)


def test_footage_comes_as_if_it_were_opened_here(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("Dear diary")
    with GuardedOpener(Limits(max_frames=3), MEMORY) as opener:
        with pytest.raises(FootageError, match=r"limits\.max_frames=3") as caught:
            opener.open(clip)
        assert pickle.loads(pickle.dumps(caught.value)).where == str(clip)  # noqa: S301
    with GuardedOpener(Limits(), MEMORY) as opener:
        assert opener.open(clip) == open_footage(clip)
        with pytest.raises(FootageError, match="not a video"):
            opener.open(str(tmp_path / "text.mp4"))


def test_a_file_that_kills_its_process_is_named_in_one_line(clip: Path) -> None:
    with GuardedOpener(Limits(), MEMORY) as opener:
        opener._guard._function = os.abort  # type: ignore[assignment]
        opener._guard.call = lambda *_, limit_s: Guard.call(opener._guard)  # type: ignore[method-assign]
        with pytest.raises(FootageError) as caught:
            opener.open(clip)
    said = str(caught.value)
    assert said.startswith(f"{clip}: opening it was ended by signal 6 (SIGABRT); the file is damaged")
    assert "\n" not in said


def test_too_little_memory_is_said(clip: Path) -> None:
    with GuardedOpener(Limits(), 2**20) as opener, pytest.raises(FootageError, match="MiB of memory"):
        opener.open(clip)


def test_a_file_whose_opening_hangs_is_given_up_after_twice_its_time(clip: Path) -> None:
    with GuardedOpener(Limits(open_s=0.5), MEMORY) as opener:
        opener._guard._function = time.sleep  # type: ignore[assignment]
        call = opener._guard.call
        opener._guard.call = lambda *_, limit_s: call(600, limit_s=limit_s)  # type: ignore[method-assign]
        began_s = time.monotonic()
        with pytest.raises(FootageError, match=r"opening it took more than 1(\.\d+)? s; the file is damaged"):
            opener.open(clip)
        assert time.monotonic() - began_s < 120
