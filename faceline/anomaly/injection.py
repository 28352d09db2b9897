"""Synthetic facial anomalies planted into a person's own footage, to see how well a trial would find such a thing.

Where and when is drawn from the person's rows alone, so that every trial is asked about the same moments. Two kinds,
in equal numbers, each under a raised-cosine envelope of 0.4 to 2 s:

- *burst*: a few channels of every block shift by some baseline units, as an expression that the person does not
  otherwise show would do;
- *amplification*: what the face does at that moment is exaggerated, as an expression of the person's own grown strong.

After the injected anomalies of Goswami et al. (ICLR 2023, "Unsupervised model selection for time-series anomaly
detection"), with the kinds that faces can do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from faceline.anomaly.features import Block
from faceline.anomaly.rows import PersonRows

CLEAR_S = 1.0
"""Rows so close to something planted are neither usual nor planted: windows there hold a little of it."""

SHARE = 0.12
"""At most this share of the person's usable time is planted."""


@dataclass(frozen=True)
class Planted:
    """One planted anomaly: the row nearest its middle, its middle and length in seconds, and its kind."""

    row: int
    centre_s: float
    length_s: float
    kind: str


def plan_anomalies(rows: PersonRows, seed: int, at_most: int = 24) -> list[Planted]:
    """Choose when to plant: far apart, on usable rows, in the same way for every trial of the person."""
    rng = np.random.default_rng([seed, rows.person])
    usable, time_s = np.flatnonzero(rows.usable).tolist(), rows.time_s.tolist()
    budget_s = SHARE * len(usable) * rows.interval_s
    planted: list[Planted] = []
    for _ in range(20 * at_most):
        if not usable or len(planted) >= at_most:
            break
        length_s = float(np.exp(rng.uniform(np.log(0.4), np.log(2.0))))
        row = usable[int(rng.integers(len(usable)))]
        apart = all(abs(time_s[row] - p.centre_s) > 2.0 + (length_s + p.length_s) / 2 for p in planted)
        if length_s <= budget_s and apart:
            budget_s -= length_s
            planted.append(Planted(row, time_s[row], length_s, "amplify" if len(planted) % 2 else "burst"))
    return sorted(planted, key=lambda p: p.row)


def plant(blocks: Sequence[Block], rows: PersonRows, planted: Sequence[Planted], seed: int) -> list[Block]:
    """Copies of the blocks with the anomalies planted; rows that carry nothing stay missing.

    Bursts are 3 to 6 baseline units on one to three channels of each block (a quarter of the channels at most, so
    that a large block is not moved as a whole); amplification multiplies by 2 to 3.5.
    """
    touched, envelopes = zip(*(_envelope(rows, p) for p in planted), strict=True) if planted else ((), ())
    out = []
    for b, block in enumerate(blocks):
        x = block.x.copy()
        for k, (p, at, envelope) in enumerate(zip(planted, touched, envelopes, strict=True)):
            rng = np.random.default_rng([seed, rows.person, k, b])
            if p.kind == "burst":
                channels = rng.choice(x.shape[1], size=min(3, max(1, x.shape[1] // 4)), replace=False)
                shift = np.zeros(x.shape[1])
                shift[channels] = rng.uniform(3.0, 6.0, len(channels)) * rng.choice([-1.0, 1.0], len(channels))
                x[at] += envelope * shift
            else:
                x[at] *= 1.0 + envelope * rng.uniform(1.0, 2.5)
        out.append(replace(block, x=x))
    return out


def _envelope(rows: PersonRows, planted: Planted) -> tuple[np.ndarray, np.ndarray]:
    """Positions int64 [m] of the rows that a planted anomaly touches, and how strongly, float64 [m, 1] in 0..1."""
    phase = (rows.time_s - planted.centre_s) / planted.length_s
    touched = np.flatnonzero((np.abs(phase) <= 0.5) & (rows.stretch == rows.stretch[planted.row]))
    return touched, (0.5 + 0.5 * np.cos(2 * np.pi * phase[touched]))[:, None]


def clear_rows(rows: PersonRows, planted: Sequence[Planted]) -> np.ndarray:
    """bool [n]: usable rows further than `CLEAR_S` from all that is planted, from its very beginning to its end.

    They are the same whatever window a trial looks through, so that all trials are asked the same. A window so long
    that it reaches what is planted from there is expected to tell the two apart all the same.
    """
    clear = rows.usable.copy()
    for p in planted:
        near = np.abs(rows.time_s - p.centre_s) <= p.length_s / 2 + CLEAR_S
        clear[near & (rows.stretch == rows.stretch[p.row])] = False
    return clear


def planted_rows(rows: PersonRows, planted: Sequence[Planted]) -> np.ndarray:
    """bool [n]: rows within the middle half of a planted anomaly (at least the row it was planted on)."""
    inside = np.zeros(len(rows), dtype=bool)
    for p in planted:
        near = np.abs(rows.time_s - p.centre_s) <= p.length_s / 4
        inside |= near & (rows.stretch == rows.stretch[p.row])
        inside[p.row] = True
    return inside
