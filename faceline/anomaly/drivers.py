"""Why a moment stands out: the measures and emotions that departed most from the person's baseline, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from faceline.anomaly.baseline import LIMIT
from faceline.anomaly.events import Event
from faceline.anomaly.features import Block
from faceline.anomaly.rows import PersonRows

NEAR_S = 0.3
"""Faces of the event within so many seconds of its peak are looked at."""

RUN = 3
"""A departure is the mean over so many faces in a row, so that one misread face explains nothing."""

LEAST = 1.0
"""Departures below so many baseline units (about a standard deviation) are not worth naming."""


def departures(event: Event, blocks: Sequence[Block], rows: PersonRows) -> dict[str, float]:
    """How far each feature departs near the event's peak, in baseline units with direction, by column.

    Of all runs of `RUN` faces of the event near its peak (fewer where there are fewer), the one whose mean lies
    farthest from the baseline counts. Emotions are on their logarithms; what pose, light and size explain is out of
    all features already. Empty when the event has no expressions.
    """
    near = np.arange(event.start, event.end + 1)
    near = near[np.abs(rows.time_s[near] - rows.time_s[event.peak]) <= NEAR_S + 1e-6]
    found: dict[str, float] = {}
    for block in blocks:
        x = block.x[near[block.present[near]]]
        if len(x):
            width = min(RUN, len(x))
            means = np.lib.stride_tricks.sliding_window_view(x, width, axis=0).mean(axis=-1)
            strongest = np.abs(means).argmax(axis=0)
            found |= {c: float(means[strongest[j], j]) for j, c in enumerate(block.columns)}
    return found


def drivers_of(departures: Mapping[str, float], count: int = 4) -> list[str]:
    """The columns that departed most, the largest first: at least one where there is any, at most `count`, beyond the
    first only those of at least `LEAST`."""
    ordered = sorted(departures, key=lambda column: -abs(departures[column]))
    return [column for i, column in enumerate(ordered[:count]) if i == 0 or abs(departures[column]) >= LEAST]


def top_features(departures: Mapping[str, float], words: Mapping[str, str], count: int = 3) -> str:
    """For example ``"mouth opening +5.2, fear +3.1"``: what departed most, in words."""
    return ", ".join(
        f"{words.get(column, column.replace('_', ' '))} {_amount(departures[column])}"
        for column in drivers_of(departures, count)
    )


def _amount(value: float) -> str:
    """One decimal; what features are limited to (`faceline.anomaly.baseline.LIMIT`) says that it may be more."""
    if abs(value) < LIMIT - 0.05:
        return f"{value:+.1f}"
    return f"{'≥' if value > 0 else '≤'} {value:+.0f}"


def measure_words() -> dict[str, str]:
    """Human words of each expression measure, by column name."""
    from faceline.measures import MEASURES

    return {measure.name: measure.words for measure in MEASURES}
