"""The chain of custody: from the footage's digest, through every artifact that a run used, to the files of its report.

``custody.json`` in a results folder holds the manifests of all artifacts of the run, whole and in pipeline order: what
each key was made of, the digests of all payloads, libraries, host, times. ``run.json`` states the digest of
``custody.json`` and, for every stage, key and digest of its artifact. So whoever has the results folder alone can
recompute every key and every digest, and follow each input to the artifact that it came from. The payloads themselves
(decoded frames, landmarks, scores) lie in the store; of these, the chain knows the digests.

This module is pure: it makes and checks the chain, and reads no file. It trusts nothing that it is given, and does not
ask that the chain was made by this version of faceline: keys are recomputed from the JSON as it stands.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from faceline.artifacts import Manifest
from faceline.keys import MODEL_TAG, digest_of
from faceline.payloads import StoredFile, listing_digest
from faceline.report.pictures import ALIGNED, ORGANIZED

FILE = "custody.json"
FORMAT = 1
REPORT_STAGE = "report"


class _Read(BaseModel):
    """Base of what is read back: no kind of value is converted; names that a later version adds are let pass."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


class FootageFacts(_Read):
    """Of ``run.json``: the source file."""

    path: str
    sha256: str


class WeightFacts(_Read):
    """The weights that play a role; `source` stands in ``run.json`` alone."""

    name: str
    sha256: str
    source: str = ""


class StageFacts(_Read):
    """Of ``run.json``: one stage run."""

    stage: str
    segment: int | None
    trial: str | None
    key: str
    digest: str


class SignatureFacts(_Read):
    """Of ``run.json``: with which key it was signed."""

    algorithm: str
    public_key: str


class Run(_Read):
    """What the chain needs of ``run.json``."""

    faceline: str
    footage: FootageFacts
    config: dict[str, Any]
    models: dict[str, WeightFacts]
    counts: dict[str, int]
    stages: list[StageFacts]
    outputs: dict[str, str]
    signature: SignatureFacts | None = None


class PayloadFacts(_Read):
    """Of a manifest: one payload."""

    kind: str
    rows: int
    sha256: str
    files: dict[str, dict[str, Any]]


class PartFacts(_Read):
    """Of a manifest: what the key was made of."""

    stage: str
    params: dict[str, Any]
    inputs: dict[str, list[str]]
    footage: str | None
    scope: dict[str, Any]
    facts: dict[str, Any]
    models: dict[str, WeightFacts]
    code: dict[str, str]


class Entry(_Read):
    """One artifact of the chain: its manifest, read back.

    Attributes:
        body: the manifest as it stands in ``custody.json``, for recomputing digests.
    """

    stage: str
    key: str
    digest: str
    parts: PartFacts
    payloads: dict[str, PayloadFacts]
    body: dict[str, Any]

    @property
    def segment(self) -> int | None:
        """Index of the segment it covers, or None."""
        return self.parts.scope.get("segment")

    @property
    def trial(self) -> str | None:
        """Id of its trial, or None."""
        return self.parts.scope.get("trial")

    @property
    def name(self) -> str:
        """``detect, segment 2``."""
        if self.segment is not None:
            return f"{self.stage}, segment {self.segment}"
        return f"{self.stage} {self.trial}" if self.trial is not None else self.stage


@dataclass(frozen=True)
class Link:
    """One thing that was checked.

    Attributes:
        name: what, in a word.
        text: what was looked at, and what was found if it holds.
        problems: what does not hold, each in a line that names it; none where it holds.
        open: it could not be checked here; ``text`` says why. No failure.
    """

    name: str
    text: str
    problems: tuple[str, ...] = ()
    open: bool = False

    @property
    def state(self) -> Literal["holds", "broken", "open"]:
        """What came of it."""
        if self.problems:
            return "broken"
        return "open" if self.open else "holds"


def custody_bytes(manifests: Sequence[Manifest]) -> bytes:
    """``custody.json`` of a run: UTF-8, one manifest per line.

    Args:
        manifests: of all artifacts that the run used, in pipeline order.
    """
    lines = [
        json.dumps(json.loads(manifest.to_bytes()), ensure_ascii=False, separators=(",", ":")) for manifest in manifests
    ]
    return (f'{{"format":{FORMAT},"artifacts":[\n' + ",\n".join(lines) + "\n]}\n").encode()


