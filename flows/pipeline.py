"""The pipeline of one footage as a graph of stage runs; `plan` and every run walk this one description.

    footage ─ sample ─ detect ─ align ─┬─ embed ─┬─ cluster ─ trial… ─ gridsearch ─ report
                                       └─ emote ─┘

Which stage reads which is said by the stages themselves (`faceline.stages`). Here they are laid out: stages of scope
``segment`` once per segment, ``trial`` once per trial, ``footage`` once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, cast

import faceline
from faceline.anomaly.trial import TrialParams, trial_id
from faceline.nightly.recipe import Recipe, recipe_of
from faceline.sampling import SampleParams
from faceline.stage import Runtime, Stage, StageParams
from flows.config import Config
from tasks import runner
from tasks.runner import StageRequest

if TYPE_CHECKING:
    from faceline.artifacts import ArtifactRef
    from faceline.timeline import Segment
    from faceline.weights import ResolvedModel


class FootageLike(Protocol):
    """What the pipeline needs of footage."""

    @property
    def name(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    def segments(self, segment_s: float) -> list[Segment]: ...
    def check_unchanged(self) -> None: ...


@dataclass(frozen=True)
class Node:
    """One run of one stage.

    Attributes:
        name: unique within a pipeline and readable: ``detect · segment 0``, ``trial · lof-all-2s-…``, ``cluster``.
        stage: the declaration.
        params: its parameters.
        inputs: input stage → names of the nodes whose artifacts it reads, in segment (or trial) order.
        segment: the segment, for stages of scope ``segment``.
        trial: the trial's id, for stages of scope ``trial``.
        facts: further JSON values for the stage's key.
        force: whether it is computed anew whatever is stored.
    """

    name: str
    stage: Stage
    params: StageParams
    inputs: Mapping[str, tuple[str, ...]]
    segment: Segment | None = None
    trial: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    force: bool = False

    @property
    def before(self) -> tuple[str, ...]:
        """Names of all nodes that it reads."""
        return tuple(name for names in self.inputs.values() for name in names)


@dataclass(frozen=True)
class Pipeline:
    """All stage runs of one footage under one configuration.

    Attributes:
        footage: the footage, opened.
        nodes: by name, in an order in which each comes after what it reads.
        models: resolved weights, by role.
        store: path or URL of the store.
    """

    footage: Any
    nodes: Mapping[str, Node]
    models: Mapping[str, ResolvedModel]
    store: str

    def request(
        self,
        node: Node,
        refs: Mapping[str, ArtifactRef],
        *,
        runtime: Runtime | None = None,
        pending: tuple[str, ...] = (),
    ) -> StageRequest:
        """The request for a node.

        Args:
            node: the node.
            refs: references of finished nodes, by node name.
            runtime: how to execute it.
            pending: input stages that have still to run (for planning); their references are not needed.
        """
        return StageRequest(
            stage=node.stage,
            params=node.params,
            store=self.store,
            refs={s: [refs[name] for name in names] for s, names in node.inputs.items() if s not in pending},
            footage=self.footage,
            segment=node.segment,
            trial=node.trial,
            facts=node.facts,
            models=self.models,
            runtime=runtime or Runtime(),
            force=node.force,
            pending=pending,
        )


def build_pipeline(
    footage: FootageLike, config: Config, models: Mapping[str, ResolvedModel], stages: Sequence[Stage]
) -> Pipeline:
    """Lay the stages out over the footage's segments and the configuration's trials."""
    segments = footage.segments(cast(SampleParams, config.params["sample"]).segment_s)
    facts = {"report": provenance(footage, config, models)}
    nodes: dict[str, Node] = {}
    by_stage: dict[str, list[Node]] = {}
    for stage in stages:
        # Now, not when its turn comes: code edited during a long run must not pass for the code that was imported.
        runner.code_digests(stage)
        made = list(_nodes_of(stage, segments, config, by_stage, facts))
        by_stage[stage.name] = made
        nodes.update({node.name: node for node in made})
    nodes = _up_to(nodes, config.until)
    return Pipeline(footage, _forced(nodes, config.rerun), models, config.store.root)


def _up_to(nodes: Mapping[str, Node], stage: str | None) -> dict[str, Node]:
    """The nodes of a stage and all that they follow from; all nodes where no stage is named."""
    if stage is None:
        return dict(nodes)
    needed: set[str] = set()
    for name in reversed(list(nodes)):
        node = nodes[name]
        if node.stage.name == stage or name in needed:
            needed.update((name, *node.before))
    return {name: node for name, node in nodes.items() if name in needed}


def _forced(nodes: Mapping[str, Node], stage: str | None) -> dict[str, Node]:
    """The nodes, those of a stage and all that follow from them to be computed anew."""
    forced: dict[str, Node] = {}
    for name, node in nodes.items():
        again = node.stage.name == stage or any(forced[before].force for before in node.before)
        forced[name] = replace(node, force=True) if again else node
    return forced


def recipe_for(config: Config, models: Mapping[str, ResolvedModel], stages: Sequence[Stage]) -> Recipe:
    """Everything that results under a configuration follow from but the footage."""
    trials = {_trial_name(trial.params): trial.params for trial in config.trials}
    return recipe_of(stages, config.params, trials, models)


def provenance(footage: Any, config: Config, models: Mapping[str, ResolvedModel]) -> dict[str, Any]:
    """What the report states about its origin. No path: a file that was moved keeps its report."""
    facts: dict[str, Any] = {"name": footage.name, "sha256": footage.sha256}
    for name in ("start_s", "duration_s", "native_fps"):
        if hasattr(footage, name):
            facts[name] = float(getattr(footage, name))
    for name in ("width_px", "height_px", "codec"):
        if hasattr(footage, name):
            facts[name] = getattr(footage, name)
    return {
        "faceline": faceline.__version__,
        "footage": facts,
        "models": {role: {"name": m.name, "sha256": m.sha256, "source": m.source} for role, m in models.items()},
        "params": {name: params.model_dump(mode="json") for name, params in config.params.items() if name != "report"},
    }


def _nodes_of(
    stage: Stage,
    segments: Sequence[Segment],
    config: Config,
    by_stage: Mapping[str, list[Node]],
    facts: Mapping[str, Mapping[str, Any]],
) -> list[Node]:
    def inputs(segment: Segment | None) -> dict[str, tuple[str, ...]]:
        # A segment reads its own segment's artifacts; everything else reads all of them, in order.
        return {
            name: tuple(n.name for n in by_stage[name] if segment is None or n.segment in (None, segment))
            for name in stage.inputs
        }

    if stage.scope == "segment":
        return [
            Node(f"{stage.name} · segment {s.index}", stage, config.params[stage.name], inputs(s), segment=s)
            for s in segments
        ]
    if stage.scope == "trial":
        named = {_trial_name(trial.params): trial for trial in config.trials}
        return [
            Node(f"{stage.name} · {name}", stage, trial.params, inputs(None), trial=name)
            for name, trial in named.items()
        ]
    return [Node(stage.name, stage, config.params[stage.name], inputs(None), facts=facts.get(stage.name, {}))]


def _trial_name(params: StageParams) -> str:
    if isinstance(params, TrialParams):
        return trial_id(params)
    return ",".join(f"{name}={value}" for name, value in params.model_dump(mode="json").items())


def used_roles(config: Config, stages: Sequence[Stage]) -> tuple[str, ...]:
    """The model roles that some stage uses under this configuration, in order of the stages."""
    roles: dict[str, None] = {}
    for stage in stages:
        chosen = [trial.params for trial in config.trials] if stage.scope == "trial" else [config.params[stage.name]]
        for params in chosen:
            roles.update(dict.fromkeys(stage.roles(params)))
    return tuple(roles)
