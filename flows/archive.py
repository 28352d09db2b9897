"""The verb ``archive``: every footage below a folder, known by its content; none can cost the others their results.

What the archive remembers lies in ``_archive`` below the output folder; see `faceline.nightly`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import socket
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from faceline.errors import FacelineError, UsageError
from faceline.folders import folder_at, make_private_dirs
from faceline.keys import digest_of
from faceline.names import printable
from faceline.nightly.catalogue import Catalogue
from faceline.nightly.figures import past_figures
from faceline.nightly.missed import BY_HAND
from faceline.nightly.nights import Entry, Journal, night_names, nights_since_the_last_whole_one, read_night
from faceline.nightly.recipe import Recipe, changes
from faceline.nightly.records import Records
from faceline.nightly.summary import summarize
from faceline.nightly.telling import lines, webhook_body
from faceline.nightly.writing import write_night
from faceline.runs import running
from faceline.stages import STAGES
from flows import console
from flows.analyze import log_folder
from flows.config import Config, load_config
from flows.console import Reporter
from flows.execution import execution
from flows.files import replace_text
from flows.job import announce_device, cores, describe_models, device_of, resolve_models
from flows.logfile import log_path, session
from flows.night import Night, disk_use, now
from flows.notify import failure_body, page_of, tell_address
from flows.pipeline import recipe_for
from flows.places import check_apart, check_footage_place, check_places, check_state, check_store
from flows.server import prefect_server, state_folder
from flows.survey import Surveyor
from tasks.importing import without_collecting

log = logging.getLogger(__name__)

SET_ASIDE = 3
"""Exit code when everything was done but some footage was set aside."""

STATE_FOLDER = "_archive"
_SETTLED = "settled.json"
_RUNNING = "running.json"
_TOLD = "faceline_told"


class BusyError(FacelineError):
    """Another run works on the same archive."""


class Archive:
    """A folder of footage, where its results go, and what is remembered of it.

    Args:
        folder: the folder.
        config: the configuration for every file.
        output: where results go.
    """

    def __init__(self, folder: Path, config: Config, output: Path) -> None:
        self.folder, self.config, self.output = folder, config, output
        self.state = folder_at(output / STATE_FOLDER)
        self.records = Records(self.state)

    @property
    def journals(self) -> Path:
        """The folder of the journals."""
        return self.output / STATE_FOLDER / "nights"

    @cached_property
    def recipe(self) -> Recipe:
        """Everything that results follow from but the footage."""
        return recipe_for(self.config, resolve_models(self.config, STAGES), STAGES)

    @cached_property
    def conditions(self) -> str:
        """Digest of the options that decide which footage is refused, but for what results follow from."""
        sections = {name: self.config.options[name].model_dump(mode="json") for name in ("limits", "require")}
        own = self.config.archive.model_dump(mode="json", include={"time_limit_s", "open_mib"})
        return digest_of(sections | own)

    @cached_property
    def surveyor(self) -> Surveyor:
        """Who looks at the folder."""
        store = self.config.store.root
        closed = [self.output] if "://" in store else [self.output, Path(store)]
        return Surveyor(
            self.folder,
            self.output,
            closed,
            self.state,
            self.config.archive,
            Catalogue(self.state),
            self.records,
            self.recipe.digest,
            self.conditions,
            forced=self.config.rerun is not None,
        )

    @cached_property
    def settled(self) -> Mapping[str, str]:
        """Path → content of everything that the last whole run found."""
        with contextlib.suppress(OSError, ValueError, AttributeError), self.state.open(_SETTLED) as file:
            return {str(name): str(sha256) for name, sha256 in json.loads(file.read()).items()}
        return {}

    def settle(self, files: Mapping[str, str]) -> None:
        """Remember what a whole run found."""
        self.state.put(_SETTLED, json.dumps(dict(sorted(files.items())), indent=0).encode("ascii"))

    def check_places(self) -> None:
        """Find out whether a run can keep what it finds; leaves nothing behind.

        Raises:
            FacelineError: a place cannot be written; in one line, with the cure.
        """
        check_places(self.config, self.output)
        check_state()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the archive for the block. The system lets go of it when this process ends, however it ends.

        Raises:
            BusyError: another run works on the same folder, or puts its results into the same place.
        """
        who = self.output / STATE_FOLDER / _RUNNING
        with self._held():
            facts = {"pid": os.getpid(), "host": socket.gethostname(), "began": now()}
            replace_text(who, json.dumps(facts) + "\n")
            try:
                yield
            finally:
                who.unlink(missing_ok=True)

    def is_busy(self) -> bool:
        """Whether a run works on the archive; one that begins at this very moment may meet the look itself."""
        try:
            with self._held():
                return False
        except BusyError:
            return True

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        import filelock

        folder_digest = hashlib.sha256(os.fsencode(os.path.realpath(self.folder))).hexdigest()[:16]
        places = (state_folder().parent / "archives" / f"{folder_digest}.lock", self.output / STATE_FOLDER / "lock")
        with contextlib.ExitStack() as held:
            for place in places:
                make_private_dirs(place.parent)
                lock = filelock.FileLock(place, timeout=0, mode=0o600)
                try:
                    held.enter_context(lock)
                except filelock.Timeout:
                    raise BusyError(
                        f"another run works on this archive{running_words(self.output)}",
                        where=shown(self.folder),
                        cure="wait for its end; what it finishes is not done again",
                    ) from None
            yield


