"""Whether a run over an archive was missed, so that one has to catch up. Decided from the journals alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from faceline.nightly.nights import INTERRUPTED, Night
from faceline.nightly.words import counted, instant, when_words

CATCHING_UP = "catching up"
SCHEDULED = "schedule"
BY_HAND = "by hand"

TRY_AGAIN = timedelta(days=1)
"""Between two runs that catch up by themselves."""

PAUSE = timedelta(hours=1)
"""Between the end of a run and one that catches up by itself."""

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

    A run that looked at all there was counts up to its end: a time at which it was under way is dropped, not missed.

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
    ended = None if before is None else _ended(before)
    # A clock that was ahead hides nothing.
    if since is not None and ended is not None and since < ended <= now:
        since = ended
    if since is None:
        # Nothing is known to be whole. A run by hand that was cut short is that hand's business.
        since = serving_since
        words = "" if since is None else f" since the schedule began ({when_words(since.isoformat())})"
    missed = 0 if since is None else len(times(since, now))
    if unfinished is not None:
        began = when_words(unfinished.begin.get("began"))
        return f"{CATCHING_UP}: the run of {began} did not come to its end" + _besides(missed)
    return f"{CATCHING_UP}: {counted(missed, 'scheduled run')} missed{words}" if missed else ""


def may_try_again(
    cut_off: Sequence[Night], tried_at: datetime | None, now: datetime, before: Night | None = None
) -> bool:
    """Whether a run may catch up by itself while the schedule is served: at most once a day, and not at once.

    What ended a run a moment ago, such as a store that went away, would end the next one, too.

    Args:
        cut_off: the runs since the last whole one, oldest first.
        tried_at: when a run last began to catch up; None where none did since the archive is served.
        now: the time.
        before: the last whole run; None if there was none.
    """
    last = next((night for night in reversed(cut_off) if _was_scheduled(night)), None)
    if last is not None and last.end is not None and last.end.get("state") == INTERRUPTED:
        # Somebody ended it while the schedule went on.
        return False
    tries = [tried_at]
    tries += [_moment(n.begin.get("began")) for n in cut_off if str(n.begin.get("reason", "")).startswith(CATCHING_UP)]
    ends = [_ended(night) for night in (*cut_off, *([] if before is None else [before]))]
    # On both sides: a clock that was set back hides nothing for long.
    return not any(
        moment is not None and abs(now - moment) < span
        for moments, span in ((tries, TRY_AGAIN), (ends, PAUSE))
        for moment in moments
    )


def _besides(missed: int) -> str:
    # The unfinished run is one of them.
    return f", {counted(missed - 1, 'more scheduled run')} missed" if missed > 1 else ""


def _was_scheduled(night: Night) -> bool:
    reason = str(night.begin.get("reason", ""))
    return reason.startswith((SCHEDULED, CATCHING_UP))


def _ended(night: Night) -> datetime | None:
    """When a run ended; when it began where its journal does not say."""
    return _moment((night.end or {}).get("ended") or night.begin.get("began"))


def _moment(text: object) -> datetime | None:
    moment = instant(text)
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
