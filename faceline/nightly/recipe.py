"""A recipe: everything that results follow from, but for the footage itself. One for all footage of a night.

Footage whose content and recipe are those of its last analysis has nothing to do, which is seen without opening it. Two
recipes say what made results change: a parameter, the code, or a model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import faceline
from faceline.explain import differences
from faceline.fingerprint import code_digests
from faceline.keys import KeyParts, digest_of
from faceline.stage import Stage, StageParams


@dataclass(frozen=True)
class Changes:
    """What differs between two recipes, in phrases as `faceline.explain` has them.

    Attributes:
        parameters: ``sample: params.fps 5 → 10``; trials that came or went count as parameters.
        code: ``detect: code of faceline.tracking changed``.
        models: ``embed: model identity: dlib → vggface2``.
    """

    parameters: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    models: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.parameters or self.code or self.models)

    @property
    def causes(self) -> tuple[str, ...]:
        """Which kinds of change there are: ``parameter``, ``code``, ``model``."""
        kinds = {"parameter": self.parameters, "code": self.code, "model": self.models}
        return tuple(kind for kind, phrases in kinds.items() if phrases)


@dataclass(frozen=True)
class Recipe:
    """Key parts of every stage run without what depends on the footage.

    Attributes:
        parts: by ``stage``, or ``trial NAME`` for each trial.
        faceline: version of the program.
    """

    parts: Mapping[str, KeyParts]
    faceline: str = faceline.__version__

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of all parts."""
        return digest_of(self.to_plain(), "recipe")

    def to_plain(self) -> dict[str, Any]:
        """As JSON values."""
        return {"faceline": self.faceline, "parts": {name: parts.to_plain() for name, parts in self.parts.items()}}

    @classmethod
    def from_plain(cls, body: Mapping[str, Any]) -> Recipe:
        """Read back; `ValueError` where it is not whole."""
        try:
            parts = {str(name): KeyParts.from_plain(value) for name, value in body["parts"].items()}
            return cls(parts, str(body["faceline"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"a recipe is not whole: {error}") from error


def recipe_of(
    stages: Sequence[Stage],
    params: Mapping[str, StageParams],
    trials: Mapping[str, StageParams],
    models: Mapping[str, Any],
) -> Recipe:
    """The recipe of a configuration.

    Args:
        stages: all stages, in order.
        params: parameters by stage; those of the stage of scope ``trial`` are not among them.
        trials: parameters by name of the trial.
        models: role → resolved model (``name``, ``sha256``).
    """
    return Recipe(dict(_parts(stages, params, trials, models)))


def _parts(
    stages: Sequence[Stage],
    params: Mapping[str, StageParams],
    trials: Mapping[str, StageParams],
    models: Mapping[str, Any],
) -> Iterator[tuple[str, KeyParts]]:
    for stage in stages:
        runs = (
            {f"trial {name}": p for name, p in trials.items()} if stage.scope == "trial" else {"": params[stage.name]}
        )
        code = code_digests(stage)
        for name, own in runs.items():
            used = {role: {"name": models[role].name, "sha256": models[role].sha256} for role in stage.roles(own)}
            yield name or stage.name, KeyParts(stage.name, stage.version, own, {}, None, {}, {}, used, code)


def changes(old: Recipe, new: Recipe) -> Changes:
    """What differs from ``old`` to ``new``."""
    parameters: list[str] = []
    code: list[str] = []
    models: list[str] = []
    for name in [name for name in new.parts if name in old.parts]:
        a, b = old.parts[name], new.parts[name]
        parameters += _named(name, differences(a, replace(a, params=b.params)))
        code += _named(name, differences(a, replace(a, version=b.version, code=b.code)))
        models += _named(name, differences(a, replace(a, models=b.models)))
    added = [name for name in new.parts if name not in old.parts]
    gone = [name for name in old.parts if name not in new.parts]
    for stages, verb in ((added, "new"), (gone, "gone")):
        trials = [name for name in stages if name.startswith("trial ")]
        if trials:
            count = "1 trial is" if len(trials) == 1 else f"{len(trials)} trials are"
            parameters.append(f"{count} {verb} ({_some(trials)})")
        others = [name for name in stages if name not in trials]
        code += [f"stage {name} is {verb}" for name in others]
    if old.faceline != new.faceline and not code:
        code.append(f"faceline {old.faceline} → {new.faceline}")
    return Changes(_once(parameters), _once(code), _once(models))


def _named(name: str, phrases: Iterable[str]) -> list[str]:
    # All trials share their code and their models: said once, for the stage.
    stage = "trial" if name.startswith("trial ") else name
    return [f"{stage}: {phrase}" for phrase in phrases]


def _once(phrases: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(phrases))


def _some(names: Sequence[str], most: int = 3) -> str:
    shown = ", ".join(name.removeprefix("trial ") for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
