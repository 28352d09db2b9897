"""One run over an archive: every content that has something to do, none able to cost the others their results.

What comes of each content is kept as soon as it is known (`faceline.nightly`), so that a run that is killed costs the
work under way and nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import faceline
from faceline.errors import (
    ArtifactError,
    FacelineError,
    FootageChangedError,
    FootageError,
    FootageUnreadableError,
    TimeLimitError,
)
from faceline.names import printable
from faceline.nightly.moments import Moment, compare, moments_of
from faceline.nightly.nights import FAILED, INTERRUPTED, Cause, Delta, Entry, Journal, causes_of
from faceline.nightly.nights import Night as Before
from faceline.nightly.recipe import Changes, Recipe, changes
from faceline.nightly.records import Outcome, Record
from faceline.nightly.summary import Summary
from faceline.report.results import check_replaceable
from faceline.stages import STAGES
from flows.analyze import is_cached, run_here
from flows.config import Config
from flows.console import Hushed, Reporter
from flows.files import valid_text
from flows.job import Job, prepare
from flows.outage import OutageError, may_be_an_outage, outage
from flows.results import Finished
from flows.side_by_side import Labelled, run_side_by_side
from flows.survey import Content, Survey
from tasks.guarded import GuardedOpener

log = logging.getLogger(__name__)

RunJob = Callable[[Job, Reporter, float, threading.Event], Finished]
"""Runs a job that has something to compute: job, who is told, when it began, set when the run is to stop."""

QUARANTINED = (FootageError, TimeLimitError)
"""What says something about the footage: trying again with the same file and the same configuration changes nothing."""


@dataclass(frozen=True)
class Turn:
    """A content whose turn it is, with its job if that was made ready already."""

    content: Content
    job: Job | None = None


def opener_for(config: Config) -> GuardedOpener | None:
    """What opens an archive's footage; None where no processes are wanted, and it is opened in this one."""
    if config.runner.kind == "threads":
        return None
    return GuardedOpener(config.limits.limits, config.archive.open_mib * 2**20)


