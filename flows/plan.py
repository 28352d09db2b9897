"""The verb ``plan``: what ``analyze`` would do with the same options, and why. Runs nothing and changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from faceline.report.results import check_replaceable
from faceline.stages import STAGES
from flows import console
from flows.config import load_config
from flows.job import describe_device, describe_models, prepare
from flows.walk import plan

STATES = ("cached", "run", "depends")


def show_plan(arguments: Sequence[str]) -> int:
    """Run the verb; exit code."""
    config = load_config(arguments, STAGES)
    if config.footage and Path(config.footage).is_dir():
        from flows.archive_plan import plan_archive

        return plan_archive(config)
    job = prepare(config, STAGES)
    check_replaceable(job.output)
    console.say(describe_models(job.models, config))
    if line := describe_device(job.device, config):
        console.say(line)
    planned = list(plan(job.pipeline))
    rows = [(item.node.name, item.explanation.state, item.explanation.reason) for item in planned]
    console.table(("stage", "state", "reason"), rows)
    counts = Counter(str(item.explanation.state) for item in planned)
    console.say(", ".join(f"{counts[state]} {state}" for state in STATES if counts[state]))
    return 0
