"""The verb ``sweep``: many combinations of options on one footage, compared in one table.

Combinations that agree in everything before the trials are one job whose trials are theirs; what several jobs have in
common is shared through the store. So an interrupted sweep goes on where it stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from faceline.errors import UsageError
from faceline.names import printable
from faceline.runs import running
from faceline.stages import STAGES
from faceline.store import Store
from flows import console
from flows.analyze import is_cached, log_folder
from flows.config import Config, load_sweep
from flows.console import Reporter
from flows.execution import execution
from flows.files import csv_text, replace_text
from flows.job import Job, announce_device, describe_models, prepare
from flows.logfile import log_path, session
from flows.places import check_places
from flows.server import prefect_server
from flows.walk import Walk, start_here
from tasks.importing import without_collecting
from tasks.runner import StageOutcome

SHOWN = 20
"""Rows of the leaderboard on the console, shared among the combinations; the CSV file has them all."""

SWEPT = tuple(stage for stage in STAGES if stage.name != "report")
"""Stages of a sweep: up to the grid search, which ranks the trials."""


@dataclass(frozen=True)
class Row:
    """One line of the leaderboard: a trial of one combination, for one person.

    Attributes:
        upstream: overrides of the combination before the trials.
        trial: overrides of the trial.
        values: the person's row of the grid search's trials.
    """

    upstream: str
    trial: str
    values: Mapping[str, Any]

    @property
    def place(self) -> tuple[float, str]:
        """Place within its combination: by rank, unranked trials last, then by person."""
        return self.values.get("rank") or math.inf, str(self.values.get("person", ""))

    @property
    def objective(self) -> float:
        """What trials are ranked by, higher is better; minus infinity where it is unknown."""
        value = self.values.get("objective")
        return -math.inf if value is None or math.isnan(value) else float(value)


def sweep(arguments: Sequence[str]) -> int:
    """Run the verb; exit code."""
    began_s = time.perf_counter()
    configs = load_sweep(arguments, STAGES)
    jobs = prepare_all(configs)
    footage = jobs[0].footage
    output = Path(configs[0].output) if configs[0].output else Path("results") / f"{footage.name}-sweep"
    trials = sum(len(config.trials) for config in configs)
    before = f"{len(jobs)} combination{'' if len(jobs) == 1 else 's'}"
    check_places(configs[0], output)
    console.say(f"{before} before the trials, {trials} trial{'' if trials == 1 else 's'}")
    console.say(describe_models(jobs[0].models, configs[0]))
    with session(log_path(log_folder(configs[0]), "sweep", footage.name)) as reporter:
        announce_device(jobs[0].device, configs[0])
        rows = run_jobs(jobs, reporter)
    table = write_leaderboard(rows, output)
    print_leaderboard(rows)
    console.say(f"{trials} trials, {time.perf_counter() - began_s:.1f} s; table: {printable(str(table))}")
    return 0


def prepare_all(configs: Sequence[Config]) -> list[Job]:
    """Make all combinations ready; the footage is opened once."""
    jobs: list[Job] = []
    for config in configs:
        jobs.append(prepare(config, SWEPT, jobs[0].footage if jobs else None))
    if not jobs:
        raise UsageError("the sweep is empty", cure="name at least one value for each option")
    return jobs


def run_jobs(jobs: Sequence[Job], reporter: Reporter) -> list[Row]:
    """Run all combinations, here if everything is cached, else as a Prefect flow."""
    with running(jobs[0].pipeline.store, "sweep", jobs[0].footage.name):
        return _run_jobs(jobs, reporter)


def _run_jobs(jobs: Sequence[Job], reporter: Reporter) -> list[Row]:
    if all(is_cached(job) for job in jobs):
        return [row for job in jobs for row in run_combination(job, job.walk(start_here, reporter), reporter)]
    for job in jobs:
        job.check_precision()
    with prefect_server(reporter.noted) as server, execution(jobs[0], processes=max(job.side_by_side for job in jobs)):
        with without_collecting():
            server.ready()
            from flows.flow_many import run_sweep_in_prefect

        return run_sweep_in_prefect(jobs, reporter, temporary_server=server.temporary)


def run_combination(job: Job, walk: Walk, reporter: Reporter, tick: Callable[[], None] = lambda: None) -> list[Row]:
    """Run one combination; its lines of the leaderboard."""
    reporter.total(combination_name(job), len(job.pipeline.nodes))
    walk.run(tick)
    # Objectives of two combinations say nothing of each other: each judges other windows of other faces. So rows stay
    # with their combination, in which they are ranked.
    return sorted(leaderboard(job, walk.outcomes), key=lambda row: row.place)


def combination_name(job: Job) -> str:
    """What tells a combination from the others, in words."""
    return " ".join(job.config.overrides) or job.footage.name


def leaderboard(job: Job, outcomes: Mapping[str, StageOutcome]) -> list[Row]:
    """The trials of a finished combination as the grid search ranked them."""
    table = Store(job.pipeline.store).read(outcomes["gridsearch"].ref).table("trials")
    trials = [node.trial for node in job.pipeline.nodes.values() if node.stage.scope == "trial"]
    by_id = dict(zip(trials, job.config.trials, strict=True))
    upstream = " ".join(job.config.overrides)
    return [Row(upstream, " ".join(by_id[values["trial"]].overrides), values) for values in table.to_pylist()]


def print_leaderboard(rows: Sequence[Row]) -> None:
    """The best trials of each combination on the console."""
    columns = ("person", "rank", "objective", "model", "features", "window_s", "scored", "state", "combination")
    cells = []
    each = max(1, SHOWN // max(1, len({row.upstream for row in rows})))
    best = [row for _, group in groupby(rows, key=lambda row: row.upstream) for row in islice(group, each)]
    for row in best:
        values = row.values
        objective = f"{row.objective:.4f}" if math.isfinite(row.objective) else ""
        cells.append(
            (
                values["person"],
                values["rank"] or "",
                objective,
                values["model"],
                values["features"],
                f"{values['window_s']:g}",
                values["scored"],
                values["state"],
                f"{row.upstream} {row.trial}".strip(),
            )
        )
    console.table(columns, cells, right=("person", "rank", "objective", "window_s", "scored"))
    if len(rows) > len(best):
        console.say(f"… and {len(rows) - len(best)} more")


def write_leaderboard(rows: Sequence[Row], output: Path) -> Path:
    """All lines as ``sweep.csv``."""
    names = list(dict.fromkeys(name for row in rows for name in row.values))
    cells = [[row.upstream, row.trial, *(row.values.get(name) for name in names)] for row in rows]
    replace_text(output / "sweep.csv", csv_text(["overrides", "trial_overrides", *names], cells))
    return output / "sweep.csv"
