"""A run made ready: configuration, opened footage, resolved models, and the pipeline over them."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from faceline.devices import Device, check_precision, find_device
from faceline.errors import UsageError
from faceline.stage import Runtime, Stage
from faceline.weights import ResolvedModel
from flows import console
from flows.config import Config
from flows.console import Reporter
from flows.pipeline import Pipeline, build_pipeline, used_roles
from flows.places import check_footage_place, check_store
from flows.requirements import check_footage
from flows.walk import Start, Walk

log = logging.getLogger(__name__)

MOST_WORKERS = 4
"""Default limit: each worker may hold networks and a batch of frames, and memory is to stay below 3 GB."""

MOST_IN_CLUSTER = 64
"""The same for a cluster, which has memory of its own; Prefect servers do not like to hear of more at once."""

BATCH_SIZES = {"cpu": 32, "cuda": 128}
"""Default of ``runtime.batch_size`` by device: what keeps it busy; frames of a batch lie in memory side by side."""


@dataclass(frozen=True)
class Job:
    """One footage under one configuration, ready to be planned or run.

    Attributes:
        config: the configuration.
        footage: the footage, opened and hashed.
        pipeline: what is to be done.
        output: the results folder.
        crowd: how many footages are worked on at the same time.
        limit_s: most wall seconds that its stages may take together; None for no limit.
        device: where networks run.
    """

    config: Config
    footage: Any
    pipeline: Pipeline
    output: Path
    device: Device = field(default_factory=lambda: Device("cpu"))
    crowd: int = 1
    limit_s: float | None = None

    @property
    def models(self) -> Mapping[str, ResolvedModel]:
        """Resolved weights, by role."""
        return self.pipeline.models

    @property
    def workers(self) -> int:
        """Stages worked on at the same time."""
        return self.config.runtime.workers or _room.get() or min(cores(), MOST_WORKERS)

    @property
    def side_by_side(self) -> int:
        """Segments worked on at the same time, each in a process of its own where there are processes."""
        segments = {node.segment.index for node in self.pipeline.nodes.values() if node.segment is not None}
        return min(self.workers, max(1, len(segments)))

    @property
    def runtime(self) -> Runtime:
        """How each stage is executed."""
        options = self.config.runtime
        # Footage of one segment leaves nothing else to do most of the time, so its stages may use all cores; those of
        # other machines are not ours to count.
        ours = 1 if self.config.runner.address else cores()
        threads = options.threads or max(1, ours // min(self.workers, self.side_by_side * self.crowd))
        batch_size = options.batch_size or BATCH_SIZES[self.device.kind]
        return Runtime(device=self.device.kind, batch_size=batch_size, threads=threads)

    def check_precision(self) -> None:
        """Refuse a precision that the device cannot do, before the stages that come first have worked for nothing.

        Raises:
            ModelError: in one line, with the cure.
        """
        check_precision_of(self.config)

    def walk(self, start: Start, reporter: Reporter, at_once: int = 1, stopping: threading.Event | None = None) -> Walk:
        """A run over the pipeline, ready to begin."""
        return Walk(
            self.pipeline,
            start,
            reporter,
            runtime=self.runtime,
            at_once=at_once,
            stopping=stopping,
            limit_s=self.limit_s,
        )


_room: ContextVar[int | None] = ContextVar("room", default=None)


@contextlib.contextmanager
def room_for(stages: int) -> Iterator[None]:
    """Within the block, so many stages are worked on at the same time unless ``runtime.workers`` says otherwise."""
    token = _room.set(min(stages, MOST_IN_CLUSTER))
    try:
        yield
    finally:
        _room.reset(token)


def cores() -> int:
    """Cores that this process may use; in a container fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare(config: Config, stages: Sequence[Stage], footage: Any = None) -> Job:
    """Open the footage (unless it is given, opened), find the weights, lay out the pipeline.

    Raises:
        UsageError: no footage is named, or an address.
        FootageError: it cannot be read as video, asks for more than the limits allow, or does not offer what is
            required.
        ModelError: weights are missing.
        FacelineError: the store is a file.
    """
    from faceline.video import open_footage

    if not config.footage:
        raise UsageError("no footage is named", cure="add footage=FILE")
    check_footage_place(config.footage)
    check_store(config.store.root)
    footage = footage or open_footage(config.footage, config.limits.limits)
    check_footage(footage, config.require)
    pipeline = build_pipeline(footage, config, resolve_models(config, stages), stages)
    output = Path(config.output) if config.output else Path("results") / footage.name
    return Job(config, footage, pipeline, output, device_of(config))


def device_of(config: Config) -> Device:
    """Where the networks of a run under this configuration run; looked for once per process."""
    return _device(config.runtime.device)


def check_precision_of(config: Config) -> None:
    """Refuse a precision that the device of a configuration cannot do.

    Raises:
        ModelError: in one line, with the cure.
    """
    precision = getattr(config.params.get("embed"), "precision", "fp32")
    if precision != "fp32":
        check_precision(precision, device_of(config).kind)


@cache
def _device(wanted: str) -> Device:
    return find_device(wanted)


def announce_device(device: Device, config: Config) -> None:
    """Say where networks run if that needs saying: as a warning, in the log too, where it is not what was asked for."""
    if line := describe_device(device, config):
        if device.missing:
            log.warning("%s", line)
        else:
            console.say(line)


def describe_device(device: Device, config: Config) -> str:
    """One line that says where networks run and why not elsewhere; empty for the CPU when that was asked for."""
    if device.missing:
        return f"runtime.device=cuda: there is no usable GPU ({device.missing}); the networks run on the CPU"
    if device.kind == "cuda":
        return f"device: cuda ({device.name})"
    return "device: cpu (auto)" if config.runtime.device == "auto" else ""


def resolve_models(config: Config, stages: Sequence[Stage]) -> dict[str, ResolvedModel]:
    """The weights of every role that a stage uses; choices of ``auto`` end here.

    Raises:
        UsageError: the model folder that is named does not exist.
        ModelError: weights are missing.
    """
    from faceline.weights import check_model_folder, resolve

    options = config.models
    folder = Path(options.folder) if options.folder else None
    check_model_folder(folder)
    return {role: resolve(role, getattr(options, role, "auto"), folder) for role in used_roles(config, stages)}


def describe_models(models: Mapping[str, ResolvedModel], config: Config) -> str:
    """One line that says which weights are used: ``models: detector mtcnn, identity dlib (auto) …``."""
    parts = []
    for role, model in models.items():
        auto = " (auto)" if getattr(config.models, role, None) == "auto" else ""
        parts.append(f"{role} {model.name}{auto}")
    return "models: " + ", ".join(parts) if parts else "models: none"
