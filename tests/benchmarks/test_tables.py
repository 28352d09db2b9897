"""How figures are printed, and what JSON holds of them."""

from __future__ import annotations

import json

import numpy as np

from benchmarks.anomalies import tables
from benchmarks.anomalies.judging import Figure
from benchmarks.anomalies.metrics import Interval
from benchmarks.anomalies.recordings import Moment
from benchmarks.anomalies.reported import ConfoundCount, DriverCount, NaturalMoment, Nominal, calibrated
from benchmarks.anomalies.scale import Measured

NAN = float("nan")


def test_numbers_and_intervals() -> None:
    assert tables.number(0.125, 2) == "0.12" and tables.number(NAN) == "–"
    assert tables.interval(Interval(0.5, 0.25, 0.75, 9)) == "0.50 [0.25, 0.75]"
    assert tables.interval(Interval(0.5, NAN, NAN, 0)) == "0.50"
    assert tables.interval(Interval(0.5, -0.1, 0.75, 9), sign=True) == "+0.50 [-0.10, 0.75]"
    assert tables.interval(Interval(NAN, NAN, NAN, 0), sign=True) == "–"


def test_columns_line_up() -> None:
    assert tables.lines("Title", ["", "n"], [["long name", "1"], ["x", "100"]]).splitlines() == [
        "", "Title", "             n", "long name    1", "x          100",
    ]  # fmt: skip


def test_plain_values_are_json() -> None:
    figure = Figure(Interval(0.5, NAN, NAN, 0), np.zeros(3))
    plain = tables.plain({"a": figure, "b": [1, NAN, None, ("x", True)], 3: 0.123456789})
    assert json.loads(json.dumps(plain, allow_nan=False)) == {
        "a": [0.5, None, None],
        "b": [1, None, None, ["x", True]],
        "3": 0.12346,
    }


def test_tables_say_what_they_hold() -> None:
    row = tables.confounds_table({"turn": ConfoundCount(1, 3, 5, 2, 4, 2, 3, 6)}).splitlines()[-1]
    assert row.split() == ["turn", "3", "5", "2", "4", "2", "0.50", "3", "6"]
    assert tables.drivers_table({"smile": DriverCount(4, 2, 1)}).splitlines()[-1].split()[1:] == ["4", "2", "1", "0.50"]
    text = tables.calibration_table([("quiet", calibrated(Nominal("alone", 15.0), [("a", 3, 60.0), ("a", 1, 60.0)]))])
    assert "quiet: alone, 15/h" in text and "0–2" in text and text.endswith("no")
    assert "[1.1, 10.2]" in text and "independently" in text
    assert text.splitlines()[-1].split()[3:5] == ["2", "1"]  # recordings, persons
    two = tables.calibration_table([("quiet", calibrated(Nominal("alone", 15.0), [("a", 3, 60.0), ("b", 1, 60.0)]))])
    assert "120.0 [60.0, 180.0]" in two and "[60.0" not in text
    figure = Figure(Interval(0.5, 0.25, 0.75, 9), np.zeros(9))
    row = tables.reported_table([("all made", 7, 4, 30, figure, None)]).splitlines()[-1]
    assert row.split() == ["all", "made", "7", "4", "30", "0.50", "[0.25,", "0.75]", "–"]
    moments = [NaturalMoment("c", Moment(1, 2, "smile"), 3, 4), NaturalMoment("c", Moment(5, 6.5, "wink"), None, None)]
    text = tables.natural_table(moments)
    assert "1 of 2" in text and "missed" in text and "5–6.5" in text
    assert "power of 1.00" in tables.scale_table([Measured(10, 1.0, 0.0, 1, 2), Measured(100, 19.0, 1.0, 1, 2)])
