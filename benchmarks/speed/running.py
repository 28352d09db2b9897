"""Running a command and watching what it costs: wall time, CPU time and memory of all its processes."""

from __future__ import annotations

import ctypes
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.speed.footage import ROOT

WATCH_S = 0.2
"""Time between two looks at the processes' memory."""

PSS_S = 1.0
"""The same for the proportional set size, which costs the kernel a walk over all pages."""

ORPHANS_S = 5.0
"""How long processes may outlive the command that started them."""

_SET_CHILD_SUBREAPER = 36

_STAGE_LINE = re.compile(r"^(?P<name>\S.*?)\s{2,}(?P<state>\S+)\s+(?P<seconds>\d+\.\d) s(\s|$)")


@dataclass(frozen=True)
class Cost:
    """What a command cost.

    Attributes:
        wall_s: from its start to its end.
        cpu_s: user and system time of the process and all its descendants, exact (from the kernel's accounts).
        rss_mb: largest sum of resident memory over all its processes. Pages that processes share count in each.
        pss_mb: the same with shared pages divided among those who share them; None where it was not watched.
        lines: lines of its standard output, with seconds since its start.
        cpu_at: seconds since the start → CPU seconds so far by kind of process, as seen from outside.
    """

    wall_s: float
    cpu_s: float
    rss_mb: float
    pss_mb: float | None
    lines: tuple[tuple[float, str], ...] = field(repr=False)
    cpu_at: tuple[tuple[float, Mapping[str, float]], ...] = field(default=(), repr=False)


class CommandFailed(RuntimeError):
    """A command ended with another exit code than 0."""


class Watch:
    """Looks at a process and its descendants every `WATCH_S` seconds, in a thread.

    Args:
        pid: the process.
        pss: also sum the proportional set size, every `PSS_S` seconds.
    """

    def __init__(self, pid: int, *, pss: bool = False) -> None:
        self.rss_mb, self.pss_mb = 0.0, 0.0
        self.cpu_at: list[tuple[float, dict[str, float]]] = []
        self._root, self._pss = psutil.Process(pid), pss
        self._kinds: dict[int, str] = {pid: "main"}
        self._cpu: dict[int, float] = {}
        self._began = self._pss_at = time.perf_counter()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(WATCH_S):
            try:
                processes = [self._root, *self._root.children(recursive=True)]
            except psutil.Error:
                return
            now = time.perf_counter()
            with_pss = self._pss and now - self._pss_at >= PSS_S
            self._pss_at = now if with_pss else self._pss_at
            rss = pss = 0.0
            for process in processes:
                try:
                    # What is not the command's own process, with Prefect and its server in it, is a worker.
                    self._kinds.setdefault(process.pid, "worker")
                    times = process.cpu_times()
                    self._cpu[process.pid] = times.user + times.system
                    rss += process.memory_info().rss
                    pss += process.memory_full_info().pss if with_pss else 0
                except psutil.Error:
                    continue
            self.rss_mb, self.pss_mb = max(self.rss_mb, rss / 2**20), max(self.pss_mb, pss / 2**20)
            by_kind: dict[str, float] = {}
            for pid, seconds in self._cpu.items():
                by_kind[self._kinds[pid]] = by_kind.get(self._kinds[pid], 0.0) + seconds
            self.cpu_at.append((now - self._began, by_kind))


def run(command: Sequence[str], *, pss: bool = False, environment: Mapping[str, str] | None = None) -> Cost:
    """Run a command in the project's folder and watch it to its end.

    Raises:
        CommandFailed: it ended with another exit code than 0; says what it wrote to standard error.
    """
    # Whoever outlives its parent becomes our child, so that the kernel adds its time to ours as well.
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    known = {child.pid for child in psutil.Process().children()}
    before = _children_cpu_s()
    lines: list[tuple[float, str]] = []
    with tempfile.TemporaryFile("w+") as errors:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
        )  # fmt: skip
        assert process.stdout is not None
        with Watch(process.pid, pss=pss) as watch:
            # One by one, as they come: each with the time at which it came.
            lines.extend((time.perf_counter() - began, line.rstrip("\n")) for line in process.stdout)
            code = process.wait()
            wall_s = time.perf_counter() - began
        process.stdout.close()
        left_s = _reap_orphans(known)
        if code != 0:
            errors.seek(0)
            raise CommandFailed(f"{' '.join(command)} ended with exit code {code}:\n{errors.read()[-2000:]}")
    return Cost(
        wall_s, _children_cpu_s() - before + left_s, watch.rss_mb, watch.pss_mb if pss else None,
        tuple(lines), tuple(watch.cpu_at),
    )  # fmt: skip


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _reap_orphans(known: set[int]) -> float:
    """Wait for processes that were left to us; CPU seconds of those that are still at work after `ORPHANS_S`."""
    until = time.monotonic() + ORPHANS_S
    while True:
        left = [child for child in psutil.Process().children() if child.pid not in known]
        for child in left:
            try:
                os.waitpid(child.pid, os.WNOHANG)
            except ChildProcessError:
                continue
        if not left or time.monotonic() > until:
            break
        time.sleep(0.05)
    seconds = 0.0
    for child in left:
        try:
            times = child.cpu_times()
            seconds += times.user + times.system
        except psutil.Error:
            continue
    return seconds


