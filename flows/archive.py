"""The verb ``archive``: every footage below a folder, one after the other; none can cost the others their results."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from faceline.errors import ArtifactError, FacelineError, UsageError
from faceline.report.results import check_replaceable
from faceline.stages import STAGES
from flows import console
from flows.analyze import is_cached, log_folder, run_here
from flows.config import Config, load_config
from flows.console import Hushed, Reporter
from flows.discovery import find_footage, results_folders
from flows.execution import execution
from flows.files import csv_text, replace_text, valid_text
from flows.job import Job, announce_device, device_of, prepare
from flows.logfile import log_path, session
from flows.results import Finished
from flows.server import prefect_server
from flows.side_by_side import Labelled, run_side_by_side
from tasks.importing import without_collecting

log = logging.getLogger(__name__)

SET_ASIDE = 3
"""Exit code when everything was done but some footage was set aside."""


@dataclass(frozen=True)
class Entry:
    """One file of an archive and what came of it.

    Attributes:
        file: its path below the archive's folder.
        state: ``done``, ``cached`` (nothing had to be computed) or ``set aside``.
        reason: why it was set aside; where decoding had to end, for damaged footage; else empty.
        results: its results folder; empty when it was set aside.
        persons, events: how many were found.
        seconds: wall time.
    """

    file: str
    state: str
    reason: str = ""
    results: str = ""
    persons: int | None = None
    events: int | None = None
    seconds: float = 0.0


RunJob = Callable[[Job, Reporter, float, threading.Event], Finished]


@dataclass
class Archive:
    """A folder of footage on its way through the pipeline.

    Attributes:
        folder: the folder.
        config: the configuration for every file.
        output: where results go.
        entries: what has come of each file so far.
    """

    folder: Path
    config: Config
    output: Path
    entries: list[Entry] = field(default_factory=list)

    def files(self) -> Iterator[tuple[Path, Path]]:
        """Every file with its results folder."""
        store = self.config.store.root
        leave_out = [self.output] if "://" in store else [self.output, Path(store)]
        found = find_footage(self.folder, self.config.archive, leave_out)
        return zip(found, results_folders(self.folder, found, self.output), strict=True)

    def take_cached(self, reporter: Reporter) -> list[Job]:
        """Deal with all files that need no computing or cannot be read; the jobs of the others.

        Worker processes can work on several of these at the same time.
        """
        open_jobs = []
        for file, results in self.files():
            began_s = time.perf_counter()
            try:
                job = prepare(self.config.for_footage(str(file), str(results)), STAGES)
                check_replaceable(job.output)
                if not is_cached(job):
                    job.check_precision()
                    open_jobs.append(job)
                    continue
                self._note(job, run_here(job, Hushed(reporter), began_s), began_s, "cached")
            except ArtifactError as error:
                log.warning("%s: %s; it is computed anew", error.where, error.what)
                open_jobs.append(job)
            except Exception as error:
                self._set_aside(file, error, began_s, reporter)
        if self.config.runner.kind == "threads":
            return open_jobs
        return [replace(job, crowd=min(job.workers, len(open_jobs))) for job in open_jobs]

    def run(self, jobs: Sequence[Job], reporter: Reporter, run_job: RunJob) -> None:
        """Run jobs: those of one segment side by side, one that keeps all workers busy by itself alone."""
        crowd = max((job.crowd for job in jobs), default=1)
        stopping = threading.Event()

        def run(job: Job) -> None:
            began_s = time.perf_counter()
            told = reporter if crowd == 1 else Labelled(reporter, self._name(job.footage.path))
            try:
                self._note(job, run_job(job, told, began_s, stopping), began_s, "done")
            except Exception as error:
                self._set_aside(job.footage.path, error, began_s, reporter)

        if crowd > 1:
            reporter.total(self.folder.name, sum(len(job.pipeline.nodes) for job in jobs))
        run_side_by_side(jobs, run, size=lambda job: job.side_by_side, room=crowd, stopping=stopping)

    def _note(self, job: Job, finished: Finished, began_s: float, state: str) -> None:
        damage = finished.run["footage"].get("damaged_at_s")
        counts = finished.run["counts"]
        entry = Entry(
            self._name(job.footage.path),
            state,
            "" if damage is None else f"damaged, analysed up to {damage:.1f} s",
            valid_text(job.output),
            counts["persons"],
            counts["events"],
            time.perf_counter() - began_s,
        )
        self.entries.append(entry)

    def _set_aside(self, file: Path, error: Exception, began_s: float, reporter: Reporter) -> None:
        what = error.what if isinstance(error, FacelineError) else f"unexpected {type(error).__name__}: {error}"
        reason = " ".join(what.split())
        log.info("%s set aside: %s", valid_text(file), error, exc_info=not isinstance(error, FacelineError))
        reporter.warned(f"{self._name(file)} is set aside: {reason}")
        self.entries.append(Entry(self._name(file), "set aside", reason, seconds=time.perf_counter() - began_s))

    def _name(self, file: Path) -> str:
        return valid_text(os.path.relpath(file, self.folder))

    @property
    def exit_code(self) -> int:
        """0, 3 when some footage was set aside, 1 when all was."""
        aside = sum(entry.state == "set aside" for entry in self.entries)
        if not aside:
            return 0
        return 1 if aside == len(self.entries) else SET_ASIDE

    @property
    def summary(self) -> str:
        """``57 done, 2 cached, 3 set aside``."""
        counts = {state: sum(e.state == state for e in self.entries) for state in ("done", "cached", "set aside")}
        return ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "no footage"

    def write_table(self) -> Path:
        """Write what came of each file as ``archive.csv`` and ``archive.json`` into the output folder."""
        self.entries.sort(key=lambda entry: entry.file)
        rows = [asdict(entry) | {"seconds": round(entry.seconds, 2)} for entry in self.entries]
        columns = list(Entry.__dataclass_fields__)
        text = csv_text(columns, [[row[name] for name in columns] for row in rows])
        replace_text(self.output / "archive.csv", text)
        replace_text(self.output / "archive.json", json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
        return self.output / "archive.csv"


def archive(arguments: Sequence[str]) -> int:
    """Run the verb; exit code.

    Raises:
        UsageError: no folder is named, or it is none.
    """
    began_s = time.perf_counter()
    config = load_config(arguments, STAGES)
    work = open_archive(config)
    with session(log_path(log_folder(config), "archive", work.folder.name)) as reporter:
        announce_device(device_of(config), config)
        jobs = work.take_cached(reporter)
        if jobs:
            with prefect_server(reporter.noted) as server, execution(jobs):
                with without_collecting():
                    server.ready()
                    from flows.flow_many import run_archive_in_prefect

                run_archive_in_prefect(work, jobs, reporter, temporary_server=server.temporary)
    table = work.write_table()
    rows = [
        (e.file, e.state, "" if e.persons is None else e.persons, "" if e.events is None else e.events, e.reason)
        for e in work.entries
    ]
    console.table(("file", "state", "persons", "events", "reason"), rows, right=("persons", "events"))
    console.say(f"{work.summary}, {time.perf_counter() - began_s:.1f} s")
    console.say(f"results: {work.output}, table: {table}")
    return work.exit_code


def open_archive(config: Config) -> Archive:
    """The archive that a configuration names; `UsageError` if it is no folder."""
    if not config.footage:
        raise UsageError("no folder is named", cure="add footage=DIR")
    folder = Path(config.footage)
    if not folder.is_dir():
        cure = "use `faceline analyze` for one file" if folder.exists() else "check the path"
        raise UsageError("is no folder", where=str(folder), cure=cure)
    return Archive(folder, config, Path(config.output) if config.output else Path("results"))
