"""The verb ``serve``: an archive by schedule, with the Prefect UI, until it is told to end.

Everything that can be wrong with the configuration is found at the start, not at two in the morning. The times are kept
by a Prefect server (the one that is named, or one of this process), the runs are processes of their own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from faceline.errors import FacelineError
from faceline.folders import make_private_dirs
from faceline.nightly.missed import catching_up, may_try_again
from faceline.nightly.nights import nights_since_the_last_whole_one
from faceline.nightly.words import when_words
from faceline.stages import STAGES
from flows import console
from flows.analyze import log_folder
from flows.archive import STATE_FOLDER, Archive, open_archive, running_words, shown
from flows.arguments import VERBATIM
from flows.config import load_config
from flows.files import replace_text, valid_text
from flows.job import announce_device, check_precision_of, describe_models, device_of, resolve_models
from flows.logfile import log_path, session
from flows.notify import failure_body, tell_address
from flows.reports import reports_server
from flows.server import PrefectServer, state_folder
from flows.timetable import next_times, own_zone, times_between
from tasks.importing import without_collecting

log = logging.getLogger(__name__)

_PATHS = ("store.root", "models.folder", "config", "custody.sign_key")


@dataclass(frozen=True)
class Plan:
    """What is served.

    Attributes:
        folder: the archive.
        place: a name for the deployments: of this archive, with these results, on this machine.
        archive, single: options of a run over the archive, and of one over a single footage, as on a command line.
        cron, zone: the schedule; ``cron`` is None where runs begin by hand alone.
        concurrency: runs at the same time.
    """

    folder: Path
    place: str
    archive: tuple[str, ...]
    single: tuple[str, ...]
    cron: str | None
    zone: str
    concurrency: int

    def next_time(self, now: datetime) -> datetime | None:
        """When the schedule is due next."""
        return next(iter(next_times(self.cron, self.zone, now)), None) if self.cron else None


def serve(arguments: Sequence[str]) -> int:
    """Run the verb until it is told to end; exit code.

    Raises:
        UsageError: the configuration is not allowed, or names no archive.
        FacelineError: weights are missing, a folder cannot be written, the archive is served already, or there is no
            server.
    """
    config = load_config(arguments, STAGES)
    work = open_archive(config)
    check_everything(work)
    plan = plan_of(work)
    with contextlib.ExitStack() as held:
        held.enter_context(served_once(work))
        held.enter_context(session(log_path(log_folder(config), "serve", work.folder.name)))
        console.say(describe_models(resolve_models(config, STAGES), config))
        announce_device(device_of(config), config)
        if config.schedule.reports_port is not None:
            address = held.enter_context(reports_server(work.output, config.schedule.reports_port))
            console.say(f"reports: {address}/archive.html")
        server = PrefectServer(history_folder(work), config.schedule.port)
        held.callback(server.stop)
        console.say(f"Prefect: {'starting a server' if server.temporary else server.url}")
        server.start()
        with without_collecting():
            server.ready()
            from flows.serving import run_service
        if server.temporary:
            console.say(f"UI: {str(server.url).removesuffix('/api')}")
        say_what_comes(work, plan)
        missed = partial(missed_reason, work, plan)
        run_service(
            plan, missed, partial(tell_not_begun, work), own_server=server.temporary, alive=lambda: server.alive
        )
    console.say("ended")
    return 0


def check_everything(work: Archive) -> None:
    """Find out now what would stop a run later.

    Raises:
        FacelineError: in one line, with the cure.
    """
    config = work.config
    resolve_models(config, STAGES)
    check_precision_of(config)
    work.check_places()
    if not os.access(work.folder, os.R_OK | os.X_OK):
        raise FacelineError("cannot be read", where=shown(work.folder), cure="see footage")


def plan_of(work: Archive) -> Plan:
    """What to serve: with absolute paths, since runs may be started from elsewhere."""
    config, options = work.config, work.config.schedule
    literal = {name: _absolute(name, value) for name, value in config.paths.items() if name != "output"}
    literal.setdefault("store.root", _absolute("store.root", config.store.root))
    mine = [f"{name}={value}" for name, value in literal.items() if not _is_of_schedule(name)]
    mine += [text for text in config.overrides if not _is_of_schedule(text) and text.partition("=")[0] not in VERBATIM]
    single = [valid_text(text) for text in mine]
    return Plan(
        folder=work.folder.absolute(),
        # Machines with the same paths may share a server, and none may touch the other's runs.
        place=place_of(work, socket.gethostname()),
        archive=(valid_text(f"output={work.output.absolute()}"), *single),
        single=tuple(single),
        cron=options.cron,
        zone=options.timezone or own_zone(),
        concurrency=options.concurrency,
    )


def _absolute(name: str, value: str) -> str:
    return str(Path(value).absolute()) if name in _PATHS and value != "null" and "://" not in value else value


def _is_of_schedule(text: str) -> bool:
    return text.partition("=")[0].partition(".")[0] == "schedule"


def place_of(work: Archive, host: str = "") -> str:
    """A name for this archive with these results on this machine: letters, digits and dashes.

    Args:
        host: name of the machine; empty for a name that is known on it alone.
    """
    parts = (work.folder.absolute().name, host)
    readable = [re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-")[:40].strip("-") for part in parts]
    places = [os.path.realpath(path) for path in (work.folder, work.output)]
    where = "\n".join([*places, host] if host else places)
    digest = hashlib.sha256(os.fsencode(where)).hexdigest()[:8]
    return "-".join(filter(None, (*readable, digest)))


def history_folder(work: Archive) -> Path:
    """Where the server of this process keeps the history of this archive's runs."""
    return state_folder().parent / "serve" / place_of(work)


