"""The log of a run: what faceline logs, and what libraries print to standard error on their own account."""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

from faceline.folders import make_private_dirs, open_private
from faceline.names import cut, printable
from flows.console import Reporter, reporting
from flows.server import state_folder

PACKAGES = ("faceline", "tasks", "flows")
LOG_SUFFIX = ".log"


def log_path(folder: Path, verb: str, name: str) -> Path:
    """A new path in ``folder`` for the log of one run: ``<UTC time>-<verb>-<name>-<process>.log``."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    safe = cut(re.sub(r"[^\w.-]+", "_", name), 80) or "run"
    return folder / f"{now}-{verb}-{safe}-{os.getpid()}{LOG_SUFFIX}"


@contextlib.contextmanager
def session(path: Path) -> Iterator[Reporter]:
    """Everything a run says goes to its place: progress to the console, records and library chatter to ``path``."""
    make_private_dirs(path.parent)
    with _library_chatter_to(path) as stderr, reporting(stderr) as reporter, _records_to(path, reporter.warned):
        try:
            yield reporter
        except Exception as error:
            # Tells `append_traceback`, called where the error is reported, which log it belongs to.
            error.log_path = path  # type: ignore[attr-defined]
            raise


@contextlib.contextmanager
def _records_to(path: Path, warn: Callable[[str], None]) -> Iterator[None]:
    """Append faceline's log records to ``path``, created with the first of them; pass warnings on to ``warn``."""
    to_file = _PrivateFile(path, encoding="utf-8", errors="backslashreplace", delay=True)
    formatter = _OneLine("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    to_file.setFormatter(formatter)
    to_console = _Warnings(warn)
    before = {name: logging.getLogger(name).level for name in PACKAGES}
    for name in PACKAGES:
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.addHandler(to_file)
        logger.addHandler(to_console)
    try:
        yield
    finally:
        for name, level in before.items():
            logger = logging.getLogger(name)
            logger.setLevel(level)
            logger.removeHandler(to_file)
            logger.removeHandler(to_console)
        to_file.close()


def append_traceback(error: Exception) -> Path:
    """Write an error's traceback to the log of the run in which it occurred, else to faceline's own; the file."""
    path = getattr(error, "log_path", None) or state_folder().parent / f"faceline{LOG_SUFFIX}"
    make_private_dirs(Path(path).parent)
    with open(path, "a", encoding="utf-8", errors="backslashreplace", opener=open_private) as file:
        stamp = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        file.write(f"{stamp} {type(error).__name__}\n")
        file.write(printable("".join(traceback.format_exception(error)), keep="\n"))
    return Path(path)


class _OneLine(logging.Formatter):
    """Records of one line each, tracebacks below: a file's name can neither forge a record nor move a cursor."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        return printable(super().formatException(ei), keep="\n")


class _PrivateFile(logging.FileHandler):
    def _open(self) -> TextIOWrapper:
        return open(self.baseFilename, "a", encoding=self.encoding, errors=self.errors, opener=open_private)


class _Warnings(logging.Handler):
    def __init__(self, warn: Callable[[str], None]) -> None:
        super().__init__(level=logging.WARNING)
        self._warn = warn

    def emit(self, record: logging.LogRecord) -> None:
        # An error is reported once, by the command line itself, in its last line.
        if record.levelno < logging.ERROR:
            with contextlib.suppress(OSError, ValueError):
                self._warn(record.getMessage())


@contextlib.contextmanager
def _library_chatter_to(path: Path) -> Iterator[TextIO | None]:
    """Point file descriptor 2 at the log, since MediaPipe, TensorFlow Lite and FFmpeg write to it from C.

    Yields:
        the real standard error for faceline's own warnings; None (nothing was moved) where Python's standard error is
        not descriptor 2, as under a test runner.
    """
    try:
        ours: TextIO = sys.stderr
        if ours is not sys.__stderr__ or ours.fileno() != 2:
            raise OSError("standard error is not ours to move")
        kept = os.dup(2)
    except (OSError, ValueError, AttributeError):
        yield None
        return
    ours.flush()
    sink = open_private(str(path), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(sink, 2)
    os.close(sink)
    own = os.fdopen(kept, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    try:
        yield own
    finally:
        own.close()
        ours.flush()
        os.dup2(kept, 2)
        os.close(kept)
        with contextlib.suppress(OSError):
            if path.stat().st_size == 0:
                path.unlink()
