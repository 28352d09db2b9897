"""When a run has to catch up: golden cases of nights and times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from faceline.nightly.missed import catching_up, may_try_again
from faceline.nightly.nights import Night

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)


def at_two(after: datetime, until: datetime) -> list[datetime]:
    """Two o'clock of each day."""
    days = ((after + timedelta(days=day)).replace(hour=2, minute=0, second=0) for day in range(400))
    return [time for time in days if after < time <= until]


def run(day: int, hour: int = 2, *, state: str = "done", reason: str = "schedule", ended: bool = True) -> Night:
    began = datetime(2026, 11, day, hour, 0, 5, tzinfo=UTC)
    end: dict[str, Any] | None = {"state": state} if ended else None
    return Night(f"{day}", {"began": began.isoformat(timespec="seconds"), "reason": reason}, end=end)


def lasting(day: int, hour: int, hours: int, reason: str) -> Night:
    night = run(day, hour, reason=reason)
    until = datetime(2026, 11, day, hour, tzinfo=UTC) + timedelta(hours=hours)
    return Night(night.name, night.begin, end={"state": "done", "ended": until.isoformat()})


@pytest.mark.parametrize(
    ("before", "cut_off", "since", "expected"),
    [
        pytest.param(None, [], None, "", id="never ran, served for the first time"),
        pytest.param(None, [], NOW - timedelta(hours=2), "", id="never ran, nothing was due since it is served"),
        pytest.param(
            None,
            [],
            datetime(2026, 11, 22, 10, tzinfo=UTC),
            "1 scheduled run missed since the schedule began (Sun 22 Nov 2026, 10:00 UTC)",
            id="never ran, but was due since it is served",
        ),
        pytest.param(run(23), [], None, "", id="tonight's run was whole"),
        pytest.param(run(23, state="done with files set aside"), [], None, "", id="whole, files set aside"),
        pytest.param(
            run(22),
            [],
            None,
            "1 scheduled run missed since the whole run of Sun 22 Nov 2026, 02:00 UTC",
            id="one night",
        ),
        pytest.param(
            run(19), [], None, "4 scheduled runs missed since the whole run of Thu 19 Nov 2026, 02:00 UTC", id="several"
        ),
        pytest.param(run(23, 7, reason="by hand"), [], None, "", id="by hand after the time"),
        pytest.param(lasting(23, 1, 3, "by hand"), [], None, "", id="by hand, under way at the time"),
        pytest.param(
            lasting(22, 1, 48, "by hand"),
            [],
            None,
            "2 scheduled runs missed since the whole run of Sun 22 Nov 2026, 01:00 UTC",
            id="the clock was ahead at its end",
        ),
        pytest.param(
            run(22, 18, reason="by hand"),
            [],
            None,
            "1 scheduled run missed since the whole run of Sun 22 Nov 2026, 18:00 UTC",
            id="by hand before the time",
        ),
        pytest.param(
            run(22),
            [run(23, ended=False)],
            None,
            "the run of Mon 23 Nov 2026, 02:00 UTC did not come to its end",
            id="killed tonight",
        ),
        pytest.param(
            run(20),
            [run(23, state="interrupted")],
            None,
            "the run of Mon 23 Nov 2026, 02:00 UTC did not come to its end, 2 more scheduled runs missed",
            id="interrupted tonight after missed nights",
        ),
        pytest.param(
            None,
            [run(23, 7, reason="catching up: 1 scheduled run missed", state="failed")],
            None,
            "the run of Mon 23 Nov 2026, 07:00 UTC did not come to its end",
            id="the first run of all could not go on",
        ),
        pytest.param(
            run(23), [run(23, 7, reason="by hand", state="interrupted")], None, "", id="somebody stopped a run by hand"
        ),
    ],
)
def test_what_was_missed(before: Night | None, cut_off: list[Night], since: datetime | None, expected: str) -> None:
    found = catching_up(before, cut_off, since, at_two, NOW)
    assert found == (f"catching up: {expected}" if expected else "")


def test_a_journal_without_a_time_is_no_ground_to_run() -> None:
    times: Callable[[datetime, datetime], Sequence[datetime]] = pytest.fail  # type: ignore[assignment]
    assert catching_up(Night("x", {}, end={"state": "done"}), [], None, times, NOW) == ""


def ended(day: int, hour: int, reason: str = "schedule", state: str = "failed") -> Night:
    night = run(day, hour, reason=reason)
    return Night(night.name, night.begin, end={"state": state, "ended": night.begin["began"]})


@pytest.mark.parametrize(
    ("cut_off", "tried_at", "again"),
    [
        pytest.param([], None, True, id="nothing was tried"),
        pytest.param([run(23, 2, ended=False)], None, True, id="the night was killed hours ago"),
        pytest.param([ended(23, 7)], None, False, id="what ended it less than an hour ago may still be so"),
        pytest.param([ended(23, 2), ended(23, 4, "catching up: x")], None, False, id="tried again this morning"),
        pytest.param([ended(22, 2), ended(22, 4, "catching up: x"), ended(23, 2)], None, True, id="tried yesterday"),
        pytest.param([ended(23, 2)], NOW - timedelta(hours=23), False, id="tried less than a day ago, without a trace"),
        pytest.param([ended(23, 2)], NOW - timedelta(hours=24), True, id="tried a day ago"),
        pytest.param([ended(23, 2)], NOW + timedelta(days=300), True, id="tried while the clock was ahead"),
        pytest.param([ended(23, 2, state="interrupted")], None, False, id="somebody ended it"),
        pytest.param([ended(23, 2), ended(23, 5, "by hand", "interrupted")], None, True, id="a run by hand was ended"),
    ],
)
def test_when_a_run_catches_up_by_itself(cut_off: Sequence[Night], tried_at: datetime | None, again: bool) -> None:
    assert may_try_again(cut_off, tried_at, NOW) == again


def test_a_run_ends_an_hour_before_another_catches_up() -> None:
    assert not may_try_again([], None, NOW, lasting(23, 1, 7, "by hand")), "whole, and over just now"
    assert may_try_again([], None, NOW, lasting(23, 1, 6, "by hand"))
