"""Explanations: what a stage will do, and the difference that makes it run, in words.

The difference is taken between the key parts of the run at hand and those that the same place was last run with. Only
parts that differ are named; an input that differs is named by its stage, since that stage says the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from faceline.keys import FRACTION_TAG, KeyParts, canonical_json
from faceline.latest import Latest, Place, recall
from faceline.store import Finding, Store

State = Literal["cached", "run", "depends"]
_VALUE_CHARS = 48


@dataclass(frozen=True)
class Explanation:
    """What a stage will do.

    Attributes:
        stage: name of the stage.
        state: ``cached``; ``run``; or ``depends`` when that follows from a stage before it that has still to run.
        reason: why, in words.
        key: its key; None while an input is not known.
        finding: what the store holds at the key; None while it is not known.
    """

    stage: str
    state: State
    reason: str
    key: str | None = None
    finding: Finding | None = None


def explain(store: Store, parts: KeyParts, place: Place, *, force: bool = False) -> Explanation:
    """Say what a stage with these key parts will do, without touching the store.

    Args:
        store: where its artifact would lie.
        parts: its key parts; inputs may be unknown (None) where a stage before it has still to run.
        place: where it runs.
        force: compute anew whatever is stored.
    """
    latest = recall(store.folder, place)
    if parts.unknown_inputs:
        return _explain_pending(store, parts, latest, force=force)
    finding = store.inspect(parts.stage, parts.key, recent=True)
    if finding.state == "ok" and not force:
        same = latest is not None and latest.parts.key == parts.key
        return Explanation(parts.stage, "cached", "unchanged" if same else "computed before", parts.key, finding)
    reason = "forced" if finding.state == "ok" else _why_it_runs(store, parts, latest, finding)
    return Explanation(parts.stage, "run", reason, parts.key, finding)


def _why_it_runs(store: Store, parts: KeyParts, latest: Latest | None, finding: Finding) -> str:
    if finding.state == "damaged":
        return f"artifact damaged: {'; '.join(finding.problems)}"
    if latest is not None and latest.parts.key != parts.key:
        return "; ".join(differences(latest.parts, parts))
    damage = store.damage(parts.stage, parts.key)
    if damage is not None and (latest is None or damage.at_s >= latest.at_s):
        return f"artifact damaged: {damage.reason}"
    return "first run" if latest is None else "artifact removed"


def _explain_pending(store: Store, parts: KeyParts, latest: Latest | None, *, force: bool) -> Explanation:
    """What is certain before the inputs are known: any other difference, or that nothing is stored to fall back on."""
    waiting = parts.unknown_inputs
    if force:
        return Explanation(parts.stage, "run", "forced")
    if latest is None:
        return Explanation(parts.stage, "run", "first run")
    # What the key would be if those stages gave the same bytes again.
    assumed = {
        stage: latest.parts.inputs.get(stage) if stage in waiting else parts.inputs[stage] for stage in parts.inputs
    }
    supposed = replace(parts, inputs=assumed)
    if supposed.unknown_inputs:
        return Explanation(parts.stage, "run", "; ".join(differences(latest.parts, parts)))
    finding = store.inspect(supposed.stage, supposed.key, recent=True)
    if finding.state != "ok":
        return Explanation(parts.stage, "run", _why_it_runs(store, supposed, latest, finding))
    names = ", ".join(waiting)
    verb = "gives" if len(waiting) == 1 else "give"
    return Explanation(parts.stage, "depends", f"runs unless {names} {verb} the same bytes")


def differences(old: KeyParts, new: KeyParts) -> list[str]:
    """What differs between two sets of key parts, one phrase each; empty when the keys are equal.

    >>> parts = KeyParts("sample", 1, {"fps": 5.0}, {}, "ab", {}, {}, {}, {})
    >>> differences(parts, replace(parts, params={"fps": 10.0}))
    ['params.fps 5 → 10']
    """
    found: list[str] = []
    if old.stage != new.stage:
        found.append(f"stage {old.stage} → {new.stage}")
    if old.version != new.version:
        found.append(f"stage version {old.version} → {new.version}")
    if old.footage != new.footage:
        found.append("footage changed")
    found.extend(_scope_changes(old.scope, new.scope))
    found.extend(_value_changes("params", old.params, new.params))
    found.extend(_model_changes(old.models, new.models))
    found.extend(_code_changes(old.code, new.code))
    found.extend(_input_changes(old.inputs, new.inputs))
    found.extend(_value_changes("facts", old.facts, new.facts))
    return found


def _scope_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    if old == new:
        return
    if "start_s" in old and "start_s" in new and old.get("segment") == new.get("segment"):
        yield f"segment {new['segment']} covers {_span(old)} → {_span(new)}"
    else:
        yield f"scope {_shown(old)} → {_shown(new)}"


def _span(scope: Mapping[str, Any]) -> str:
    return f"{_shown(scope['start_s'])}–{_shown(scope['end_s'])} s"


def _value_changes(name: str, old: Any, new: Any) -> Iterator[str]:
    """Differences of two JSON values, named by their dotted path; lists count as one value."""
    if isinstance(old, dict) and isinstance(new, dict) and FRACTION_TAG not in {**old, **new}:
        for key in [*new, *(key for key in old if key not in new)]:
            inner = f"{name}.{key}"
            if key not in old:
                yield f"{inner} is new ({_shown(new[key])})"
            elif key not in new:
                yield f"{inner} is gone (was {_shown(old[key])})"
            else:
                yield from _value_changes(inner, old[key], new[key])
    elif canonical_json(old) != canonical_json(new):
        before, after = _shown(old), _shown(new)
        if before == after:  # 5 and 5.0, or long values that differ near their end
            before, after = _shown(old, exact=True), _shown(new, exact=True)
        yield f"{name} {before} → {after}" if before != after else f"{name} changed"


def _shown(value: Any, *, exact: bool = False) -> str:
    """A JSON value as people write it: whole floats without ``.0``, fractions as decimals, long values cut."""
    if isinstance(value, dict) and set(value) == {FRACTION_TAG}:
        numerator, denominator = map(int, value[FRACTION_TAG].split("/"))
        return value[FRACTION_TAG] if exact else f"{numerator / denominator:.6g}"
    if isinstance(value, str):
        text = value or "''"
    elif isinstance(value, float) and not exact and value.is_integer() and abs(value) < 1e15:
        text = str(int(value))
    else:
        text = canonical_json(value)
    return text if len(text) <= _VALUE_CHARS else text[: _VALUE_CHARS - 1] + "…"


def _model_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for role in {**old, **new}:
        before, after = old.get(role), new.get(role)
        if before == after:
            continue
        if before is None or after is None:
            yield f"model {role} is {'new' if before is None else 'gone'} ({(after or before or {}).get('name')})"
        elif before.get("name") != after.get("name"):
            yield f"model {role}: {before.get('name')} → {after.get('name')}"
        else:
            yield (
                f"model {role}: weights of {after.get('name')} changed "
                f"({str(before.get('sha256'))[:8]} → {str(after.get('sha256'))[:8]})"
            )


def _code_changes(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    changed = [module for module in old if module in new and old[module] != new[module]]
    modules = [module for module in changed if "/" not in module]
    data = [module for module in changed if "/" in module]
    if modules:
        yield f"code of {_listed(modules)} changed"
    if data:
        yield f"file {_listed(data)} changed"
    if added := [module for module in new if module not in old]:
        yield f"code now uses {_listed(added)}"
    if gone := [module for module in old if module not in new]:
        yield f"code no longer uses {_listed(gone)}"


def _listed(names: list[str], most: int = 3) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _input_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for stage in {**old, **new}:
        before, after = old.get(stage), new.get(stage)
        if stage not in old or stage not in new:
            yield f"input {stage} is {'new' if stage not in old else 'gone'}"
        elif before != after and after is not None and before is not None:
            if len(before) != len(after):
                yield f"input {stage} changed ({len(before)} → {len(after)} artifacts)"
            elif len(after) > 1:
                count = sum(a != b for a, b in zip(before, after, strict=True))
                yield f"input {stage} changed ({count} of {len(after)} artifacts)"
            else:
                yield f"input {stage} changed"
