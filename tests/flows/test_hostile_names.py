"""Hostile names on the console, in logs and in tables: shown as what they are, obeyed by nothing."""

from __future__ import annotations

import csv
import io
import logging
import os
import stat
from pathlib import Path

import pyarrow as pa
import pytest

from faceline.report.tables import to_csv
from flows import console
from flows.cli import main
from flows.files import csv_text
from flows.logfile import append_traceback, log_path, session
from flows.server_thread import take_slot
from tests.faceline.test_names import HOSTILE
from tests.flows.conftest import Line

ESCAPE = "clip\x1b[2J\x1b]0;x\x07\nforged: all is well"


@pytest.mark.parametrize("name", HOSTILE)
def test_every_name_gets_a_log(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # What the test runner captures has to travel between its processes, which bytes that are no text cannot.
    monkeypatch.setattr(logging.getLogger("faceline"), "propagate", False)
    path = log_path(tmp_path, "analyze", name)
    assert path.parent == tmp_path
    assert len(os.fsencode(path.name)) <= 255
    with session(path):
        logging.getLogger("faceline.test").info("%s", name)
    assert len(path.read_text("utf-8").splitlines()) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_name_forges_no_line_in_a_log(tmp_path: Path) -> None:
    path = tmp_path / "run.log"
    with session(path):
        try:
            raise ValueError(ESCAPE)
        except ValueError as error:
            logging.getLogger("faceline.test").warning("about %s", ESCAPE, exc_info=True)
            error.log_path = path  # type: ignore[attr-defined]
            append_traceback(error)
    text = path.read_text()
    assert "\x1b" not in text
    assert "\x07" not in text
    first = text.splitlines()[0]
    assert first.endswith("about clip\\x1b[2J\\x1b]0;x\\x07\\nforged: all is well")


def test_a_terminal_obeys_nothing_that_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    lines = console.Lines()
    lines.total(ESCAPE, 3)
    lines.finished(ESCAPE, "run", ESCAPE, 1.0)
    lines.noted(ESCAPE)
    lines.warned(ESCAPE)
    console.error(ESCAPE)
    console.say(f"results: {ESCAPE}")
    console.table(["name"], [[ESCAPE]])
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert "\x07" not in out + err
    assert not any(line.startswith("forged") for line in (*out.splitlines()[:-4], *err.splitlines()))
    assert len(err.splitlines()) == 2


def test_bars_obey_nothing_either() -> None:
    from rich.console import Console
    from rich.progress import Progress

    target = io.StringIO()
    with Progress(console=Console(file=target, force_terminal=False, width=200), transient=True) as progress:
        bars = console.Bars(progress)
        bars.total(f"[red]{ESCAPE}", 2)
        bars.started(ESCAPE)
        bars.finished(ESCAPE, "failed", ESCAPE, 0.0)
        bars.noted(ESCAPE)
        bars.warned(ESCAPE)
    assert "\x1b]0" not in target.getvalue()
    assert "\x07" not in target.getvalue()


@pytest.mark.parametrize("name", [*HOSTILE[:6], "a'b\"c", "{{7*7}} $(id) `id`"])
def test_a_file_of_any_name_is_planned(line: Line, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = line.folder / os.fsdecode(os.fsencode(name) + b".mp4")
    path.write_text("pictures")
    assert main(["plan", *line.arguments(footage=path)]) == 0
    assert main(["plan", *line.arguments(footage=path.with_name("not " + path.name))]) == 1
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "＋1", "－1", "＠1"])
def test_no_table_holds_a_formula(text: str) -> None:
    ours = csv_text(["what"], [[text]])
    arrow = to_csv(pa.table({"what": [text, "harmless"]})).decode()
    for written in (ours, arrow):
        cell = list(csv.reader(io.StringIO(written, newline="")))[1][0]
        assert cell == f"'{text}"


def test_numbers_are_no_formulas() -> None:
    assert csv_text(["a", "b"], [[-1, -0.5]]) == "a,b\n-1,-0.5\n"


def test_the_history_of_temporary_servers_is_its_owners(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        lock, slot = take_slot(tmp_path / "state" / "prefect")
    finally:
        os.umask(before)
    with lock:
        for path in (slot, slot.parent, slot.parent.parent):
            assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert {p.name: stat.S_IMODE(p.stat().st_mode) for p in slot.iterdir()} == {"lock": 0o600, "prefect.db": 0o600}
