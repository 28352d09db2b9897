"""The verb ``verify``: every artifact of the store rehashed, or a results folder checked link by link."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from faceline.errors import UsageError
from faceline.stages import STAGES
from faceline.store import Store
from flows import console
from flows.arguments import did_you_mean, split_arguments
from flows.config import load_config

_SWITCH = {"repair=true": True, "repair=false": False}

_OF_RESULTS = ("results", "footage", "event", "frame", "public_key", "sha256")
_OF_BOTH = ("store.root",)
_OF_STORE = ("repair", "config", "store")


@dataclass(frozen=True)
class _Given:
    """Arguments of the verb: `values` by name, literally; `others` as for every verb."""

    values: Mapping[str, str] = field(default_factory=dict)
    others: tuple[str, ...] = ()


def verify(arguments: Sequence[str]) -> int:
    """Run the verb; exit code 1 when damage was found or something does not hold.

    Raises:
        UsageError: an argument is none of this verb's, or does not fit the others.
    """
    given = _sorted(arguments)
    if "results" in given.values:
        return _verify_results(given)
    if strangers := [name for name in _OF_RESULTS if name in given.values]:
        raise UsageError(
            f"{strangers[0]}= concerns a results folder, and none is named",
            cure=f"write `faceline verify results/NAME {strangers[0]}=…`",
        )
    return _verify_store(given.others)


def _sorted(arguments: Sequence[str]) -> _Given:
    values: dict[str, str] = {}
    others: list[str] = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name not in (*_OF_RESULTS, *_OF_BOTH, *_OF_STORE):
            # A folder may be called anything, also results/a=b.
            if equals and not os.path.lexists(argument):
                hint = did_you_mean(name, (*_OF_RESULTS, *_OF_BOTH, *_OF_STORE))
                raise UsageError(f"verify takes no {name}={hint or '; see `faceline verify --help`'}")
            if not equals and argument.startswith("-"):
                raise UsageError(f"{argument!r} is no option=value", cure="see `faceline verify --help`")
            name, value = "results", argument
        elif not equals and os.path.isdir(argument):  # noqa: PTH112 (as above)
            name, value = "results", argument
        elif not equals:
            raise UsageError(f"{argument!r} is no option=value", cure=f"write {name}=VALUE")
        if name in (*_OF_RESULTS, *_OF_BOTH):
            if name in values:
                raise UsageError(
                    "several results folders are named" if name == "results" else f"{name}= is given twice"
                )
            if not value:
                raise UsageError(f"{name}= is empty", cure=f"write {name}=VALUE")
            values[name] = value if value == argument else _literal(name, value)
        if name in (*_OF_BOTH, *_OF_STORE):
            others.append(argument)
    return _Given(values, tuple(others))


def _literal(name: str, value: str) -> str:
    """A value as the other verbs take their paths: after the shell's quotes Hydra's may stand, and ``~/``."""
    return split_arguments([f"footage={value}"]).paths["footage"] if name not in ("event", "sha256") else value


def _verify_results(given: _Given) -> int:
    from flows.verify_results import Request, verify_results

    values = given.values
    if strangers := [argument for argument in given.others if not argument.startswith("store.root=")]:
        raise UsageError(f"{strangers[0]} concerns the store, not a results folder")
    event = values.get("event")
    if event is not None and not re.fullmatch(r"[1-9]\d{0,8}", event):
        raise UsageError(f"event={event}: must be a rank of events.csv, 1 or more")
    if "frame" in values and event is None:
        raise UsageError("frame= is the picture of an event, and none is named", cure="add event=RANK")
    sha256 = values.get("sha256")
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256.strip()):
        raise UsageError(f"sha256={sha256}: must be 64 hexadecimal digits, the digest of run.json")
    return verify_results(
        Request(
            Path(values["results"]),
            footage=values.get("footage"),
            event=int(event) if event is not None else None,
            frame=values.get("frame"),
            public_key=values.get("public_key"),
            sha256=sha256,
            store=values.get("store.root"),
        )
    )


def _verify_store(arguments: Sequence[str]) -> int:
    repair = True
    others = []
    for argument in arguments:
        if argument.partition("=")[0] == "repair":
            if argument not in _SWITCH:
                raise UsageError(f"{argument}: must be true or false")
            repair = _SWITCH[argument]
        else:
            others.append(argument)
    store = Store(load_config(others, STAGES).store.root)
    folder = store.folder.local_path("")
    if folder is not None and not folder.is_dir():
        raise UsageError(f"{store.root}: there is no store", cure="name it with store.root=DIR")
    sound = damaged = 0
    for finding in store.verify(deep=True, repair=repair):
        if finding.state == "ok":
            sound += 1
        elif finding.state == "damaged":
            damaged += 1
            aside = "; set aside" if repair else ""
            console.say(f"damaged: {finding.stage}/{finding.key}: {'; '.join(finding.problems)}{aside}")
    console.say(f"{store.root}: {sound} artifacts sound, {damaged} damaged")
    if damaged:
        hint = "the next run computes them anew" if repair else "without repair=false they are set aside"
        console.say(f"{hint}; nothing is deleted")
    return 1 if damaged else 0
