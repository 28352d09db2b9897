"""What faceline's own events say: causes, drivers, their number where there should be none."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from benchmarks.anomalies import reported
from benchmarks.anomalies.recordings import Moment
from benchmarks.anomalies.reported import (
    ALONE,
    CALIBRATION,
    CAUSES,
    MOVED,
    ConfoundCount,
    DriverCount,
    Nominal,
    ReportedEvent,
    calibrated,
    count_confounds,
    count_drivers,
    found_events,
    hits_of,
    judged_s,
    natural_moments,
    poisson_interval,
    poisson_range,
    standing,
)
from faceline.anomaly import confounds as named
from faceline.anomaly.gridsearch import DRIVERS_SCHEMA, EVENTS_SCHEMA, VERDICTS_SCHEMA
from faceline.blendshapes import BLENDSHAPES, DEAD_BLENDSHAPES
from faceline.made.motion import ACTIONS
from faceline.made.script import BurstKind, ConfoundKind
from faceline.measures import MEASURES


def event(
    peak_s: float, rank: int = 1, flags: str = "", drivers: tuple[str, ...] = (), explained: bool = False
) -> ReportedEvent:
    return ReportedEvent(rank, peak_s - 0.2, peak_s, peak_s + 0.2, 5.0, 0.01, flags, explained, drivers)


class Artifacts:
    """What the grid search left, as an analysis gives it."""

    def __init__(self, **tables: pa.Table) -> None:
        self.tables = tables

    def table(self, stage: str, payload: str) -> pa.Table:
        assert stage == "gridsearch"
        return self.tables[payload]


def test_events_are_read_with_their_drivers_and_whether_they_stand() -> None:
    row = {"start_s": 1.0, "peak_s": 1.5, "end_s": 2.0, "score": 7.0, "p_value": 0.01}
    rows = [
        row | {"event": 2, "rank": 2, "flags": "head turned, light changed", "explained": True},
        row | {"event": 1, "rank": 1, "flags": "", "explained": False, "p_value": None},
    ]
    drivers = [
        {"event": 1, "column": "jaw_drop", "order": 2},
        {"event": 1, "column": "surprise", "order": 1},
        {"event": 2, "column": "gaze_up", "order": 1},
    ]
    verdicts = [
        {"person": 1, "judged_s": 50.0, "threshold": 4.0},
        {"person": 2, "judged_s": 9.0, "threshold": None},  # nothing could be reported
        {"person": 3, "judged_s": 5.0, "threshold": 3.5},
    ]
    left = Artifacts(
        events=pa.Table.from_pylist(rows, EVENTS_SCHEMA),
        drivers=pa.Table.from_pylist(drivers, DRIVERS_SCHEMA),
        verdicts=pa.Table.from_pylist(verdicts, VERDICTS_SCHEMA),
    )
    first, second = found_events(left)  # type: ignore[arg-type]
    assert (first.rank, first.drivers, first.explained) == (1, ("surprise", "jaw_drop"), False)
    assert (second.flags, second.drivers, second.explained) == ("head turned, light changed", ("gaze_up",), True)
    assert np.isnan(first.p_value)
    assert standing([first, second]) == [first]
    assert judged_s(left) == 55  # type: ignore[arg-type]


def test_every_kind_has_its_mapping() -> None:
    assert set(CAUSES) == set(get_args(ConfoundKind))
    assert set(MOVED) == set(get_args(BurstKind)) - {"freeze"}
    alive = set(BLENDSHAPES) - DEAD_BLENDSHAPES
    assert set().union(*MOVED.values()) <= {measure.name for measure in MEASURES} | alive
    assert all(columns & alive for columns in MOVED.values())


def test_sides_of_the_picture_are_the_other_sides_of_the_face() -> None:
    channels = ACTIONS["one_sided"]
    assert "corner_up_left" in channels and "brow_outer_up_right" in channels
    assert {"corner_lift_right", "brow_outer_left"} <= MOVED["one_sided"]
    assert {"mouth_smile_right", "brow_outer_up_left"} <= MOVED["one_sided"]
    assert not {"corner_lift_left", "brow_outer_right", "mouth_smile_left", "brow_outer_up_right"} & MOVED["one_sided"]


def test_events_near_a_confound_name_its_cause_or_not() -> None:
    shown = [Moment(10, 13, "turn"), Moment(30, 33, "turn")]
    events = [
        event(11, flags="head turned, light changed", explained=True),
        event(13.6, flags="light changed"),  # begins 0.4 s behind it
        event(31),
        event(13.8, flags="head turned"),  # 0.6 s: too late
        event(50, flags="face comes or goes", explained=True),
    ]
    count = count_confounds(events, shown)
    assert count == ConfoundCount(recordings=1, shown=2, near=3, explained=1, flagged=2, right=1, taken=2, elsewhere=1)
    assert count.share_right == 0.5
    assert (count + count).near == 6
    assert np.isnan(count_confounds([], shown).share_right)


def test_an_event_that_reaches_over_a_confound_is_near_it() -> None:
    whole = ReportedEvent(1, 5.0, 5.2, 15.0, 5.0, 0.01, "", False, ())
    assert count_confounds([whole], [Moment(10, 11, "blur")]).taken == 1


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("light", "light changed"), ("light", "contrast changed"), ("turn", "head turned"), ("blur", "picture blurred"),
        ("occlusion", "face partly covered"), ("zoom", "face size changed"), ("cut", "cut nearby"),
        ("leave", "face comes or goes"),
    ],
)  # fmt: skip
def test_causes_are_named_by_todays_words(kind: str, words: str) -> None:
    every = {*(cause.words for cause in named.CAUSES.values()), named.COVERED, named.CUT, named.EDGE}
    assert words in every
    assert count_confounds([event(1, flags=words)], [Moment(0, 2, kind)]).right == 1
    others = ", ".join(sorted(every - set(CAUSES[kind])))
    assert count_confounds([event(1, flags=others)], [Moment(0, 2, kind)]).right == 0


def test_drivers_of_found_bursts() -> None:
    bursts = [Moment(10, 11, "smile"), Moment(20, 21, "smile"), Moment(30, 31, "freeze"), Moment(40, 41, "eyes_shut")]
    events = [
        event(10.5, rank=2, drivers=("happy", "mouth_width", "gaze_up")),
        event(11.2, rank=1, drivers=("happy", "neutral", "mouth_width")),  # the better event counts: third is too late
        event(40.9, rank=3, drivers=("eye_opening_left",)),
        event(30.5, rank=4, drivers=("gaze_up",)),
    ]
    assert hits_of(events, bursts) == [1, -1, 3, 2]
    counts = count_drivers(events, bursts)
    assert counts == {"smile": DriverCount(2, 1, 0), "eyes_shut": DriverCount(1, 1, 1)}
    assert count_drivers(events[:1], bursts)["smile"] == DriverCount(2, 1, 1)
    assert np.isnan(DriverCount(3, 0, 0).share_right)
    # What another cause explains is no reported event.
    assert count_drivers([event(10.5, explained=True)], bursts)["smile"] == DriverCount(2, 0, 0)


def test_natural_moments_have_a_rank_or_are_missed() -> None:
    moments = (Moment(0.8, 2.2, "smile"), Moment(5, 6, "frown"))
    found = natural_moments("x", moments, [event(9.0, rank=1), event(2.6, rank=2)], np.array([9.0, 5.5, 2.6]))
    assert [(m.rank, m.peak_rank) for m in found] == [(2, 3), (None, 2)]
    assert natural_moments("x", moments, [], np.zeros(0))[0].peak_rank is None
    assert natural_moments("x", moments, [event(1.0, explained=True)], np.zeros(0))[0].rank is None


def test_an_event_finds_one_of_two_moments_beside_each_other() -> None:
    pair = (Moment(1.0, 2.0, "smile"), Moment(2.4, 3.4, "wink"))
    # It lies in the second, and no further from the first than the tolerance.
    found = natural_moments("x", pair, [event(2.45, rank=3)], np.array([9.0, 2.45]))
    assert [(m.rank, m.peak_rank) for m in found] == [(None, None), (3, 2)]
    # One between them is taken for the nearer.
    found = natural_moments("x", pair, [event(2.1, rank=3)], np.array([2.1]))
    assert [(m.rank, m.peak_rank) for m in found] == [(3, 1), (None, None)]
    # Two events find both, even where the better one has to stand for the moment it is further from.
    found = natural_moments("x", pair, [event(2.1, rank=1), event(1.5, rank=2)], np.array([2.1, 8.0, 1.5]))
    assert [(m.rank, m.peak_rank) for m in found] == [(2, 3), (1, 1)]
    assert hits_of([event(1.5, rank=2), event(2.1, rank=1)], pair) == [0, 1]
    # The same holds for drivers: one event is no proof of two bursts.
    assert sum(c.found for c in count_drivers([event(2.2, drivers=("mouth_width",))], (pair[0], pair[0])).values()) == 1


def test_expected_numbers_of_events() -> None:
    assert Nominal("x", 2.0).expected([1800, 900]) == pytest.approx(1.5)


def test_rates_are_tried_on_the_null_distribution_alone_and_as_reported() -> None:
    assert [(n.block, n.per_hour) for n in CALIBRATION] == [
        (block, rate) for block in ("null distribution alone", "as reported") for rate in (3, 6, 12)
    ]
    assert len({n.name for n in CALIBRATION}) == 6
    assert all("gridsearch.events.false_per_person=1e-6" in n.overrides for n in CALIBRATION)
    assert all(set(ALONE) <= set(n.overrides) for n in CALIBRATION[:3])
    assert not any(set(ALONE) & set(n.overrides) for n in CALIBRATION[3:])


@pytest.mark.parametrize("mean", [0.05, 0.7, 3.0, 12.5])
def test_range_of_a_poisson_count(mean: float) -> None:
    low, high = poisson_range(mean)
    distribution = stats.poisson(mean)
    assert distribution.sf(high) <= 0.025 < distribution.sf(high - 1)
    assert distribution.cdf(low - 1) <= 0.025 < distribution.cdf(low)


def test_exact_interval_of_a_poisson_count() -> None:
    # Garwood's table.
    for count, low, high in ((0, 0.0, 3.689), (1, 0.0253, 5.572), (10, 4.795, 18.390)):
        assert poisson_interval(count) == pytest.approx((low, high), abs=1e-3)
    low, high = poisson_interval(4)
    assert stats.poisson(low).sf(3) == pytest.approx(0.025)
    assert stats.poisson(high).cdf(4) == pytest.approx(0.025)


def test_calibration_counts_recordings_and_events() -> None:
    one = calibrated(Nominal("a", 6.0), [("x", 0, 300.0), ("x", 3, 100.0), ("y", 1, 100.0), ("y", 0, 40.0)])
    assert (one.recordings, one.units, one.footages, one.events, one.judged_s) == (4, 2, 2, 4, 540)
    assert one.expected == pytest.approx(0.9)
    assert poisson_range(one.expected) == (0, 3)
    assert not one.holds
    assert one.interval == poisson_interval(4)
    assert calibrated(Nominal("a", 6.0), [("x", 0, 440.0), ("y", 3, 100.0)]).holds


def test_calibration_draws_persons_with_all_of_their_recordings() -> None:
    one = calibrated(Nominal("a", 6.0), [("x", 0, 1800.0), ("x", 3, 1800.0), ("y", 9, 3600.0)], draws=300)
    assert one.by_person is not None and one.by_person.draws == 300
    # 12 events in two hours; a draw is x twice, y twice, or both.
    assert (one.by_person.value, one.by_person.low, one.by_person.high) == pytest.approx((6, 3, 9))
    assert calibrated(Nominal("a", 6.0), [("x", 0, 300.0), ("x", 3, 100.0)]).by_person is None
    # Events that all come of one person: as many a Poisson count would not give over persons.
    clustered = calibrated(Nominal("a", 6.0), [(unit, 12 * (unit == "a"), 1200.0) for unit in "abcdef"])
    assert clustered.by_person is not None
    assert clustered.by_person.high > 1.3 * clustered.interval[1] / 2  # both per hour: two hours are judged
    nothing = calibrated(Nominal("a", 6.0), [("x", 0, 0.0), ("y", 1, 360.0)]).by_person
    assert nothing is not None and nothing.draws < 1000 and nothing.high == 10


def test_reports_keep_time_and_score() -> None:
    from benchmarks.anomalies.recordings import Truth

    events = [event(3.0), event(6.0, explained=True), event(9.0)]
    found = reported.as_reports(events, Truth((Moment(2, 4, "smile", "strong"),), ()), 60.0)
    assert found.peak_s.tolist() == [3, 9] and found.true_s.tolist() == [[2, 4]]
    assert len(reported.as_reports([], Truth((), ()), 60.0).peak_s) == 0