@contextlib.contextmanager
def served_once(work: Archive) -> Iterator[None]:
    """Two that serve one archive would each start its runs.

    Raises:
        FacelineError: it is served already.
    """
    import filelock

    place = work.output / STATE_FOLDER / "serving.lock"
    make_private_dirs(place.parent)
    try:
        with filelock.FileLock(place, timeout=0, mode=0o600):
            yield
    except filelock.Timeout:
        raise FacelineError(
            "this archive is served already", where=shown(work.folder), cure="end the other `faceline serve` first"
        ) from None


def missed_reason(
    work: Archive, plan: Plan, now: datetime, *, meanwhile: bool = False, tried_at: datetime | None = None
) -> str:
    """Why a run has to catch up now; empty where none has to.

    Args:
        now: the time.
        meanwhile: whether this is asked while the archive is served, and not at the start.
        tried_at: when a run last began to catch up since the archive is served.
    """
    since = serving_since(work.output / STATE_FOLDER / "serving.json", now)
    if plan.cron is None or not work.config.schedule.catch_up:
        return ""
    before, cut_off = nights_since_the_last_whole_one(work.journals, now)
    if meanwhile and not may_try_again(cut_off, tried_at, now, before):
        return ""
    reason = catching_up(before, cut_off, since, partial(times_between, plan.cron, plan.zone), now)
    # Last, since to look is to hold the archive for a moment: a run by hand does what was missed, and catching up
    # would be skipped.
    return reason if reason and not work.is_busy() else ""


def tell_not_begun(work: Archive, what: str) -> None:
    """Say of a run of the schedule that it was not begun, here and to the address that wants to know."""
    text = f"{what}{running_words(work.output)}; see whether it hangs, and end it if it does: the next run goes on"
    log.warning("%s: %s", shown(work.folder), text)
    tell_address(work.config.archive, lambda: failure_body(work.folder, text, "not begun"))


def serving_since(file: Path, now: datetime) -> datetime:
    """When this archive was served first; noted in a file. A time to come is none: the clock was ahead."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        since = datetime.fromisoformat(json.loads(file.read_text("utf-8"))["since"])
        if since.tzinfo is not None and since <= now:
            return since
    replace_text(file, json.dumps({"since": now.isoformat(timespec="seconds")}) + "\n")
    return now


def say_what_comes(work: Archive, plan: Plan) -> None:
    """Print what will be run, with what, when."""
    console.say(f"archive: {shown(plan.folder)}, results: {shown(work.output.absolute())}")
    coming = plan.next_time(datetime.now(UTC))
    if plan.cron is None:
        console.say("no times: runs begin in the UI")
    else:
        when = "never" if coming is None else when_words(coming.isoformat(timespec="minutes"))
        console.say(f"schedule: {plan.cron} ({plan.zone}); next run: {when}")
