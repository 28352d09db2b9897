"""What a command costs, by the kernel's accounts."""

from __future__ import annotations

import sys

import pytest

from benchmarks.speed.running import CommandFailed, Cost, covered_s, run, stage_spans
from flows.console import stage_line

BURN = "import time\nwhile time.process_time() < {}: pass\n"


def test_time_of_all_descendants_counts_even_of_those_that_outlive_their_parent() -> None:
    orphan = "import time, os\nwhile time.process_time() < 0.6: pass\n"
    program = (
        "import subprocess, sys\n"
        f"subprocess.Popen([sys.executable, '-c', {orphan!r}])\n"  # nobody waits for it
        f"subprocess.run([sys.executable, '-c', {BURN.format(0.5)!r}])\n" + BURN.format(0.4)
    )
    cost = run([sys.executable, "-c", program])
    assert 1.5 <= cost.cpu_s < 2.5
    assert cost.rss_mb > 5 and cost.pss_mb is None


def test_memory_of_children_counts_and_shared_pages_once_when_asked() -> None:
    # Forked children share what their parent has written: resident in each, proportionally only once.
    program = (
        "import os, time\ndata = bytearray(os.urandom(1)) * (80 << 20)\n"
        "me = os.getpid()\n[os.fork() for _ in range(2) if os.getpid() == me]\n"
        "time.sleep(2.6)\n"
    )
    cost = run([sys.executable, "-c", program], pss=True)
    assert cost.pss_mb is not None
    assert cost.rss_mb > 2 * 80
    assert 80 <= cost.pss_mb < cost.rss_mb / 1.8


def test_lines_come_with_their_time_and_failures_with_their_words() -> None:
    cost = run([sys.executable, "-c", "import time\nprint('one')\ntime.sleep(0.3)\nprint('two')"])
    (first, one), (second, two) = cost.lines
    assert (one, two) == ("one", "two") and 0.25 < second - first < cost.wall_s
    with pytest.raises(CommandFailed, match=r"exit code 3(.|\n)*no such thing"):
        run([sys.executable, "-c", "import sys; print('no such thing', file=sys.stderr); sys.exit(3)"])


def test_stages_are_read_from_the_lines_of_a_run() -> None:
    name = "trial · a name that is longer than the column that it stands in, iforest 0.5 s"
    lines = [
        (0.1, "clip: 3 stages"),
        (5.0, stage_line("detect · segment 0", "run", "no artifact yet", 2.0)),
        (6.0, stage_line(name, "run", "parameters changed: seed", 0.5)),
        (6.5, stage_line("report", "cached", "", 0.0)),
        (7.0, "3 stages run, 0 cached, 7.0 s"),
    ]
    assert stage_spans(lines) == [
        ("detect · segment 0", 3.0, 5.0), (name, 5.5, 6.0), ("report", 6.5, 6.5),
    ]  # fmt: skip


def test_covered_time_counts_what_runs_side_by_side_once() -> None:
    assert covered_s([("a", 1, 4), ("b", 2, 3), ("c", 3.5, 5), ("d", 8, 9)]) == pytest.approx(5)
    assert covered_s([]) == 0


def test_a_cost_says_little() -> None:
    assert "lines" not in repr(Cost(1.0, 2.0, 3.0, None, ((0.0, "a line"),)))
