"""One night in a handful of figures, for comparing it with those before."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from faceline.nightly.delta import counts_for_nothing
from faceline.nightly.nights import FAILED, INTERRUPTED, Night, State, night_names, order_of, read_night

log = logging.getLogger(__name__)

NightState = Literal["done", "done with files set aside", "failed", "interrupted", "cut off"]

HISTORY = 30
"""Nights that a page looks back on."""


@dataclass(frozen=True)
class Figures:
    """What one run came to.

    Attributes:
        name: of its journal.
        began: when, as ISO 8601.
        state: see `state_of`.
        files: files that it met, without those that were gone.
        worked_on: files that were analysed.
        set_aside: files that cannot be analysed, or could not be this time.
        new, changed, vanished: events by what this run alone made of them; those that something beside expression
            explains do not count.
        seconds: wall time; None where it is not known.
    """

    name: str
    began: str
    state: NightState
    files: int
    worked_on: int
    set_aside: int
    new: int
    changed: int
    vanished: int
    seconds: float | None


def state_of(night: Night) -> NightState:
    """What is to be said of a run first.

    ``failed``: it could not go on, or not one file came to anything; ``interrupted``: it was told to stop; ``cut off``:
    its journal has no end; ``done with files set aside``: at least one file cannot be analysed, or could not be.
    """
    if night.end is None:
        return "cut off"
    if not night.whole:
        return "failed" if night.end.get("state") == FAILED else INTERRUPTED
    states = Counter(entry.state for entry in night.entries.values())
    if not set_aside(states):
        return "done"
    return "done with files set aside" if states["done"] or states["unchanged"] else "failed"


def set_aside(states: Mapping[State, int]) -> int:
    """How many of these files came to nothing."""
    return states.get("quarantined", 0) + states.get("failed", 0)


def seconds_of(night: Night) -> float | None:
    """Wall time of a run, if it says so."""
    seconds = (night.end or {}).get("seconds")
    return float(seconds) if isinstance(seconds, int | float) and seconds >= 0 else None


def figures_of(night: Night) -> Figures:
    """A run in figures."""
    states = Counter(entry.state for entry in night.entries.values())
    kinds = Counter(d.kind for delta in night.deltas for d in delta.differences if not counts_for_nothing(d))
    return Figures(
        night.name,
        str(night.begin.get("began") or ""),
        state_of(night),
        states.total() - states["gone"],
        states["done"],
        set_aside(states),
        kinds["new"],
        kinds["changed"],
        kinds["vanished"],
        seconds_of(night),
    )


def past_figures(folder: Path, until: str, most: int = HISTORY - 1) -> tuple[Figures, ...]:
    """The runs before ``until`` (the name of a journal), oldest first.

    Args:
        folder: of the archive's journals.
        until: name of the run to look back from, which is not among them.
        most: how many to read at most.
    """
    earlier = [name for name in night_names(folder) if order_of(name) < order_of(until)]
    found = []
    for name in earlier[-most:] if most > 0 else []:
        try:
            found.append(figures_of(read_night(folder, name)))
        except OSError as error:
            log.warning("the journal %s cannot be read and is left out of the history: %s", name, error)
    return tuple(found)
