"""Collecting garbage: what of a store is kept and why, what can go, and letting it go.

Kept is what a latest key or a pin reaches (`faceline.reach`), what has been used since the oldest living run began
(`faceline.runs`), and what was used not long ago. Planning changes nothing. Each removal looks once more whether the
artifact has been used since it was planned (`Store.condemn`), so that runs may begin and end meanwhile; and since each
is one rename, a cleaner may be killed at any time.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from faceline import familiar
from faceline.errors import ArtifactError
from faceline.folders import Folder
from faceline.forgetting import forgotten
from faceline.latest import Pointer, pointer_groups, pointers
from faceline.leftovers import DAY_S, Ages, Leftover, leftovers, pointer_left, tidy
from faceline.pins import artifacts_of, read_pins, read_result, results_below
from faceline.reach import Entry, Reach, scan
from faceline.runs import RUNS, Run, cleaning, live_runs
from faceline.store import Store
from faceline.uses import Uses

log = logging.getLogger(__name__)

KEPT = ("current", "pinned", "results", "in use", "young", "foreign", "spared")
"""Why an artifact is kept: a place was last run with it; a pin holds it; named results were made of it; a living run
may be using it; it was used not long ago; another version of faceline wrote it; it could go, but the store is small
enough without."""

REMOVABLE = "removable"

CLOCK_S = 2.0
"""What was used so recently is young in any case: some file systems tell times to two seconds only, so that a further
use would not show."""

IDLE_S = 90 * DAY_S
"""A store that nothing has used for so long by the clock may lie idle, or the clock may be wrong, which would make
everything old. It is the longest of the ages that count by themselves (`Ages.logs_s`), and no run for a season is rare
enough to be asked about."""

_AT_ONCE = 64
"""Artifacts renamed before their folder is flushed to disk once, and then deleted."""


@dataclass(frozen=True)
class Rules:
    """What may go.

    Attributes:
        older_than_s: only artifacts that nobody has used for so long, seconds.
        max_bytes: remove, the oldest use first, only until the store is that small; None removes all that may go.
        keep: folders of results, whose artifacts are kept as if they were pinned.
        forget: footage whose artifacts are not current any more, by path or SHA-256.
        forget_after_s: the same for all footage none of whose current artifacts was used for so long; None for none.
        ages: of leftovers.
    """

    older_than_s: float = DAY_S
    max_bytes: int | None = None
    keep: tuple[Path, ...] = ()
    forget: tuple[str, ...] = ()
    forget_after_s: float | None = None
    ages: Ages = field(default_factory=Ages)


@dataclass(frozen=True)
class Plan:
    """What a cleaner would do.

    Attributes:
        entries: everything stored.
        reasons: for each of these one of `KEPT`, or `REMOVABLE`.
        leftovers: what else can go.
        total_bytes: size of the store: artifacts and whatever lies beside them.
        runs: the runs that live.
        notes: what a person should know, one line each.
        max_bytes: how small the store was to become; None if that was not asked.
        is_rooted: whether there is anything at all that tells what is needed. Where there is not, the pointers may have
            been lost, or the folder is no store.
        idle_s: how long before the planning the store was last used, by run or artifact, seconds; 0 on object stores,
            which refuse requests that are dated wrong.
    """

    entries: Sequence[Entry]
    reasons: Sequence[str]
    leftovers: Sequence[Leftover]
    total_bytes: int
    runs: Sequence[Run]
    notes: Sequence[str] = ()
    max_bytes: int | None = None
    is_rooted: bool = True
    idle_s: float = 0.0

    @property
    def removable(self) -> list[Entry]:
        """Artifacts that can go, the one unused for longest first."""
        chosen = (entry for entry, reason in zip(self.entries, self.reasons, strict=True) if reason == REMOVABLE)
        return sorted(chosen, key=_by_use)

    @property
    def removable_bytes(self) -> int:
        """Size of everything that can go."""
        return sum(entry.size_bytes for entry in self.removable) + sum(left.size_bytes for left in self.leftovers)

    @property
    def missed_bytes(self) -> int:
        """How much larger than asked the store stays; 0 if it becomes small enough, or nothing was asked."""
        if self.max_bytes is None:
            return 0
        return max(0, self.total_bytes - self.removable_bytes - self.max_bytes)


def _by_use(entry: Entry) -> tuple[float, str, str]:
    return entry.used_s, entry.stage, entry.key


def plan_collection(store: Store, rules: Rules, now_s: float | None = None) -> Plan:
    """Say what can go; changes nothing.

    Args:
        store: what to look through.
        rules: what may go.
        now_s: the time, seconds since the epoch; now by default.

    Raises:
        UsageError: footage that is to be forgotten is not known, or a folder of results has none.
        ArtifactError: a pin or a pointer cannot be read.
    """
    now_s = time.time() if now_s is None else now_s
    # First of all: what runs that begin later use is seen when it comes to removing.
    runs = live_runs(store.folder)
    pins = read_pins(store.folder)
    results = [artifacts_of(read_result(each)) for folder in rules.keep for each in results_below(folder)]
    to_forget = forgotten(store.folder, rules.forget)
    uses = Uses(store.folder)
    entries = list(scan(store, uses))
    reach = Reach(store.folder, entries)
    for pin in pins:
        for stage, key in pin.artifacts:
            reach.add("pinned", stage, key)
    for stage, key in chain.from_iterable(results):
        reach.add("results", stage, key)
    left = list(leftovers(store, rules.ages, uses, now_s))
    stored = {(entry.stage, entry.key) for entry in entries}
    left += [Leftover("signs of use of what is gone", name, 0) for name in uses.orphans(stored)]
    roots = _Roots(store.folder, entries, reach, rules, now_s)
    for group in pointer_groups(store.folder):
        left += roots.take(group, is_forgotten=group in to_forget.groups)
    notes = (f"{familiar.FOLDER}/{name}" for name in store.folder.names(familiar.FOLDER))
    left += [Leftover("notes of forgotten footage", n, 0) for n in notes if n.rpartition("-")[2] in to_forget.groups]
    reach.follow()
    reasons = [
        reach.reasons.get(number) or _why_not(entry, runs, now_s - max(rules.older_than_s, CLOCK_S))
        for number, entry in enumerate(entries)
    ]
    total_bytes = sum(entry.size_bytes for entry in entries) + _beside(store.folder, left)
    is_rooted = bool(roots.found or pins or results)
    idle_s = _idle_s(store.folder, entries, roots.last_s, now_s)
    plan = Plan(entries, reasons, left, total_bytes, runs, to_forget.notes, rules.max_bytes, is_rooted, idle_s)
    return plan if rules.max_bytes is None else _spare(plan, rules.max_bytes)


def _idle_s(folder: Folder, entries: Sequence[Entry], pointed_s: float, now_s: float) -> float:
    if folder.local_path("") is None:
        return 0.0
    # Every run puts its registration there and takes it away, also one that finds nothing to do.
    registered_s = folder.modified_s(RUNS) or 0.0
    last_s = max(registered_s, pointed_s, *(entry.used_s for entry in entries), 0.0)
    return now_s - last_s if last_s else 0.0


def _why_not(entry: Entry, runs: Sequence[Run], before_s: float) -> str:
    """Why an artifact that nothing reaches is kept, or that it can go."""
    if _may_be_in_use(entry, runs):
        return "in use"
    if entry.strange:
        return "foreign"
    return "young" if entry.used_s > before_s else REMOVABLE


def _may_be_in_use(entry: Entry, runs: Sequence[Run]) -> bool:
    """Whether one of the living runs, the oldest of them first, may have used an artifact."""
    return bool(runs) and entry.used_s >= runs[0].began_s


class _Roots:
    """The latest keys of all places, group by group."""

    def __init__(self, folder: Folder, entries: Sequence[Entry], reach: Reach, rules: Rules, now_s: float) -> None:
        self._folder, self._entries, self._reach, self._rules, self._now_s = folder, entries, reach, rules, now_s
        self.found = 0
        self.last_s = 0.0

    def take(self, group: str, *, is_forgotten: bool) -> Iterator[Leftover]:
        """Reach what a group points at; gives those of its pointers that can go."""
        found = list(pointers(self._folder, group))
        self.found += len(found)
        self.last_s = max([self.last_s, *(pointer.at_s for pointer in found)])
        is_forgotten = is_forgotten or self._is_unused(group, found)
        for pointer in found:
            if is_forgotten:
                yield pointer_left(self._folder, pointer, "pointers of forgotten footage")
            elif pointer.is_torn:
                raise ArtifactError(
                    "the pointer is torn, so nobody knows what it is to keep",
                    where=f"{self._folder.url}/{pointer.name}",
                    cure="analyse that footage again, or remove the file",
                )
            elif self._entry(pointer) is None and self._now_s - pointer.at_s >= DAY_S:
                yield pointer_left(self._folder, pointer, "pointers at nothing")
            else:
                self._reach.add("current", pointer.stage, pointer.key, pointer.inputs)

    def _entry(self, pointer: Pointer) -> Entry | None:
        number = self._reach.number(pointer.stage, pointer.key)
        return None if number is None else self._entries[number]

    def _is_unused(self, group: str, found: Sequence[Pointer]) -> bool:
        after_s = self._rules.forget_after_s
        if after_s is None or group == "-":
            return False
        stored = [entry for pointer in found if (entry := self._entry(pointer)) is not None]
        last_s = max([*(entry.used_s for entry in stored), *(pointer.at_s for pointer in found)], default=0.0)
        return self._now_s - last_s >= after_s


def _beside(folder: Folder, left: Sequence[Leftover]) -> int:
    """Bytes of what lies in the store besides artifacts."""
    own = sum(folder.bytes_below(name) for name in folder.names() if name.startswith("_"))
    return own + sum(leftover.size_bytes for leftover in left if not leftover.name.startswith("_"))


def _spare(plan: Plan, max_bytes: int) -> Plan:
    """Keep those of the removable artifacts that need not go for the store to be small enough."""
    remaining = plan.total_bytes - sum(leftover.size_bytes for leftover in plan.leftovers)
    go: set[tuple[str, str]] = set()
    for entry in plan.removable:
        if remaining <= max_bytes:
            break
        remaining -= entry.size_bytes
        go.add((entry.stage, entry.key))
    reasons = [
        "spared" if reason == REMOVABLE and (entry.stage, entry.key) not in go else reason
        for entry, reason in zip(plan.entries, plan.reasons, strict=True)
    ]
    return replace(plan, reasons=reasons)


@dataclass
class Collected:
    """What a cleaner has done.

    Attributes:
        artifacts, artifact_bytes: how many artifacts have gone, and their size.
        leftovers: what else has gone: kind → how many, and ``leftover_bytes`` their size.
        kept: artifacts that were to go, but were used meanwhile, or were removed by somebody else.
        failed: what could not be removed, by where it lies below the root → why. It counts nowhere else.
        stopped_by: runs for whose sake an object store's cleaner stopped; empty when it came to its end.
    """

    artifacts: int = 0
    artifact_bytes: int = 0
    leftovers: Counter[str] = field(default_factory=Counter)
    leftover_bytes: int = 0
    kept: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    stopped_by: Sequence[Run] = ()
    is_stopped: bool = False

    @property
    def bytes(self) -> int:
        """Size of everything that has gone."""
        return self.artifact_bytes + self.leftover_bytes


def collect(store: Store, plan: Plan, progress: Callable[[int, int], None] = lambda done, total: None) -> Collected:
    """Remove what a plan says, but for what has been used since.

    Args:
        store: the planned store.
        plan: of `plan_collection`.
        progress: called with (done, total) artifacts.
    """
    done = Collected()
    with cleaning(store.folder) as may_remove:
        if may_remove():
            _collect(store, plan, may_remove, done, progress)
        else:
            done.is_stopped = True
    if done.is_stopped:
        done.stopped_by = live_runs(store.folder)
    return done


def _collect(
    store: Store,
    plan: Plan,
    may_remove: Callable[[], bool],
    done: Collected,
    progress: Callable[[int, int], None],
) -> None:
    # Pointers first: a cleaner that is killed then leaves nothing that still looks current.
    is_pointer = [leftover.name.startswith("_latest/") for leftover in plan.leftovers]
    _remove_leftovers(store, [a for a, b in zip(plan.leftovers, is_pointer, strict=True) if b], may_remove, done)
    # As it is now that, on an object store, no run can begin.
    uses = Uses(store.folder)
    # A run that began after the plan had looked for runs may have used an artifact before the plan came to that.
    runs = live_runs(store.folder)
    removable = plan.removable
    for start in range(0, len(removable), _AT_ONCE):
        batch = removable[start : start + _AT_ONCE]
        condemned: dict[str, Entry | None] = {}
        try:
            for entry in batch:
                if not may_remove():
                    done.is_stopped = True
                    break
                in_use = _may_be_in_use(entry, runs)
                try:
                    place = None if in_use else store.condemn(entry.stage, entry.key, entry.used_s, uses)
                except OSError as error:
                    _note_failed(done, f"{entry.stage}/{entry.key}", error)
                    continue
                if place is None:
                    done.kept += 1
                    continue
                condemned[place] = entry
                if (mark := uses.mark(entry.stage, entry.key)) is not None:
                    condemned[mark] = None
        finally:
            _clear(store, condemned, done)
        if done.is_stopped:
            return
        progress(start + len(batch), len(removable))
    _remove_leftovers(store, [a for a, b in zip(plan.leftovers, is_pointer, strict=True) if not b], may_remove, done)
    tidy(store.folder)


def _note_failed(done: Collected, name: str, error: OSError) -> None:
    done.failed[name] = error.strerror or str(error)
    log.warning("%s could not be removed: %s", name, done.failed[name])


def _clear(store: Store, condemned: Mapping[str, Entry | None], done: Collected) -> None:
    """Delete what was condemned (signs of use have no entry), and count it."""
    failed = store.clear(list(condemned))
    for place, entry in condemned.items():
        if (error := failed.get(place)) is not None:
            _note_failed(done, place, error)
        elif entry is not None:
            done.artifacts += 1
            done.artifact_bytes += entry.size_bytes
            log.info("removed %s/%s, %d bytes", entry.stage, entry.key, entry.size_bytes)


def _remove_leftovers(
    store: Store, chosen: Sequence[Leftover], may_remove: Callable[[], bool], done: Collected
) -> None:
    for leftover in chosen:
        if not may_remove():
            done.is_stopped = True
            return
        try:
            is_gone = leftover.remove(store.folder)
        except OSError as error:
            _note_failed(done, leftover.name, error)
            continue
        if is_gone:
            done.leftovers[leftover.kind] += 1
            done.leftover_bytes += leftover.size_bytes
            log.info("removed %s: %s, %d bytes", leftover.kind, leftover.name, leftover.size_bytes)


def by_stage(plan: Plan) -> Mapping[str, Mapping[str, tuple[int, int]]]:
    """Stage → reason → number of artifacts and their bytes."""
    counted: dict[str, dict[str, tuple[int, int]]] = {}
    for entry, reason in zip(plan.entries, plan.reasons, strict=True):
        reasons = counted.setdefault(entry.stage, {})
        number, size_bytes = reasons.get(reason, (0, 0))
        reasons[reason] = number + 1, size_bytes + entry.size_bytes
    return counted
