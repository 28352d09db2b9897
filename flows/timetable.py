"""When a schedule is due: cron expressions and time zones, read and reckoned as Prefect does, so that both agree.

Checking a text costs milliseconds (Prefect's cron parser is loaded by itself, without Prefect); reckoning times imports
Prefect.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import ModuleType

MOST_TIMES = 1000
"""Times that are reckoned at most, as by Prefect."""


def check_cron(text: str) -> None:
    """Refuse what Prefect would not take for a cron expression.

    Raises:
        ValueError: why, in words.
    """
    if any(part.casefold() in ("r", "h") for part in text.split()) or not _croniter().croniter.is_valid(text):
        raise ValueError(
            "must be a cron expression: minute, hour, day of the month, month and day of the week, as in '0 2 * * *'"
        )
    if len(text.split()) not in (1, 5):
        # Prefect would take six parts, the last for seconds, and be late for most of them: it looks every few seconds.
        raise ValueError("must have five parts: minute, hour, day of the month, month and day of the week")


def check_zone(name: str) -> None:
    """Refuse a time zone that is not among those of the IANA.

    Raises:
        ValueError: why, in words.
    """
    from flows.arguments import did_you_mean

    known = _zones()
    if name not in known:
        raise ValueError(f"must be the name of a time zone, as in Europe/Berlin{did_you_mean(name, known)}")


@cache
def _zones() -> frozenset[str]:
    from zoneinfo import available_timezones

    return frozenset(available_timezones())


def own_zone() -> str:
    """The name of this machine's time zone; UTC where it has none that is known."""
    candidates = [os.environ.get("TZ", "").removeprefix(":")]
    for place in ("/etc/localtime", "/etc/timezone"):
        try:
            path = Path(place)
            text = path.read_text("ascii") if place.endswith("timezone") else str(path.resolve())
        except (OSError, ValueError):
            continue
        candidates.append(text.strip().rpartition("zoneinfo/")[2])
    return next((name for name in candidates if name in _zones()), "UTC")


def next_times(cron: str, zone: str, after: datetime, number: int = 1) -> list[datetime]:
    """The next times of a schedule that come after a moment, in the schedule's zone."""
    return [time for time in _times(cron, zone, after, number=number + 1) if time > after][:number]


def times_between(cron: str, zone: str, after: datetime, until: datetime) -> list[datetime]:
    """The times of a schedule after one moment and not after another; at most `MOST_TIMES`, the earliest of them."""
    if until <= after:
        return []
    return [time for time in _times(cron, zone, after, until=until) if after < time <= until]


def _times(
    cron: str, zone: str, after: datetime, *, number: int | None = None, until: datetime | None = None
) -> Sequence[datetime]:
    from prefect.server.schemas.schedules import CronSchedule

    # The generator behind `get_dates`, which is a coroutine only by its name.
    schedule = CronSchedule(cron=cron, timezone=zone)
    found = schedule._get_dates_generator(n=number, start=after.astimezone(UTC), end=until)
    return sorted(datetime.fromisoformat(time.isoformat()) for time in found)


@cache
def _croniter() -> ModuleType:
    spec = importlib.util.find_spec("prefect")
    assert spec is not None and spec.origin is not None
    place = Path(spec.origin).parent / "_vendor" / "croniter" / "croniter.py"
    parser = importlib.util.spec_from_file_location("flows._croniter", place)
    assert parser is not None and parser.loader is not None
    module = importlib.util.module_from_spec(parser)
    sys.modules[parser.name] = module
    parser.loader.exec_module(module)
    return module
