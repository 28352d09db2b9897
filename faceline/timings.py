"""How long stages took here, from the manifests of stored artifacts, and what that lets expect."""

from __future__ import annotations

import contextlib
import itertools
import random
import statistics
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from faceline.artifacts import MANIFEST, Manifest
from faceline.keys import FRACTION_TAG
from faceline.store import Store

MOST_MANIFESTS = 40
"""Read for each stage: a median of so many is steady enough, and more would take longer than a plan may."""


@dataclass(frozen=True)
class Timings:
    """Seconds of computing.

    Attributes:
        per_second: stage of scope ``segment`` → seconds per second of footage.
        per_run: other stages → seconds per run.
    """

    per_second: Mapping[str, float]
    per_run: Mapping[str, float]

    def estimate(self, runs: Iterable[tuple[str, float | None]]) -> float | None:
        """Seconds that these runs will take one after the other.

        Args:
            runs: stage and length of its segment in seconds; None for stages that see the whole footage.

        Returns:
            None where nothing is known of some stage.
        """
        total = 0.0
        for stage, length_s in runs:
            rates = self.per_run if length_s is None else self.per_second
            if stage not in rates:
                return None
            total += rates[stage] * (1.0 if length_s is None else length_s)
        return total


def stage_timings(store: Store, stages: Iterable[str]) -> Timings:
    """Medians over stored artifacts, at most `MOST_MANIFESTS` of each stage; nothing is said of stages without any."""
    per_second: dict[str, float] = {}
    per_run: dict[str, float] = {}
    for stage in stages:
        keys = [key for key in store.folder.names(stage) if len(key) == 64]
        # The same ones each time, so that a plan says the same twice; by chance, since names sort by nothing.
        chosen = random.Random(0).sample(keys, min(len(keys), MOST_MANIFESTS))
        rates: list[float] = []
        runs: list[float] = []
        for manifest in _manifests(store, stage, chosen):
            seconds, length_s = manifest.timings.get("compute_s"), _length_s(manifest.parts.scope)
            if not isinstance(seconds, int | float):
                continue
            if length_s is None:
                runs.append(float(seconds))
            elif length_s > 0:
                rates.append(float(seconds) / length_s)
        if rates:
            per_second[stage] = statistics.median(rates)
        if runs:
            per_run[stage] = statistics.median(runs)
    return Timings(per_second, per_run)


def _manifests(store: Store, stage: str, keys: Iterable[str]) -> Iterable[Manifest]:
    def read(key: str) -> Manifest | None:
        # What is torn or just being removed tells nothing.
        with contextlib.suppress(OSError, ValueError):
            return Manifest.from_bytes(store.folder.read(f"{stage}/{key}/{MANIFEST}"), key)
        return None

    if not store.is_remote:
        return [found for key in keys if (found := read(key)) is not None]
    with ThreadPoolExecutor(16, "timings") as pool:
        return [found for found in pool.map(read, keys) if found is not None]


def _length_s(scope: Mapping[str, Any]) -> float | None:
    if "start_s" not in scope:
        return None
    start, end = (_number(scope[name]) for name in ("start_s", "end_s"))
    return float(end - start)


def _number(value: Any) -> Fraction:
    return Fraction(value[FRACTION_TAG]) if isinstance(value, Mapping) else Fraction(value)


def spoken(seconds: float) -> str:
    """A length of time as people say it: ``40 s``, ``12 min``, ``3 h 20 min``.

    >>> spoken(4000)
    '1 h 7 min'
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return " ".join(itertools.chain([f"{hours} h"] if hours else [], [f"{minutes} min"]))
