"""Counting true moments and false events."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceline.made.evaluate import TOLERANCE_S, FoundEvent, evaluate, persons_by_place, read_results
from faceline.made.script import Burst, Person, Script, default_demo_script
from faceline.made.truth import Truth

TRUTH = Truth.of(default_demo_script(), "demo.mp4", 1875)


def truth_of(*bursts: Burst) -> Truth:
    script = Script(duration_s=100.0, persons=(Person(), Person()), bursts=bursts, overlapping=True)
    return Truth.of(script, "made.mp4", 2500)


FROWN = Burst(kind="frown", start_s=10.0, onset_s=0.3, hold_s=0.7, offset_s=0.4)  # 10.0 … 11.4


@pytest.mark.parametrize(
    ("peak_s", "found"),
    [(10.7, True), (9.5, True), (11.9, True), (9.49, False), (11.91, False)],
)
def test_a_peak_hits_within_the_tolerance(peak_s: float, found: bool) -> None:
    outcome = evaluate([FoundEvent(1, 1, peak_s)], truth_of(FROWN))
    assert outcome.found == int(found)
    assert len(outcome.false) == int(not found)
    assert outcome.ranks == ((1,) if found else (None,))


def test_another_person_does_not_count() -> None:
    for person in (2, None):
        outcome = evaluate([FoundEvent(person, 1, 10.7)], truth_of(FROWN))
        assert outcome.found == 0 and len(outcome.false) == 1


def test_a_second_event_on_the_same_moment_is_neither_found_nor_false() -> None:
    events = [FoundEvent(1, 4, 10.9), FoundEvent(1, 2, 10.5)]
    outcome = evaluate(events, truth_of(FROWN))
    assert outcome.ranks == (2,)
    assert outcome.repeated == (FoundEvent(1, 4, 10.9),)
    assert outcome.false == ()


def test_an_event_between_two_moments_takes_the_one_not_found_yet() -> None:
    later = Burst(kind="smile", start_s=11.6)
    events = [FoundEvent(1, 1, 10.7), FoundEvent(1, 2, 11.5)]
    assert evaluate(events, truth_of(FROWN, later)).ranks == (1, 2)


def test_nothing_to_find_and_nothing_found() -> None:
    assert evaluate([], truth_of()).recall == 1.0
    assert evaluate([], TRUTH).recall == 0.0


@given(
    st.lists(st.tuples(st.sampled_from([1, 2, None]), st.floats(0, 75)), max_size=15),
    st.randoms(use_true_random=False),
)
def test_every_event_is_counted_once_and_order_does_not_matter(peaks, random) -> None:  # type: ignore[no-untyped-def]
    events = [FoundEvent(person, rank, peak) for rank, (person, peak) in enumerate(peaks, start=1)]
    outcome = evaluate(events, TRUTH)
    assert outcome.found + len(outcome.false) + len(outcome.repeated) == len(events)
    assert len(outcome.ranks) == len(outcome.bursts) == len(TRUTH.bursts)
    named = [rank for rank in outcome.ranks if rank is not None]
    assert len(set(named)) == len(named)
    shuffled = list(events)
    random.shuffle(shuffled)
    assert evaluate(shuffled, TRUTH) == outcome


@given(st.floats(0, 1))
def test_perfect_events_are_all_found(share: float) -> None:
    events = [
        FoundEvent(b.person, rank, b.start_s + share * (b.end_s - b.start_s)) for rank, b in enumerate(TRUTH.bursts, 1)
    ]
    outcome = evaluate(events, TRUTH)
    assert outcome.recall == 1.0 and not outcome.false and not outcome.repeated


def test_more_tolerance_never_finds_less() -> None:
    events = [FoundEvent(1, k, 7.0 + 0.3 * k) for k in range(1, 20)]
    found = [evaluate(events, TRUTH, tolerance).found for tolerance in (0.0, TOLERANCE_S, 2.0)]
    assert found == sorted(found)


def test_persons_are_recognised_by_their_place() -> None:
    assert persons_by_place({1: (600.0, 200.0), 2: (200.0, 200.0), 3: (900.0, 10.0)}, TRUTH) == {1: 2, 2: 1}


def test_results_are_read_from_the_folder(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text(
        "person,rank,start_s,peak_s,end_s\n2,1,8.1,8.6,9.0\n1,2,15.2,15.6,16.1\n", encoding="utf-8"
    )
    for person, x in ((1, 560), (2, 150)):  # the analysis numbers them the other way round
        (tmp_path / f"anomaly_detection_results_person_{person}.csv").write_text(
            f"frame,x_px,y_px,w_px,h_px\n0,{x},120,100,130\n1,{x + 4},118,100,130\n", encoding="utf-8"
        )
    events = read_results(tmp_path, TRUTH)
    assert events == [FoundEvent(1, 1, 8.6), FoundEvent(2, 2, 15.6)]
    assert evaluate(events, TRUTH).found == 2


def test_events_that_are_explained_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("person,rank,peak_s,explained\n1,1,8.6,true\n", encoding="utf-8")
    assert read_results(tmp_path, TRUTH) == []


def test_no_events_at_all_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("person,rank,start_s,peak_s,end_s\n", encoding="utf-8")
    assert read_results(tmp_path, TRUTH) == []
