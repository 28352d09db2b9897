"""Whether a run over an archive was missed, so that one has to catch up. Decided from the journals alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from faceline.nightly.nights import Night
from faceline.nightly.words import counted, instant, when_words

CATCHING_UP = "catching up"
SCHEDULED = "schedule"
BY_HAND = "by hand"

Times = Callable[[datetime, datetime], Sequence[datetime]]
"""The times of a schedule after one moment and not after another."""


def catching_up(
    before: Night | None,
    cut_off: Sequence[Night],
    serving_since: datetime | None,
    times: Times,
    now: datetime,
) -> str:
    """Why a run has to catch up, in words; empty where nothing was missed. However much was missed, one run does it.

    A run counts from when it began: what came after that it may not have seen.

    Args:
        before: the last run that looked at all there was; None if there was none.
        cut_off: the runs since then, none of which did, oldest first.
        serving_since: when the archive began to be run by a schedule; None for just now.
        times: the schedule; called with the moment since when something may have been missed, and ``now``.
        now: the time.
    """
    unfinished = next((night for night in reversed(cut_off) if _was_scheduled(night)), None)
    since = None if before is None else _moment(before.begin.get("began"))
    words = "" if since is None else f" since the whole run of {when_words(since.isoformat())}"
    if since is None:
        # Nothing is known to be whole. A run by hand that was cut short is that hand's business.
        since = serving_since
        words = "" if since is None else f" since the schedule began ({when_words(since.isoformat())})"
    missed = 0 if since is None else len(times(since, now))
    if unfinished is not None:
        began = when_words(unfinished.begin.get("began"))
        return f"{CATCHING_UP}: the run of {began} did not come to its end" + _besides(missed)
    return f"{CATCHING_UP}: {counted(missed, 'scheduled run')} missed{words}" if missed else ""


def _besides(missed: int) -> str:
    # The unfinished run is one of them.
    return f", {counted(missed - 1, 'more scheduled run')} missed" if missed > 1 else ""


def _was_scheduled(night: Night) -> bool:
    reason = str(night.begin.get("reason", ""))
    return reason.startswith((SCHEDULED, CATCHING_UP))


def _moment(text: object) -> datetime | None:
    moment = instant(text)
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
