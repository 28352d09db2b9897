"""Events of one footage in two analyses: which are new, which changed, which vanished.

Persons are numbered anew by every analysis that finds other faces, so an event is recognised by its person and time,
and where that fails by its time alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

SAME_WITHIN_S = 0.2
"""Peaks of one person this near each other are one event: the time by which detection alone may shift a peak."""

Kind = Literal["new", "changed", "vanished"]


@dataclass(frozen=True)
class Moment:
    """What is remembered of an event.

    Attributes:
        person: number of the person.
        start_s, peak_s, end_s: when, in seconds of presentation time.
        score: how unusual.
        p_value: how often chance alone does this; None where it could not be said.
        what: what departed, in words.
        explained: whether something beside expression explains it, so that it does not count.
    """

    person: int
    start_s: float
    peak_s: float
    end_s: float
    score: float | None
    p_value: float | None
    what: str = ""
    explained: bool = False

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> Moment:
        """From a row of the events, with ``drivers`` or ``top_features`` for the words."""
        return cls(
            int(event["person"]),
            round(float(event["start_s"]), 3),
            round(float(event["peak_s"]), 3),
            round(float(event["end_s"]), 3),
            _rounded(event["score"], 2),
            _rounded(event["p_value"], 4),
            str(event.get("drivers") or event.get("top_features") or ""),
            bool(event["explained"]),
        )

    @classmethod
    def from_plain(cls, body: Mapping[str, Any]) -> Moment:
        """Read back from JSON; `ValueError` where it is not whole."""
        try:
            return cls(**body)
        except TypeError as error:
            raise ValueError(f"an event is not whole: {error}") from error

    def to_plain(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Difference:
    """One event that is not what it was.

    Attributes:
        kind: ``new``, ``changed`` or ``vanished``.
        before: the event in the earlier analysis; None where it is new.
        after: the event in the later one; None where it vanished.
    """

    kind: Kind
    before: Moment | None
    after: Moment | None

    def to_plain(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_plain(cls, body: Mapping[str, Any]) -> Difference:
        """Read back from JSON; `ValueError` where it is not whole."""
        before, after = (None if body[side] is None else Moment.from_plain(body[side]) for side in ("before", "after"))
        return cls(body["kind"], before, after)


def compare(before: Sequence[Moment], after: Sequence[Moment]) -> list[Difference]:
    """Events that are new, changed or vanished, in order of time; those that are the same are left out.

    Each event is matched with at most one, the nearest pairs first; the same person goes before the same time.
    """
    pairs = sorted(
        (a.person != b.person, abs(a.peak_s - b.peak_s), i, j)
        for i, a in enumerate(before)
        for j, b in enumerate(after)
        if abs(a.peak_s - b.peak_s) <= SAME_WITHIN_S
    )
    matched: dict[int, int] = {}
    taken: set[int] = set()
    for _, _, i, j in pairs:
        if i not in matched and j not in taken:
            matched[i] = j
            taken.add(j)
    found = [Difference("vanished", a, None) for i, a in enumerate(before) if i not in matched]
    found += [Difference("new", None, b) for j, b in enumerate(after) if j not in taken]
    found += [Difference("changed", before[i], after[j]) for i, j in matched.items() if before[i] != after[j]]
    return sorted(found, key=_when)


def _when(difference: Difference) -> tuple[float, str]:
    moment = difference.after or difference.before
    assert moment is not None
    return moment.peak_s, difference.kind


def moments_of(events: Iterable[Mapping[str, Any]]) -> tuple[Moment, ...]:
    """All events of an analysis."""
    return tuple(Moment.of(event) for event in events)


def _rounded(value: Any, digits: int) -> float | None:
    return None if value is None or not abs(float(value)) < 1e300 else round(float(value), digits)
