"""Runs over many: an archive with a sub-flow per footage, a sweep with a sub-flow per combination."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

from prefect import flow
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.context import FlowRunContext
from prefect.exceptions import TerminationSignal
from prefect.states import Cancelled, Completed, Failed, State

from faceline.errors import FacelineError
from faceline.names import printable
from faceline.nightly.missed import BY_HAND, SCHEDULED
from faceline.nightly.telling import markdown
from faceline.runs import running
from faceline.stages import STAGES
from flows import console
from flows.analyze import log_folder
from flows.archive import (
    Archive,
    BusyError,
    begin_night,
    counted,
    crowd_of,
    ended,
    exit_code,
    failure_told,
    open_archive,
    tell,
)
from flows.config import load_config, load_sweep
from flows.console import Lines, Reporter
from flows.execution import execution
from flows.files import valid_text
from flows.flow import Ready, Submission, ending, for_job, readable_arguments, run_in_prefect, settle
from flows.job import Job, announce_device, device_of
from flows.logfile import log_path, session
from flows.night import Night, Turn
from flows.publish import Publisher, add_tags, artifact_place, one_line, unless_it_fails
from flows.report_links import address_of
from flows.results import Finished
from flows.served import belong_to_serve, footage_name, interrupted, next_run
from flows.sweep import Row, combination_name, prepare_all, run_combination

log = logging.getLogger(__name__)

MOST_ROWS = 1000


@dataclass(frozen=True)
class Many:
    """A run over many that was made ready outside the flow.

    Attributes:
        jobs: of a sweep: what to run, one after the other.
        reporter: who is told.
        temporary_server: whether the server ends with the run.
        night: of an archive: the run, what is left of it, and how many footages are worked on at the same time.
        ends: of an archive: takes how the turns ended, None or an error; Prefect keeps to itself what a flow raises.
    """

    jobs: Sequence[Job] = ()
    reporter: Reporter = field(default_factory=Lines)
    temporary_server: bool = False
    night: tuple[Archive, Night, Iterator[Turn], int] | None = None
    ends: list[Exception | None] = field(default_factory=list)


_many: ContextVar[Many | None] = ContextVar("many", default=None)


@contextlib.contextmanager
def _handed_over(many: Many) -> Iterator[None]:
    token = _many.set(many)
    try:
        with ending(many.temporary_server):
            yield
    finally:
        _many.reset(token)


@flow(name="archive", flow_run_name=footage_name, persist_result=False, log_prints=False)
def archive(footage: str, overrides: list[str] | None = None, reason: str = "") -> State[None]:
    """Analyse every footage below a folder that has something to compute, each in a sub-flow.

    Args:
        footage: the folder.
        overrides: options as on the command line, such as ``output=/results`` and ``sample.fps=5``.
        reason: why it runs, for the page of the night; empty for what Prefect knows.
    """
    many = _many.get()
    if many is not None and many.night is not None:
        work, night, turns, crowd = many.night
        try:
            _run_turns(night, turns, crowd, many.temporary_server)
        except Exception as error:
            many.ends.append(error)
            known = isinstance(error, FacelineError)
            return Failed(message=str(error) if known else f"unexpected {type(error).__name__}: {error}")
        many.ends.append(None)
        return _ended(work, night)
    belong_to_serve()
    begun: Night | None = None
    try:
        config = load_config([f"footage={footage}", *(overrides or [])], STAGES)
        with failure_told(config):
            work = open_archive(config)
            work.check_places()
        log_file = log_path(log_folder(config), "archive", work.folder.name)
        store, name = config.store.root, work.folder.name
        with session(log_file) as reporter, failure_told(config), work.alone(), running(store, "archive", name):
            announce_device(device_of(config), config)
            begun = night = begin_night(work, reporter, reason or _reason())
            with ended(work, night, next_run()):
                turns = night.turns()
                crowd = crowd_of(work, night)
                first = night.until_work(turns, crowd)
                if first is not None and first.job is not None:
                    with execution(first.job, processes=crowd):
                        _run_turns(night, chain([first], turns), crowd, temporary_server=False)
    except BusyError as error:
        # No failure: what the other run finishes need not be done again.
        _say_end(None, f"not begun: {error}")
        return Cancelled(name="Skipped", message=str(error))
    except FacelineError as error:
        _say_end(begun, str(error))
        return Failed(message=str(error), data=error)
    except (TerminationSignal, KeyboardInterrupt, SystemExit):
        # The last of them is what a sub-flow in this thread makes of the first.
        log.warning("the run over %s was told to stop", printable(footage))
        _say_end(begun)
        return interrupted()
    except Exception as error:
        log.exception("the run failed")
        what = f"unexpected {type(error).__name__}: {error}"
        _say_end(begun, what)
        return Failed(message=what, data=error)
    _say_end(night)
    return _ended(work, night)


def _say_end(night: Night | None, failure: str = "") -> None:
    """Print what a run that Prefect began came to, as `faceline archive` does: it is `serve`'s console."""
    # Nobody may read it any more, which is no reason to lose the run's state.
    with contextlib.suppress(OSError, ValueError):
        if night is not None and night.summary is not None:
            tell(night)
        if failure:
            console.error(failure)


