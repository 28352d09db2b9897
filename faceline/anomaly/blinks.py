"""Blinks: eyes that close for an instant, as everybody's do some fifteen times a minute.

A blink moves the lids further than any expression does, and what a network says of a face with closed eyes is
arbitrary. So its faces are left out of what is looked at, as missing; eyes shut for longer, or one eye alone, are not
blinks. Blinks last 0.1 to 0.4 s (Caffier, Erdmann & Ullsperger 2003; VanderWerf et al. 2003).
"""

from __future__ import annotations

import numpy as np

EYES = ("eye_opening_left", "eye_opening_right")
"""Measures of the two eyes, see `faceline.measures`."""

CLOSING, OPEN = 0.8, 0.9
"""A blink takes the mean opening of both eyes, relative to what is usual, below the first; and neither eye stays above
the second, or it is a wink."""

LONGEST_S = 0.5
"""Longer than the eyes take, since sampled faces stand for a tenth of a second each."""

MARGIN_S = 0.1
"""Lids on their way down and up before and after."""


def blinks(openings: np.ndarray, time_s: np.ndarray, stretch: np.ndarray, interval_s: float) -> np.ndarray:
    """bool [n]: rows of blinks, the lids' way down and up included.

    Args:
        openings: float64 [n, 2], opening of the two eyes, NaN where unknown: there, nothing is a blink.
        time_s: float64 [n], ascending.
        stretch: int64 [n], ascending; no blink reaches from one stretch into another.
        interval_s: sampling interval; a row stands for that long.
    """
    found = np.zeros(len(time_s), dtype=bool)
    known = np.isfinite(openings).all(axis=1)
    if not known.any():
        return found
    with np.errstate(invalid="ignore"):
        share = openings / np.maximum(np.median(openings[known], axis=0), 1e-6)
        closed = (share.mean(axis=1) < CLOSING) & (share < OPEN).all(axis=1)
    at = np.flatnonzero(closed)
    breaks = (np.diff(at) > 1) | (np.diff(stretch[at]) != 0)
    for run in np.split(at, np.flatnonzero(breaks) + 1):
        if len(run) and time_s[run[-1]] - time_s[run[0]] + interval_s <= LONGEST_S + 1e-6:
            # A row at the margin's very edge belongs to it, however its time is rounded.
            reach_s = MARGIN_S + 1e-6
            near = (time_s >= time_s[run[0]] - reach_s) & (time_s <= time_s[run[-1]] + reach_s)
            found |= near & (stretch == stretch[run[0]])
    return found
