"""Where a run reports to: the Prefect server that is named, or a temporary one for as long as the run lasts.

Nothing here imports Prefect before the temporary server's thread does: it reads its settings when it is imported.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from faceline.errors import FacelineError
from flows.server_thread import ServerThread

log = logging.getLogger(__name__)

START_LIMIT_S = 300.0
"""How long to wait for the temporary server. It takes 9 s on two cores that workers use as well, longer the first
time; as a process of its own it was seen to take 76 s on two cores under a load of six."""

NAMED_LIMIT_S = 10.0
"""How long a named server is asked; it should be there already."""

QUIET = {
    # Prefect's telemetry: a run must not use the network unasked, and its background thread was seen to lock SQLite.
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # The console belongs to faceline; the records of a run are in the Prefect UI and in the log file.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "faceline,tasks,flows",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    # A temporary server has no schedules and no workers; these loops only write to its database.
    "PREFECT_SERVER_UI_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_FOREMAN_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
    # Events repeat what states, logs and artifacts say, which are kept; writing them is 11 % of what the server does.
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED": "false",
}
LASTING = {
    **{
        name: value
        for name, value in QUIET.items()
        if not name.startswith(("PREFECT_SERVER_SERVICES", "PREFECT_SERVER_UI"))
    },
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    # It takes back the places of runs that have been silent for five minutes by the clock on the wall, and a run whose
    # place is gone is ended by Prefect: a laptop that slept in the middle of a night would lose it. Places that killed
    # runs have left are given back when their state is set.
    "PREFECT_SERVER_SERVICES_REPOSSESSOR_ENABLED": "false",
    # Heartbeats of work pools, of which it has none.
    "PREFECT_SERVER_SERVICES_FOREMAN_ENABLED": "false",
    # Its history would grow for ever; runs of the last 90 days are kept.
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
}
"""For the server of `serve`, which lives on: with schedules, the UI, events and automations."""

_CLIENT = (
    "DO_NOT_TRACK",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL",
    "PREFECT_LOGGING_EXTRA_LOGGERS",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW",
)


def named_api_url() -> str | None:
    """The address of the server to use: ``PREFECT_API_URL``, or what the active Prefect profile says; else None."""
    if url := os.environ.get("PREFECT_API_URL"):
        return url
    home = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    profiles = Path(os.environ.get("PREFECT_PROFILES_PATH", home / "profiles.toml"))
    try:
        known = tomllib.loads(profiles.read_text(encoding="utf-8"))
        active = os.environ.get("PREFECT_PROFILE") or known.get("active")
        url = known.get("profiles", {}).get(active, {}).get("PREFECT_API_URL")
    except (OSError, tomllib.TOMLDecodeError, AttributeError):
        return None
    return str(url) if url else None


def state_folder() -> Path:
    """Where temporary servers keep their history: ``FACELINE_STATE``, else the user's state folder."""
    if named := os.environ.get("FACELINE_STATE"):
        return Path(named).expanduser() / "prefect"
    import platformdirs

    return Path(platformdirs.user_state_dir("faceline", appauthor=False)) / "prefect"


class PrefectServer:
    """Access to a Prefect server; started early with `start`, waited for late with `ready`.

    Args:
        lasting: folder for the history of a whole server with its UI, as `serve` starts it; None for a temporary one.
        port: where a lasting one listens; 0 for any port.

    Attributes:
        url: address of the API, once started.
        temporary: whether the server ends with this process.
    """

    def __init__(self, lasting: Path | None = None, port: int = 0) -> None:
        self.url = named_api_url()
        self.temporary = self.url is None
        self._lasting, self._port = lasting, port
        self._thread: ServerThread | None = None

    @property
    def alive(self) -> bool:
        """Whether the server of this process still runs; true for a named one, of which nobody knows."""
        return self._thread is None or self._thread.alive

    def start(self) -> None:
        """Start the temporary server if none is named, and set the environment that Prefect reads when imported.

        Raises:
            FacelineError: it cannot start.
        """
        if not self.temporary:
            for name in _CLIENT:
                os.environ.setdefault(name, QUIET[name])
            return
        if "prefect" in sys.modules:
            raise FacelineError(
                "the temporary Prefect server did not start: this process has imported Prefect already",
                cure="start one with `prefect server start` and set PREFECT_API_URL",
            )
        try:
            thread = self._made()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise FacelineError(
                    f"port {self._port} is in use",
                    cure=f"name another (schedule.port=0 takes any), or, if a Prefect server listens there, set "
                    f"PREFECT_API_URL=http://127.0.0.1:{self._port}/api",
                ) from error
            raise FacelineError(
                f"the temporary Prefect server did not start: {error}",
                cure=f"see whether {state_folder()} can be written, or set PREFECT_API_URL to a running server",
            ) from error
        thread.start()
        self._thread, self.url = thread, thread.url

    def _made(self) -> ServerThread:
        if self._lasting is None:
            return ServerThread(state_folder(), QUIET)
        # Prefect would unpack its UI into the folder of its package, which need not be writable.
        settings = {**LASTING, "PREFECT_UI_STATIC_DIRECTORY": str(self._lasting / "ui")}
        return ServerThread(self._lasting, settings, port=self._port, whole=True)

    def ready(self) -> None:
        """Wait until the server answers. Prefect must not be imported before, where the server is a temporary one.

        Raises:
            FacelineError: if it does not.
        """
        began = time.monotonic()
        if self._thread is not None:
            self._wait_for(self._thread)
        else:
            self._ask_for()
        log.info("Prefect server at %s answered after %.1f s", self.url, time.monotonic() - began)

    def _wait_for(self, thread: ServerThread) -> None:
        cause: BaseException | None = None
        try:
            if thread.wait(START_LIMIT_S):
                return
        except Exception as error:
            cause = error
        why = f": {type(cause).__name__}: {cause}" if cause is not None else f" within {START_LIMIT_S:.0f} s"
        raise FacelineError(
            f"the temporary Prefect server did not start{why}",
            cure="start one with `prefect server start` and set PREFECT_API_URL",
        ) from cause

    def _ask_for(self) -> None:
        began = time.monotonic()
        while time.monotonic() - began < NAMED_LIMIT_S:
            if server_answers(str(self.url)):
                return
            time.sleep(0.05)
        raise FacelineError(
            f"no Prefect server answers at {self.url}",
            cure="start it, or unset PREFECT_API_URL (and the profile's setting) to use a temporary one",
        )

    def stop(self) -> None:
        """End the temporary server; a named one is left alone."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.stop()


@contextlib.contextmanager
def prefect_server(say: Callable[[str], None] = lambda text: None) -> Iterator[PrefectServer]:
    """A started server; `PrefectServer.ready` is left to the caller, so that other work can go on meanwhile.

    Args:
        say: told in one line which server it is; a temporary one takes its time.
    """
    server = PrefectServer()
    say("Prefect: starting a temporary server" if server.temporary else f"Prefect: {server.url}")
    try:
        server.start()
        yield server
    finally:
        server.stop()


def server_answers(url: str, timeout_s: float = 5.0) -> bool:
    """Whether a Prefect server answers, asked once, at the address of its API."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=timeout_s):
            return True
    except urllib.error.HTTPError as error:
        # A refusal is an answer: Prefect Cloud asks for a key here. What a proxy says of a server that is gone is none.
        error.close()
        return error.code < 500
    except (OSError, ValueError):
        return False
