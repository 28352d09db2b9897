"""What faceline's own events say: causes, drivers, their number where there should be none."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from benchmarks.anomalies import reported
from benchmarks.anomalies.recordings import Moment
from benchmarks.anomalies.reported import (
    CAUSES,
    MOVED,
    ConfoundCount,
    DriverCount,
    Nominal,
    ReportedEvent,
    calibrated,
    columns_of,
    count_confounds,
    count_drivers,
    hits_of,
    natural_moments,
    poisson_interval,
    poisson_range,
    reported_events,
)
from faceline.made.motion import ACTIONS
from faceline.made.script import BurstKind, ConfoundKind
from faceline.measures import MEASURES


def event(peak_s: float, rank: int = 1, flags: str = "", drivers: tuple[str, ...] = ()) -> ReportedEvent:
    return ReportedEvent(rank, peak_s - 0.2, peak_s, peak_s + 0.2, 5.0, 0.01, flags, bool(flags), drivers)


class Artifacts:
    """What the grid search left, as an analysis gives it."""

    def __init__(self, **tables: pa.Table) -> None:
        self.tables = tables

    def payloads(self, stage: str) -> dict[str, pa.Table]:
        return self.tables

    def table(self, stage: str, payload: str) -> pa.Table:
        assert stage == "gridsearch"
        return self.tables[payload]


ROW = {"event": 1, "rank": 1, "start_s": 1.0, "peak_s": 1.5, "end_s": 2.0, "score": 7.0, "p_value": 0.01}


def test_events_are_read_with_and_without_later_columns() -> None:
    old = ROW | {"flags": "head turned", "top_features": "mouth opening +5.2, fear ≥ +30, left eye opening −1.1"}
    (found,) = reported_events(Artifacts(events=pa.Table.from_pylist([old])))  # type: ignore[arg-type]
    assert found.explained and found.flags == "head turned"
    assert found.drivers == ("mouth_opening", "fear", "eye_opening_left")
    new = old | {"explained": False}
    drivers = [
        {"event": 1, "column": "jaw_drop", "order": 2},
        {"event": 1, "column": "surprise", "order": 1},
        {"event": 2, "column": "gaze_up", "order": 1},
    ]
    (found,) = reported_events(
        Artifacts(events=pa.Table.from_pylist([new]), drivers=pa.Table.from_pylist(drivers))  # type: ignore[arg-type]
    )
    assert not found.explained
    assert found.drivers == ("surprise", "jaw_drop")


def test_words_of_drivers_become_their_columns() -> None:
    assert columns_of("") == ()
    for measure in MEASURES:
        assert columns_of(f"{measure.words} +3.4, happy -2.0") == (measure.name, "happy")
    assert columns_of("lip pucker ≤ -30") == ("lip_pucker",)


def test_every_kind_has_its_mapping() -> None:
    assert set(CAUSES) == set(get_args(ConfoundKind))
    assert set(MOVED) == set(get_args(BurstKind)) - {"freeze"}
    assert set().union(*MOVED.values()) <= {measure.name for measure in MEASURES}


def test_sides_of_the_picture_are_the_other_sides_of_the_face() -> None:
    channels = ACTIONS["one_sided"]
    assert "corner_up_left" in channels and "brow_outer_up_right" in channels
    assert {"corner_lift_right", "brow_outer_left"} <= MOVED["one_sided"]
    assert not {"corner_lift_left", "brow_outer_right"} & MOVED["one_sided"]


def test_events_near_a_confound_name_its_cause_or_not() -> None:
    shown = [Moment(10, 13, "turn"), Moment(30, 33, "turn")]
    events = [
        event(11, flags="head turned, light changed"),
        event(13.9, flags="light changed"),
        event(31),
        event(14.5, flags="head turned"),  # too late
        event(50),
    ]
    count = count_confounds(events, shown)
    assert count == ConfoundCount(
        recordings=1, shown=2, events=5, unexplained=2, near=3, near_unexplained=1, flagged=2, right=1
    )
    assert count.share_right == 0.5
    assert (count + count).events == 10
    # A word alone explains nothing where faceline says so itself.
    weighed = [replace(e, explained=False) for e in events]
    assert count_confounds(weighed, shown).near_unexplained == 3
    assert np.isnan(count_confounds([], shown).share_right)


@pytest.mark.parametrize(
    ("kind", "words"),
    [("light", "light changed"), ("turn", "head turned"), ("blur", "sharpness changed"), ("zoom", "face size changed")],
)
def test_causes_are_named_by_todays_words(kind: str, words: str) -> None:
    from faceline.anomaly.confounds import CONFOUNDS

    assert words in {named[0] for named in CONFOUNDS.values()}
    others = [named[0] for named in CONFOUNDS.values() if named[0] != words]
    assert count_confounds([event(1, flags=words)], [Moment(0, 2, kind)]).right == 1
    assert count_confounds([event(1, flags=", ".join(others))], [Moment(0, 2, kind)]).right == 0


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


def test_natural_moments_have_a_rank_or_are_missed() -> None:
    moments = (Moment(0.8, 2.2, "smile"), Moment(5, 6, "frown"))
    found = natural_moments("x", moments, [event(9.0, rank=1), event(2.6, rank=2)], np.array([9.0, 5.5, 2.6]))
    assert [(m.rank, m.peak_rank) for m in found] == [(2, 3), (None, 2)]
    assert natural_moments("x", moments, [], np.zeros(0))[0].peak_rank is None


def test_expected_numbers_of_events() -> None:
    assert Nominal("x", 0.1).expected([60, 600, 6]) == pytest.approx(3 * 0.1053605)
    assert Nominal("x", 2.0, "hour").expected([1800, 900]) == pytest.approx(1.5)


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
    one = calibrated(Nominal("a", 0.2), [0, 3, 1, 0], [60.0] * 4)
    assert (one.recordings, one.footages, one.events) == (4, 2, 4)
    assert one.expected == pytest.approx(4 * 0.2231436)
    assert poisson_range(one.expected) == (0, 3)
    assert not one.holds
    assert calibrated(Nominal("a", 0.2), [0, 2, 1, 0], [60.0] * 4).holds


def test_reports_keep_time_and_score() -> None:
    from benchmarks.anomalies.recordings import Truth

    found = reported.as_reports([event(3.0), event(9.0)], Truth((Moment(2, 4, "smile", "strong"),), ()), 60.0)
    assert found.peak_s.tolist() == [3, 9] and found.true_s.tolist() == [[2, 4]]
    assert len(reported.as_reports([], Truth((), ()), 60.0).peak_s) == 0
