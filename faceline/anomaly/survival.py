"""How stable an event is: whether it is found again when what should not matter is changed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from faceline.anomaly.events import Cutting, Event

TOLERANCE_S = 0.5
"""An event counts as found again when a peak lies this close to its own extent."""


def survival(event: Event, time_s: np.ndarray, variations: Sequence[Cutting]) -> float:
    """Share 0..1 of variations that hold an event with a peak within the event's extent ± `TOLERANCE_S`.

    Args:
        event: the event, as positions in `time_s`.
        time_s: float64 [n], the person's rows.
        variations: the same person cut anew, each by its own threshold, positions in the same rows; NaN when there
            is none.
    """
    if not variations:
        return float("nan")
    first, last = time_s[event.start] - TOLERANCE_S, time_s[event.end] + TOLERANCE_S
    found = [any(first <= time_s[other.peak] <= last for other in cutting.events) for cutting in variations]
    return float(np.mean(found))
