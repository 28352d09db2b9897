"""Keys: literal golden values, what must and must not change a key, and what is refused."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
import os
import subprocess
import sys
from datetime import date
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from faceline.keys import KeyParts, canonical_json, digest_of, plain, plain_params
from faceline.stage import StageParams


class Forest(BaseModel):
    kind: Literal["forest"] = "forest"
    trees: int = 100


class Params(StageParams):
    fps: float = 5.0
    names: tuple[str, ...] = ("a",)
    hidden: int = Field(default=3, exclude=True)
    model: BaseModel = Forest()


PARTS = KeyParts(
    stage="detect",
    version=1,
    params={"min_face_px": 20, "threshold": 0.7},
    inputs={"sample": ["aa" * 32]},
    footage="bb" * 32,
    scope={"segment": 0, "start_s": Fraction(0), "end_s": Fraction(9009, 30000)},
    facts={},
    models={"detector": {"name": "mtcnn", "sha256": "cc" * 32}},
    code={"faceline.detection": "dd" * 32},
)


# Golden values: a change here makes every stored artifact of every user worthless.


def test_the_canonical_text_is_frozen() -> None:
    value = {
        "z": [1, 1.0, True, None, -0.5, 1e22, 10**20],
        "ä": 'é\n"\\',
        "a": (Fraction(30000, 1001), {}, []),
    }
    assert canonical_json(value) == (
        '{"a":[{"$fraction":"30000/1001"},{},[]],'
        '"z":[1,1.0,true,null,-0.5,1e+22,100000000000000000000],"ä":"é\\n\\"\\\\"}'
    )


def test_the_key_is_frozen() -> None:
    assert PARTS.key == "43ae21e7f51a3ae363c11fe6083859e91ff4b27e22c76317e3e92b06d963215f"


def test_the_key_is_the_hash_of_the_documented_text() -> None:
    text = (
        '{"code":{"faceline.detection":"' + "dd" * 32 + '"},"facts":{},"footage":"' + "bb" * 32 + '",'
        '"inputs":{"sample":["' + "aa" * 32 + '"]},"models":{"detector":{"name":"mtcnn","sha256":"' + "cc" * 32 + '"}},'
        '"params":{"min_face_px":20,"threshold":0.7},'
        '"scope":{"end_s":{"$fraction":"3003/10000"},"segment":0,"start_s":{"$fraction":"0/1"}},'
        '"stage":"detect","version":1}'
    )
    assert hashlib.sha256(text.encode()).hexdigest() == PARTS.key


def test_the_key_of_defaults_is_frozen() -> None:
    parts = dataclasses.replace(PARTS, params=Params())
    assert parts.params == {
        "fps": 5.0,
        "names": ["a"],
        "hidden": 3,
        "model": {"$model": "Forest", "kind": "forest", "trees": 100},
    }
    assert parts.key == "dd7d2b5c92634196e677b0222d9314452209a8d6796775ed7e55502eb7a12fdd"


# What must change a key.


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("stage", "align"),
        ("version", 2),
        ("params", {"min_face_px": 21, "threshold": 0.7}),
        ("params", {"min_face_px": 20.0, "threshold": 0.7}),
        ("params", {"min_face_px": 20}),
        ("params", {"min_face_px": 20, "threshold": 0.7, "more": None}),
        ("inputs", {"sample": ["ab" * 32]}),
        ("inputs", {"sample": ["aa" * 32, "aa" * 32]}),
        ("inputs", {"other": ["aa" * 32]}),
        ("footage", "bc" * 32),
        ("footage", None),
        ("scope", {}),
        ("scope", {"segment": 1, "start_s": Fraction(0), "end_s": Fraction(9009, 30000)}),
        ("scope", {"segment": 0, "start_s": Fraction(0), "end_s": Fraction(9010, 30000)}),
        ("scope", {"trial": "t1"}),
        ("facts", {"note": ""}),
        ("models", {"detector": {"name": "mtcnn", "sha256": "cd" * 32}}),
        ("models", {"detector": {"name": "other", "sha256": "cc" * 32}}),
        ("models", {}),
        ("code", {"faceline.detection": "de" * 32}),
        ("code", {"faceline.detection": "dd" * 32, "faceline.tracking": "ee" * 32}),
    ],
)
def test_a_changed_part_changes_the_key(part: str, value: Any) -> None:
    assert dataclasses.replace(PARTS, **{part: value}).key != PARTS.key


def test_the_order_of_input_artifacts_changes_the_key() -> None:
    one = dataclasses.replace(PARTS, inputs={"sample": ["aa" * 32, "ab" * 32]})
    other = dataclasses.replace(PARTS, inputs={"sample": ["ab" * 32, "aa" * 32]})
    assert one.key != other.key


@pytest.mark.parametrize(
    "changed",
    [Params(fps=6), Params(names=()), Params(hidden=4), Params(model=Forest(trees=99))],
    ids=["field", "tuple", "field that dumps leave out", "field of a subclass"],
)
def test_every_field_of_the_parameters_counts(changed: Params) -> None:
    assert digest_of(plain_params(changed)) != digest_of(plain_params(Params()))


def test_an_edited_default_changes_the_key() -> None:
    class Before(StageParams):
        fps: float = 5.0

    class After(StageParams):
        fps: float = 6.0

    assert digest_of(plain_params(Before())) != digest_of(plain_params(After()))


def test_nested_models_of_another_class_are_told_apart() -> None:
    class Other(BaseModel):
        kind: Literal["forest"] = "forest"
        trees: int = 100

    assert digest_of(plain_params(Params(model=Other()))) != digest_of(plain_params(Params()))


# What must not change a key.


def test_equal_values_written_differently_share_a_key() -> None:
    same = dataclasses.replace(
        PARTS,
        params=MappingProxyType({"threshold": 7 / 10, "min_face_px": 20}),
        inputs={"sample": ("aa" * 32,)},
        scope={"end_s": Fraction(3003, 10000), "start_s": Fraction(0, 5), "segment": 0},
    )
    assert same.key == PARTS.key
    assert same == PARTS


def test_a_field_set_to_its_default_shares_the_key() -> None:
    assert digest_of(plain_params(Params(fps=5, hidden=3))) == digest_of(plain_params(Params()))


def test_parts_survive_the_manifest() -> None:
    again = KeyParts.from_plain(json.loads(json.dumps(PARTS.to_plain())))
    assert again == PARTS
    assert again.key == PARTS.key


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {**PARTS.to_plain(), "more": 1},
        {**PARTS.to_plain(), "inputs": []},
        [],
        None,
        {**PARTS.to_plain(), "code": 1},
    ],
)
def test_foreign_parts_are_refused(parts: Any) -> None:
    with pytest.raises(ValueError, match="key part"):
        KeyParts.from_plain(parts)


def test_there_is_no_key_before_all_inputs_are_known() -> None:
    parts = dataclasses.replace(PARTS, inputs={"sample": None})
    assert parts.unknown_inputs == ("sample",)
    with pytest.raises(ValueError, match="before sample has run"):
        _ = parts.key


# What is refused, and where it is said to stand.


class Colour(enum.Enum):
    RED = 1


class Name(enum.StrEnum):
    RED = "red"


def _endless() -> list[Any]:
    endless: list[Any] = []
    endless.append(endless)
    return endless


@pytest.mark.parametrize(
    ("value", "error", "where"),
    [
        ({"a": {1, 2}}, TypeError, r"value\.a: builtins.set"),
        (frozenset(), TypeError, "frozenset"),
        ([0, {"b": float("nan")}], ValueError, r"value\[1\]\.b: nan"),
        (float("-inf"), ValueError, "-inf"),
        (b"bytes", TypeError, "bytes"),
        (np.float64(1.0), TypeError, "numpy.float64"),
        (np.int64(1), TypeError, "numpy.int64"),
        (np.str_("a"), TypeError, "numpy.str_"),
        (np.bool_(True), TypeError, "numpy.bool"),
        (np.zeros(2), TypeError, "numpy.ndarray"),
        ({"p": Path("a")}, TypeError, r"value\.p: pathlib"),
        (1 + 2j, TypeError, "complex"),
        (date(2020, 1, 1), TypeError, "date"),
        (Colour.RED, TypeError, "Colour"),
        (Name.RED, TypeError, "Name"),
        (object(), TypeError, "object"),
        (len, TypeError, "builtin"),
        ({1: "a"}, TypeError, "dict key 1 is no str"),
        ({Name.RED: "a"}, TypeError, "dict key"),
        ("\ud800", ValueError, "not valid Unicode"),
        ({"\ud800": 1}, ValueError, "not valid Unicode"),
        ({"$fraction": "one third"}, ValueError, "reserved"),
        ({"$fraction": "2/4"}, ValueError, "reserved"),
        ({"$fraction": "1/3", "more": 1}, ValueError, "reserved"),
        ({"$other": 1}, ValueError, "reserved"),
        (_endless(), ValueError, "contains itself"),
    ],
)
def test_what_has_no_canonical_form_is_refused_with_its_place(value: Any, error: type[Exception], where: str) -> None:
    with pytest.raises(error, match=where):
        canonical_json(value)


def test_a_bad_parameter_is_named() -> None:
    class Bad(StageParams):
        folders: dict[str, Path]

    with pytest.raises(TypeError, match=r"params\.folders\.in: pathlib"):
        KeyParts("s", 1, Bad(folders={"in": Path("x")}), {}, None, {}, {}, {}, {})


def test_a_bad_fact_is_named() -> None:
    with pytest.raises(ValueError, match=r"facts\.limits\[0\]"):
        dataclasses.replace(PARTS, facts={"limits": [float("inf")]})


# Properties.

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    | st.fractions()
)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=4).filter(lambda name: not name.startswith("$"))
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4), max_leaves=12
)


def _shuffled(value: Any, random: Any) -> Any:
    if isinstance(value, dict):
        items = [(key, _shuffled(item, random)) for key, item in value.items()]
        random.shuffle(items)
        return dict(items)
    return [_shuffled(item, random) for item in value] if isinstance(value, list) else value


@given(values, st.randoms(use_true_random=False))
def test_the_order_of_dicts_never_matters(value: Any, random: Any) -> None:
    assert canonical_json(_shuffled(value, random)) == canonical_json(value)


@given(values)
def test_plain_is_idempotent_and_survives_json(value: Any) -> None:
    assert plain(plain(value)) == plain(value)
    assert canonical_json(json.loads(canonical_json(value))) == canonical_json(value)


def _exact(value: Any) -> Any:
    """A form in which Python's == distinguishes what a key must distinguish (1, 1.0, True; 0.0, -0.0)."""
    if isinstance(value, dict):
        return frozenset((key, _exact(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return ("list", *map(_exact, value))
    return (type(value).__name__, repr(value))


@settings(max_examples=300)
@given(values, values)
def test_two_values_share_a_text_only_if_they_are_the_same(one: Any, other: Any) -> None:
    assert (canonical_json(one) == canonical_json(other)) == (_exact(one) == _exact(other))


@given(st.dictionaries(names, scalars, min_size=1, max_size=5), st.data())
def test_any_one_changed_field_changes_the_key(params: dict[str, Any], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(params)))
    value = data.draw(scalars.filter(lambda value: _exact(value) != _exact(params[name])))
    before = dataclasses.replace(PARTS, params=params)
    assert dataclasses.replace(before, params={**params, name: value}).key != before.key


def test_other_processes_make_the_same_key() -> None:
    program = (
        "from fractions import Fraction; from faceline.keys import digest_of;"
        "print(digest_of({n: [n, 1, 1.5, Fraction(1, 3), {'x': n, 'y': None}] for n in 'sample detect align'.split()}))"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("0", "1")
    }
    value = {n: [n, 1, 1.5, Fraction(1, 3), {"y": None, "x": n}] for n in ("align", "detect", "sample")}
    assert digests == {digest_of(value)}
