"""The verb ``models``: which weights are known and here, and fetching those that are not bundled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from faceline.errors import UsageError
from faceline.stages import STAGES
from faceline.weights import CARDS, OPTIONAL_ROLES, check_model_folder, fetch, how_to_get, list_models, model_folder
from flows import console
from flows.config import load_config


def models(arguments: Sequence[str]) -> int:
    """Run the verb; exit code."""
    words = [argument for argument in arguments if "=" not in argument]
    options = load_config([argument for argument in arguments if "=" in argument], STAGES).models
    folder = Path(options.folder) if options.folder else None
    if not words:
        return _list(folder)
    if words[0] != "fetch" or len(words) != 2:
        names = ", ".join(card.name for card in CARDS if not card.bundled)
        raise UsageError(f"cannot do {' '.join(words)!r}", cure=f"write `faceline models fetch NAME` ({names})")
    return _fetch(words[1], folder)


def _list(folder: Path | None) -> int:
    check_model_folder(folder)
    rows = []
    absent = []
    for status in list_models(folder):
        found = status.found
        note = {True: "official", False: "not the official file", None: ""}[status.official]
        rows.append(
            (
                status.card.role,
                status.card.name,
                found.source if found else "absent",
                found.sha256[:12] if found else "",
                status.card.licence,
                note,
            )
        )
        if not found:
            without = f"optional, without it no {role}; " if (role := status.card.role) in OPTIONAL_ROLES else ""
            absent.append(f"{status.card.name}: {without}{how_to_get(status.card, folder)}")
    console.table(("role", "name", "where", "sha256", "licence", ""), rows)
    console.say(f"model folder: {model_folder(folder)}")
    for line in absent:
        console.say(line)
    return 0


def _fetch(name: str, folder: Path | None) -> int:
    with console.reporting() as reporter:
        reporter.started(name)
        model = fetch(name, folder, lambda done, total: reporter.progressed(name, done, total or 0))
    console.say(f"{model.name}: {model.path} (sha256 {model.sha256})")
    return 0
