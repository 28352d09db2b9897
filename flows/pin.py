"""The verbs ``pin`` and ``unpin``: results whose artifacts are kept, whatever becomes of configurations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from faceline import pins
from faceline.errors import UsageError
from faceline.names import printable
from faceline.runs import running
from faceline.stages import STAGES
from faceline.store import Store
from faceline.writable import check_writable
from flows import console
from flows.config import load_config
from flows.gc import shown


def pin(arguments: Sequence[str]) -> int:
    """Run the verb; exit code 1 when artifacts of the result are gone."""
    words, name, others = _sorted(arguments)
    if len(words) > 1:
        raise UsageError(f"cannot pin {len(words)} results at once", cure="write `faceline pin results/NAME`")
    if not words:
        return _list(Store(load_config(others, STAGES).store.root))
    results = Path(words[0])
    run = pins.read_result(results)
    root = load_config(others, STAGES).store.root
    if not any(argument.startswith("store.root=") for argument in others):
        root = str(((run.get("config") or {}).get("store") or {}).get("root") or root)
    store = Store(root)
    if (folder := store.folder.local_path("")) is not None:
        if not folder.is_dir():
            raise UsageError(f"{store.root}: there is no store", cure="name it with store.root=DIR")
        check_writable(folder, "store.root=DIR")
    with running(root, "pin", str(results)):
        made = pins.pin(store, results, name or pins.name_for(results), run)
        gone = made.gone(store)
    footage = printable(made.footage)
    console.say(f"pinned {made.name}: {len(made.artifacts)} artifacts of {footage}, {shown(made.bytes)}")
    for stage, key in gone:
        console.say(f"gone: {stage}/{key}")
    return 1 if gone else 0


def _list(store: Store) -> int:
    rows = []
    for found in pins.read_pins(store.folder):
        gone = ", ".join(f"{stage}/{key[:12]}" for stage, key in found.gone(store))
        rows.append((found.name, found.footage, found.at, len(found.artifacts), shown(found.bytes), gone))
    console.table(("pin", "footage", "since", "artifacts", "size", "gone"), rows, right=("artifacts", "size"))
    return 0


def unpin(arguments: Sequence[str]) -> int:
    """Run the verb; exit code."""
    words, name, others = _sorted(arguments)
    if name or len(words) != 1:
        raise UsageError("one pin has to be named", cure="write `faceline unpin NAME`; `faceline pin` lists them")
    store = Store(load_config(others, STAGES).store.root)
    pins.unpin(store.folder, words[0])
    console.say(f"unpinned {words[0]}; what nothing else reaches goes with `faceline gc apply=true`")
    return 0


def _sorted(arguments: Sequence[str]) -> tuple[list[str], str, list[str]]:
    names = [argument.removeprefix("name=") for argument in arguments if argument.startswith("name=")]
    if len(names) > 1:
        raise UsageError("name= is given twice")
    words = [argument for argument in arguments if "=" not in argument or Path(argument).is_dir()]
    others = [a for a in arguments if a not in words and not a.startswith("name=")]
    return words, names[0] if names else "", others
