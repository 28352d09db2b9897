"""Where one fault happens: an archive of one clip, a store and results of its own, and faceline run on them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from faceline.store import Store

ROOT = Path(__file__).resolve().parents[2]
CLIP = "clip"
OPTIONS = ("sample.fps=5", "sample.segment_s=2.5", "gridsearch=small", "runner.retry_delay_s=0.2", "archive.quiet_s=0")
RUN_LIMIT_S = 600.0
"""Seconds that any run may take; one that takes longer hangs."""

LINGER_S = 60.0
"""Seconds that processes of a killed run may take to notice and to end."""

OF_THE_RUN = frozenset({"run.json", "custody.json"})
"""Files that state times, hosts and what was cached, and so differ between runs by what they are for."""


@dataclass(frozen=True)
class Left:
    """What lies in a store and in a results folder.

    Attributes:
        artifacts: (stage, key) → digest of its content.
        results: path → SHA-256 of every file, but for those that are `OF_THE_RUN`.
        used: stage, segment, trial, key and digest of every artifact that the results were made of.
    """

    artifacts: Mapping[tuple[str, str], str]
    results: Mapping[str, str]
    used: Sequence[tuple[Any, ...]]


@dataclass
class Ended:
    """How a command ended: exit code (negative: killed by that signal), and what it printed."""

    code: int
    text: str

    @property
    def last_line(self) -> str:
        lines = [line for line in self.text.splitlines() if line.strip()]
        return lines[-1].strip() if lines else ""


@dataclass
class Place:
    """One archive with one clip.

    Attributes:
        folder: everything lies below it.
        options: of all its runs.
        api_url: the Prefect server that runs report to; None: each starts one of its own.
    """

    folder: Path
    options: tuple[str, ...] = OPTIONS
    api_url: str | None = None
    _logs: int = field(default=0, repr=False)

    @classmethod
    def make(cls, folder: Path, clip: Path, options: tuple[str, ...] = OPTIONS) -> Place:
        """A fresh place with that clip."""
        place = cls(folder, options)
        place.clip.parent.mkdir(parents=True)
        shutil.copyfile(clip, place.clip)
        return place

    @property
    def clip(self) -> Path:
        return self.folder / "archive" / f"{CLIP}.mp4"

    @property
    def store(self) -> Path:
        return self.folder / "data" / "store"

    @property
    def output(self) -> Path:
        return self.folder / "data" / "results"

    @property
    def results(self) -> Path:
        return self.output / CLIP

    # ------------------------------------------------------------------------------------------------ commands

    def start(self, verb: str) -> Running:
        """Start ``archive`` on the folder or ``analyze`` on the clip; both leave the same results."""
        footage, output = (self.clip.parent, self.output) if verb == "archive" else (self.clip, self.results)
        return self.command(verb, f"footage={footage}", f"output={output}", *self.options)

    def command(self, *arguments: str) -> Running:
        """Start a command line of faceline on the place's store."""
        environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
        environment |= {"FACELINE_STATE": str(self.folder / "state"), "PREFECT_HOME": str(self.folder / "prefect")}
        # The package's own networks only: what else a machine has must not decide what is compared.
        environment.pop("FACELINE_MODELS", None)
        if self.api_url is not None:
            environment["PREFECT_API_URL"] = self.api_url
        self._logs += 1
        log = self.folder / f"log-{self._logs}.txt"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "flows.cli", *arguments, f"store.root={self.store}"],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return Running(process, log)

    def run(self, verb: str) -> Ended:
        """`start`, and its end."""
        return self.start(verb).ended()

    # ------------------------------------------------------------------------------------------- what there is

    def left(self) -> Left:
        """What lies there now."""
        store = Store(str(self.store))
        artifacts = {}
        for stage, key in store.artifacts():
            finding = store.inspect(stage, key)
            if finding.state == "ok":
                artifacts[stage, key] = store.ref(finding).digest
        results, used = {}, []
        for path in sorted(self.results.rglob("*")):
            if path.is_file() and path.name not in OF_THE_RUN:
                results[str(path.relative_to(self.results))] = hashlib.sha256(path.read_bytes()).hexdigest()
        with contextlib.suppress(OSError):
            stages = json.loads((self.results / "run.json").read_text("utf-8"))["stages"]
            used = [(s["stage"], s["segment"], s["trial"], s["key"], s["digest"]) for s in stages]
        return Left(artifacts, results, used)

    def processes(self) -> list[psutil.Process]:
        """Processes that belong to the place's runs."""
        mine = str(self.folder / "state")
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("FACELINE_STATE") == mine and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def lingering(self) -> list[str]:
        """Processes that did not end in time though their run is over; they are killed."""
        until_s = time.monotonic() + LINGER_S
        while (processes := self.processes()) and time.monotonic() < until_s:
            time.sleep(0.2)
        words = []
        for process in processes:
            with contextlib.suppress(psutil.Error):
                words.append(" ".join(process.cmdline())[-120:])
                process.kill()
        return words


