"""What an operator should know before anything else: signs that a night is not what it seems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from faceline.nightly.advice import MANY_TRIES
from faceline.nightly.nights import Night
from faceline.nightly.words import bytes_words, counted, when_words

_NIGHTS_LEFT = 7
"""Room for fewer nights like the last one is told of."""


def cautions_of(night: Night, before: Night | None, cut_off: Sequence[Night]) -> tuple[str, ...]:
    """Cautions about a run, in sentences, the gravest first."""
    return tuple(_cautions(night, before, cut_off))


def _cautions(night: Night, before: Night | None, cut_off: Sequence[Night]) -> Iterator[str]:
    states = Counter(entry.state for entry in night.entries.values())
    there = states.total() - states["gone"]
    known = 0 if before is None else sum(entry.state != "gone" for entry in before.entries.values())
    # A run that was stopped has not looked everywhere.
    if night.whole and known and not there:
        yield f"No file was found, where the run before knew {counted(known, 'file')}. Is the archive mounted?"
    elif night.whole and states["gone"] > max(there, 1):
        yield f"{counted(states['gone'], 'file')} are gone, more than are left. Is the whole archive mounted?"
    if cut_off:
        one = len(cut_off) == 1
        yield (
            f"{counted(len(cut_off), 'run')} before this one did not come to {'its' if one else 'their'} end"
            f" ({when_words(cut_off[-1].begin.get('began'))}{'' if one else ' was the last'})."
            f" What {'it' if one else 'they'} found is told here."
        )
    stubborn = sum(entry.state == "failed" and entry.tries >= MANY_TRIES for entry in night.entries.values())
    if stubborn:
        yield f"{counted(stubborn, 'file has', 'files have')} failed {MANY_TRIES} times or more in a row."
    if night.damaged:
        verb = "is" if night.damaged == 1 else "are"
        yield (
            f"{counted(night.damaged, 'line')} of this run's journal {verb} damaged: what they said is missing here."
            " Check the disk that holds it."
        )
    yield from _room(night.end or {}, (before.end or {}) if before is not None else {})


def _room(end: Mapping[str, Any], earlier: Mapping[str, Any]) -> Iterator[str]:
    now, then = end.get("disk") or {}, earlier.get("disk") or {}
    free = now.get("free")
    if not isinstance(free, int):
        return
    grown = sum(
        max(now[name] - then[name], 0)
        for name in ("store", "results")
        if isinstance(now.get(name), int) and isinstance(then.get(name), int)
    )
    if grown and free < grown * _NIGHTS_LEFT:
        nights = free // grown
        room = f"room for {counted(nights, 'more such run')}" if nights else "no room for another such run"
        yield f"{bytes_words(free)} are free: {room} ({bytes_words(grown)} were added since the run before)."