def _run_turns(night: Night, turns: Iterator[Turn], crowd: int, temporary_server: bool) -> None:
    def run_job(job: Job, reporter: Reporter, began_s: float, stopping: threading.Event) -> Finished:
        # The sub-flow's own end is awaited once, with the parent's.
        return run_in_prefect(Ready(job, reporter, began_s, temporary_server, stopping))

    night.run(turns, run_job, crowd)


def _ended(work: Archive, night: Night) -> State[None]:
    """The flow's last state, with the table of the files that something came of."""
    entries = night.entries
    name, place = one_line(work.folder.name), artifact_place(work.folder.name, str(work.folder.absolute()))
    if night.summary is not None:
        unless_it_fails(
            create_markdown_artifact,
            markdown=markdown(night.summary),
            key=f"night-{place}",
            description=f"What the run over {name} found, what failed and why.",
        )
    if address := address_of(work.output / "archive.html"):
        unless_it_fails(
            create_link_artifact,
            link=address,
            link_text=f"page of the night of {name}",
            key=f"page-{place}",
            description=f"The page of the last run over {name}, as long as `faceline serve` runs.",
        )
    unless_it_fails(
        create_table_artifact,
        table=[
            {"file": one_line(e.file), "state": e.state, "persons": e.persons, "events": e.events, "reason": e.reason}
            for e in entries
            if e.state != "unchanged"
        ][:MOST_ROWS],
        key=f"archive-{place}",
        description=f"{name}: {counted(entries)}",
    )
    code = exit_code(entries)
    moments = night.summary.tally.new if night.summary is not None else 0
    add_tags(*(("set aside",) if code else ()), *(("new moments",) if moments else ()))
    if code == 1:
        return Failed(message=counted(entries))
    # Partial success has a name of its own, so that it is told apart at a glance.
    return Completed(name="Completed" if code == 0 else "SetAside", message=counted(entries))


def _reason() -> str:
    """Why a run that the command line did not begin runs."""
    context = FlowRunContext.get()
    run = context.flow_run if context is not None else None
    return SCHEDULED if run is not None and run.auto_scheduled else f"{BY_HAND}, in Prefect"


def run_archive_in_prefect(
    work: Archive, night: Night, first: Turn, turns: Iterator[Turn], crowd: int, *, temporary_server: bool = False
) -> None:
    """Run what an archive's night has left as one flow run named after the folder; what comes of it is in ``night``.

    Raises:
        Exception: what ended the run before every footage had its turn.
    """
    named: Any = archive.with_options(flow_run_name=lambda: one_line(work.folder.name))
    handed = Many(temporary_server=temporary_server, night=(work, night, chain([first], turns), crowd))
    with _handed_over(handed):
        try:
            # That every file was set aside is a failed flow run, but no error of this call.
            state: State[Any] = named(
                footage=valid_text(work.folder), overrides=readable_arguments(work.config), return_state=True
            )
        except Exception:
            # A server that is gone cannot be told the end either. What ended the turns comes first.
            if handed.ends and handed.ends[0] is not None:
                raise handed.ends[0] from None
            raise
    # A night that counted as whole would take what it did not reach for gone.
    if not handed.ends:
        raise FacelineError(f"Prefect did not begin the run ({state.name}: {state.message})", cure="run it again")
    if handed.ends[0] is not None:
        raise handed.ends[0]