def read_custody(data: bytes) -> list[Entry]:
    """The artifacts of ``custody.json``; nothing is checked but the form. `ValueError` in words if it is not whole."""
    try:
        tree = json.loads(data.decode())
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{FILE} is torn") from error
    if not isinstance(tree, dict) or tree.get("format") != FORMAT or not isinstance(tree.get("artifacts"), list):
        raise ValueError(f"{FILE} has not the form that this version reads")
    entries = []
    for number, body in enumerate(tree["artifacts"], start=1):
        try:
            entries.append(Entry.model_validate({**body, "body": body}))
        except (ValidationError, TypeError) as error:
            raise ValueError(f"{FILE}: artifact {number} is not whole: {first_fault(error)}") from error
    return entries


def first_fault(error: Exception) -> str:
    """The first finding of a failed validation, in words: ``stages.3.digest: Field required``."""
    if not isinstance(error, ValidationError):
        return str(error)
    finding = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, finding['loc']))}: {finding['msg']}"


def check_chain(run: Run, entries: Sequence[Entry]) -> list[Link]:
    """All that can be said of a run from ``run.json`` and ``custody.json`` alone, link by link."""
    modules = {name for entry in entries for name in entry.parts.code}
    roles = ", ".join(f"{role} {model.name} {model.sha256[:12] or '–'}" for role, model in run.models.items())
    read = sum(entry.parts.footage is not None for entry in entries)
    return [
        Link(
            "artifacts",
            f"{len(entries)} artifacts ({_stages(entries)}): keys follow from their parts, digests from the payloads'",
            (*_own_problems(entries), *_record_problems(run, entries)),
        ),
        Link("inputs", "every input is the content of an artifact before it", tuple(_input_problems(entries))),
        Link(
            "source",
            f"{read} artifacts were read from the footage with SHA-256 {run.footage.sha256}",
            tuple(_footage_problems(run, entries)),
        ),
        Link("weights", roles or "none were used", tuple(_weight_problems(run, entries))),
        Link("code", f"{len(modules)} modules, one digest each", tuple(_code_problems(entries))),
        Link(
            "settings",
            "the parameters in the keys are those that run.json states",
            tuple(_setting_problems(run, entries)),
        ),
        Link(
            REPORT_STAGE,
            f"{len(report_listing(entries))} files are those that the stage report made",
            tuple(_report_problems(run, entries)),
        ),
    ]


def report_listing(entries: Sequence[Entry]) -> dict[str, str]:
    """Relative path → SHA-256 of the files that the stage report made; empty when there is no report."""
    listing: dict[str, str] = {}
    for entry in entries:
        if entry.stage == REPORT_STAGE:
            for payload in entry.payloads.values():
                listing.update({name: str(file.get("sha256")) for name, file in payload.files.items()})
    return listing


def _stages(entries: Sequence[Entry]) -> str:
    counts: dict[str, int] = {}
    for entry in entries:
        counts[entry.stage] = counts.get(entry.stage, 0) + 1
    return ", ".join(name if count == 1 else f"{name} ×{count}" for name, count in counts.items())


def _own_problems(entries: Sequence[Entry]) -> Iterator[str]:
    """What each manifest says of itself, recomputed."""
    for entry in entries:
        body = {name: value for name, value in entry.body.items() if name != "check"}
        try:
            if digest_of(body) != entry.body.get("check"):
                yield f"{FILE}: {entry.name}: the manifest was altered"
            if digest_of(body["parts"]) != entry.key or entry.parts.stage != entry.stage:
                yield f"{FILE}: {entry.name}: the key does not follow from its parts"
        except (TypeError, ValueError) as error:
            yield f"{FILE}: {entry.name}: {error}"
        payloads = {name: [payload.kind, payload.sha256] for name, payload in entry.payloads.items()}
        if digest_of(payloads) != entry.digest:
            yield f"{FILE}: {entry.name}: the digest does not follow from the payloads'"
        for name, payload in entry.payloads.items():
            if payload.kind == "files" and _listing_digest(payload) != payload.sha256:
                yield f"{FILE}: {entry.name}: the listing of {name} does not match its digest"


def _listing_digest(payload: PayloadFacts) -> str:
    try:
        return listing_digest({name: StoredFile(**file) for name, file in payload.files.items()})
    except (TypeError, ValueError):
        return ""


def _record_problems(run: Run, entries: Sequence[Entry]) -> Iterator[str]:
    """Whether run.json and custody.json speak of the same artifacts."""
    if not entries:
        yield f"{FILE}: holds no artifact"
    if len(run.stages) != len(entries):
        yield f"run.json: states {len(run.stages)} stage runs, {FILE} holds {len(entries)} artifacts"
        return
    for record, entry in zip(run.stages, entries, strict=True):
        stated = (record.stage, record.segment, record.trial)
        if stated != (entry.stage, entry.segment, entry.trial):
            yield f"run.json: states {record.stage} where {FILE} has {entry.name}"
        elif (record.key, record.digest) != (entry.key, entry.digest):
            yield f"run.json: {entry.name}: key and digest are not those in {FILE}"


