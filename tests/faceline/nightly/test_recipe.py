"""Recipes: what differs between two, said as parameter, code or model, and the digest that tells them apart."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from faceline.keys import KeyParts
from faceline.nightly.recipe import Recipe, changes

MODEL = {"detector": {"name": "mtcnn", "sha256": "33" * 32}}


def parts(stage: str = "detect", **changed: Any) -> KeyParts:
    values: dict[str, Any] = {
        "version": 1,
        "params": {"fps": 5.0},
        "models": MODEL,
        "code": {"faceline.tracking": "44" * 32},
        **changed,
    }
    return KeyParts(stage, values["version"], values["params"], {}, None, {}, {}, values["models"], values["code"])


OLD = Recipe({"detect": parts(), "trial a": parts("trial"), "trial b": parts("trial")}, "0.1.0")


def with_parts(**changed: KeyParts) -> Recipe:
    return replace(OLD, parts={**OLD.parts, **{name.replace("_", " "): value for name, value in changed.items()}})


@pytest.mark.parametrize(
    ("new", "causes", "phrases"),
    [
        (OLD, (), []),
        (with_parts(detect=parts(params={"fps": 10.0})), ("parameter",), ["detect: params.fps 5 → 10"]),
        (
            with_parts(detect=parts(code={"faceline.tracking": "55" * 32})),
            ("code",),
            ["detect: code of faceline.tracking changed"],
        ),
        (with_parts(detect=parts(version=2)), ("code",), ["detect: stage version 1 → 2"]),
        (
            with_parts(detect=parts(models={"detector": {"name": "other", "sha256": "33" * 32}})),
            ("model",),
            ["detect: model detector: mtcnn → other"],
        ),
        (
            with_parts(detect=parts(models={"detector": {"name": "mtcnn", "sha256": "66" * 32}})),
            ("model",),
            ["detect: model detector: weights of mtcnn changed (33333333 → 66666666)"],
        ),
        (
            with_parts(detect=parts(params={"fps": 10.0}, models={}, version=2)),
            ("parameter", "code", "model"),
            ["detect: params.fps 5 → 10", "detect: stage version 1 → 2", "detect: model detector is gone (mtcnn)"],
        ),
        # All trials share their code: said once.
        (
            with_parts(trial_a=parts("trial", version=2), trial_b=parts("trial", version=2)),
            ("code",),
            ["trial: stage version 1 → 2"],
        ),
        (with_parts(trial_c=parts("trial")), ("parameter",), ["1 trial is new (c)"]),
        (with_parts(glance=parts("glance")), ("code",), ["stage glance is new"]),
        (replace(OLD, faceline="0.2.0"), ("code",), ["faceline 0.1.0 → 0.2.0"]),
        (replace(with_parts(detect=parts(version=2)), faceline="0.2.0"), ("code",), ["detect: stage version 1 → 2"]),
    ],
)
def test_changes(new: Recipe, causes: tuple[str, ...], phrases: list[str]) -> None:
    found = changes(OLD, new)
    assert found.causes == causes
    assert [*found.parameters, *found.code, *found.models] == phrases
    assert bool(found) == bool(causes) == (new.digest != OLD.digest)


def test_many_trials_are_counted() -> None:
    fewer = Recipe({"detect": parts()}, "0.1.0")
    more = Recipe({"detect": parts(), **{f"trial {n}": parts("trial") for n in range(5)}}, "0.1.0")
    assert changes(fewer, more).parameters == ("5 trials are new (0, 1, 2 and 2 more)",)
    assert changes(more, fewer).parameters == ("5 trials are gone (0, 1, 2 and 2 more)",)


def test_a_recipe_survives_json() -> None:
    again = Recipe.from_plain(json.loads(json.dumps(OLD.to_plain())))
    assert again.digest == OLD.digest
    assert not changes(OLD, again)


@pytest.mark.parametrize(
    "body", [{}, {"parts": {}}, {"parts": [], "faceline": ""}, {"parts": {"a": {}}, "faceline": ""}]
)
def test_what_is_no_recipe_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"recipe is not whole|key parts"):
        Recipe.from_plain(body)
