"""Findings in words, to the letter."""

from __future__ import annotations

import math
from typing import Any

import pytest

from faceline.report.words import (
    departure_words,
    departures,
    driver_parts,
    driver_text,
    dropped_words,
    expected_words,
    p_words,
    score_lost_words,
    survival_words,
    unstable_words,
    unsupported_words,
    verdict_words,
)


def _driver(order: int, words: str | None, departure: float | None, lost: float | None) -> dict[str, Any]:
    return {"order": order, "column": "lip_pucker", "words": words, "departure": departure, "score_lost": lost}


def test_drivers_to_the_letter() -> None:
    drivers = [
        _driver(3, "fear", -3.14, -0.021),
        _driver(1, "mouth opening", 5.24, 0.62),
        _driver(2, "smile", 12.0, None),
        _driver(4, "left out", 1.0, 0.1),
    ]
    assert driver_text(driver_parts(drivers, "ignored +9.9", 3)) == (
        "mouth opening +5.2 (without it −62 %), smile ≥ +12, fear −3.1 (without it +2 %)"
    )


def test_an_event_without_drivers_keeps_its_own_words() -> None:
    assert driver_text(driver_parts([], "mouth opening +5.2, fear -3.1", 3)) == "mouth opening +5.2, fear −3.1"
    assert driver_parts([], None, 3) == []
    assert driver_text(driver_parts([_driver(1, None, None, None)], None, 3)) == "lip pucker"


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0.62, "without it −62 %"),
        (1.0, "without it −100 %"),
        (0.0, "without it ±0 %"),
        (0.004, "without it ±0 %"),
        (-0.1, "without it +10 %"),
        (None, ""),
        (math.nan, ""),
    ],
)
def test_what_is_left_without_a_measure(share: float | None, words: str) -> None:
    assert score_lost_words(share) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [(5.25, "+5.2"), (-0.04, "−0.0"), (-12.0, "≤ −12"), (11.96, "≥ +12"), (None, ""), (math.inf, "")],
)
def test_departures_of_drivers(value: float | None, words: str) -> None:
    assert departure_words(value) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0.0, "< 0.001"),
        (0.0004, "< 0.001"),
        (0.004, "0.004"),
        (0.08, "0.08"),
        (2.34, "2.3"),
        (None, "not known"),
        (math.nan, "not known"),
    ],
)
def test_expected_counts(count: float | None, words: str) -> None:
    assert expected_words(count) == words


def test_survival() -> None:
    assert survival_words(0.754) == "75 %"
    assert survival_words(0.0) == "0 %"
    assert survival_words(None) == survival_words(math.nan) == "not measured"


def _verdict(
    state: str, reported: int = 0, explained: int = 0, reason: str | None = None, judged_s: float = 90.0
) -> dict[str, Any]:
    return {"state": state, "reported": reported, "explained": explained, "reason": reason, "judged_s": judged_s}


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (_verdict("events", 1), "1 moment stands out from what is usual for this person."),
        (
            _verdict("events", 3, 2),
            "3 moments stand out from what is usual for this person. 2 further moments are explained by something"
            " beside expression, and not counted.",
        ),
        (
            _verdict("no anomaly", 0, 1),
            "No anomaly. No moment stands out from what is usual for this person in this footage. 1 further moment is"
            " explained by something beside expression, and not counted.",
        ),
        (
            _verdict("no anomaly", judged_s=6.94),
            "No anomaly. No moment stands out from what is usual for this person in this footage. Only 6.9 s were"
            " judged: in so little footage hardly any moment can be told from chance.",
        ),
        (
            _verdict("insufficient data", reason="12 s are too little"),
            "Insufficient data: 12 s are too little. Nothing was judged: that no moment is listed says nothing.",
        ),
    ],
)
def test_verdicts(verdict: dict[str, Any], words: str) -> None:
    assert verdict_words(verdict) == words


def test_peaks_without_support() -> None:
    assert unsupported_words(0) == unsupported_words(None) == ""
    assert unsupported_words(1).startswith("1 further peak of the score was over the threshold")


def test_peaks_that_are_hardly_found_again() -> None:
    assert unstable_words(0) == unstable_words(None) == ""
    assert unstable_words(2).startswith("2 further peaks were hardly found again")


def test_moments_beyond_the_listed_ones() -> None:
    assert dropped_words(0) == dropped_words(None) == ""
    assert dropped_words(1).startswith("1 less unusual moment is left out")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mouth opening +5.2, fear +3.1", [("mouth opening", "+5.2"), ("fear", "+3.1")]),
        ("smile -2.0", [("smile", "−2.0")]),
        ("smile", [("smile", "")]),
        ("eye 2 closure +4", [("eye 2 closure", "+4")]),
        ("", []),
        (None, []),
    ],
)
def test_departures(text: str | None, expected: list[tuple[str, str]]) -> None:
    assert [(part["what"], part["by"]) for part in departures(text)] == expected


@pytest.mark.parametrize(
    ("p_value", "words"),
    [
        (0.002, "p = 0.002"),
        (0.0001, "p < 0.001"),
        (0.0, "p < 0.001"),
        (None, "p not known"),
        (float("nan"), "p not known"),
    ],
)
def test_p_words(p_value: float | None, words: str) -> None:
    assert p_words(p_value) == words
