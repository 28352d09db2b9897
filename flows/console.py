"""What a person sees: progress, tables, the summary, errors. The only module that prints.

Standard output carries progress (bars on a terminal, one plain line per finished stage otherwise) and results;
standard error carries warnings and the one line that says why a run failed. What libraries write to standard error
on their own account goes to the log file while a run lasts.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from faceline.names import printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

STATE_WORDS = {"cached": "cached", "run": "done", "failed": "failed", "skipped": "skipped"}
NAME_WIDTH = 41
"""Width of the column of stage names: as wide as most names of trials."""

WIDEST = 80
"""Characters that a column is widened to; few names of files are longer."""

STATE_STYLES = {"cached": "dim", "run": "green", "failed": "bold red", "skipped": "yellow"}


_going_on = False


@contextlib.contextmanager
def going_on() -> Iterator[None]:
    """Within the block, work goes on when whoever read our output is gone: what it is for lies in files.

    Otherwise the next line raises `BrokenPipeError`, as it should where lines are all there is to have.
    """
    global _going_on
    before, _going_on = _going_on, True
    try:
        yield
    finally:
        _going_on = before


def say(text: str = "", stderr: TextIO | None = None) -> None:
    """Print lines of results or progress; what a terminal would obey in them is written out.

    Args:
        text: the lines.
        stderr: where it is told that nobody reads them any more; standard error unless told otherwise.
    """
    try:
        print(printable(text, keep="\n"), flush=True)
    except BrokenPipeError:
        if not _going_on:
            raise
        hush()
        warning("nobody reads the output any more; the run goes on", stderr)


def hush() -> None:
    """Print nothing more to standard output, whose reader has gone."""
    # The old one stays in `sys.__stdout__`: it would complain of what it still holds when it is collected.
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 (kept open: the interpreter flushes it at exit)


def error(text: str) -> None:
    """Print the one line that says what failed, where, and the cure."""
    _complain(_one_line(text), sys.stderr)


def warning(text: str, stream: TextIO | None = None) -> None:
    """Print a one-line warning, on standard error unless told otherwise."""
    _complain(f"warning: {_one_line(text)}", stream or sys.stderr)


def _complain(text: str, stream: TextIO) -> None:
    # If nobody reads standard error either, there is nobody left to tell; the exit code does.
    with contextlib.suppress(BrokenPipeError):
        print(f"faceline: {text}", file=stream, flush=True)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[str] = ()) -> None:
    """Print rows under headings, aligned; columns named in ``right`` are aligned to the right.

    Plain text, never cut to the width of the terminal: a table must survive a pipe and a copy. What is wider than
    `WIDEST` stands out of its column instead of pushing all others away.
    """
    cells = [[printable(str(value)) for value in row] for row in rows]
    widths = [
        max(len(name), *(len(row[i]) for row in cells if len(row[i]) <= WIDEST), 0) for i, name in enumerate(columns)
    ]
    for row in [list(columns), *cells]:
        parts = [
            value.rjust(width) if name in right else value.ljust(width)
            for name, value, width in zip(columns, row, widths, strict=True)
        ]
        say("  ".join(parts).rstrip())


def forgive_strange_names() -> None:
    """Make printing a file name that is no valid text show escapes instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))


# --------------------------------------------------------------------------------------------------- progress


class Reporter(Protocol):
    """Who is told how far a run is. Called from several threads."""

    def total(self, label: str, stages: int) -> None:
        """A run of so many stages begins."""
        ...

    def started(self, name: str) -> None:
        """A stage begins."""
        ...

    def progressed(self, name: str, done: int, total: int) -> None:
        """A stage is at ``done`` of ``total`` of its own units."""
        ...

    def finished(self, name: str, state: str, reason: str, seconds: float) -> None:
        """A stage has ended; ``state`` is one of `STATE_WORDS`."""
        ...

    def noted(self, text: str) -> None:
        """Something worth a line that is no stage."""
        ...

    def warned(self, text: str) -> None:
        """Something is not as it should be, and the run goes on."""
        ...


class Silent:
    """Says nothing; what others say differently, they override."""

    def total(self, label: str, stages: int) -> None:
        pass

    def started(self, name: str) -> None:
        pass

    def progressed(self, name: str, done: int, total: int) -> None:
        pass

    def finished(self, name: str, state: str, reason: str, seconds: float) -> None:
        pass

    def noted(self, text: str) -> None:
        pass

    def warned(self, text: str) -> None:
        pass


class Lines(Silent):
    """One plain line per finished stage, for logs and pipes.

    Args:
        stderr: where warnings go; standard error unless told otherwise.
    """

    def __init__(self, stderr: TextIO | None = None) -> None:
        self._stderr = stderr

    def total(self, label: str, stages: int) -> None:
        say(f"{_one_line(label)}: {stages} stages", self._stderr)

    def finished(self, name: str, state: str, reason: str, seconds: float) -> None:
        say(stage_line(name, state, reason, seconds), self._stderr)

    def noted(self, text: str) -> None:
        say(_one_line(text), self._stderr)

    def warned(self, text: str) -> None:
        warning(text, self._stderr)


def stage_line(name: str, state: str, reason: str, seconds: float) -> str:
    """``detect · segment 0        done     12.3 s  no artifact yet``."""
    shown, why = _one_line(name), _one_line(reason)
    return f"{shown:<{NAME_WIDTH}}  {STATE_WORDS.get(state, state):<7} {seconds:7.1f} s  {why}".rstrip()


class Hushed(Silent):
    """Passes warnings on and keeps quiet otherwise, for work that is over in a moment.

    Args:
        reporter: who is warned.
    """

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def warned(self, text: str) -> None:
        self._reporter.warned(text)


class Bars:
    """A bar for the run and one for each stage that is being worked on."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._lock = threading.Lock()
        self._whole: TaskID | None = None
        self._stages: dict[str, TaskID] = {}

    def total(self, label: str, stages: int) -> None:
        with self._lock:
            if self._whole is not None:
                self._progress.remove_task(self._whole)
            self._whole = self._progress.add_task(_escape(label), total=stages)

    def started(self, name: str) -> None:
        with self._lock:
            self._stages[name] = self._progress.add_task(f"  {_escape(name)}", total=None)

    def progressed(self, name: str, done: int, total: int) -> None:
        with self._lock:
            if name in self._stages:
                self._progress.update(self._stages[name], completed=done, total=total or None)

    def finished(self, name: str, state: str, reason: str, seconds: float) -> None:
        with self._lock:
            if name in self._stages:
                self._progress.remove_task(self._stages.pop(name))
            if self._whole is not None:
                self._progress.advance(self._whole)
        style = STATE_STYLES.get(state, "")
        self._print(stage_line(name, state, reason, seconds), style)

    def noted(self, text: str) -> None:
        self._print(_one_line(text), "")

    def warned(self, text: str) -> None:
        self._print(f"warning: {_one_line(text)}", "yellow")

    def _print(self, text: str, style: str) -> None:
        # Above the bars; a warning printed past them would leave a torn copy of them behind.
        self._progress.console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(printable(text))


@contextlib.contextmanager
def reporting(stderr: TextIO | None = None) -> Iterator[Reporter]:
    """Bars when standard output is a terminal, lines otherwise; warnings of the latter go to ``stderr``."""
    if not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        yield Lines(stderr)
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, transient=True, refresh_per_second=5) as progress:
        yield Bars(progress)


def describe(value: Any) -> str:
    """A value as it would be written on the command line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + ",".join(describe(item) for item in value) + "]"
    return str(value)
