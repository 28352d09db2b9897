"""Matching events of two analyses: each is used once, the same ones give nothing, and both ways agree."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceline.nightly.moments import SAME_WITHIN_S, Difference, Moment, compare, moments_of
from tests.faceline.nightly.factory import moment

# Few values, so that equal times, ties and whole duplicates are common.
some_moments = st.lists(
    st.builds(
        moment,
        st.sampled_from([1.0, 1.1, 1.2, 1.3, 1.4, 1.6, 8.2, 8.4, 9.0]),
        st.integers(1, 3),
        score=st.sampled_from([1.0, 2.0, None]),
        p_value=st.sampled_from([0.1, None]),
    ),
    max_size=12,
)


@given(some_moments, some_moments)
def test_each_event_is_used_once(before: list[Moment], after: list[Moment]) -> None:
    found = compare(before, after)
    same = Counter(before) & Counter(after)
    assert Counter(d.before for d in found if d.before) == Counter(before) - same
    assert Counter(d.after for d in found if d.after) == Counter(after) - same
    for d in found:
        assert (d.before is not None, d.after is not None) == {
            "new": (False, True),
            "changed": (True, True),
            "vanished": (True, False),
        }[d.kind]
        if d.before and d.after:
            assert d.before != d.after
            assert abs(d.before.peak_s - d.after.peak_s) <= SAME_WITHIN_S + 1e-9


@given(some_moments, some_moments)
def test_what_is_new_one_way_vanished_the_other_way(before: list[Moment], after: list[Moment]) -> None:
    turned = {"new": "vanished", "vanished": "new", "changed": "changed"}
    there = Counter((turned[d.kind], d.after, d.before) for d in compare(before, after))
    assert there == Counter((d.kind, d.before, d.after) for d in compare(after, before))


@given(some_moments, st.randoms())
def test_the_same_events_in_any_order_give_nothing(moments: list[Moment], random: Any) -> None:
    mixed = list(moments)
    random.shuffle(mixed)
    assert compare(moments, mixed) == []


@given(some_moments, some_moments, st.randoms())
def test_the_order_of_events_does_not_matter(before: list[Moment], after: list[Moment], random: Any) -> None:
    found = compare(before, after)
    random.shuffle(before)
    random.shuffle(after)
    assert compare(before, after) == found


@given(some_moments, some_moments)
def test_no_two_that_are_left_could_have_been_one(before: list[Moment], after: list[Moment]) -> None:
    found = compare(before, after)
    lost = [d.before for d in found if d.kind == "vanished" and d.before]
    new = [d.after for d in found if d.kind == "new" and d.after]
    assert not [(a, b) for a in lost for b in new if abs(a.peak_s - b.peak_s) < SAME_WITHIN_S - 1e-6]


def test_the_same_person_goes_before_the_same_time() -> None:
    before = [moment(10.0, 1)]
    after = [moment(10.0, 2, score=3.0), moment(10.2, 1)]
    kinds = {(d.kind, d.before and d.before.person, d.after and d.after.person) for d in compare(before, after)}
    assert kinds == {("changed", 1, 1), ("new", None, 2)}


def test_persons_that_are_numbered_anew_are_followed_by_time() -> None:
    (only,) = compare([moment(10.0, 1)], [moment(10.0, 2)])
    assert only.kind == "changed"


def test_two_fifths_are_the_limit_whatever_binary_fractions_say() -> None:
    # 8.4 - 8.2 is 0.20000000000000107.
    assert [d.kind for d in compare([moment(8.2)], [moment(8.4)])] == ["changed"]
    assert [d.kind for d in compare([moment(8.2)], [moment(8.401)])] == ["vanished", "new"]


def test_many_events_take_little_time() -> None:
    many = [moment(5.0 * n, 1 + n % 3) for n in range(20_000)]
    moved = [replace(m, peak_s=round(m.peak_s + 0.1, 3)) for m in many]
    assert Counter(d.kind for d in compare(many, moved)) == {"changed": 20_000}


def test_rows_of_events_become_moments() -> None:
    row = {"person": 2, "start_s": 1.00049, "peak_s": 1.5, "end_s": 2, "score": 5.1234, "p_value": float("nan")}
    (found,) = moments_of([{**row, "top_features": "fear +3", "drivers": "", "explained": False}])
    assert found == Moment(2, 1.0, 1.5, 2.0, 5.12, None, "fear +3", False)
    (other,) = moments_of([{**row, "score": None, "drivers": "mouth +5", "top_features": "x", "explained": 1}])
    assert (other.score, other.what, other.explained) == (None, "mouth +5", True)


@given(some_moments, some_moments)
def test_differences_survive_json(before: list[Moment], after: list[Moment]) -> None:
    for d in compare(before, after):
        assert Difference.from_plain(json.loads(json.dumps(d.to_plain()))) == d


@pytest.mark.parametrize(
    "body",
    [
        {},
        5,
        {"kind": "new", "before": None},
        {"kind": "new", "before": None, "after": None},
        {"kind": "changed", "before": None, "after": moment().to_plain()},
        {"kind": "odd", "before": None, "after": moment().to_plain()},
        {"kind": "new", "before": None, "after": {"person": 1}},
        {"kind": "new", "before": None, "after": "text"},
    ],
)
def test_what_is_no_difference_is_refused(body: Any) -> None:
    with pytest.raises(ValueError, match="not whole"):
        Difference.from_plain(body)
