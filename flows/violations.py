"""What is wrong with a value, in words: pydantic's findings turned into one line that names option, value and range."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from flows.arguments import unknown_option
from flows.console import describe


def violations(section: str, model: type[BaseModel], error: ValidationError) -> list[str]:
    """One clause for each finding: ``sample.fps=-1: must be a number greater than 0``."""
    known = list(option_names(section, model))
    clauses = []
    for finding in error.errors(include_url=False):
        place, schema = _walk(model.model_json_schema(), finding["loc"])
        name = ".".join([section, *place])
        if finding["type"] == "extra_forbidden":
            clauses.append(unknown_option(name, known))
        elif finding["type"] in ("value_error", "assertion_error"):
            reason = str(finding.get("ctx", {}).get("error") or finding["msg"])
            clauses.append(f"{name}: {reason}" if not place else f"{name}={_shown(finding['input'])}: {reason}")
        elif finding["type"] == "missing":
            clauses.append(f"{name} is missing: must be {allowed(schema)}")
        else:
            clauses.append(f"{name}={_shown(finding['input'])}: must be {allowed(schema)}")
    return list(dict.fromkeys(clauses))


def option_names(section: str, model: type[BaseModel]) -> Iterator[str]:
    """Every option of a section by its full name, nested ones and those of all variants included."""
    schema = model.model_json_schema()
    yield from _names(section, schema, schema.get("$defs", {}))


def _names(prefix: str, schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Iterator[str]:
    for variant in _variants(schema, definitions):
        for name, inner in variant.get("properties", {}).items():
            yield f"{prefix}.{name}"
            yield from _names(f"{prefix}.{name}", inner, definitions)


def _variants(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The object schemas that a schema may stand for."""
    if "$ref" in schema:
        yield from _variants(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    for several in ("oneOf", "anyOf", "allOf"):
        for inner in schema.get(several, ()):
            yield from _variants(inner, definitions)
    if "properties" in schema:
        yield schema


def _walk(schema: Mapping[str, Any], loc: tuple[int | str, ...]) -> tuple[list[str], Mapping[str, Any]]:
    """The option's name parts and its schema; tags of unions stand in ``loc`` but not in the name."""
    definitions = schema.get("$defs", {})
    place: list[str] = []
    here: Mapping[str, Any] = schema
    for step in loc:
        options = list(_variants(here, definitions))
        found = next((v["properties"][step] for v in options if step in v["properties"]), None)
        if found is not None:
            place.append(str(step))
            here = found
        elif isinstance(step, int):
            place.append(str(step))
            here = here.get("items") or next((i for i in here.get("prefixItems", [])[step : step + 1]), {})
        elif step == loc[-1] and not _names_a_variant(step, here, definitions):
            place.append(str(step))
            here = {}
    if "$ref" in here:
        here = definitions[here["$ref"].rpartition("/")[2]]
    return place, here


def _names_a_variant(step: int | str, schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> bool:
    """Whether a step of a finding's place is a tag or a type of a union, which is no part of an option's name."""
    mapping = schema.get("discriminator", {}).get("mapping", {})
    tags = {p.get("const") for v in _variants(schema, definitions) for p in v.get("properties", {}).values()}
    return step in mapping or step in tags or (("anyOf" in schema or "oneOf" in schema) and "properties" not in schema)


_KINDS = {
    "number": "a number",
    "integer": "a whole number",
    "string": "a text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a group of options",
    "null": "null",
}


def allowed(schema: Mapping[str, Any]) -> str:
    """The values that a JSON schema allows, in words: ``a number greater than 0 and at most 240``."""
    if "enum" in schema:
        return "one of " + ", ".join(describe(value) for value in schema["enum"])
    if "const" in schema:
        return describe(schema["const"])
    if "oneOf" in schema:
        return "one of " + ", ".join(schema.get("discriminator", {}).get("mapping", {}) or ("several groups",))
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(allowed(inner) for inner in schema["anyOf"]))
    kind = schema.get("type", "")
    words = _KINDS.get(kind, "another kind of value")
    if kind == "array" and "items" in schema:
        words = f"a list, each {allowed(schema['items'])}"
    bounds = []
    for name, text in (
        ("exclusiveMinimum", "greater than"),
        ("minimum", "at least"),
        ("minLength", "with a length of at least"),
        ("minItems", "with a length of at least"),
        ("exclusiveMaximum", "less than"),
        ("maximum", "at most"),
        ("maxItems", "with a length of at most"),
    ):
        if name in schema:
            bounds.append(f"{text} {describe(schema[name])}")
    if schema.get("pattern"):
        bounds.append(f"of the form {schema['pattern']}")
    return f"{words} {' and '.join(bounds)}" if bounds else words


def _shown(value: Any) -> str:
    text = describe(value) if not isinstance(value, Mapping) else "{…}"
    return text if len(text) <= 60 else text[:57] + "…"
