"""When a schedule is due, in which zone, and what is no schedule."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from faceline.errors import UsageError
from faceline.stages import STAGES
from flows.config import load_config
from flows.timetable import check_cron, next_times, own_zone, times_between


def texts(times: list[datetime]) -> list[str]:
    return [time.isoformat() for time in times]


@pytest.mark.parametrize(
    ("cron", "zone", "after", "expected"),
    [
        # Two o'clock does not exist on the day of the change to summer time: it comes an hour early, and once.
        (
            "0 2 * * *",
            "Europe/Berlin",
            datetime(2026, 3, 27, 12, tzinfo=UTC),
            ["2026-03-28T02:00:00+01:00", "2026-03-29T01:00:00+01:00", "2026-03-30T02:00:00+02:00"],
        ),
        # On the day of the change back half past two comes twice; it is due the first time.
        (
            "30 2 * * *",
            "Europe/Berlin",
            datetime(2026, 10, 24, 12, tzinfo=UTC),
            ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"],
        ),
        (
            "0 2 * * *",
            "America/New_York",
            datetime(2026, 6, 1, 6, tzinfo=UTC),
            ["2026-06-02T02:00:00-04:00", "2026-06-03T02:00:00-04:00"],
        ),
        # The moment itself is not after the moment.
        ("0 2 * * 0", "UTC", datetime(2026, 11, 22, 2, tzinfo=UTC), ["2026-11-29T02:00:00+00:00"]),
        ("0 2,14 * * *", "UTC", datetime(2026, 11, 22, 2, tzinfo=UTC), ["2026-11-22T14:00:00+00:00"]),
    ],
)
def test_the_next_times(cron: str, zone: str, after: datetime, expected: list[str]) -> None:
    assert texts(next_times(cron, zone, after, len(expected))) == expected


def test_the_times_between_two_moments() -> None:
    since, until = datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 3, 30, 23, 59, tzinfo=UTC)
    assert texts(times_between("0 2 * * *", "Europe/Berlin", since, until)) == [
        "2026-03-29T01:00:00+01:00",
        "2026-03-30T02:00:00+02:00",
    ]
    at_once = datetime(2026, 3, 30, 0, 0, tzinfo=UTC)
    assert len(times_between("0 2 * * *", "Europe/Berlin", since, at_once)) == 2, "now counts"
    assert times_between("0 2 * * *", "Europe/Berlin", until, since) == []
    assert len(times_between("* * * * *", "UTC", datetime(2020, 1, 1, tzinfo=UTC), until)) == 999


@pytest.mark.parametrize(
    "text", ["", "0 25 * * *", "at two", "0 2 * *", "R 2 * * *", "0 2 * * * 30", "0 2 * * * 30 2027", "61 * * * *"]
)
def test_what_is_no_cron_expression(text: str) -> None:
    with pytest.raises(ValueError, match="must "):
        check_cron(text)


@pytest.mark.parametrize("text", ["0 2 * * *", "*/5 0-6 * * mon-fri", "0 2,14 1 */2 *", "@daily"])
def test_what_is_one(text: str) -> None:
    check_cron(text)


def test_wrong_times_are_refused_in_one_line() -> None:
    with pytest.raises(UsageError, match=r"schedule.cron=0 25 .*: must be a cron .*schedule.timezone=Europe/Berln: "):
        load_config(["schedule.cron=0 25 * * *", "schedule.timezone=Europe/Berln"], STAGES)
    config = load_config(["schedule.cron=0 2,14 * * *", "schedule=weekly"], STAGES)
    assert config.schedule.cron == "0 2,14 * * *", "taken literally, and after the group"
    assert load_config(["schedule=by_hand"], STAGES).schedule.cron is None
    assert load_config(["schedule.cron=null"], STAGES).schedule.cron is None


def test_a_machine_has_a_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", ":Asia/Tokyo")
    assert own_zone() == "Asia/Tokyo"
    monkeypatch.setenv("TZ", "nowhere")
    assert own_zone()