class Night:
    """One run over an archive.

    Args:
        archive: the archive.
        survey: what was found.
        before: the last whole run, and those that were cut off since.
        journal: where what happens is written.
        reporter: who is told.
        reason: why it runs.

    Attributes:
        name: of its journal.
        summary, page: what is told of it, and where its page lies; None before its end.
    """

    def __init__(
        self,
        archive: Any,
        survey: Survey,
        before: tuple[Before | None, list[Before]],
        journal: Journal,
        reporter: Reporter,
        reason: str,
    ) -> None:
        self._archive, self._survey, self._journal, self._reporter = archive, survey, journal, reporter
        self.before, self.name = before, journal.name
        self.summary: Summary | None = None
        self.page: Path | None = None
        self._began_s = time.perf_counter()
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}
        self._under_way: dict[str, tuple[Content, float]] = {}
        self._recipes: dict[str, Recipe | None] = {}
        self._here: dict[str, str] = {}
        self._twins: list[Content] = []
        self._opener = opener_for(archive.config)
        journal.begin(
            {
                "began": now(),
                "archive": valid_text(archive.folder.absolute()),
                "output": valid_text(archive.output.absolute()),
                "faceline": faceline.__version__,
                "recipe": archive.recipe.digest,
                "overrides": [valid_text(argument) for argument in archive.config.arguments],
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "reason": reason,
            }
        )

    def close(self) -> None:
        """End the process in which footage is opened."""
        if self._opener is not None:
            self._opener.close()

    @property
    def entries(self) -> list[Entry]:
        """What came of each file so far, in order of path."""
        with self._lock:
            return [self._entries[name] for name in sorted(self._entries)]

    @property
    def output(self) -> Path:
        """Where results go."""
        output: Path = self._archive.output
        return output

    @property
    def seconds(self) -> float:
        """Wall time so far."""
        return time.perf_counter() - self._began_s

    @property
    def left_to_do(self) -> int:
        """Contents that have something to do, or may have."""
        return len(self._survey.of("work")) + len(self._survey.young)

    # ------------------------------------------------------------------------------------ what needs no work

    def note_what_needs_no_work(self) -> None:
        """Note files that are unchanged, quarantined or unreadable."""
        for content in self._survey.contents:
            self._is_here(content)
        for name, reason in self._survey.unreadable.items():
            self._enter(Entry(name, "failed", reason=reason, tries=1, since=now()))
            self._reporter.warned(f"{printable(name)}: {reason}")
        for verdict in ("unchanged", "quarantined"):
            for content in self._survey.of(verdict):
                self._note_known(content)

    def _note_known(self, content: Content) -> None:
        record = content.record
        assert record is not None
        if record.state == "quarantined":
            self._reporter.warned(f"{printable(content.files[0])} stays in quarantine: {record.reason}")
        self._note(content, record, "unchanged" if record.state == "done" else "quarantined")

    def _is_here(self, content: Content) -> None:
        self._here.update(dict.fromkeys(content.files, content.sha256))

    # --------------------------------------------------------------------------------------------- the turns

    def turns(self) -> Iterator[Turn]:
        """Contents in their order; after all others those whose files were still being written at the beginning."""
        for content in self._survey.of("work"):
            yield Turn(content)
        if not self._survey.young:
            return
        known = self._survey.contents
        found, still = self._archive.surveyor.second_look(self._survey.young, known)
        for name in still:
            self._enter(Entry(name, "left", reason="still being written; left for the next run"))
            self._reporter.noted(f"{printable(name)} is still being written, and left for the next run")
        for name, reason in found.unreadable.items():
            self._enter(Entry(name, "failed", reason=reason, tries=1, since=now()))
        for content in found.contents:
            self._is_here(content)
            if content.verdict == "work":
                yield Turn(content)
            elif content.verdict == "unchanged" and content.files[0] not in self._survey.young:
                # The content of another file, which may still be under way: listed at the end, with what came of that.
                self._twins.append(content)
            else:
                self._note_known(content)

    def _note_twins(self) -> None:
        for content in self._twins:
            first, *others = content.files
            for name in others:
                twin = replace(self._entries[first], file=name, stages_run=0, seconds=0.0, moved_from="")
                self._enter(replace(twin, same_as=self._entries[first].same_as or first))

    def until_work(self, turns: Iterator[Turn], crowd: int) -> Turn | None:
        """Deal with contents that need no computing; the first that does, with its job. The rest stays in ``turns``."""
        for turn in turns:
            began_s = time.perf_counter()
            job = self._prepared(turn.content, began_s, crowd)
            if job is not None and not self._if_cached(turn.content, job, began_s):
                return Turn(turn.content, job)
        return None

    def run(self, turns: Iterator[Turn], run_job: RunJob, crowd: int) -> None:
        """Work on contents side by side.

        Args:
            turns: what to work on.
            run_job: runs what has something to compute.
            crowd: how many at the same time.
        """
        stopping = threading.Event()

        def run(turn: Turn) -> None:
            began_s = time.perf_counter()
            with self._lock:
                self._under_way[turn.content.files[0]] = turn.content, began_s
            job = turn.job or self._prepared(turn.content, began_s, crowd)
            if job is None or (turn.job is None and self._if_cached(turn.content, job, began_s)):
                return
            told = self._reporter if crowd == 1 else Labelled(self._reporter, printable(turn.content.files[0]))
            try:
                finished = run_job(job, told, began_s, stopping)
            except Exception as error:
                self._note_error(turn.content, error, began_s, job)
            else:
                self._note_done(turn.content, job, finished, began_s)

        run_side_by_side(turns, run, room=crowd, stopping=stopping)

    def _prepared(self, content: Content, began_s: float, crowd: int) -> Job | None:
        """The content's job; None where the footage cannot be analysed, which is noted."""
        file, results = self._archive.folder / content.files[0], self._archive.output / content.results
        try:
            self._bring_results(content)
            config = self._archive.config.for_footage(str(file), str(results))
            job = prepare(config, STAGES, None if self._opener is None else self._opener.open(file))
            if job.footage.sha256 != content.sha256:
                raise FootageChangedError("the footage changed since it was found", where=str(file))
            check_replaceable(job.output)
            job.check_precision()
        except Exception as error:
            self._note_error(content, error, began_s, None)
            return None
        return replace(job, crowd=crowd, limit_s=self._archive.config.archive.time_limit_s)

    def _bring_results(self, content: Content) -> None:
        """Take the results of moved footage along, with whatever somebody has put beside them."""
        if content.record is None or not content.record.results or content.record.results == content.results:
            return
        before, after = (self._archive.output / place for place in (content.record.results, content.results))
        if before.is_dir() and not after.exists():
            after.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(OSError):  # They are made anew anyway.
                before.rename(after)

    def _if_cached(self, content: Content, job: Job, began_s: float) -> bool:
        """Make the results of a job of which everything is stored; whether that was so."""
        try:
            if not is_cached(job):
                return False
            self._note_done(content, job, run_here(job, Hushed(self._reporter), began_s), began_s)
        except ArtifactError as error:
            log.warning("%s: %s; it is computed anew", error.where, error.what)
            return False
        except Exception as error:
            self._note_error(content, error, began_s, job)
        return True

    # ------------------------------------------------------------------------------------- what came of them

    def _end_if_out(self, error: Exception) -> None:
        """End the run after an error that may be no fault of the footage, if what all footage needs has gone away.

        Raises:
            OutageError: it has.
        """
        if not may_be_an_outage(error) or (found := outage(self._archive.config.store.root)) is None:
            return
        what, where, cure = found
        settled = {entry.file for entry in self.entries if entry.state not in ("failed", "left")}
        names = [content.files[0] for content in self._survey.of("work")] + list(self._survey.young)
        left = sum(name not in settled for name in names)
        footages = "1 footage is" if left == 1 else f"{left} footages are"
        raise OutageError(
            f"{what}; the run ends here, {footages} left for the next one, what is finished is kept",
            where=where,
            cure=cure,
        ) from error

    def _note_done(self, content: Content, job: Job, finished: Finished, began_s: float) -> None:
        damage = finished.run["footage"].get("damaged_at_s")
        stages: dict[str, float] = {}
        for stage in finished.run["stages"]:
            if stage["state"] == "run":
                stages[stage["stage"]] = stages.get(stage["stage"], 0.0) + stage["seconds"]
        record = Record(
            sha256=content.sha256,
            state="done",
            recipe=self._archive.recipe.digest,
            at=now(),
            file=content.files[0],
            reason="" if damage is None else f"damaged, analysed up to {damage:.1f} s",
            results=content.results,
            run_sha256=hashlib.sha256((job.output / "run.json").read_bytes()).hexdigest(),
            footage=_footage_facts(job.footage),
            persons=finished.run["counts"]["persons"],
            events=finished.run["counts"]["events"],
            moments=moments_of(finished.events),
            seconds=round(time.perf_counter() - began_s, 3),
            stages={name: round(seconds, 3) for name, seconds in stages.items()},
        )
        ran = sum(stage["state"] == "run" for stage in finished.run["stages"])
        self._keep(content, record, ran, len(finished.run["stages"]) - ran)

    def _note_error(self, content: Content, error: Exception, began_s: float, job: Job | None) -> None:
        name = content.files[0]
        if isinstance(error, FootageChangedError):
            log.info("%s left: %s", printable(name), error)
            reason = f"{error.what}; left for the next run"
            self._reporter.noted(f"{printable(name)}: {reason}")
            for file in content.files:
                self._here.pop(file, None)
                self._enter(Entry(file, "left", reason=reason, seconds=round(time.perf_counter() - began_s, 3)))
            return
        what = error.what if isinstance(error, FacelineError) else f"unexpected {type(error).__name__}: {error}"
        reason = " ".join(what.split())
        may_pass = isinstance(error, FootageUnreadableError)
        state: Outcome = "quarantined" if isinstance(error, QUARANTINED) and not may_pass else "failed"
        log.info("%s %s: %s", printable(name), state, error, exc_info=not isinstance(error, FacelineError))
        self._reporter.warned(f"{printable(name)} is set aside: {reason}")
        record = Record(
            sha256=content.sha256,
            state=state,
            conditions=self._archive.conditions,
            recipe=self._archive.recipe.digest,
            at=now(),
            file=name,
            reason=reason,
            cure=getattr(error, "cure", ""),
            footage={} if job is None else _footage_facts(job.footage),
            seconds=round(time.perf_counter() - began_s, 3),
        )
        self._keep(content, record, 0)
        if state == "failed":
            self._end_if_out(error)

    def _keep(self, content: Content, record: Record, stages_run: int, stages_cached: int = 0) -> None:
        """Keep what came of a content, and say how its events changed. The journal first: what it says twice is one."""
        before = content.record
        # A failure that may pass leaves the results, and what is known of them, as they are.
        if record.state == "failed" and before is not None and before.state == "done":
            record = replace(
                record, results=before.results, moments=before.moments, persons=before.persons, events=before.events
            )
        elif delta := self._delta(content, record):
            self._journal.delta(delta)
        record = record.after(before)
        self._archive.records.put(record)
        self._note(content, record, record.state, stages_run, stages_cached)

    def _note(self, content: Content, record: Record, state: Any, stages_run: int = 0, stages_cached: int = 0) -> None:
        """Enter every file of a content."""
        first, *others = content.files
        moved = self._moved_from(content)
        duration = record.footage.get("duration_s")
        entry = Entry(
            file=first,
            state=state,
            sha256=content.sha256,
            reason=record.reason,
            results=record.results if state in ("done", "unchanged") else "",
            moved_from=moved,
            persons=record.persons,
            events=record.events,
            stages_run=stages_run,
            seconds=record.seconds if state not in ("unchanged",) and content.verdict == "work" else 0.0,
            duration_s=None if duration is None else float(duration),
            cure=record.cure,
            tries=record.tries if state in ("quarantined", "failed") else 0,
            since=record.since if state in ("quarantined", "failed") else "",
            stages_cached=stages_cached,
        )
        self._enter(entry)
        for name in others:
            self._enter(
                replace(entry, file=name, same_as=first, stages_run=0, stages_cached=0, seconds=0.0, moved_from="")
            )

    def _moved_from(self, content: Content) -> str:
        settled = self._archive.settled
        if content.files[0] in settled:
            return ""
        before = sorted(name for name, sha256 in settled.items() if sha256 == content.sha256)
        return "" if not before or any(name in self._here for name in before) else before[0]

    def _enter(self, entry: Entry) -> None:
        with self._lock:
            self._entries[entry.file] = entry
        self._journal.entry(entry)

    # ------------------------------------------------------------------------------------------ differences

    def _delta(self, content: Content, record: Record) -> Delta | None:
        """How the events of a content differ from what was known of it, or of its file's former content."""
        causes: tuple[Cause, ...]
        details: tuple[str, ...]
        known = content.record
        former = self._former(content)
        before: tuple[Moment, ...]
        if known is not None and known.state == "done":
            causes, details = causes_of(self._changes(known.recipe))
            before = known.moments
        elif former is not None:
            causes, details, before = ("changed footage",), (), former.moments
        else:
            causes, details, before = ("new footage",), (), ()
        differences = compare(before, record.moments)
        return Delta(content.files[0], causes, details, tuple(differences)) if differences else None

    def _former(self, content: Content) -> Record | None:
        """The record of what lay where the content's first file lies now, if that is nowhere else."""
        sha256 = self._archive.settled.get(content.files[0])
        if sha256 is None or sha256 == content.sha256 or sha256 in self._here.values():
            return None
        record: Record | None = self._archive.records.get(sha256)
        return record if record is not None and record.state == "done" else None

    def _changes(self, recipe: str) -> Changes:
        with self._lock:
            if recipe not in self._recipes:
                self._recipes[recipe] = self._archive.records.recipe(recipe)
            before = self._recipes[recipe]
        return Changes() if before is None else changes(before, self._archive.recipe)

    # ---------------------------------------------------------------------------------------------- the end

    def note_what_is_gone(self) -> None:
        """Note late copies, and files of the last whole run that are no longer there; their results are kept."""
        self._note_twins()
        entered = {entry.file for entry in self.entries}
        for name, sha256 in sorted(self._archive.settled.items()):
            if name in entered or self._is_out_of_sight(name):
                continue
            record = self._archive.records.get(sha256)
            results = record.results if record is not None else ""
            self._enter(Entry(name, "gone", sha256=sha256, results=results))
            replaced = sha256 in self._here.values()
            if record is not None and record.state == "done" and record.file == name and not replaced:
                differences = compare(record.moments, ())
                if differences:
                    self._journal.delta(Delta(name, ("removed footage",), (), tuple(differences)))

    def _is_out_of_sight(self, name: str) -> bool:
        """Whether a file, or a folder above it, could not be read: nobody knows whether it is still there."""
        return any(str(place) in self._survey.unreadable for place in (Path(name), *Path(name).parents))

    def cut_short(self, error: BaseException) -> None:
        """Write the end of a journal whose run did not come to its own; what the last whole run found stays settled."""
        self._note_what_was_under_way()
        failed = isinstance(error, Exception)
        reason = " ".join(str(error).split()) if failed else "interrupted"
        state = FAILED if failed else INTERRUPTED
        remaining = max(0, len(self._survey.contents) - len({entry.sha256 for entry in self.entries}))
        facts = {"state": state, "reason": reason, "remaining": remaining}
        self._journal.end({"ended": now(), "seconds": round(self.seconds, 2), **facts})

    def _note_what_was_under_way(self) -> None:
        entered = {entry.file for entry in self.entries}
        for name, (content, began_s) in sorted(self._under_way.items()):
            if name not in entered:
                spent_s = round(time.perf_counter() - began_s, 3)
                reason = "under way when the run ended; the next one goes on with it"
                entry = Entry(name, "left", sha256=content.sha256, reason=reason, seconds=spent_s)
                self._enter(entry)
                for other in content.files[1:]:
                    self._enter(replace(entry, file=other, same_as=name, seconds=0.0))

    def end(self, facts: dict[str, Any]) -> None:
        """Write the end of the journal; what is settled is what a whole run saw."""
        kept = {e.file: e.sha256 for e in self.entries if e.state in ("done", "unchanged", "quarantined", "failed")}
        kept |= {e.file: s for e in self.entries if e.state == "left" and (s := self._archive.settled.get(e.file))}
        kept |= {name: s for name, s in self._archive.settled.items() if self._is_out_of_sight(name)}
        self._archive.settle({name: sha256 for name, sha256 in kept.items() if sha256})
        self._journal.end({"ended": now(), "seconds": round(self.seconds, 2), "state": "done", **facts})


def now() -> str:
    """The time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def disk_use(store: str, output: Path) -> dict[str, int | None]:
    """Bytes that the store and the results take, and that are free where the results lie; None where not known."""
    free: int | None = None
    with contextlib.suppress(OSError):
        free = shutil.disk_usage(output).free
    return {"store": None if "://" in store else tree_bytes(Path(store)), "results": tree_bytes(output), "free": free}


def tree_bytes(folder: Path) -> int:
    """Bytes of all files below a folder, those with several names counted once; what vanishes meanwhile counts 0."""
    total = 0
    seen: set[tuple[int, int]] = set()
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                state = os.lstat(os.path.join(place, name))  # noqa: PTH118 (hundreds of thousands of files)
                if state.st_nlink > 1 and (state.st_dev, state.st_ino) in seen:
                    continue
                if state.st_nlink > 1:
                    seen.add((state.st_dev, state.st_ino))
                total += state.st_size
    return total


def _footage_facts(footage: Any) -> dict[str, Any]:
    start_s = footage.start_s
    end_s = getattr(footage, "end_s", start_s)
    return {
        "name": footage.name,
        "start_s": str(start_s),
        "end_s": str(end_s),
        "duration_s": float(footage.duration_s),
    }
