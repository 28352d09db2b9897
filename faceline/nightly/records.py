"""What came of each content that an archive has held: one small file per content, replaced whole.

A record outlives its file: footage that is taken away and comes back, renamed or moved is known again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from faceline.folders import Folder
from faceline.nightly.moments import Moment
from faceline.nightly.recipe import Recipe

Outcome = Literal["done", "quarantined", "failed"]


@dataclass(frozen=True)
class Record:
    """The last analysis of a content.

    Attributes:
        sha256: of the footage's bytes.
        state: ``done``; ``quarantined``: it is not tried again before the file or the recipe changes; ``failed``: it is
            tried again by the next run.
        recipe: digest of the recipe it was analysed with.
        at: when, as ISO 8601 in UTC.
        file: path below the archive's folder under which it was analysed.
        reason: why it is not done; where decoding had to end, for damaged footage; else empty.
        results: its results folder, below the output folder; empty where there is none.
        run_sha256: digest of the ``run.json`` therein.
        footage: ``name``, ``start_s``, ``end_s`` (fractions as text), ``duration_s``; empty where it was never opened.
        persons, events: how many were found; events that something beside expression explains do not count.
        moments: all events.
        seconds: wall time.
        stages: seconds spent in each stage that had to run, summed over segments and trials.
        conditions: digest of the other options that it was refused under, for ``quarantined``.
        tries: analyses in a row that ended like this one.
        since: when the first of these was.
        cure: what to do about it, as the error says; else empty.
    """

    sha256: str
    state: Outcome
    recipe: str
    at: str
    file: str
    reason: str = ""
    results: str = ""
    run_sha256: str = ""
    footage: Mapping[str, Any] = field(default_factory=dict)
    persons: int | None = None
    events: int | None = None
    moments: tuple[Moment, ...] = ()
    seconds: float = 0.0
    stages: Mapping[str, float] = field(default_factory=dict)
    conditions: str = ""
    tries: int = 1
    since: str = ""
    cure: str = ""

    def after(self, before: Record | None) -> Record:
        """This record, counting what came before it: tries in a row, and since when."""
        if before is None or before.state != self.state or before.reason != self.reason:
            return replace(self, tries=1, since=self.at)
        return replace(self, tries=before.tries + 1, since=before.since or before.at)


class Records:
    """Records by content, and the recipes that they name, in files below ``contents/`` and ``recipes/``."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def get(self, sha256: str) -> Record | None:
        """The record of a content; None if there is none, or it is torn (the footage is then looked at anew)."""
        body = self._json(_place(sha256))
        try:
            moments = tuple(Moment.from_plain(moment) for moment in body["moments"])
            record = Record(**{**body, "moments": moments})
        except (KeyError, TypeError, ValueError):
            return None
        return record if record.sha256 == sha256 else None

    def put(self, record: Record) -> None:
        """Keep a record in place of the one before."""
        self._folder.put(_place(record.sha256), json.dumps(asdict(record)).encode("ascii"))

    def recipe(self, digest: str) -> Recipe | None:
        """The recipe of that digest; None if it is not known."""
        try:
            recipe = Recipe.from_plain(self._json(f"recipes/{digest}.json"))
        except ValueError:
            return None
        return recipe if recipe.digest == digest else None

    def put_recipe(self, recipe: Recipe) -> None:
        """Keep a recipe, so that a later one can be compared with it."""
        name = f"recipes/{recipe.digest}.json"
        if self._folder.size(name) is None:
            self._folder.put(name, json.dumps(recipe.to_plain()).encode("ascii"))

    def _json(self, name: str) -> dict[str, Any]:
        try:
            with self._folder.open(name) as file:
                body = json.loads(file.read())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return {}
        return body if isinstance(body, dict) else {}


def _place(sha256: str) -> str:
    # Two levels: a folder of a hundred thousand files is slow to open on many file systems.
    return f"contents/{sha256[:2]}/{sha256}.json"
