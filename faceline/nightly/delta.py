"""What became of the events since the last whole run: the deltas of several journals made into one, and in rows.

A run that was cut off has analysed footage that the next one finds unchanged; what it found would be told by neither.
So the deltas of all runs since the last whole one are put together, footage by footage: what came and went again in
between is nothing, and what was told twice (a run that was killed between telling and remembering) counts once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from faceline.nightly.moments import Difference, Moment, compare
from faceline.nightly.nights import Cause, Delta, Night
from faceline.report.words import p_words
from faceline.timeline import timecode


@dataclass
class _Footage:
    deltas: list[Delta] = field(default_factory=list)

    def whole(self, file: str) -> Delta | None:
        if len(self.deltas) == 1:
            return Delta(file, *_facts(self.deltas), self.deltas[0].differences)
        # Dictionaries as sets that keep their order: no analysis has two events that are the same in all.
        before: dict[Moment, None] = {}
        after: dict[Moment, None] = {}
        for delta in self.deltas:
            for moment in (d.before for d in delta.differences if d.before is not None):
                # What an earlier one of these deltas brought has no "before" of its own.
                if moment in after:
                    del after[moment]
                else:
                    before[moment] = None
            after |= dict.fromkeys(d.after for d in delta.differences if d.after is not None)
        differences = tuple(compare(list(before), list(after)))
        return Delta(file, *_facts(self.deltas), differences) if differences else None


def _facts(deltas: Iterable[Delta]) -> tuple[tuple[Cause, ...], tuple[str, ...]]:
    causes = dict.fromkeys(cause for delta in deltas for cause in delta.causes or ("unknown",))
    return tuple(causes), tuple(dict.fromkeys(detail for delta in deltas for detail in delta.details))


def put_together(nights: Sequence[Night]) -> list[Delta]:
    """One delta per footage over several runs, oldest first; footage whose events are what they were is left out.

    A file that was moved in between goes by its last name.
    """
    found: dict[str, _Footage] = {}
    for night in nights:
        moved = {entry.moved_from: entry.file for entry in night.entries.values() if entry.moved_from}
        renamed: dict[str, _Footage] = {}
        for file, footage in found.items():
            renamed.setdefault(moved.get(file, file), _Footage()).deltas += footage.deltas
        found = renamed
        for delta in night.deltas:
            found.setdefault(delta.file, _Footage()).deltas.append(delta)
    wholes = [footage.whole(file) for file, footage in found.items()]
    return [delta for delta in wholes if delta is not None and delta.differences]


def counts_for_nothing(difference: Difference) -> bool:
    """Whether something beside expression explains the event, on both sides where there are two."""
    sides = [moment for moment in (difference.before, difference.after) if moment is not None]
    return all(moment.explained for moment in sides)


def change_words(before: Moment, after: Moment) -> tuple[str, ...]:
    """What differs between two states of one event, in phrases."""
    found = []
    if before.explained != after.explained:
        found.append("is now explained by something beside expression" if after.explained else "is no longer explained")
    if before.person != after.person:
        found.append(f"person {before.person} → {after.person}")
    for name in ("start", "peak", "end"):
        a, b = getattr(before, f"{name}_s"), getattr(after, f"{name}_s")
        if a != b:
            found.append(f"{name} {timecode(a)} → {timecode(b)}")
    if before.p_value != after.p_value:
        a, b = p_words(before.p_value), p_words(after.p_value)
        # Both below 0.001, or the same in three digits.
        found.append(f"{a} → {b}" if a != b else f"p = {before.p_value} → {after.p_value}")
    if before.score != after.score:
        found.append(f"score {_number(before.score)} → {_number(after.score)}")
    if before.what != after.what:
        found.append(f"what departed: {before.what or 'not stated'} → {after.what or 'not stated'}")
    return tuple(found)


def _number(value: float | None) -> str:
    return "not known" if value is None else f"{value:g}"
