"""Blinks: eyes that close for an instant, as everybody's do some fifteen times a minute.

A blink moves the lids further than any expression does, and what a network says of a face with closed eyes is
arbitrary. So its faces are left out of what is looked at, as missing; eyes shut for longer, or one eye alone, are not
blinks. Blinks last 0.1 to 0.4 s (Caffier, Erdmann & Ullsperger 2003; VanderWerf et al. 2003).
"""

from __future__ import annotations

import numpy as np

EYES = ("eye_opening_left", "eye_opening_right")
"""Measures of the two eyes, see `faceline.measures`."""

CLOSING, SHUT, OPEN = 0.8, 0.5, 0.9
"""Openings relative to what is usual. A blink takes the mean of both eyes below the first, for some of its faces below
the second; and neither eye stays above the third, or it is a wink. Without the second, smiles that narrow the eyes were
taken for blinks: of short events on four persons at 25 to 30 frames per second 62 % were reported instead of 94 %."""

ALIKE = 0.2
"""In a wink the other eye narrows too, and how far blinks shut it is the person's own: where the more open eye stays so
much further open than in the middle one of the person's closings, it was no blink. Without this, winks of one person in
ten were left out (event average precision of strong events over seven persons 0.94 instead of 0.97)."""

LONGEST_S = 0.4

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
        opening = share.mean(axis=1)
        closed = (opening < CLOSING) & (share < OPEN).all(axis=1)
    at = np.flatnonzero(closed)
    breaks = (np.diff(at) > 1) | (np.diff(stretch[at]) != 0)
    closings = [
        run
        for run in np.split(at, np.flatnonzero(breaks) + 1)
        if len(run) and opening[run].min() < SHUT and time_s[run[-1]] - time_s[run[0]] + interval_s <= LONGEST_S + 1e-6
    ]
    if not closings:
        return found
    wider = np.array([share[run].max(axis=1).min() for run in closings])
    widest = np.median(wider) + ALIKE
    # A row at the margin's very edge belongs to it, however its time is rounded.
    reach_s = MARGIN_S + 1e-6
    for run, eye in zip(closings, wider, strict=True):
        if eye <= widest:
            here = stretch[run[0]]
            first = max(np.searchsorted(time_s, time_s[run[0]] - reach_s), np.searchsorted(stretch, here))
            past = np.searchsorted(time_s, time_s[run[-1]] + reach_s, side="right")
            found[first : min(past, np.searchsorted(stretch, here, side="right"))] = True
    return found
