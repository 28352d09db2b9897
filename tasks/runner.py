"""The stage runner: everything around a compute function, in plain Python, for any scheduler.

It makes the key, looks in the store, and otherwise computes under the key's lock, checks what came, and commits.
Planning and running make keys by the same function, so they cannot disagree.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from faceline import familiar
from faceline.artifacts import ArtifactRef
from faceline.drafts import runtime_facts
from faceline.errors import StoreError
from faceline.explain import Explanation, explain
from faceline.fingerprint import code_digests
from faceline.inputs import StoredInputs
from faceline.keys import KeyParts
from faceline.latest import Place, points_at, remember
from faceline.names import printable
from faceline.stage import Runtime, Stage, StageParams
from faceline.store import Store
from faceline.threads import share_cores

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StageRequest:
    """One stage to run on one segment, footage or trial; small and picklable.

    Attributes:
        stage: the declaration, or ``"module:NAME"`` of it (which it becomes when pickled).
        params: the stage's own parameters.
        store: path or URL of the store.
        refs: input stage → references, in segment (or trial) order.
        footage: the footage: ``sha256``, ``check_unchanged()``, and ``path`` where it has one; names the place also
            for stages that do not read it.
        segment: the segment, for stages of scope ``segment``.
        trial: id of the trial, for stages of scope ``trial``.
        facts: further JSON values that the result depends on.
        models: role → resolved model; those that the stage does not use are left out of its key.
        runtime: how to execute it; not in the key.
        force: compute anew whatever is stored.
        pending: input stages that have still to run, for planning only; they need no refs.
    """

    stage: Stage | str
    params: StageParams
    store: str
    refs: Mapping[str, Sequence[ArtifactRef]] = field(default_factory=dict)
    footage: Any = None
    segment: Any = None
    trial: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    models: Mapping[str, Any] = field(default_factory=dict)
    runtime: Runtime = field(default_factory=Runtime)
    force: bool = False
    pending: tuple[str, ...] = ()

    @property
    def declaration(self) -> Stage:
        """The stage itself."""
        return find_stage(self.stage) if isinstance(self.stage, str) else self.stage

    def __getstate__(self) -> dict[str, Any]:
        # A declaration holds functions, some of them lambdas; its address travels instead.
        return {**vars(self), "stage": self.stage if isinstance(self.stage, str) else address_of(self.stage)}


@dataclass(frozen=True)
class StageOutcome:
    """What came of a request.

    Attributes:
        ref: the artifact.
        state: ``run`` or ``cached``.
        reason: why it ran, or why it did not have to.
        seconds: wall time of this call.
        rows: payload → rows.
    """

    ref: ArtifactRef
    state: Literal["run", "cached"]
    reason: str
    seconds: float
    rows: Mapping[str, int]


def find_stage(address: str) -> Stage:
    """The declaration at ``"module:NAME"``; `ValueError` if there is none."""
    module, _, name = address.partition(":")
    found = getattr(sys.modules.get(module) or importlib.import_module(module), name, None)
    if not isinstance(found, Stage):
        raise ValueError(f"{address} is no stage declaration")
    return found


def address_of(stage: Stage) -> str:
    """``"module:NAME"`` of a declaration; `ValueError` if no module of its own has it as a constant."""
    modules = {stage.compute.__module__: None, stage.params.__module__: None}
    for module in modules:
        for name, value in vars(sys.modules[module]).items():
            if value is stage:
                return f"{module}:{name}"
    raise ValueError(f"stage {stage.name} is no constant of {' or '.join(modules)}, so it cannot be sent elsewhere")


def key_parts(request: StageRequest) -> KeyParts:
    """What the request's artifact follows from.

    Raises:
        TypeError: the parameters are not the stage's own.
        ValueError: scope, inputs, footage or models do not fit the declaration.
        FacelineError: the stage's code changed on disk since this process read it.
    """
    stage = request.declaration
    _check_fits(stage, request)
    roles = stage.roles(request.params)
    return KeyParts(
        stage=stage.name,
        version=stage.version,
        params=request.params,
        inputs={
            name: None if name in request.pending else [ref.digest for ref in request.refs[name]]
            for name in stage.inputs
        },
        footage=request.footage.sha256 if stage.reads_footage else None,
        scope=_scope(stage, request),
        facts=request.facts,
        models={role: {"name": request.models[role].name, "sha256": request.models[role].sha256} for role in roles},
        code=code_digests(stage),
    )


def _check_fits(stage: Stage, request: StageRequest) -> None:
    if type(request.params) is not stage.params:
        raise TypeError(f"stage {stage.name} takes {stage.params.__name__}, got {type(request.params).__name__}")
    given = {*request.refs, *request.pending}
    if given != set(stage.inputs):
        raise ValueError(f"stage {stage.name} reads {sorted(stage.inputs)}, got artifacts of {sorted(given)}")
    for name, refs in request.refs.items():
        wrong = {ref.stage for ref in refs} - {name}
        if wrong:
            raise ValueError(f"stage {stage.name}: artifacts of {sorted(wrong)} were given as input {name}")
    if stage.reads_footage and request.footage is None:
        raise ValueError(f"stage {stage.name} reads the footage, but got none")
    if (request.segment is not None) != (stage.scope == "segment"):
        raise ValueError(f"stage {stage.name} is of scope {stage.scope}, segment is {request.segment}")
    if (request.trial is not None) != (stage.scope == "trial"):
        raise ValueError(f"stage {stage.name} is of scope {stage.scope}, trial is {request.trial}")
    missing = [role for role in stage.roles(request.params) if role not in request.models]
    if missing:
        raise ValueError(f"stage {stage.name} uses the models {', '.join(missing)}, which were not given")


def _scope(stage: Stage, request: StageRequest) -> dict[str, Any]:
    if stage.scope == "segment":
        segment = request.segment
        return {"segment": segment.index, "start_s": segment.start_s, "end_s": segment.end_s}
    return {"trial": request.trial} if stage.scope == "trial" else {}


def explain_stage(request: StageRequest) -> Explanation:
    """What `run_stage` would do with the request, and why; touches nothing."""
    place = Place.of(request.declaration.name, request.footage, request.segment, request.trial)
    return explain(Store(request.store), key_parts(request), place, force=request.force)


def run_stage(request: StageRequest) -> StageOutcome:
    """Give the request's artifact, from the store if it is there, else computed and committed.

    Raises:
        FootageChangedError: the footage changed while it was read; nothing is kept.
        ModelError: the weights changed while they were used; nothing is kept.
        ArtifactError: an input is missing or damaged; damage is set aside, so that a new run computes it anew.
        TypeError, ValueError: the request does not fit the stage, or the stage's output not its declaration.
        Exception: whatever the compute function raises; nothing is kept.
    """
    start_s = time.perf_counter()
    stage, store = request.declaration, Store(request.store)
    place = Place.of(stage.name, request.footage, request.segment, request.trial)
    parts = key_parts(request)
    why = explain(store, parts, place, force=request.force)
    if why.state == "cached" and not store.use(stage.name, parts.key):
        why = explain(store, parts, place, force=request.force)  # A cleaner was quicker.
    if why.state == "run":
        with store.lock(stage.name, parts.key, waiting=lambda: request.runtime.progress(0, 1)):
            why = _look_again(store, parts, place, why, force=request.force)
            if why.state == "run":
                _compute(request, stage, store, parts)
    _point_at(store, place, parts, fresh=why.state == "run")
    finding = why.finding if why.state == "cached" else None
    ref = store.ref(
        finding or store.inspect(stage.name, parts.key, recent=True),
        segment=request.segment.index if request.segment is not None else None,
        trial=request.trial,
    )
    state: Literal["run", "cached"] = "run" if why.state == "run" else "cached"
    seconds = time.perf_counter() - start_s
    log.info("%s %s: %s (%s), %.2f s", stage.name, parts.key[:12], state, why.reason, seconds)
    return StageOutcome(ref, state, why.reason, seconds, ref.rows)


def _look_again(store: Store, parts: KeyParts, place: Place, before: Explanation, *, force: bool) -> Explanation:
    """Look once more now that the key is held: another process may have finished it, or found it damaged."""
    now = explain(store, parts, place, force=force)
    if now.state == "cached" and store.use(parts.stage, parts.key):
        return Explanation(now.stage, "cached", "computed meanwhile by another process", now.key, now.finding)
    if now.finding is not None and now.finding.state == "damaged":
        store.set_aside(parts.stage, parts.key, "; ".join(now.finding.problems))
    return before


def _compute(request: StageRequest, stage: Stage, store: Store, parts: KeyParts) -> None:
    inputs = StoredInputs(
        stage,
        request.refs,
        footage=request.footage if stage.reads_footage else None,
        segment=request.segment,
        facts=request.facts,
        models={role: request.models[role] for role in stage.roles(request.params)},
    )
    share_cores()
    with store.draft(stage.name, parts.key, stage.outputs) as draft:
        start_s = time.perf_counter()
        chunks = stage.compute(request.params, inputs, request.runtime)
        try:
            for chunk in chunks:
                draft.append(chunk)
        finally:
            # Here and now: a generator left to the garbage collector may hold the footage open.
            if isinstance(chunks, Generator):
                chunks.close()
        compute_s = time.perf_counter() - start_s
        if stage.reads_footage:
            _note_met(store, request.footage)
            request.footage.check_unchanged()
        for role in stage.roles(request.params):
            request.models[role].check_unchanged()
        code_digests(stage)  # Raises if the code that was just run is no longer what the key says.
        store.commit(draft, parts, runtime=runtime_facts(request.runtime), timings={"compute_s": round(compute_s, 3)})


def _note_met(store: Store, footage: Any) -> None:
    """Note that this content was met; without the note a plan takes it for new, and no result is lost."""
    if (path := getattr(footage, "path", None)) is not None:
        try:
            familiar.note(store.folder, Path(path), footage.sha256)
        except (OSError, StoreError) as error:
            log.warning("that %s was met could not be noted: %s", printable(str(path)), error)


def _point_at(store: Store, place: Place, parts: KeyParts, *, fresh: bool) -> None:
    """Remember what the place was run with; a pointer that cannot be written costs no result: only an explanation, and
    that a cleaner keeps it beyond its youth."""
    with contextlib.suppress(OSError, StoreError):
        if not fresh and points_at(store.folder, place, parts.key):
            return
    try:
        remember(store.folder, place, parts, time.time())
    except (OSError, StoreError) as error:
        log.warning("the latest key of %s could not be noted: %s", parts.stage, error)