@dataclass(frozen=True)
class Analysis:
    """One ``faceline analyze``.

    Attributes:
        cost: what it cost.
        run: content of its ``run.json``.
        store: folder of its artifacts.
    """

    cost: Cost
    run: Mapping[str, Any] = field(repr=False)
    store: Path

    @property
    def frames(self) -> int:
        """Sampled frames."""
        return int(self.run["counts"]["sampled"])

    @property
    def duration_s(self) -> float:
        """Length of the footage."""
        return float(self.run["footage"]["duration_s"])

    @property
    def fps(self) -> float:
        """Sampled frames per second of footage."""
        return float(self.run["config"]["sample"]["fps"])

    @property
    def models(self) -> dict[str, str]:
        """Role → name of the weights used."""
        return {role: model["name"] for role, model in self.run["models"].items()}

    def table(self, stage: str, payload: str, columns: Sequence[str] | None = None) -> pa.Table:
        """A Parquet payload of this run, segments in order."""
        keys = [s["key"] for s in sorted(self._of(stage), key=lambda s: s["segment"] or 0)]
        paths = [self.store / stage / key / f"{payload}.parquet" for key in keys]
        return pa.concat_tables(pq.read_table(path, columns=columns) for path in paths)

    def _of(self, stage: str) -> list[Mapping[str, Any]]:
        return [s for s in self.run["stages"] if s["stage"] == stage]

    @property
    def artifact_bytes(self) -> int:
        """Size of all artifacts of this run."""
        folders = {self.store / s["stage"] / s["key"] for s in self.run["stages"]}
        return sum(f.stat().st_size for folder in folders for f in folder.rglob("*") if f.is_file())

    @property
    def stage_s(self) -> dict[str, float]:
        """Wall seconds of each stage, summed over its segments and trials (which may run side by side)."""
        seconds: dict[str, float] = {}
        for entry in self.run["stages"]:
            seconds[entry["stage"]] = seconds.get(entry["stage"], 0.0) + (entry["seconds"] or 0.0)
        return seconds

    @property
    def face_hours(self) -> float:
        """Hours for which a face is seen, two faces counting twice."""
        return float(self.run["counts"]["faces"]) / self.fps / 3600


def python(module: str, *arguments: str) -> list[str]:
    """The command line of one of our modules."""
    return [sys.executable, "-m", module, *arguments]


def analyze(footage: Path, folder: Path, overrides: Sequence[str], *, pss: bool = False) -> Analysis:
    """One ``faceline analyze`` with store and results in a folder; the store may hold artifacts already."""
    results, store = folder / "results" / footage.stem, folder / "store"
    arguments = [f"footage={footage}", f"output={results}", f"store.root={store}", *overrides]
    cost = run(python("flows.cli", "analyze", *arguments), pss=pss)
    return Analysis(cost, json.loads((results / "run.json").read_text(encoding="utf-8")), store)


def stage_spans(lines: Sequence[tuple[float, str]]) -> list[tuple[str, float, float]]:
    """(name, start, end) of each stage run, in seconds since the start, from the lines that a run prints."""
    spans = []
    for at, line in lines:
        if found := _STAGE_LINE.match(line):
            spans.append((found["name"], max(0.0, at - float(found["seconds"])), at))
    return spans


def covered_s(spans: Sequence[tuple[str, float, float]]) -> float:
    """Seconds during which at least one stage was under way."""
    total, reached = 0.0, 0.0
    for _, start, end in sorted(spans, key=lambda span: span[1]):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