def running_words(output: Path) -> str:
    """Who works on the archive with these results, in brackets; empty where nobody does."""
    try:
        facts = json.loads((output / STATE_FOLDER / _RUNNING).read_text("utf-8"))
        return f" (process {facts['pid']} on {facts['host']}, since {facts['began']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def archive(arguments: Sequence[str]) -> int:
    """Run the verb; exit code.

    Raises:
        UsageError: no folder is named, or it is none.
        FacelineError: another run works on the archive, or there is nothing where footage was.
    """
    config = load_config(arguments, STAGES)
    work = open_archive(config)
    with failure_told(config):
        work.check_places()
    log_file = log_path(log_folder(config), "archive", work.folder.name)
    place = config.store.root, "archive", work.folder.name
    with session(log_file) as reporter, failure_told(config), work.alone(), running(*place):
        console.say(describe_models(resolve_models(config, STAGES), config))
        announce_device(device_of(config), config)
        night = begin_night(work, reporter, BY_HAND)
        with ended(work, night):
            turns = night.turns()
            crowd = crowd_of(work, night)
            first = night.until_work(turns, crowd)
            if first is not None and first.job is not None:
                with prefect_server(reporter.noted) as server, execution(first.job, processes=crowd):
                    with without_collecting():
                        server.ready()
                        from flows.flow_many import run_archive_in_prefect

                    run_archive_in_prefect(work, night, first, turns, crowd, temporary_server=server.temporary)
    tell(night)
    return exit_code(night.entries)


@contextlib.contextmanager
def failure_told(config: Config) -> Iterator[None]:
    """Tell whoever waits for the night of what ends the block, unless its page did; that another run works is none."""
    try:
        yield
    except BusyError:
        raise
    except Exception as error:
        told = error
        if not getattr(error, _TOLD, False):
            tell_address(config.archive, lambda: failure_body(Path(config.footage or ""), told))
        raise


def open_archive(config: Config) -> Archive:
    """The archive that a configuration names; `UsageError` if it is no folder, or results would go into it."""
    if not config.footage:
        raise UsageError("no folder is named", cure="add footage=DIR")
    check_footage_place(config.footage)
    folder = Path(config.footage)
    if not folder.is_dir():
        cure = "use `faceline analyze` for one file" if folder.exists() else "check the path"
        raise UsageError("is no folder", where=str(folder), cure=cure)
    if config.until is not None:
        raise UsageError("until= is for one footage", cure="use `faceline analyze`, or leave it out")
    check_store(config.store.root)
    output = Path(config.output) if config.output else Path("results")
    check_apart(folder, output)
    return Archive(folder, config, output)


