"""From reports to figures; all values by hand."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.anomalies import judging, metrics
from benchmarks.anomalies.judging import Item, Judged, compare, differences, focus, judge, reported_figures
from benchmarks.anomalies.methods import ALL_TRIALS, ANCESTOR, BEST_TRIAL, FACELINE, RANDOM_TRIAL, Series
from benchmarks.anomalies.metrics import Reports
from benchmarks.anomalies.recordings import Moment, Truth

TRUTH = Truth((Moment(10, 12, "smile", "strong"), Moment(20, 20.3, "wink", "short")), ())


def reports(true: list[tuple[float, float]], peaks: dict[float, float], duration_s: float = 600.0) -> Reports:
    """Peak time → score."""
    return Reports(np.array(true).reshape(-1, 2), np.array([*peaks]), np.array([*peaks.values()]), duration_s)


def test_reports_on_other_difficulties_count_neither_way() -> None:
    # 11: the strong event; 20.7: within tolerance of the short one; 20.9: beyond it; 5: nothing.
    found = reports([], {11: 9, 20.7: 8, 20.9: 7, 5: 6})
    strong = focus(found, TRUTH, "strong")
    assert strong.peak_s.tolist() == [11, 20.9, 5]
    assert strong.true_s.tolist() == [[10, 12]]
    short = focus(found, TRUTH, "short")
    assert short.peak_s.tolist() == [20.7, 20.9, 5]
    assert metrics.event_average_precision([strong]) == metrics.event_average_precision([short]) == 1
    assert focus(found, Truth((), ()), "").peak_s.tolist() == [11, 20.7, 20.9, 5]


def test_a_report_on_both_difficulties_stays() -> None:
    truth = Truth((Moment(10, 12, "smile", "strong"), Moment(12.4, 13, "wink", "short")), ())
    found = reports([], {12.2: 5})
    assert focus(found, truth, "strong").peak_s.tolist() == focus(found, truth, "short").peak_s.tolist() == [12.2]


def test_rows_of_other_difficulties_leave_the_volume_alone() -> None:
    time_s = np.arange(300) / 10
    score = np.zeros(300)
    score[100:121], score[200:204] = 5, 9  # both events, the short one higher
    both = judge(time_s, score, np.array([11.0]), np.array([5.0]), TRUTH, "strong", 30.0)
    without = score.copy()
    without[195:209] = 0
    kept = np.setdiff1d(np.arange(300), np.arange(195, 209))
    assert both.vus_pr == pytest.approx(metrics.vus_pr(time_s[kept], without[kept], TRUTH.spans("strong")))
    assert both.vus_pr > metrics.vus_pr(time_s, score, TRUTH.spans("strong"))


def test_all_methods_and_trials_are_picked_alike_but_the_ancestor_stops_at_ten() -> None:
    time_s = np.arange(600) / 10
    score = np.where(np.arange(600) % 30 == 15, 5.0, 0.0) + np.arange(600) / 1e4
    series = Series(time_s, np.zeros(600, dtype=int), {FACELINE: score, ANCESTOR: score}, {"a": score})
    methods, trials = judging.judge_series(series, Truth((), ()), 60.0, "prominent")
    assert len(methods[""][FACELINE].reports.peak_s) == len(trials[""]["a"].reports.peak_s) == 20
    assert len(methods[""][ANCESTOR].reports.peak_s) == 10
    assert np.isnan(methods[""][FACELINE].ap)


def judged(*found: Reports) -> list[Judged]:
    return [Judged(r, 0.5) for r in found]


TWO = [(100.0, 101.0), (200.0, 201.0)]
GOOD = {100.5: 9.0, 200.5: 8.0, 50.0: 1.0}
"""Both events before a false alarm: AP 1, P@2 1."""
BAD = {50.0: 9.0, 100.5: 8.0, 150.0: 2.0}
"""A false alarm, an event, a false alarm: AP ½ · ½ = ¼, P@2 ½."""


def test_figures_are_means_over_persons_of_their_recordings() -> None:
    good, bad = judged(reports(TWO, GOOD), reports(TWO, BAD))
    items = [Item("a", {FACELINE: good}), Item("a", {FACELINE: bad}), Item("b", {FACELINE: bad})]
    found = compare(items, [], draws=50)[FACELINE]
    assert found["ap"].interval.value == pytest.approx(((1 + 0.25) / 2 + 0.25) / 2)
    assert found["p_at_n"].interval.value == pytest.approx(((1 + 0.5) / 2 + 0.5) / 2)
    assert found["vus_pr"].interval.value == 0.5
    assert found["ap_pooled"].interval.value == pytest.approx(
        metrics.event_average_precision([i.methods[FACELINE].reports for i in items])
    )
    # 3 × 600 s are half an hour: three false alarms are allowed.
    assert found["recall"].interval.value == pytest.approx(4 / 6)
    assert np.isnan(found["control_fa"].interval.value)


def test_draws_are_those_of_the_metrics_bootstrap_and_paired() -> None:
    rng = np.random.default_rng(0)
    items = []
    for unit in "abcd":
        mine = {name: reports(TWO, {100.5: 5, 200.5: float(rng.uniform(0, 9)), 50: 6}) for name in ("x", FACELINE)}
        items.append(Item(unit, {name: Judged(r, float(rng.random())) for name, r in mine.items()}))
    found = compare(items, [], draws=200, seed=3)
    by_person = {i.unit: [i.methods["x"].reports] for i in items}
    assert found["x"]["ap_pooled"].interval == metrics.bootstrap_interval(
        by_person, metrics.event_average_precision, draws=200, seed=3
    )
    apart = differences(found)
    assert list(apart) == ["x"]
    pairs = {i.unit: [(i.methods[FACELINE].reports, i.methods["x"].reports)] for i in items}

    def apart_of(drawn: list[tuple[Reports, Reports]]) -> float:
        one, two = zip(*drawn, strict=True)
        return metrics.event_average_precision(one) - metrics.event_average_precision(two)

    expected = metrics.bootstrap_interval(pairs, apart_of, draws=200, seed=3)
    got = apart["x"]["ap_pooled"]
    assert (got.value, got.low, got.high) == pytest.approx((expected.value, expected.low, expected.high))


def test_a_pool_counts_every_draw_as_the_metrics_do() -> None:
    rng = np.random.default_rng(1)

    def some(events: int) -> Reports:
        start = np.sort(rng.uniform(0, 500, events))
        # Few different scores, so that many are equal, also between persons.
        true = np.stack([start, start + 20], axis=1)
        return Reports(true, rng.uniform(0, 600, 30), rng.integers(0, 12, 30), 600.0)

    people = [[some(3) for _ in range(int(rng.integers(1, 3)))] for _ in range(4)] + [[reports([], {})]]
    quiet = [[some(0)], [some(0), some(0)]]
    draws, quiet_draws = rng.integers(0, 5, (40, 5)), rng.integers(0, 2, (40, 2))
    got = judging.Pool(people).figures(judging._times(draws, 5), judging.Pool(quiet), judging._times(quiet_draws, 2))
    known = 0
    for k in range(41):
        drawn = [r for i in (draws[k - 1] if k else range(5)) for r in people[i]]
        controls = [r for i in (quiet_draws[k - 1] if k else range(2)) for r in quiet[i]]
        assert got["ap_pooled"][k] == pytest.approx(metrics.event_average_precision(drawn), nan_ok=True)
        assert got["recall"][k] == pytest.approx(metrics.recall_at_false_alarms(drawn), nan_ok=True)
        counted = metrics.curve(drawn)
        half = counted.threshold[counted.recall >= 0.5]
        known += len(half) > 0
        expected = metrics.false_alarms_per_hour(controls, half[0]) if len(half) else np.nan
        assert got["control_fa"][k] == pytest.approx(expected, nan_ok=True)
    assert known > 20


def test_one_person_gives_no_interval() -> None:
    items = [Item("a", {FACELINE: Judged(reports(TWO, GOOD), 0.5)})]
    figure = compare(items, [], draws=50)[FACELINE]["ap"].interval
    assert figure.value == 1
    assert figure.draws == 0 and np.isnan(figure.low)


def test_false_alarms_on_controls_at_half_of_the_events() -> None:
    # Half of the events are found from score 9 down; two reports of the control reach that, in 0.1 h.
    control = reports([], {10: 9.5, 20: 9.0, 30: 8.5}, duration_s=360)
    items = [Item(unit, {FACELINE: Judged(reports(TWO, GOOD), 0.5)}) for unit in "ab"]
    quiet = [Item("c", {FACELINE: Judged(control, np.nan)})]
    assert compare(items, quiet, draws=20)[FACELINE]["control_fa"].interval.value == pytest.approx(20)
    never = [Item(unit, {FACELINE: Judged(reports(TWO, {50: 9}), 0.5)}) for unit in "ab"]
    assert np.isnan(compare(never, quiet, draws=20)[FACELINE]["control_fa"].interval.value)


def test_trials_are_one_by_chance_one_in_hindsight() -> None:
    good, bad = judged(reports(TWO, GOOD), reports(TWO, BAD))
    items = [
        Item("a", {FACELINE: good, ALL_TRIALS: bad}, {"p": good, "q": bad}),
        Item("b", {FACELINE: good, ALL_TRIALS: bad}, {"p": bad, "q": good}),
    ]
    found = compare(items, [], draws=20)
    assert list(found) == [FACELINE, ALL_TRIALS, RANDOM_TRIAL, BEST_TRIAL]
    assert found[RANDOM_TRIAL]["ap"].interval.value == pytest.approx((1 + 0.25) / 2)
    assert found[BEST_TRIAL]["ap"].interval.value == 1
    assert differences(found)[RANDOM_TRIAL]["ap"].value == pytest.approx(0.375)


def test_methods_that_a_recording_lacks_are_not_compared() -> None:
    good = Judged(reports(TWO, GOOD), 0.5)
    items = [Item("a", {FACELINE: good, "x": good}), Item("b", {FACELINE: good})]
    assert list(compare(items, [], draws=5)) == [FACELINE]


def test_reported_events_have_intervals_over_persons() -> None:
    items = [("a", reports(TWO, GOOD)), ("b", reports(TWO, BAD))]
    figure = reported_figures(items, metrics.event_recall, draws=100)
    assert figure.interval.value == 0.75
    assert set(figure.draws.tolist()) == {0.5, 0.75, 1.0}
    assert reported_figures(items[:1], metrics.event_recall).interval.draws == 0
