"""Where a run reports to: the Prefect server that is named, or a temporary one for as long as the run lasts.

Nothing here imports Prefect: the temporary server starts while this process is still importing it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from faceline.errors import FacelineError

log = logging.getLogger(__name__)

START_LIMIT_S = 300.0
"""How long to wait for the temporary server. It takes 9 s (20 s the first time) on two free cores, and
was seen to take 76 s on two cores under a load of six."""

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
}
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

    Attributes:
        url: address of the API, once started.
        temporary: whether the server ends with this run.
    """

    def __init__(self) -> None:
        self.url = named_api_url()
        self.temporary = self.url is None
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start the temporary server if none is named, and set the environment that Prefect reads when imported."""
        for name in _CLIENT:
            os.environ.setdefault(name, QUIET[name])
        if not self.temporary:
            return
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_API_")}
        environment |= {name: os.environ.get(name, value) for name, value in QUIET.items()}
        environment |= {"PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "flows.server_process", str(state_folder())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
            # Ctrl-C is for the run, which must still report its last states before the server goes.
            start_new_session=True,
        )
        assert self._process.stdout is not None
        address = self._process.stdout.readline().strip()
        if not address:
            raise FacelineError(
                f"the temporary Prefect server did not start (exit code {self._process.wait()})",
                cure=f"see whether {state_folder()} can be written, or set PREFECT_API_URL to a running server",
            )
        self.url = os.environ["PREFECT_API_URL"] = address
        # A proxy must not be asked for this machine itself.
        for name in ("NO_PROXY", "no_proxy"):
            os.environ[name] = ",".join(filter(None, (os.environ.get(name), "127.0.0.1")))

    def ready(self) -> None:
        """Wait until the server answers.

        Raises:
            FacelineError: if it does not.
        """
        began = time.monotonic()
        limit_s = START_LIMIT_S if self.temporary else NAMED_LIMIT_S
        while time.monotonic() - began < limit_s:
            if self._process is not None and self._process.poll() is not None:
                break
            if _answers(f"{self.url}/health", timeout_s=5.0):
                log.info("Prefect server at %s answered after %.1f s", self.url, time.monotonic() - began)
                return
            time.sleep(0.05)
        if self.temporary:
            raise FacelineError(
                "the temporary Prefect server did not start",
                cure="start one with `prefect server start` and set PREFECT_API_URL",
            )
        raise FacelineError(
            f"no Prefect server answers at {self.url}",
            cure="start it, or unset PREFECT_API_URL (and the profile's setting) to use a temporary one",
        )

    def stop(self) -> None:
        """End the temporary server; a named one is left alone."""
        process, self._process = self._process, None
        if process is None:
            return
        os.environ.pop("PREFECT_API_URL", None)
        assert process.stdin is not None and process.stdout is not None
        process.terminate()
        process.stdin.close()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


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


def _answers(url: str, timeout_s: float) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=timeout_s):
            return True
    except urllib.error.HTTPError:
        return True  # An answer, if a refusal: Prefect Cloud asks for a key here.
    except (OSError, ValueError):
        return False