@dataclass
class Running:
    """A command that was started."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def runs_until(self, seconds: float) -> bool:
        """Let it run for so long; whether it still does."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        return self.is_running

    def workers(self) -> list[psutil.Process]:
        """Its worker processes."""
        with contextlib.suppress(psutil.Error):
            children = psutil.Process(self.process.pid).children(recursive=True)
            return [child for child in children if _is_worker(child)]
        return []

    def kill(self) -> None:
        """As the kernel does when memory is short: this process alone, and without a word."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def ended(self, limit_s: float = RUN_LIMIT_S) -> Ended:
        """Its end; one that does not come in time is code -9 and says so."""
        try:
            code = self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(OSError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            return Ended(-9, f"{self.log.read_text('utf-8', 'replace')}\nno end after {limit_s:g} s")
        return Ended(code, self.log.read_text("utf-8", "replace"))


def _is_worker(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return any("spawn_main" in word for word in process.cmdline())
    return False


class PrefectServer:
    """A named Prefect server, which can be killed and started again on the same database."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = int(probe.getsockname()[1])
        self.api_url = f"http://127.0.0.1:{self._port}/api"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, limit_s: float = 300.0) -> None:
        """Start it; returns when it answers."""
        self._folder.mkdir(parents=True, exist_ok=True)
        environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
        environment |= {
            "PREFECT_HOME": str(self._folder),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
        }
        with (self._folder / "server.log").open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self._port)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        until_s = time.monotonic() + limit_s
        while not self._answers():
            if time.monotonic() > until_s or self._process.poll() is not None:
                raise RuntimeError(f"no Prefect server: see {self._folder / 'server.log'}")
            time.sleep(0.3)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.api_url}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        """End it and its children without a word."""
        if self._process is not None:
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@contextlib.contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[Disk]:
    """A file system of that size at ``folder``; `OSError` where none can be mounted (that takes root)."""
    folder.mkdir(parents=True, exist_ok=True)
    disk = Disk(folder)
    disk.mount("-t", "tmpfs", "-o", f"size={size_bytes},mode=700", "tmpfs")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False, capture_output=True)


@dataclass(frozen=True)
class Disk:
    """A mounted tmpfs."""

    folder: Path

    def mount(self, *options: str) -> None:
        """``mount`` with these options; `OSError` with its words where it fails."""
        try:
            done = subprocess.run(["mount", *options, str(self.folder)], check=False, capture_output=True, text=True)
        except FileNotFoundError as error:
            raise OSError("there is no command mount") from error
        if done.returncode:
            raise OSError(done.stderr.strip() or f"mount ended with {done.returncode}")

    def enlarge(self, size_bytes: int) -> None:
        """Make room."""
        self.mount("-o", f"remount,size={size_bytes}")
