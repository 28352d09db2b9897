"""The verb ``verify``: every artifact of the store read and rehashed; what is damaged is set aside."""

from __future__ import annotations

from collections.abc import Sequence

from faceline.errors import UsageError
from faceline.stages import STAGES
from faceline.store import Store
from flows import console
from flows.config import load_config

_SWITCH = {"repair=true": True, "repair=false": False}


def verify(arguments: Sequence[str]) -> int:
    """Run the verb; exit code 1 when damage was found."""
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
