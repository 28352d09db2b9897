"""What the Prefect UI alone answers: how far a run is, what it found, what it was. Published as Prefect artifacts.

Artifacts of one footage keep their keys from run to run, so the UI shows their history. Publishing never fails a run:
results lie in the results folder, with or without a server that wants to hear of them.
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from faceline.timeline import timecode
from flows.job import Job
from flows.report_links import address_of
from flows.results import Finished

log = logging.getLogger(__name__)

UPDATE_S = 2.0
"""Least time between two updates of the progress artifact."""

RETRIES, RETRIES_OF_PROGRESS = 3, 1
"""How often what is published is sent again, after 2, 4, 8 … s. Prefect's own five times are a minute and more, in
which no stage begins; what matters of a run lies in the results folder, and progress is told again."""

AWAY_S = 60.0
"""How long nothing is published after the server could not be reached."""

MOST_ROWS = 100


@dataclass
class _Server:
    away_until_s: float = 0.0


_server = _Server()


class Publisher:
    """Publishes for one footage; to be used inside its flow run."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._place = artifact_place(job.footage.name, str(job.footage.path))
        self._progress: UUID | None = None
        self._told, self._told_at_s = -1.0, 0.0

    def progress(self, share: float, *, now: bool = False) -> None:
        """Say how much is done, 0 to 1; calls that come too soon are dropped unless ``now``."""
        percent = round(100 * share, 1)
        clock_s = time.monotonic()
        if percent == self._told or (not now and clock_s - self._told_at_s < UPDATE_S):
            return
        self._told, self._told_at_s = percent, clock_s
        if self._progress is None:
            self._progress = unless_it_fails(
                create_progress_artifact,
                retries=RETRIES_OF_PROGRESS,
                progress=percent,
                key=f"progress-{self._place}",
                description=f"Stages of {one_line(self._job.footage.name)}",
            )
        else:
            unless_it_fails(
                update_progress_artifact,
                retries=RETRIES_OF_PROGRESS,
                artifact_id=self._progress,
                progress=percent,
            )

    def finished(self, finished: Finished) -> None:
        """Publish the top events as a table, the leaderboard of the trials, and the run's summary."""
        name = one_line(self._job.footage.name)
        unless_it_fails(
            create_table_artifact,
            table=events_table(finished.events),
            key=f"top-events-{self._place}",
            description=f"Moments of {name} that are atypical for the person in this footage; leads for a human.",
        )
        unless_it_fails(
            create_markdown_artifact,
            markdown=finished.leaderboard or "No trial was run.",
            key=f"leaderboard-{self._place}",
            description=f"How the models for {name} were chosen: trials by rank, and what choosing is worth.",
        )
        unless_it_fails(
            create_markdown_artifact,
            markdown=summary_markdown(self._job, finished),
            key=f"summary-{self._place}",
            description=f"Run over {name}",
        )
        if address := address_of(self._job.output / "report.html"):
            unless_it_fails(
                create_link_artifact,
                link=address,
                link_text=f"report of {name}",
                key=f"report-{self._place}",
                description=f"The report of {name}, as long as `faceline serve` runs.",
            )
        counts = finished.run["counts"]
        people = counts["persons"]
        add_tags("1 person" if people == 1 else f"{people} persons", "moments" if counts["events"] else "no moments")


def add_tags(*tags: str) -> None:
    """Add tags to this flow run, by which the UI filters. Of flow runs only: see docs/adr/0007-speed.md."""
    context = FlowRunContext.get()
    run = context.flow_run if context is not None else None
    if run is None or not tags:
        return

    def update() -> None:
        with get_client(sync_client=True) as client:
            client.update_flow_run(run.id, tags={*client.read_flow_run(run.id).tags, *tags})

    unless_it_fails(update)


def artifact_place(name: str, path: str) -> str:
    """A part of artifact keys that names a footage: letters, digits and dashes, the same for the same file."""
    readable = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-")
    digest = hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"{readable}-{digest}" if readable else digest


def one_line(text: str) -> str:
    """Text without what a server or a page could stumble over."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split()) or "footage"


def events_table(events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The most unusual events as rows for the UI; those that something beside expression explains come last."""
    events = sorted(events, key=lambda event: (bool(event["explained"]), event["rank"]))
    return [
        {
            "rank": event["rank"],
            "person": event["person"],
            "peak": timecode(event["peak_s"]),
            "start": timecode(event["start_s"]),
            "end": timecode(event["end_s"]),
            "score": _rounded(event["score"], 2),
            "p_value": _rounded(event["p_value"], 4),
            "expected_false": _rounded(event["expected_false"], 4),
            "survival": _rounded(event["survival"], 2),
            "quality": _rounded(event["quality"], 2),
            "what": event.get("drivers") or event["top_features"] or "",
            "also changed": event["flags"] or "",
            "explained": "explained, not counted" if event["explained"] else "",
        }
        for event in events[:MOST_ROWS]
    ]


def summary_markdown(job: Job, finished: Finished) -> str:
    """The run on one page."""
    run = finished.run
    footage, counts = run["footage"], run["counts"]
    damage = footage.get("damaged_at_s")
    facts = [
        ("footage", f"`{_code(footage['path'])}`"),
        ("SHA-256", f"`{footage['sha256']}`"),
        ("duration", f"{footage['duration_s']:.1f} s"),
        ("damaged", "no" if damage is None else f"from {timecode(damage)}"),
        *((name.replace("_", " "), f"{value:,}") for name, value in counts.items()),
        ("models", ", ".join(f"{role} {model['name']}" for role, model in run["models"].items()) or "none"),
        ("stages", finished.states),
        ("results", f"`{_code(str(job.output.absolute()))}`"),
        ("report", address_of(job.output / "report.html") or f"`{_code(str(job.output.absolute() / 'report.html'))}`"),
    ]
    lines = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts)]
    lines += ["", "```", finished.summary.replace("```", "'''"), "```", ""]
    lines += ["An event is atypical for this person in this footage: a lead for a human, and no more."]
    return "\n".join(lines)


def _code(text: str) -> str:
    return one_line(text).replace("`", "'").replace("|", "\\|")


def _rounded(value: float | None, digits: int) -> float | None:
    # NaN and infinities have no place in JSON.
    return round(float(value), digits) if value is not None and abs(float(value)) < 1e300 else None


def unless_it_fails(publish: Callable[..., Any], *, retries: int = RETRIES, **arguments: Any) -> Any:
    """What ``publish`` returns, or None where it fails. A server that is out of reach is left alone for a while."""
    if time.monotonic() < _server.away_until_s:
        return None
    try:
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: retries}):
            return publish(**arguments)
    except Exception as error:
        log.info("not published: %s", error)
        # What answers with an error is there. The client of HTTP is Prefect's own affair.
        if isinstance(error, OSError) or type(error).__module__.partition(".")[0] == "httpx":
            _server.away_until_s = time.monotonic() + AWAY_S
        return None
