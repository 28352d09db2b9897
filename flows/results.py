"""The end of a run: the results folder made anew from artifacts, and what people are told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import faceline
from faceline.inputs import StoredInputs
from faceline.stage import Stage
from faceline.store import Store
from flows.files import valid_text
from flows.job import Job
from flows.walk import Record
from tasks.runner import StageOutcome


@dataclass(frozen=True)
class Finished:
    """What a run came to.

    Attributes:
        run: content of ``run.json``.
        summary: closing lines for the console.
        events: the events, most unusual first, as rows of the stage gridsearch, each with ``drivers``: what departed,
            in words. Those that something beside expression explains come last.
        leaderboard: every person's trials by rank, as Markdown.
        until: the stage that the run was to end with; None where it made a results folder.
    """

    run: Mapping[str, Any]
    summary: str
    events: Sequence[Mapping[str, Any]]
    leaderboard: str = ""
    until: str | None = None

    @property
    def states(self) -> str:
        """``3 stages run, 40 cached``."""
        cached = sum(stage["state"] == "cached" for stage in self.run["stages"])
        return f"{len(self.run['stages']) - cached} stages run, {cached} cached"

    @property
    def found(self) -> str:
        """``3 events, 2 persons``, or what the run was to end with."""
        if self.until is not None:
            return f"ended after {self.until}"
        counts = self.run["counts"]
        return f"{counts['events']} events, {counts['persons']} persons"


def finish(job: Job, outcomes: Mapping[str, StageOutcome], records: Sequence[Record], seconds: float) -> Finished:
    """Write the results folder and gather what is told about the run.

    Raises:
        ArtifactError: an artifact turns out damaged; it has been set aside.
        FacelineError: the folder cannot be written.
    """
    if job.config.until is not None:
        return _ended_early(job, outcomes, records, seconds)
    from faceline.custody import custody_bytes
    from faceline.report.leaderboard_text import leaderboard_markdown
    from faceline.report.results import write_results
    from faceline.report.summary import console_summary, event_rows
    from faceline.signing import ALGORITHM, load_private_key

    report = next(node for node in job.pipeline.nodes.values() if node.stage.name == "report")
    inputs = stored_inputs(job, report.stage, outcomes)
    store = Store(job.pipeline.store)
    files = dict(store.read(outcomes[report.name].ref).files("files"))
    custody = custody_bytes([store.read(outcomes[name].ref).manifest for name in job.pipeline.nodes])
    facts = run_facts(job, records, seconds, {outcome.ref.key: outcome.ref.digest for outcome in outcomes.values()})
    left_out = faces_left_out(outcomes)
    facts["faces_left_out"] = left_out
    sign = None
    if key_file := job.config.custody.sign_key:
        key = load_private_key(key_file, "custody.sign_key")
        facts["signature"] = {"algorithm": ALGORITHM, "public_key": key.public.text}
        sign = key.sign
    run = write_results(job.output, files, inputs, facts, custody=custody, sign=sign)
    top = getattr(report.params, "top_events", 10)
    trials, comparison = inputs.table("gridsearch", "trials"), inputs.table("gridsearch", "comparison")
    leaderboard = leaderboard_markdown(trials, comparison)
    summary = console_summary(inputs, min(top, 10))
    if left_out["frames"]:
        # Printed with every run, also one that finds everything cached.
        summary += (
            f"\n{left_out['faces']} faces in {left_out['frames']} frames were left out, beyond the most of one frame "
            "(detect.max_faces)"
        )
    return Finished(run, summary, event_rows(inputs), leaderboard)


def faces_left_out(outcomes: Mapping[str, StageOutcome]) -> dict[str, int]:
    """How many faces were more than a frame may have, and in how many frames."""
    refs = [outcome.ref for outcome in outcomes.values() if outcome.ref.rows.get("left_out")]
    faces = [sum(Store(ref.root).read(ref).table("left_out")["faces"].to_pylist()) for ref in refs]
    return {"frames": sum(ref.rows["left_out"] for ref in refs), "faces": sum(faces)}


def _ended_early(job: Job, outcomes: Mapping[str, StageOutcome], records: Sequence[Record], seconds: float) -> Finished:
    """What is told of a run with ``until``: what its last stage gave, and where that lies."""
    until = job.config.until
    lines = [f"Ended after {until}, as until={until} says; no results folder was made."]
    for name, outcome in outcomes.items():
        if job.pipeline.nodes[name].stage.name == until:
            rows = ", ".join(f"{count:,} {payload}" for payload, count in outcome.rows.items())
            lines.append(f"{name}: {rows or 'no rows'}, in {valid_text(outcome.ref.root)}/{outcome.ref.folder}")
    return Finished(run_facts(job, records, seconds), "\n".join(lines), (), until=until)


def stored_inputs(job: Job, stage: Stage, outcomes: Mapping[str, StageOutcome]) -> StoredInputs:
    """The artifacts that a stage of scope ``footage`` reads, for reading by others."""
    node = next(node for node in job.pipeline.nodes.values() if node.stage is stage)
    refs = {name: [outcomes[before].ref for before in nodes] for name, nodes in node.inputs.items()}
    return StoredInputs(stage, refs)


def _valid(tree: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Those of the entries that are paths, as valid Unicode."""
    return {name: valid_text(tree[name]) for name in names if tree.get(name)}


def run_facts(
    job: Job, records: Sequence[Record], seconds: float, digests: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The part of ``run.json`` that is known without reading artifacts.

    Args:
        job: what was run.
        records: its stages.
        seconds: wall time of the run.
        digests: key → digest of its artifact.
    """
    footage, config, digests = job.footage, job.config, digests or {}
    return {
        "faceline": faceline.__version__,
        "footage": {
            "path": valid_text(footage.path),
            "sha256": footage.sha256,
            "duration_s": float(footage.duration_s),
            "start_s": float(footage.start_s),
        },
        # Where somebody keeps a private key is nobody's business; the public one stands in ``signature``.
        "config": {**config.tree, **_valid(config.tree, ("footage", "output")), "custody": {}},
        "overrides": [valid_text(text) for text in config.arguments if not text.startswith("custody.sign_key=")],
        "config_file": None
        if config.file is None
        else {"path": valid_text(config.file.path), "sha256": config.file.sha256},
        "models": {role: {"name": m.name, "sha256": m.sha256, "source": m.source} for role, m in job.models.items()},
        "runtime": {
            "device": job.device.kind,
            "device_name": job.device.name,
            "batch_size": job.runtime.batch_size,
            "threads": job.runtime.threads,
            "workers": job.workers,
        },
        "stages": [
            {**asdict(record), "seconds": round(record.seconds, 3), "digest": digests.get(record.key)}
            for record in records
        ],
        "seconds": round(seconds, 3),
    }
