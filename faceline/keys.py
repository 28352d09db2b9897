"""Keys: what an artifact's bytes follow from, written as canonical JSON and hashed.

Canonical means: one value has one text, in every process and on every machine. Keys are sorted, separators tight, text
UTF-8; ``1``, ``1.0`` and ``true`` differ. A value that has no such text (a set, NaN, a path, a NumPy scalar …) raises
with the place where it stands; nothing falls back to ``str()``, since a key that merely looks right is how a stale
result is handed out.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from functools import cached_property
from typing import Any, cast

from pydantic import BaseModel

FRACTION_TAG = "$fraction"
MODEL_TAG = "$model"
_MAX_DEPTH = 64


def plain(value: Any, where: str = "value") -> Any:
    """The JSON form of ``value``: dicts with string keys, lists, str, int, float, bool, None, and nothing else.

    A `Fraction` becomes ``{"$fraction": "n/d"}``; a nested pydantic model becomes a dict of all its fields, defaults
    included, with its class name under ``"$model"``, so that two classes with the same fields stay apart. The function
    is idempotent: plain values come back equal.

    Args:
        value: what to convert.
        where: how error messages call it; entries are named below it (``params.windows_s[2]``).

    Raises:
        TypeError: a type that has no canonical form.
        ValueError: NaN, an infinity, text that is not valid Unicode, a reserved dict key, or nesting that never ends.
    """
    return _located(lambda: _plain(value, 0), where)


class _Fault(Exception):
    """What has no canonical form, and where in the value. Names are put together here only: keys are made by the
    thousand, and nearly all without a fault."""

    def __init__(self, kind: type[TypeError | ValueError], what: str, name: str = "") -> None:
        super().__init__(what)
        self.kind, self.what, self.name = kind, what, name

    def within(self, name: str) -> _Fault:
        return _Fault(self.kind, self.what, name + self.name)


def _located(make: Callable[[], Any], where: str) -> Any:
    try:
        return make()
    except _Fault as fault:
        raise fault.kind(f"{where}{fault.name}: {fault.what}") from None


def _plain(value: Any, depth: int) -> Any:
    # Exact types, not isinstance: numpy.float64 is a float and numpy.str_ is a str, and enums may be either.
    kind = type(value)
    if kind is str:
        return value if value.isascii() else _text(value)
    if value is None or kind is bool or kind is int:
        return value
    if kind is float:
        if not math.isfinite(value):
            raise _Fault(ValueError, f"{value!r} has no place in a key")
        return value
    if depth > _MAX_DEPTH:
        raise _Fault(ValueError, f"nested more than {_MAX_DEPTH} deep, or it contains itself")
    if kind is dict or kind.__name__ == "mappingproxy":
        return _mapping(value, depth)
    if kind is Fraction:
        return {FRACTION_TAG: f"{value.numerator}/{value.denominator}"}
    if kind is list or kind is tuple:
        return _list(value, depth)
    if isinstance(value, BaseModel):
        return {MODEL_TAG: kind.__qualname__} | _model_fields(value, depth)
    raise _Fault(TypeError, f"{kind.__module__}.{kind.__qualname__} has no canonical form")


def _text(value: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise _Fault(ValueError, f"{value!r} is not valid Unicode text") from None
    return value


def _list(value: Sequence[Any], depth: int) -> list[Any]:
    made: list[Any] = []
    try:
        for item in value:
            made.append(_plain(item, depth + 1))  # noqa: PERF401 (a fault needs to know how many went well)
    except _Fault as fault:
        raise fault.within(f"[{len(made)}]") from None
    return made


def _model_fields(model: BaseModel, depth: int) -> dict[str, Any]:
    # Read field by field: model_dump() would leave out what a field excludes, and cut subclasses down to the
    # annotated class; both would make different parameters share a key.
    made: dict[str, Any] = {}
    name = ""
    try:
        for name in [*type(model).model_fields, *(model.model_extra or {})]:
            made[name] = _plain(getattr(model, name), depth + 1)
    except _Fault as fault:
        raise fault.within(f".{name}") from None
    return made


def _mapping(value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    made: dict[str, Any] = {}
    key: Any = ""
    for key in value:
        if type(key) is not str:
            raise _Fault(TypeError, f"dict key {key!r} is no str")
        if not key.isascii():
            _text(key)
        if key.startswith("$") and not _is_tagged(value):
            raise _Fault(ValueError, f"dict key {key!r} is reserved")
    try:
        for key, item in value.items():
            made[key] = _plain(item, depth + 1)
    except _Fault as fault:
        raise fault.within(f".{key}") from None
    return made


def _is_tagged(value: Mapping[str, Any]) -> bool:
    """Whether a dict is what `plain` itself makes of a fraction or a model (so that `plain` is idempotent)."""
    if set(value) == {FRACTION_TAG}:
        try:
            fraction = Fraction(value[FRACTION_TAG])
        except (TypeError, ValueError, ZeroDivisionError):
            return False
        return value[FRACTION_TAG] == f"{fraction.numerator}/{fraction.denominator}"
    return type(value.get(MODEL_TAG)) is str and sum(key.startswith("$") for key in value) == 1


def plain_params(params: BaseModel, where: str = "params") -> dict[str, Any]:
    """All fields of a stage's parameters, defaults included, in JSON form (without the class name)."""
    return cast("dict[str, Any]", _located(lambda: _model_fields(params, 0), where))


