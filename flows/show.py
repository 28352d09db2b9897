"""The verb ``config``: the composed and checked configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from faceline.stages import STAGES
from flows import console
from flows.composition import override_value
from flows.config import load_config


def show_config(arguments: Sequence[str]) -> int:
    """Run the verb; exit code."""
    config = load_config(arguments, STAGES)
    defaults = load_config([], STAGES)
    for line in _yaml(config.tree, defaults.tree):
        console.say(line)
    return 0


def _yaml(tree: Mapping[str, Any], defaults: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    for name, value in tree.items():
        default = defaults.get(name) if isinstance(defaults, Mapping) else None
        if isinstance(value, Mapping):
            yield f"{indent}{name}:"
            yield from _yaml(value, default if isinstance(default, Mapping) else {}, f"{indent}  ")
        elif isinstance(value, list) and value and all(isinstance(item, str) for item in value):
            yield f"{indent}{name}:{_mark(value, default)}"
            yield from (f"{indent}  - {override_value(item)}" for item in value)
        else:
            yield f"{indent}{name}: {_scalar(value)}{_mark(value, default)}"


def _scalar(value: Any) -> str:
    import json

    plain = isinstance(value, str) and value.replace("_", "").replace("-", "").replace("/", "").isalnum()
    looks_like_other = isinstance(value, str) and (value.lower() in {"null", "true", "false", "yes", "no", "on", "off"})
    if plain and not looks_like_other and not value[0].isdigit():
        return str(value)
    return json.dumps(value, ensure_ascii=False)


def _mark(value: Any, default: Any) -> str:
    return "" if value == default else f"  # default: {_scalar(default)}"
