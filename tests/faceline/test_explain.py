"""Explanations: the state of a stage, and exactly the difference that makes it run."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceline.explain import differences, explain
from faceline.keys import KeyParts
from faceline.latest import Place, remember
from faceline.stage import Payload
from faceline.store import Store

PLACE = Place("align", "ab" * 32, "/clips/a.mp4", segment=3)
PARTS = KeyParts(
    stage="align",
    version=2,
    params={"fps": 5.0, "size_px": 160, "deep": {"crop": True, "points": [1, 2]}, "note": "x"},
    inputs={"sample": ["11" * 32], "detect": ["22" * 32]},
    footage="ab" * 32,
    scope={"segment": 3, "start_s": Fraction(900), "end_s": Fraction(1200)},
    facts={"locale": "en"},
    models={"landmarks": {"name": "facemesh", "sha256": "33" * 32}},
    code={"faceline.alignment": "44" * 32, "faceline.pose": "55" * 32, "faceline.report/page.html": "66" * 32},
)


def _params(**changes: Any) -> dict[str, Any]:
    return {"params": {**PARTS.params, **changes}}


# Differences.


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 3}, ["stage version 2 → 3"]),
        ({"footage": "cd" * 32}, ["footage changed"]),
        (_params(fps=10.0), ["params.fps 5 → 10"]),
        (_params(fps=7.5), ["params.fps 5 → 7.5"]),
        (_params(fps=5), ["params.fps 5.0 → 5"]),
        (_params(fps=None), ["params.fps 5 → null"]),
        (_params(note="y z"), ["params.note x → y z"]),
        (_params(note=""), ["params.note x → ''"]),
        (_params(deep={"crop": False, "points": [1, 2]}), ["params.deep.crop true → false"]),
        (_params(deep={"crop": True, "points": [1, 3]}), ["params.deep.points [1,2] → [1,3]"]),
        (_params(fps=Fraction(30000, 1001)), ["params.fps 5 → 29.97"]),
        (_params(fps=10.0, size_px=112), ["params.fps 5 → 10", "params.size_px 160 → 112"]),
        (_params(more=1), ["params.more is new (1)"]),
        ({"params": {k: v for k, v in PARTS.params.items() if k != "note"}}, ["params.note is gone (was x)"]),
        ({"facts": {"locale": "de"}}, ["facts.locale en → de"]),
        ({"code": {**PARTS.code, "faceline.pose": "00" * 32}}, ["code of faceline.pose changed"]),
        (
            {"code": {**PARTS.code, "faceline.pose": "00" * 32, "faceline.alignment": "00" * 32}},
            ["code of faceline.alignment, faceline.pose changed"],
        ),
        ({"code": {**PARTS.code, "faceline.report/page.html": "0"}}, ["file faceline.report/page.html changed"]),
        ({"code": {**PARTS.code, "faceline.crop": "0"}}, ["code now uses faceline.crop"]),
        (
            {"code": {k: v for k, v in PARTS.code.items() if k != "faceline.pose"}},
            ["code no longer uses faceline.pose"],
        ),
        (
            {"models": {"landmarks": {"name": "tasks", "sha256": "00" * 32}}},
            ["model landmarks: facemesh → tasks"],
        ),
        (
            {"models": {"landmarks": {"name": "facemesh", "sha256": "00" * 32}}},
            ["model landmarks: weights of facemesh changed (33333333 → 00000000)"],
        ),
        ({"models": {}}, ["model landmarks is gone (facemesh)"]),
        ({"inputs": {"sample": ["11" * 32], "detect": ["99" * 32]}}, ["input detect changed"]),
        (
            {"inputs": {"sample": ["11" * 32, "12" * 32], "detect": ["22" * 32]}},
            ["input sample changed (1 → 2 artifacts)"],
        ),
        ({"inputs": {"sample": ["11" * 32]}}, ["input detect is gone"]),
        (
            {"scope": {"segment": 3, "start_s": Fraction(900), "end_s": Fraction(2001, 2)}},
            ["segment 3 covers 900–1200 s → 900–1000.5 s"],
        ),
        ({"scope": {}}, ['scope {"end_s":{"$fraction":"1200/1"},"segment":3,"st… → {}']),
        (
            {**_params(fps=1.0), "code": {**PARTS.code, "faceline.pose": "0"}, "footage": None},
            ["footage changed", "params.fps 5 → 1", "code of faceline.pose changed"],
        ),
    ],
)
def test_only_what_differs_is_named(change: dict[str, Any], words: list[str]) -> None:
    assert differences(PARTS, replace(PARTS, **change)) == words


def test_changed_inputs_of_many_segments_are_counted() -> None:
    one = replace(PARTS, inputs={"detect": ["11" * 32] * 12})
    other = replace(PARTS, inputs={"detect": ["11" * 32] * 9 + ["00" * 32] * 3})
    assert differences(one, other) == ["input detect changed (3 of 12 artifacts)"]


def test_many_modules_are_cut_short() -> None:
    one = replace(PARTS, code={f"faceline.m{i}": "0" for i in range(6)})
    other = replace(PARTS, code={f"faceline.m{i}": "1" for i in range(6)})
    assert differences(one, other) == ["code of faceline.m0, faceline.m1, faceline.m2 and 3 more changed"]


def test_long_values_are_cut_short_and_never_shown_as_equal() -> None:
    one, other = replace(PARTS, **_params(note="a" * 80)), replace(PARTS, **_params(note="a" * 79 + "b"))
    assert differences(one, other) == ["params.note changed"]
    assert all(len(words) < 130 for words in differences(one, PARTS))


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text("abc"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=3),
    max_leaves=6,
)


@given(_json, _json)
def test_there_are_words_exactly_when_the_keys_differ(one: Any, other: Any) -> None:
    before, after = replace(PARTS, params={"p": one}), replace(PARTS, params={"p": other})
    assert bool(differences(before, after)) == (before.key != after.key)


# States.


def _commit(store: Store, parts: KeyParts = PARTS) -> None:
    with store.draft(parts.stage, parts.key, [Payload("a", "parquet")]) as draft:
        draft.append({"a": pa.table({"x": [1]})})
        store.commit(draft, parts, runtime={}, timings={})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def _words(store: Store, parts: KeyParts = PARTS, *, force: bool = False) -> tuple[str, str]:
    found = explain(store, parts, PLACE, force=force)
    return found.state, found.reason


def test_nothing_known_is_a_first_run(store: Store) -> None:
    assert _words(store) == ("run", "first run")
    assert not Path(store.root).exists()  # nothing is touched


def test_what_is_stored_is_cached(store: Store) -> None:
    _commit(store)
    assert _words(store) == ("cached", "computed before")
    remember(store.folder, PLACE, PARTS, 1.0)
    assert _words(store) == ("cached", "unchanged")
    assert _words(store, force=True) == ("run", "forced")


def test_a_change_is_named(store: Store) -> None:
    _commit(store)
    remember(store.folder, PLACE, PARTS, 1.0)
    assert _words(store, replace(PARTS, **_params(fps=10.0))) == ("run", "params.fps 5 → 10")
    assert _words(store, replace(PARTS, version=3), force=True) == ("run", "stage version 2 → 3")


def test_damage_is_named_before_and_after_it_was_set_aside(store: Store) -> None:
    _commit(store)
    remember(store.folder, PLACE, PARTS, 1.0)
    path = store.folder.local_path(f"align/{PARTS.key}/a.parquet")
    assert path is not None
    path.write_bytes(path.read_bytes()[:-1])
    state, reason = _words(store)
    assert state == "run"
    assert reason.startswith("artifact damaged: a.parquet has ")
    list(store.verify(repair=True))
    assert _words(store) == ("run", reason)


def test_an_artifact_that_was_removed_is_not_called_damaged(store: Store) -> None:
    _commit(store)
    store.set_aside("align", PARTS.key, "an old story")
    _commit(store)
    remember(store.folder, PLACE, PARTS, 4e9)  # after the old story
    store.remove("align", PARTS.key)
    assert _words(store) == ("run", "artifact removed")


def test_lost_pointers_cost_the_explanation_only(store: Store) -> None:
    _commit(store)
    remember(store.folder, PLACE, PARTS, 1.0)
    store.folder.remove("_latest")
    assert _words(store) == ("cached", "computed before")
    assert _words(store, replace(PARTS, version=3)) == ("run", "first run")


# While a stage before it has still to run.

PENDING = replace(PARTS, inputs={"sample": ["11" * 32], "detect": None})


def test_an_unknown_input_leaves_it_open(store: Store) -> None:
    _commit(store)
    remember(store.folder, PLACE, PARTS, 1.0)
    assert _words(store, PENDING) == ("depends", "runs unless detect gives the same bytes")
    both = replace(PARTS, inputs={"sample": None, "detect": None})
    assert _words(store, both) == ("depends", "runs unless sample, detect give the same bytes")


def test_any_other_difference_settles_it(store: Store) -> None:
    _commit(store)
    remember(store.folder, PLACE, PARTS, 1.0)
    assert _words(store, replace(PENDING, **_params(fps=10.0))) == ("run", "params.fps 5 → 10")
    assert _words(store, PENDING, force=True) == ("run", "forced")


def test_a_difference_that_leads_back_to_a_stored_artifact_stays_open(store: Store) -> None:
    earlier = replace(PARTS, **_params(fps=10.0))
    _commit(store, earlier)
    _commit(store)
    remember(store.folder, PLACE, PARTS, 1.0)
    assert _words(store, replace(PENDING, **_params(fps=10.0)))[0] == "depends"


def test_nothing_to_fall_back_on_settles_it(store: Store) -> None:
    assert _words(store, PENDING) == ("run", "first run")
    remember(store.folder, PLACE, PARTS, 1.0)
    assert _words(store, PENDING) == ("run", "artifact removed")


def test_an_input_that_was_not_read_before_settles_it(store: Store) -> None:
    _commit(store)
    remember(store.folder, PLACE, PARTS, 1.0)
    pending = replace(PARTS, inputs={**PARTS.inputs, "embed": None})
    assert _words(store, pending) == ("run", "input embed is new")
