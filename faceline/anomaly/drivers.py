"""Why a moment stands out: the measures and emotions that departed most from the person's baseline, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from faceline.anomaly.events import Event
from faceline.anomaly.features import Block
from faceline.anomaly.rows import PersonRows

NEAR_S = 0.5
"""Faces of the event within so many seconds of its peak are looked at."""

LEAST = 1.0
"""Departures below so many baseline units (about a standard deviation) are not worth naming."""


def top_features(
    event: Event, blocks: Sequence[Block], rows: PersonRows, words: Mapping[str, str], count: int = 3
) -> str:
    """For example ``"mouth opening +5.2, fear +3.1"``: what departed most, in baseline units with direction.

    The departure of a feature is its median over the event's faces near the peak, in robust standard deviations of
    the person's own footage (after head pose is taken out). Emotions are compared on their logarithms. The largest
    is always named, up to `count` further ones if they exceed `LEAST`; empty when the event has no expressions.
    """
    near = np.arange(event.start, event.end + 1)
    near = near[np.abs(rows.time_s[near] - rows.time_s[event.peak]) <= NEAR_S + 1e-6]
    departures: list[tuple[float, str]] = []
    for block in blocks:
        there = near[block.present[near]]
        if len(there):
            values = np.median(block.x[there], axis=0)
            departures += [
                (float(v), words.get(c, c.replace("_", " "))) for v, c in zip(values, block.columns, strict=True)
            ]
    departures.sort(key=lambda d: -abs(d[0]))
    named: dict[str, float] = {}
    for value, word in departures:
        if len(named) < count and word not in named and (not named or abs(value) >= LEAST):
            named[word] = value
    return ", ".join(f"{word} {value:+.1f}" for word, value in named.items())


def measure_words() -> dict[str, str]:
    """Human words of each expression measure, by column name."""
    from faceline.measures import MEASURES

    return {measure.name: measure.words for measure in MEASURES}