def _input_problems(entries: Sequence[Entry]) -> Iterator[str]:
    """Every artifact must have read exactly the artifacts before it: all of a stage, or those of its own segment."""
    before: dict[str, list[Entry]] = {}
    reaches: dict[str, Any] = {}
    for entry in entries:
        for stage, digests in entry.parts.inputs.items():
            expected = [
                other.digest
                for other in before.get(stage, ())
                if entry.segment is None or other.segment in (None, entry.segment)
            ]
            if digests != expected or not expected:
                yield f"{FILE}: {entry.name}: its input {stage} is not what {stage} before it gave"
        if entry.segment is not None:
            start, end = (digest_of(entry.parts.scope.get(edge)) for edge in ("start_s", "end_s"))
            if reaches.get(entry.stage, start) != start:
                yield f"{FILE}: {entry.name}: does not begin where the segment before it ends"
            reaches[entry.stage] = end
        before.setdefault(entry.stage, []).append(entry)


def _footage_problems(run: Run, entries: Sequence[Entry]) -> Iterator[str]:
    if not any(entry.parts.footage is not None for entry in entries):
        yield f"{FILE}: no artifact was read from the footage"
    for entry in entries:
        if entry.parts.footage not in (None, run.footage.sha256):
            yield f"{FILE}: {entry.name}: was read from other footage, with SHA-256 {entry.parts.footage}"
        stated = _at(entry.parts.facts, "footage", "sha256")
        if entry.stage == REPORT_STAGE and stated not in (None, run.footage.sha256):
            yield f"{FILE}: {entry.name}: was made for other footage, with SHA-256 {stated}"


def _weight_problems(run: Run, entries: Sequence[Entry]) -> Iterator[str]:
    for entry in entries:
        for role, used in entry.parts.models.items():
            stated = run.models.get(role)
            if stated is None or (stated.name, stated.sha256) != (used.name, used.sha256):
                yield f"{FILE}: {entry.name}: its {role} weights are not those that run.json states"
    used_roles = {role for entry in entries for role in entry.parts.models}
    yield from (f"run.json: states {role} weights that no stage used" for role in run.models if role not in used_roles)


def _code_problems(entries: Sequence[Entry]) -> Iterator[str]:
    seen: dict[str, str] = {}
    for entry in entries:
        if not entry.parts.code:
            yield f"{FILE}: {entry.name}: states no code"
        for module, digest in entry.parts.code.items():
            if seen.setdefault(module, digest) != digest:
                yield f"{FILE}: {entry.name}: the code of {module} is not that of the stages before"


def _setting_problems(run: Run, entries: Sequence[Entry]) -> Iterator[str]:
    """The configuration that people read must be the one that was computed with; so must the report's own words."""
    told = next((entry.parts.facts.get("params") for entry in entries if entry.stage == REPORT_STAGE), None)
    for entry in entries:
        if entry.trial is not None:
            continue
        for where, tree in (("run.json", run.config), ("the report", told)):
            stated = tree.get(entry.stage) if isinstance(tree, Mapping) else None
            if isinstance(stated, Mapping):
                for name in _differing(stated, entry.parts.params):
                    yield f"{where}: states another {entry.stage}.{name} than the key of {entry.name} holds"


def _differing(stated: Mapping[str, Any], used: Mapping[str, Any]) -> Iterator[str]:
    """Names of the values that differ; names that only one side has are none of a stage's parameters."""
    for name, value in stated.items():
        if name == MODEL_TAG or name not in used:
            continue
        if isinstance(value, Mapping) and isinstance(used[name], Mapping):
            yield from (f"{name}.{inner}" for inner in _differing(value, used[name]))
        elif value != used[name]:
            yield name


def _report_problems(run: Run, entries: Sequence[Entry]) -> Iterator[str]:
    reports = [entry for entry in entries if entry.stage == REPORT_STAGE]
    if len(reports) != 1 or reports[0] is not entries[-1]:
        yield f"{FILE}: the last artifact is not the one report"
    for name, sha256 in report_listing(entries).items():
        if name not in run.outputs:
            yield f"{name}: the stage report made it, run.json does not state it"
        elif run.outputs[name] != sha256:
            yield f"{name}: run.json states another digest than the stage report"
    made = {FILE, *report_listing(entries)}
    for name in run.outputs:
        if name not in made and name.partition("/")[0] not in (ALIGNED, ORGANIZED):
            yield f"{name}: run.json states it, the stage report did not make it"


def _at(tree: Any, *names: str) -> Any:
    for name in names:
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    return tree
