"""How many of the true moments are among the events, and how many events are none."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from faceline.made.truth import TrueBurst, Truth

TOLERANCE_S = 0.5
"""A peak this far outside a burst still counts: measures are smoothed over a window of about that length."""


@dataclass(frozen=True)
class FoundEvent:
    """An event as the analysis reports it.

    Attributes:
        person: number of the person in the truth; None when the analysis' person is nobody of the truth.
        rank: 1 = most unusual, over all persons.
        peak_s: presentation time of the peak.
    """

    person: int | None
    rank: int
    peak_s: float


@dataclass(frozen=True)
class Outcome:
    """Events against truth.

    Attributes:
        bursts: the true moments, by time.
        ranks: for each of them the rank of the best event on it, or None when it was missed.
        false: events on no true moment, by rank.
        repeated: further events on moments that were found already, by rank; neither found nor false.
    """

    bursts: tuple[TrueBurst, ...]
    ranks: tuple[int | None, ...]
    false: tuple[FoundEvent, ...]
    repeated: tuple[FoundEvent, ...]

    @property
    def found(self) -> int:
        """Number of true moments that were found."""
        return sum(rank is not None for rank in self.ranks)

    @property
    def recall(self) -> float:
        """Share of the true moments that were found; 1 when there is none to find."""
        return self.found / len(self.bursts) if self.bursts else 1.0


def evaluate(events: Sequence[FoundEvent], truth: Truth, tolerance_s: float = TOLERANCE_S) -> Outcome:
    """Compare events with the truth of the footage they come from.

    An event hits a burst of the same person when its peak lies within the burst, widened by ``tolerance_s`` at both
    ends. Events are taken in the order of their ranks; one that could hit several bursts takes one that is not found
    yet, the nearest apex first.
    """
    bursts = tuple(sorted(truth.bursts, key=lambda burst: (burst.start_s, burst.person)))
    ranks: list[int | None] = [None] * len(bursts)
    false: list[FoundEvent] = []
    repeated: list[FoundEvent] = []
    for event in sorted(events, key=lambda event: (event.rank, event.peak_s)):
        hit = [
            k
            for k, burst in enumerate(bursts)
            if burst.person == event.person and burst.start_s - tolerance_s <= event.peak_s <= burst.end_s + tolerance_s
        ]
        new = [k for k in hit if ranks[k] is None]
        if new:
            ranks[min(new, key=lambda k: abs(bursts[k].apex_s - event.peak_s))] = event.rank
        elif hit:
            repeated.append(event)
        else:
            false.append(event)
    return Outcome(bursts, tuple(ranks), tuple(false), tuple(repeated))


def persons_by_place(centres_px: Mapping[int, tuple[float, float]], truth: Truth) -> dict[int, int]:
    """Which person of the truth each person of the analysis is: the one in whose tile its face mostly is.

    Args:
        centres_px: analysis' person → typical centre (x, y) of its face, pixels.
        truth: gives the tiles.

    Returns:
        Analysis' person → person of the truth; persons whose face lies in no tile are left out.
    """
    places: dict[int, int] = {}
    for person, (x, y) in centres_px.items():
        for true in truth.persons:
            left, top, width, height = true.box_px
            if left <= x < left + width and top <= y < top + height:
                places[person] = true.person
    return places


def read_results(folder: Path, truth: Truth) -> list[FoundEvent]:
    """The events of a results folder (``events.csv`` and the persons' tables), with the truth's person numbers.

    Those that something beside expression explains do not count, as in the report.
    """
    events = [row for row in _rows(folder / "events.csv") if row.get("explained") != "true"]
    centres: dict[int, tuple[float, float]] = {}
    for person in {int(row["person"]) for row in events}:
        faces = _rows(folder / f"anomaly_detection_results_person_{person}.csv")
        centres[person] = (
            statistics.median(float(face["x_px"]) + float(face["w_px"]) / 2 for face in faces),
            statistics.median(float(face["y_px"]) + float(face["h_px"]) / 2 for face in faces),
        )
    places = persons_by_place(centres, truth)
    return [
        FoundEvent(places.get(int(row["person"])), rank=int(row["rank"]), peak_s=float(row["peak_s"])) for row in events
    ]


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
