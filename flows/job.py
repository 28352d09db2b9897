"""A run made ready: configuration, opened footage, resolved models, and the pipeline over them."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceline.errors import UsageError
from faceline.stage import Runtime, Stage
from faceline.weights import ResolvedModel
from flows.config import Config
from flows.console import Reporter
from flows.pipeline import Pipeline, build_pipeline, used_roles
from flows.requirements import check_footage
from flows.walk import Start, Walk

MOST_WORKERS = 4
"""Default limit: each worker may hold networks and a batch of frames, and memory is to stay below 3 GB."""


@dataclass(frozen=True)
class Job:
    """One footage under one configuration, ready to be planned or run.

    Attributes:
        config: the configuration.
        footage: the footage, opened and hashed.
        pipeline: what is to be done.
        output: the results folder.
        crowd: how many footages are worked on at the same time.
    """

    config: Config
    footage: Any
    pipeline: Pipeline
    output: Path
    crowd: int = 1

    @property
    def models(self) -> Mapping[str, ResolvedModel]:
        """Resolved weights, by role."""
        return self.pipeline.models

    @property
    def workers(self) -> int:
        """Stages worked on at the same time."""
        return self.config.runtime.workers or min(cores(), MOST_WORKERS)

    @property
    def side_by_side(self) -> int:
        """Segments worked on at the same time, each in a process of its own where there are processes."""
        segments = {node.segment.index for node in self.pipeline.nodes.values() if node.segment is not None}
        return min(self.workers, max(1, len(segments)))

    @property
    def runtime(self) -> Runtime:
        """How each stage is executed."""
        options = self.config.runtime
        # Footage of one segment leaves nothing else to do most of the time, so its stages may use all cores.
        threads = options.threads or max(1, cores() // min(self.workers, self.side_by_side * self.crowd))
        return Runtime(device=options.device, batch_size=options.batch_size, threads=threads)

    def walk(self, start: Start, reporter: Reporter, at_once: int = 1, stopping: threading.Event | None = None) -> Walk:
        """A run over the pipeline, ready to begin."""
        return Walk(self.pipeline, start, reporter, runtime=self.runtime, at_once=at_once, stopping=stopping)


def cores() -> int:
    """Cores that this process may use; in a container fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare(config: Config, stages: Sequence[Stage], footage: Any = None) -> Job:
    """Open the footage (unless it is given, opened), find the weights, lay out the pipeline.

    Raises:
        UsageError: no footage is named.
        FootageError: it cannot be read as video, or does not offer what is required.
        ModelError: weights are missing.
    """
    from faceline.video import open_footage

    if not config.footage:
        raise UsageError("no footage is named", cure="add footage=FILE")
    footage = footage or open_footage(config.footage)
    check_footage(footage, config.require)
    if config.runtime.device == "cuda":
        _require_gpu()
    pipeline = build_pipeline(footage, config, resolve_models(config, stages), stages)
    output = Path(config.output) if config.output else Path("results") / footage.name
    return Job(config, footage, pipeline, output)


def _require_gpu() -> None:
    import torch

    if not torch.cuda.is_available():
        raise UsageError("runtime.device=cuda: there is no GPU that torch can use", cure="leave runtime.device=cpu")


def resolve_models(config: Config, stages: Sequence[Stage]) -> dict[str, ResolvedModel]:
    """The weights of every role that a stage uses; choices of ``auto`` end here."""
    from faceline.weights import resolve

    options = config.models
    folder = Path(options.folder) if options.folder else None
    return {role: resolve(role, getattr(options, role, "auto"), folder) for role in used_roles(config, stages)}


def describe_models(models: Mapping[str, ResolvedModel], config: Config) -> str:
    """One line that says which weights are used: ``models: detector mtcnn, identity dlib (auto) …``."""
    parts = []
    for role, model in models.items():
        auto = " (auto)" if getattr(config.models, role, None) == "auto" else ""
        parts.append(f"{role} {model.name}{auto}")
    return "models: " + ", ".join(parts) if parts else "models: none"
