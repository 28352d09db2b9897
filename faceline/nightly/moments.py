"""Events of one footage in two analyses: which are new, which changed, which vanished.

Persons are numbered anew by every analysis that finds other faces, so an event is recognised by its person and time,
and where that fails by its time alone.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

SAME_WITHIN_S = 0.2
"""Peaks of one person this near each other are one event: the time by which detection alone may shift a peak."""

Kind = Literal["new", "changed", "vanished"]

_SIDES = ("before", "after")
_HAS = {"new": (False, True), "changed": (True, True), "vanished": (True, False)}


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
        try:
            before, after = (None if body[side] is None else Moment.from_plain(body[side]) for side in _SIDES)
            kind: Kind = body["kind"]
        except (KeyError, TypeError) as error:
            raise ValueError(f"a difference is not whole: {error}") from error
        if (before is not None, after is not None) != _HAS.get(kind):
            raise ValueError(f"a difference is not whole: {kind!r} without its event")
        return cls(kind, before, after)


def compare(before: Sequence[Moment], after: Sequence[Moment]) -> list[Difference]:
    """Events that are new, changed or vanished, in order of time; those that are the same are left out.

    Each event is matched with at most one: with one that is the same in all, failing that the same person before the
    same time, the nearest first. The order in which events are given does not matter, and what is new one way has
    vanished the other way.
    """
    # Those that are the same, first: two events of one instant must not be taken for each other.
    same = Counter(before) & Counter(after)
    old, new = _without(before, same), _without(after, same)
    matched: dict[int, int] = {}
    taken: set[int] = set()
    for _, i, j in sorted(_pairs(old, new)):
        if i not in matched and j not in taken:
            matched[i] = j
            taken.add(j)
    found = [Difference("vanished", a, None) for i, a in enumerate(old) if i not in matched]
    found += [Difference("new", None, b) for j, b in enumerate(new) if j not in taken]
    found += [Difference("changed", old[i], new[j]) for i, j in matched.items()]
    return sorted(found, key=_when)


def _without(moments: Sequence[Moment], some: Counter[Moment]) -> list[Moment]:
    left = Counter(moments)
    left.subtract(some)
    return sorted(left.elements(), key=_order)


def _pairs(old: Sequence[Moment], new: Sequence[Moment]) -> Iterator[tuple[tuple[Any, ...], int, int]]:
    """(how ill they fit, i, j) of all that may be one event; both in order of time."""
    # Whole milliseconds: 8.4 - 8.2 is more than 0.2.
    peaks_ms = [_ms(moment) for moment in new]
    within_ms = round(SAME_WITHIN_S * 1000)
    for i, a in enumerate(old):
        at_ms = _ms(a)
        for j in range(bisect_left(peaks_ms, at_ms - within_ms), bisect_right(peaks_ms, at_ms + within_ms)):
            b = new[j]
            fit = (a.person != b.person, abs(at_ms - peaks_ms[j]), *sorted((_order(a), _order(b))))
            yield fit, i, j


def _ms(moment: Moment) -> int:
    return round(moment.peak_s * 1000)


def _order(moment: Moment) -> tuple[Any, ...]:
    # None has no order of its own.
    numbers = (moment.peak_s, moment.person, moment.start_s, moment.end_s, moment.score, moment.p_value)
    return (*((value is None, value or 0) for value in numbers), moment.what, moment.explained)


def _when(difference: Difference) -> tuple[Any, ...]:
    moment = difference.after or difference.before
    assert moment is not None
    return moment.peak_s, difference.kind, _order(moment)


def moments_of(events: Iterable[Mapping[str, Any]]) -> tuple[Moment, ...]:
    """All events of an analysis."""
    return tuple(Moment.of(event) for event in events)


def _rounded(value: Any, digits: int) -> float | None:
    return None if value is None or not abs(float(value)) < 1e300 else round(float(value), digits)
