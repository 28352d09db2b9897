"""The verb ``gc``: what nothing in the store needs any more, and, when told so, its removal."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from faceline.collecting import IDLE_S, KEPT, REMOVABLE, Plan, Rules, by_stage, collect, plan_collection
from faceline.errors import FacelineError, UsageError
from faceline.leftovers import DAY_S, Ages
from faceline.names import printable
from faceline.stages import STAGES
from faceline.store import Store
from flows import console
from flows.analyze import log_folder
from flows.config import load_config
from flows.logfile import log_path, session
from flows.places import check_places

_MANY = ("keep", "forget")
_ONCE = ("apply", "list", "all", "idle", "older_than", "max_size", "forget_after", "damaged_after", "logs_after")
_AGES_S = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SIZES = {"": 1, "B": 1, **{f"{p}B": 1000**n for n, p in enumerate("kMGT", 1)}, "KB": 1000} | {
    f"{p}iB": 1024**n for n, p in enumerate("KMGT", 1)
}


def gc(arguments: Sequence[str]) -> int:
    """Run the verb; exit code 1 when less could be removed than was asked."""
    own: dict[str, list[str]] = {}
    others = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name not in (*_ONCE, *_MANY) or not equals:
            others.append(argument)
        elif name in own and name not in _MANY:
            raise UsageError(f"{name}= is given twice")
        else:
            own.setdefault(name, []).append(value)
    one = {name: values[0] for name, values in own.items() if name not in _MANY}
    switches = ("apply", "list", "all", "idle")
    apply, listed, takes_all, is_idle = (_switch(name, one.get(name, "false")) for name in switches)
    rules = Rules(
        older_than_s=age("older_than", one.get("older_than", "1d")),
        max_bytes=size("max_size", one["max_size"]) if "max_size" in one else None,
        keep=tuple(Path(folder) for folder in own.get("keep", ())),
        forget=tuple(own.get("forget", ())),
        forget_after_s=age("forget_after", one["forget_after"]) if "forget_after" in one else None,
        ages=Ages(
            age("damaged_after", one.get("damaged_after", "30d")), age("logs_after", one.get("logs_after", "90d"))
        ),
    )
    config = load_config(others, STAGES)
    store = Store(config.store.root)
    folder = store.folder.local_path("")
    if folder is not None and not folder.is_dir():
        raise UsageError(f"{store.root}: there is no store", cure="name it with store.root=DIR")
    for each in rules.keep:
        if not each.is_dir():
            raise UsageError("there is no such folder", where=f"keep={each}", cure="check the path")
    if apply:
        check_places(config, None)
    plan = plan_collection(store, rules)
    _show(plan, listed=listed)
    code = 0
    # An age of footage that is beyond all uses would forget everything.
    if plan.idle_s > min(IDLE_S, max(rules.forget_after_s or IDLE_S, DAY_S)) and not is_idle:
        today, days = f"{datetime.now(UTC):%Y-%m-%d}", f"{plan.idle_s / DAY_S:,.0f}"
        problem = FacelineError(
            f"the clock says {today}, {days} days after the last use of the store; by a wrong one all is old",
            where=store.root,
            cure="set the clock; idle=true if it is right",
        )
        _object(problem, apply=apply)
    if not plan.is_rooted and not takes_all and (plan.entries or plan.leftovers):
        problem = FacelineError(
            "nothing here tells what is needed: the store's pointers are lost, or it is no store",
            where=store.root,
            cure="analyse the footage again, pin results, or name them with keep=DIR; all=true takes everything",
        )
        _object(problem, apply=apply)
    if apply:
        with session(log_path(log_folder(config), "gc", "store")):
            done = collect(store, plan)
        console.say(
            f"removed {done.artifacts} artifacts and {sum(done.leftovers.values())} leftovers, {shown(done.bytes)}"
            + (f"; {done.kept} artifacts stay: used meanwhile, or taken by another cleaner" if done.kept else "")
        )
        if done.is_stopped:
            console.warning("on an object store nothing is removed while runs live; call it again when they have ended")
        for name, why in islice(done.failed.items(), 1):
            more = f", and {len(done.failed) - 1} more (see the log)" if len(done.failed) > 1 else ""
            console.warning(printable(f"{store.root}/{name} could not be removed: {why}{more}"))
        code = int(done.is_stopped or plan.missed_bytes > 0 or bool(done.failed))
    else:
        number, left = len(plan.removable), len(plan.leftovers)
        console.say(
            f"{number} artifacts and {left} leftovers can go, {shown(plan.removable_bytes)}; apply=true removes them"
        )
    if plan.missed_bytes:
        console.warning(f"the store stays {shown(plan.missed_bytes)} larger than max_size: the rest has to be kept")
    return code


def _object(problem: FacelineError, *, apply: bool) -> None:
    """Refuse to remove anything; where nothing is to be removed, say why that would be refused."""
    if apply:
        raise problem
    console.warning(str(problem))


def _show(plan: Plan, *, listed: bool) -> None:
    stages = by_stage(plan)
    total: dict[str, tuple[int, int]] = {}
    for reasons in stages.values():
        for reason, (number, size_bytes) in reasons.items():
            before = total.get(reason, (0, 0))
            total[reason] = before[0] + number, before[1] + size_bytes
    why = [reason for reason in (*KEPT, REMOVABLE) if reason in total or reason == REMOVABLE]
    columns = ("stage", "artifacts", "size", *why, "frees")
    rows = [_row(stage, reasons, why) for stage, reasons in (*stages.items(), ("total", total))]
    console.table(columns, rows, right=columns[1:])
    kinds: dict[str, tuple[int, int]] = {}
    for left in plan.leftovers:
        number, size_bytes = kinds.get(left.kind, (0, 0))
        kinds[left.kind] = number + 1, size_bytes + left.size_bytes
    for kind, (number, size_bytes) in kinds.items():
        console.say(f"{number} {kind}, {shown(size_bytes)}")
    for run in plan.runs:
        console.say(printable(f"running: {run}"))
    for note in plan.notes:
        console.say(printable(note))
    if listed:
        for entry in plan.removable:
            used = datetime.fromtimestamp(entry.used_s, UTC).strftime("%Y-%m-%d %H:%M")
            console.say(f"removable: {entry.stage}/{entry.key}, {shown(entry.size_bytes)}, last used {used} UTC")
        for left in plan.leftovers:
            console.say(printable(f"{left.kind}: {left.name}, {shown(left.size_bytes)}"))


def _row(name: str, reasons: Mapping[str, tuple[int, int]], why: Sequence[str]) -> tuple[object, ...]:
    number, size_bytes = (sum(values[part] for values in reasons.values()) for part in (0, 1))
    each = (reasons.get(reason, (0, 0))[0] or "" for reason in why)
    return name, number, shown(size_bytes), *each, shown(reasons.get(REMOVABLE, (0, 0))[1])


def _switch(name: str, value: str) -> bool:
    if value not in ("true", "false"):
        raise UsageError(f"{name}={value}: must be true or false")
    return value == "true"


def age(name: str, value: str) -> float:
    """Seconds of ``30d``, ``12h``, ``45min``, ``90s``, ``2w``, ``0``."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|min|h|d|w)", "0s" if value == "0" else value)
    if not match:
        raise UsageError(f"{name}={value}: must be an age such as 30d, 12h, 45min or 2w")
    return float(match[1]) * _AGES_S[match[2]]


def size(name: str, value: str) -> int:
    """Bytes of ``50GB``, ``1.5TiB``, ``1000``."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([A-Za-z]*)", value)
    if not match or match[2] not in _SIZES:
        raise UsageError(f"{name}={value}: must be a size such as 50GB, 500MB or 20GiB")
    return int(float(match[1]) * _SIZES[match[2]])


def shown(size_bytes: int) -> str:
    """Bytes as people read them: ``1.2 GB``."""
    number, unit = float(size_bytes), "B"
    for bigger in ("kB", "MB", "GB", "TB"):
        if number < 1000:
            break
        number, unit = number / 1000, bigger
    return f"{size_bytes} B" if unit == "B" else f"{number:.1f} {unit}"