def begin_night(work: Archive, reporter: Reporter, reason: str) -> Night:
    """Find out what there is, begin the journal, and note what needs no work. Hold the archive around it.

    Raises:
        FacelineError: nothing is there though something was: the folder may not be mounted.
    """
    reporter.noted(f"looking at {shown(work.folder)}")
    survey = work.surveyor.survey()
    # The folder itself is among what could not be read when a drive does not answer.
    found = len(survey.contents) + len(survey.young) + len(survey.unreadable.keys() - {os.curdir})
    if not found and work.settled:
        raise FacelineError(
            f"no footage is there, but {len(work.settled)} files were the last time",
            where=shown(work.folder),
            cure=f"see whether it is mounted; if they are meant to be gone, remove "
            f"{shown(work.output / STATE_FOLDER / _SETTLED)}",
        )
    work.records.put_recipe(work.recipe)
    before = nights_since_the_last_whole_one(work.journals)
    night = Night(work, survey, before, Journal(work.journals, datetime.now(UTC)), reporter, reason)
    night.note_what_needs_no_work()
    counts = {verdict: len(survey.of(verdict)) for verdict in ("work", "unchanged", "quarantined")}
    words = [f"{counts['work']} to analyse", f"{counts['unchanged']} unchanged"]
    words += [f"{counts['quarantined']} in quarantine"] if counts["quarantined"] else []
    words += [f"{len(survey.young)} written to a moment ago"] if survey.young else []
    reporter.noted(f"{', '.join(words)} ({survey.seconds:.1f} s)")
    return night


@contextlib.contextmanager
def ended(work: Archive, night: Night, next_at: datetime | None = None) -> Iterator[None]:
    """Around the work: what is gone is noted, the journal ends, the night's page and tables are written, and whoever
    wants to know is told.

    Args:
        next_at: when the schedule runs next.
    """
    try:
        yield
        night.note_what_is_gone()
        night.end({"disk": disk_use(work.config.store.root, work.output)})
    except BaseException as error:
        # Whatever is wrong with journal and page (a full disk, say) is no reason to hide what ended the run.
        with contextlib.suppress(Exception):
            night.cut_short(error)
            publish_night(work, night, next_at, patient=isinstance(error, Exception))
            setattr(error, _TOLD, True)
        raise
    finally:
        night.close()
    publish_night(work, night, next_at)
    for name in night_names(work.journals)[: -work.config.archive.keep_nights]:
        (work.journals / f"{name}.jsonl").unlink(missing_ok=True)


def publish_night(work: Archive, night: Night, next_at: datetime | None, *, patient: bool = True) -> None:
    """Write the night's page and tables, then tell the address that wants to know."""
    before, cut_off = night.before
    changed = None
    if before is not None and (recipe := work.records.recipe(str(before.begin.get("recipe")))) is not None:
        changed = changes(recipe, work.recipe)
    summary = summarize(
        read_night(work.journals, night.name),
        before,
        cut_off,
        work.records,
        past=past_figures(work.journals, night.name),
        changes=changed,
        next_at=next_at,
    )
    keep = work.config.archive.keep_nights
    night.summary, night.page = summary, write_night(work.output, summary, keep)
    if said := tell_address(work.config.archive, lambda: webhook_body(summary, page_of(work.output)), patient=patient):
        night.summary = replace(summary, notification=said)
        write_night(work.output, night.summary, keep)


def crowd_of(work: Archive, night: Night) -> int:
    """How many footages are worked on at the same time."""
    if work.config.runner.kind == "threads":
        return 1
    workers = work.config.runtime.workers or min(cores(), 4)
    return max(1, min(workers, night.left_to_do))


def exit_code(entries: Sequence[Entry]) -> int:
    """0, 3 when some footage was set aside, 1 when all was."""
    met = [entry for entry in entries if entry.state not in ("gone", "left")]
    aside = sum(entry.state in ("quarantined", "failed") for entry in met)
    if not aside:
        return 0
    return 1 if aside == len(met) else SET_ASIDE


def counted(entries: Sequence[Entry]) -> str:
    """``57 done, 2 unchanged, 3 quarantined``."""
    counts: Counter[str] = Counter(entry.state for entry in entries)
    order = ("done", "unchanged", "quarantined", "failed", "left", "gone")
    return ", ".join(f"{counts[state]} {state}" for state in order if counts[state]) or "no footage"


def tell(night: Night) -> None:
    """Print what the run came to."""
    entries = night.entries
    rows = [
        (
            shown(e.file),
            e.state,
            "" if e.persons is None else e.persons,
            "" if e.events is None else e.events,
            shown(e.reason) or (f"same as {shown(e.same_as)}" if e.same_as else ""),
        )
        for e in entries
        if e.state != "unchanged"
    ]
    if rows:
        console.table(("file", "state", "persons", "events", "reason"), rows, right=("persons", "events"))
    for line in [] if night.summary is None else lines(night.summary):
        console.say(line)
    console.say(f"results: {shown(night.output)}, page: {shown(night.page or night.output)}")


def shown(path: Path | str) -> str:
    """A path as it may be printed."""
    return printable(str(path))