def canonical_json(value: Any, where: str = "value") -> str:
    """The one JSON text of ``value``; raises as `plain` does.

    >>> canonical_json({"b": (1, 2.0), "a": Fraction(1, 3)})
    '{"a":{"$fraction":"1/3"},"b":[1,2.0]}'
    """
    return json.dumps(plain(value, where), ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))


def digest_of(value: Any, where: str = "value") -> str:
    """SHA-256 (hex) of the canonical JSON of ``value``."""
    return hashlib.sha256(canonical_json(value, where).encode("utf-8")).hexdigest()


@dataclass(frozen=True)
class KeyParts:
    """Everything that an artifact follows from; all values are brought to JSON form when it is made.

    Attributes:
        stage: name of the stage.
        version: its hand-raised version.
        params: its parameters, defaults included; a `StageParams` or its JSON form.
        inputs: input stage → content digests of its artifacts, in reading order; None while they are not known yet
            because that stage has still to run.
        footage: SHA-256 of the footage, or None when the stage does not read it.
        scope: what the run covers: ``{}``, ``{"segment", "start_s", "end_s"}`` or ``{"trial"}``.
        facts: further JSON values that the result depends on.
        models: role → ``{"name", "sha256"}`` of the weights used.
        code: module → digest of its code (`faceline.fingerprint`).
    """

    stage: str
    version: int
    params: Any
    inputs: Mapping[str, Any]
    footage: str | None
    scope: Mapping[str, Any]
    facts: Mapping[str, Any]
    models: Mapping[str, Any]
    code: Mapping[str, str]

    def __post_init__(self) -> None:
        for part in fields(self):
            value = getattr(self, part.name)
            if part.name == "params" and isinstance(value, BaseModel):
                converted: Any = plain_params(value)
            else:
                converted = plain(value, part.name)
            object.__setattr__(self, part.name, converted)

    @property
    def unknown_inputs(self) -> tuple[str, ...]:
        """Input stages whose digests are not known yet."""
        return tuple(stage for stage, digests in self.inputs.items() if digests is None)

    @cached_property
    def key(self) -> str:
        """SHA-256 (hex) over all parts; `ValueError` while an input is not known yet."""
        if self.unknown_inputs:
            raise ValueError(f"{self.stage} has no key before {', '.join(self.unknown_inputs)} has run")
        return digest_of(self.to_plain(), "key")

    def to_plain(self) -> dict[str, Any]:
        """The parts as JSON values, as they stand in the manifest."""
        return {part.name: getattr(self, part.name) for part in fields(self)}

    @classmethod
    def from_plain(cls, parts: Mapping[str, Any]) -> KeyParts:
        """The parts read back from JSON; `ValueError` if one is missing, unknown, or of the wrong kind."""
        names = {part.name for part in fields(cls)}
        if not isinstance(parts, Mapping) or set(parts) != names:
            raise ValueError("the key parts are not those of this version of faceline")
        for name in ("inputs", "scope", "facts", "models", "code", "params"):
            if not isinstance(parts[name], Mapping):
                raise ValueError(f"key part {name} is no mapping")
        return cls(**parts)