def _made_ready() -> Many | None:
    # As in `flows.flow`: a context variable could not travel with the flow.
    return _many.get()


@flow(name="combination", persist_result=False, log_prints=False)
def combination(footage: str, overrides: list[str]) -> State[list[Row]]:
    """One combination of a sweep: everything up to the grid search, with its trials."""
    many = _made_ready()
    if many is None:
        jobs = prepare_all(load_sweep([f"footage={footage}", *overrides], STAGES))
        many = Many(jobs)
    job = many.jobs[0]
    publisher = Publisher(job)
    try:
        submit = Submission(job)
        walk = job.walk(submit, many.reporter, at_once=job.workers)
        with running(job.pipeline.store, "sweep", job.footage.name):
            rows = run_combination(job, walk, many.reporter, lambda: publisher.progress(walk.share_done))
        publisher.progress(1.0, now=True)
    except FacelineError as error:
        return Failed(message=str(error), data=error)
    except Exception as error:
        log.exception("the combination failed")
        return Failed(message=f"unexpected {type(error).__name__}: {error}", data=error)
    finally:
        if many.temporary_server:
            settle()
    return Completed(message=f"{len(job.config.trials)} trials", data=rows)


@flow(name="sweep", flow_run_name=footage_name, persist_result=False, log_prints=False)
def sweep(footage: str, overrides: list[str] | None = None) -> State[list[Row]]:
    """All combinations of a sweep, each in a sub-flow, and their leaderboard."""
    many = _many.get()
    if many is None:
        many = Many(prepare_all(load_sweep([f"footage={footage}", *(overrides or [])], STAGES)))
    began_s = time.perf_counter()
    rows: list[Row] = []
    try:
        for job in many.jobs:
            token = _many.set(replace(many, jobs=[job]))
            try:
                run: Any = for_job(combination, job, combination_name(job))
                rows += run(footage=valid_text(job.footage.path), overrides=readable_arguments(job.config))
            finally:
                _many.reset(token)
    except FacelineError as error:
        return Failed(message=str(error), data=error)
    except Exception as error:
        return Failed(message=f"unexpected {type(error).__name__}: {error}", data=error)
    job = many.jobs[0]
    unless_it_fails(
        create_table_artifact,
        table=leaderboard_table(rows),
        key=f"leaderboard-{artifact_place(job.footage.name, str(job.footage.path))}",
        description=f"Trials of {one_line(job.footage.name)}, by combination and rank; the objective needs no labels.",
    )
    return Completed(message=f"{len(rows)} rows, {time.perf_counter() - began_s:.1f} s", data=rows)


def run_sweep_in_prefect(jobs: Sequence[Job], reporter: Reporter, *, temporary_server: bool = False) -> list[Row]:
    """Run a sweep as one flow run named after the footage; raises what it fails with."""
    footage = jobs[0].footage
    named: Any = sweep.with_options(flow_run_name=lambda: one_line(footage.name))
    # All combinations, not the first one: what the run can be begun anew from.
    said = readable_arguments(replace(jobs[0].config, overrides=jobs[0].config.given))
    with _handed_over(Many(jobs, reporter, temporary_server)):
        rows: list[Row] = named(footage=valid_text(footage.path), overrides=said)
    return rows


def leaderboard_table(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The leaderboard as rows for the UI."""
    names = ("person", "rank", "objective", "model", "features", "window_s", "scored", "state", "chosen")
    return [
        {"combination": f"{row.upstream} {row.trial}".strip()} | {name: _plain(row.values.get(name)) for name in names}
        for row in rows[:MOST_ROWS]
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4) if abs(value) < 1e300 else None
    return value
