"""Metrics against cases counted by hand, slow oracles, and properties."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from benchmarks.anomalies import metrics as m


def reports(true: list[tuple[float, float]], found: list[tuple[float, float]], duration_s: float = 600.0) -> m.Reports:
    """From (start, end) of true events and (peak, score) of reports."""
    table = np.array(found, dtype=np.float64).reshape(-1, 2)
    return m.Reports(np.array(true, dtype=np.float64), table[:, 0], table[:, 1], duration_s)


HAND = reports([(10, 11), (20, 22), (30, 31)], [(10.5, 9), (50, 8), (10.9, 7), (22.4, 6), (40, 5)])
"""By falling score: hit, false, duplicate, hit (inside the tolerance), false; the third event is missed."""


def test_counts_by_hand() -> None:
    c = m.curve([HAND])
    assert c.threshold.tolist() == [9, 8, 7, 6, 5]
    assert c.reports.tolist() == [1, 2, 3, 4, 5]
    assert c.hits.tolist() == [1, 1, 1, 2, 2]
    assert m.event_average_precision([HAND]) == pytest.approx(1 / 3 * 1 + 1 / 3 * 2 / 4)
    assert m.precision_at([HAND], 1) == 1
    assert m.precision_at([HAND], 3) == pytest.approx(1 / 3)
    assert m.precision_at([HAND], 10) == pytest.approx(2 / 10)
    assert m.false_alarms_per_hour([HAND]) == pytest.approx(3 * 6)
    assert m.false_alarms_per_hour([HAND], threshold=8) == pytest.approx(6)
    assert m.false_alarms_per_hour([HAND], threshold=100) == 0
    assert m.event_recall([HAND]) == pytest.approx(2 / 3)
    assert m.event_recall([HAND], threshold=9) == pytest.approx(1 / 3)
    assert m.recall_at_false_alarms([HAND]) == pytest.approx(1 / 3)  # 6 an hour: one in these ten minutes
    assert m.recall_at_false_alarms([HAND], per_hour=12) == pytest.approx(2 / 3)


def test_edges_of_the_tolerance_count() -> None:
    at_the_edge = reports([(10, 11)], [(9.5, 1), (11.5, 2)])
    assert m.new_hits(at_the_edge).tolist() == [False, True]
    assert not m.new_hits(reports([(10, 11)], [(9.49, 1), (11.51, 2)])).any()


def test_controls_add_time_and_false_alarms_but_no_events() -> None:
    control = reports([], [(5, 8.5)])
    both = [HAND, control]
    assert m.curve(both).events == 3
    assert m.event_average_precision(both) == pytest.approx(1 / 3 * 1 + 1 / 3 * 2 / 5)
    assert m.false_alarms_per_hour(both) == pytest.approx(4 * 3)
    assert math.isnan(m.event_average_precision([control]))
    assert math.isnan(m.recall_at_false_alarms([control]))
    assert m.false_alarms_per_hour([control]) == pytest.approx(6)


def test_nothing_reported() -> None:
    silent = reports([(1, 2)], [])
    assert m.event_average_precision([silent]) == 0
    assert m.recall_at_false_alarms([silent]) == 0
    assert m.precision_at([silent], 10) == 0
    assert m.false_alarms_per_hour([silent]) == 0


def test_overlapping_events_are_shared_out_so_that_most_are_found() -> None:
    # The higher peak lies in both events, the lower in the first alone: both are found.
    both = reports([(10, 12), (12, 14)], [(12.0, 2), (10.0, 1)])
    assert m.new_hits(both).all()


def test_a_report_finds_the_nearest_event_that_is_free() -> None:
    true = np.array([[10.0, 11.0], [11.4, 12.0]])

    def found(*peaks: float) -> list[int]:
        return m.matching(true, np.array(peaks), -np.arange(len(peaks), dtype=np.float64)).tolist()

    assert found(11.45) == [1]
    assert found(11.1) == [0]
    assert found(11.45, 11.7) == [0, 1]  # it makes room
    assert found(11.1, 10.5, 10.6, 20.0) == [1, 0, -1, -1]
    assert found() == []


def test_equal_scores_have_no_order() -> None:
    tied = reports([(10, 11), (20, 21)], [(10.5, 1), (50, 1), (60, 1), (70, 1)])
    assert m.event_average_precision([tied]) == pytest.approx(1 / 2 * 1 / 4)
    assert m.precision_at([tied], 2) == pytest.approx(1 / 4)  # half a hit among the first two, on average


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        reports([(1, 2)], [(1, float("nan"))])
    with pytest.raises(ValueError, match="not before"):
        reports([(2, 1)], [])
    with pytest.raises(ValueError, match="lasts"):
        reports([], [], duration_s=0)
    with pytest.raises(ValueError, match="no recordings"):
        m.curve([])
    with pytest.raises(ValueError, match="at least 1"):
        m.precision_at([HAND], 0)


EVENTS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 4)), max_size=5).map(
    lambda pairs: [(float(start), float(start + length)) for start, length in pairs]
)
FOUND = st.lists(st.tuples(st.integers(0, 90).map(lambda x: x / 2), st.integers(0, 6).map(float)), max_size=8)


def most_hits(peaks: list[float], true: list[tuple[float, float]]) -> int:
    """The largest number of peaks that can be given different events, by trying every assignment."""
    best = 0
    for size in range(1, min(len(peaks), len(true)) + 1):
        for some in itertools.combinations(peaks, size):
            for events in itertools.permutations(true, size):
                if all(a - 0.5 <= p <= b + 0.5 for p, (a, b) in zip(some, events, strict=True)):
                    best = size
    return best


@given(EVENTS, st.lists(st.tuples(st.integers(0, 40).map(float), st.integers(0, 3).map(float)), max_size=5))
def test_hits_are_the_largest_matching_at_every_threshold(
    true: list[tuple[float, float]], found: list[tuple[float, float]]
) -> None:
    c = m.curve([reports(true, found)])
    for threshold, hits in zip(c.threshold, c.hits, strict=True):
        assert hits == most_hits([p for p, s in found if s >= threshold], true)


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=20).filter(
        lambda x: any(y for y, _ in x)
    )
)
def test_average_precision_is_scikit_learns_where_each_event_has_one_report(labels: list[tuple[bool, int]]) -> None:
    true = [(10.0 * k, 10.0 * k + 1) for k, (is_event, _) in enumerate(labels) if is_event]
    found = [(10.0 * k + 0.5, float(score)) for k, (_, score) in enumerate(labels)]
    expected = average_precision_score([y for y, _ in labels], [s for _, s in labels])
    assert m.event_average_precision([reports(true, found)]) == pytest.approx(expected)


@given(EVENTS.filter(bool), FOUND)
def test_figures_stay_within_bounds(true: list[tuple[float, float]], found: list[tuple[float, float]]) -> None:
    one = [reports(true, found)]
    assert 0 <= m.event_average_precision(one) <= 1
    assert 0 <= m.precision_at(one, 3) <= 1
    assert 0 <= m.recall_at_false_alarms(one) <= m.event_recall(one) <= 1
    assert 0 <= m.false_alarms_per_hour(one) <= len(found) * 6 + 1e-9
    c = m.curve(one)
    assert (np.diff(c.hits) >= 0).all()
    assert (c.hits <= np.minimum(c.reports, len(true))).all()


@given(EVENTS.filter(bool), FOUND)
def test_only_the_order_of_scores_matters(true: list[tuple[float, float]], found: list[tuple[float, float]]) -> None:
    bent = [(peak, math.exp(score) - 3) for peak, score in found]
    for figure in (m.event_average_precision, m.recall_at_false_alarms, m.false_alarms_per_hour):
        assert figure([reports(true, bent)]) == pytest.approx(figure([reports(true, found)]))


@given(EVENTS, FOUND, st.integers(-1, 7))
def test_finding_one_more_event_never_lowers_a_figure(
    true: list[tuple[float, float]], found: list[tuple[float, float]], score: int
) -> None:
    true = [*true, (100.0, 101.0)]  # apart from all others: no report reaches it yet
    before, after = [reports(true, found)], [reports(true, [*found, (100.5, float(score))])]
    assert m.event_average_precision(after) >= m.event_average_precision(before) - 1e-12
    assert m.recall_at_false_alarms(after) >= m.recall_at_false_alarms(before) - 1e-12
    assert m.event_recall(after) == pytest.approx(m.event_recall(before) + 1 / len(true))
    assert m.false_alarms_per_hour(after) == pytest.approx(m.false_alarms_per_hour(before))


@given(EVENTS.filter(bool), FOUND, st.integers(-1, 7))
def test_a_false_alarm_never_raises_a_figure(
    true: list[tuple[float, float]], found: list[tuple[float, float]], score: int
) -> None:
    before, after = [reports(true, found)], [reports(true, [*found, (200.0, float(score))])]
    assert m.event_average_precision(after) <= m.event_average_precision(before) + 1e-12
    assert m.recall_at_false_alarms(after) <= m.recall_at_false_alarms(before) + 1e-12


# VUS-PR


def slow_vus_pr(time: list[float], score: list[float], true: list[tuple[float, float]], buffers: list[float]) -> float:
    """The definition, row by row and threshold by threshold."""
    true = [(a, b) for a, b in true if any(a <= t <= b for t in time)]
    total = 0.0
    for buffer in buffers:
        label, hard = [], []
        for t in time:
            inside = any(a <= t <= b for a, b in true)
            value = 0.0
            for a, b in true:
                d = max(a - t, t - b, 0.0)
                if d == 0:
                    value += 1
                elif buffer > 0 and d <= buffer / 2 + 1e-9:
                    value += math.sqrt(1 - d / buffer)
            hard.append(1.0 if inside else 0.0)
            label.append(min(value, 1.0))
        positives = (sum(hard) + sum(label)) / 2
        recall_before = 0.0
        for threshold in sorted({s for s in score if not math.isnan(s)}, reverse=True):
            predicted = [s >= threshold for s in score]
            tp = sum(y for y, p in zip(label, predicted, strict=True) if p)
            touched = sum(
                any(p and max(a - t, t - b, 0.0) <= buffer / 2 + 1e-9 for t, p in zip(time, predicted, strict=True))
                for a, b in true
            )
            recall = min(tp / positives, 1.0) * touched / len(true)
            total += (recall - recall_before) * tp / sum(predicted)
            recall_before = recall
    return total / len(buffers)


ROWS = st.lists(
    st.tuples(st.integers(1, 4).map(lambda x: x / 8), st.one_of(st.integers(0, 5).map(float), st.just(math.nan))),
    min_size=3,
    max_size=40,
)


@given(ROWS, st.lists(st.tuples(st.integers(0, 40), st.integers(0, 12)), min_size=1, max_size=3))
def test_vus_pr_is_its_definition(rows: list[tuple[float, float]], spans: list[tuple[int, int]]) -> None:
    time = np.cumsum([step for step, _ in rows])
    score = np.array([s for _, s in rows])
    true = [(a / 8, (a + n) / 8) for a, n in spans]
    value = m.vus_pr(time, score, np.array(true))
    if not any(a <= t <= b for a, b in true for t in time) or np.isnan(score).all():
        assert math.isnan(value)
    else:
        buffers = np.linspace(0, 1, 11).tolist()
        assert value == pytest.approx(slow_vus_pr(time.tolist(), score.tolist(), true, buffers))
        assert 0 <= value <= 1 + 1e-12
        assert m.vus_pr(time, np.exp(score) - 2, np.array(true)) == pytest.approx(value)


@given(st.lists(st.integers(0, 5), min_size=8, max_size=40), st.integers(0, 3), st.integers(4, 7))
def test_without_buffer_and_with_one_event_it_is_average_precision(scores: list[int], first: int, last: int) -> None:
    time = np.arange(len(scores)) / 10
    label = (np.arange(len(scores)) >= first) & (np.arange(len(scores)) <= last)
    value = m.vus_pr(time, np.array(scores, float), np.array([[first / 10, last / 10]]), buffer_s=0.0, steps=1)
    assert value == pytest.approx(average_precision_score(label, scores))


def test_vus_pr_by_hand() -> None:
    # Rows every 0.25 s, the event is the row at 1.0 s; a buffer of 1 s labels the rows at ±0.25 s with √0.75 and those
    # at ±0.5 s with √0.5. The score is highest at 1.25 s, then at 1.0 s, then nothing.
    time = np.arange(0, 2.25, 0.25)
    score = np.zeros(9)
    score[5], score[4] = 2.0, 1.0
    soft = 1 + 2 * math.sqrt(0.75) + 2 * math.sqrt(0.5)
    positives = (1 + soft) / 2
    r1, p1 = math.sqrt(0.75) / positives, math.sqrt(0.75)
    r2, p2 = (1 + math.sqrt(0.75)) / positives, (1 + math.sqrt(0.75)) / 2
    r3, p3 = 1.0, soft / 9
    expected = r1 * p1 + (r2 - r1) * p2 + (r3 - r2) * p3
    assert m.vus_pr(time, score, np.array([[1.0, 1.0]]), steps=1) == pytest.approx(expected)


def test_a_score_a_little_late_loses_little() -> None:
    time = np.arange(0, 60, 0.1)
    true = np.array([[20.0, 21.0], [40.0, 41.0]])

    def scored(shift: float) -> float:
        inside = ((time[:, None] >= true[:, 0] + shift) & (time[:, None] <= true[:, 1] + shift)).any(axis=1)
        return m.vus_pr(time, inside + 0.0, true)

    assert scored(0) > 0.85  # not 1: the rows beside an event bear labels too
    assert scored(0) > scored(0.3) > scored(1.0) > scored(5.0)


# bootstrap


def test_bootstrap_is_over_persons_and_seeded() -> None:
    people = {"a": [1.0, 1.0], "b": [3.0, 3.0], "c": [5.0, 5.0]}
    first = m.bootstrap_interval(people, lambda x: float(np.mean(x)), draws=500, seed=4)
    again = m.bootstrap_interval(dict(reversed(people.items())), lambda x: float(np.mean(x)), draws=500, seed=4)
    assert first == again
    assert first.value == 3.0
    assert 1.0 <= first.low < 3.0 < first.high <= 5.0
    # Only whole persons are drawn: every mean is a mean of three persons' means.
    seen = set()
    m.bootstrap_interval(people, lambda x: seen.add(len(x)) or 0.0, draws=50)
    assert seen == {6}


def test_bootstrap_covers_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        people = {str(k): [float(x)] for k, x in enumerate(rng.normal(0, 1, 20))}
        interval = m.bootstrap_interval(people, lambda x: float(np.mean(x)), level=0.9, draws=200)
        covered += interval.low <= 0 <= interval.high
    assert 0.8 <= covered / 200 <= 0.97


def test_bootstrap_leaves_draws_without_a_figure_out() -> None:
    people = {"a": [math.nan], "b": [1.0]}
    interval = m.bootstrap_interval(people, lambda x: float(np.mean(x)), draws=100)
    assert math.isnan(interval.value)
    assert interval.low == interval.high == 1.0
    assert 0 < interval.draws < 100
    with pytest.raises(ValueError, match="no persons"):
        m.bootstrap_interval({}, lambda x: 0.0)
