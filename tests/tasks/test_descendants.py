"""What a library of ours started is gone when we say so."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tasks.descendants import processes_that_name, see_off

FAMILY = """
import signal, subprocess, sys, time
from pathlib import Path
child = subprocess.Popen([sys.executable, "-c", sys.argv[2]])
Path(sys.argv[1], "child").write_text(str(child.pid))
signal.sigwait([signal.SIGTERM])
"""
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
SOON = "import time; time.sleep(1.5)"


@pytest.fixture(params=[DEAF, SOON], ids=["deaf", "slow"])
def family(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A process that knows the folder, and a child of it that does not."""
    parent = subprocess.Popen([sys.executable, "-c", FAMILY, str(tmp_path), request.param])
    note = tmp_path / "child"
    while not (note.exists() and note.read_text()):
        assert parent.poll() is None
        time.sleep(0.02)
    child = int(note.read_text())
    yield parent, child
    for pid in (parent.pid, child):
        if psutil.pid_exists(pid):
            psutil.Process(pid).kill()
    parent.wait()


def test_all_of_a_family_is_gone_though_one_of_it_is_deaf(
    family: tuple[subprocess.Popen[bytes], int], tmp_path: Path
) -> None:
    parent, child = family
    other = subprocess.Popen([sys.executable, "-c", DEAF])
    try:
        found = processes_that_name(str(tmp_path))
        assert {process.pid for process in found} == {parent.pid, child}
        parent.terminate()
        see_off(found, 4.0)
        assert not psutil.pid_exists(child)
        assert not psutil.pid_exists(parent.pid)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_who_ends_by_itself_is_waited_for_and_not_killed(tmp_path: Path) -> None:
    done = tmp_path / "done"
    said = f"import time, pathlib; time.sleep(1); pathlib.Path({str(done)!r}).touch()"
    subprocess.Popen([sys.executable, "-c", said])
    see_off(processes_that_name(str(done)), 60.0)
    assert done.exists()
