"""What else changed while an event lasted: causes that are not expression, named so that a human can weigh them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from faceline.anomaly.baseline import Baseline
from faceline.anomaly.events import Event

CONFOUNDS: dict[str, tuple[str, float, float]] = {
    "yaw_deg": ("head turned", 4.0, 4.0),
    "pitch_deg": ("head raised or lowered", 4.0, 4.0),
    "roll_deg": ("head tilted", 4.0, 4.0),
    "luma_mean": ("light changed", 4.0, 6.0),
    "sharpness": ("sharpness changed", 5.0, 1e-3),
    "eye_distance_px": ("face size changed", 4.0, 2.0),
}
"""Column of align's faces → words, how many robust standard deviations are too many, and the floor of one (in the
column's unit)."""


def confound_flags(event: Event, columns: Mapping[str, np.ndarray]) -> str:
    """Comma-separated words for what departed from the person's usual during the event; empty when nothing did.

    Args:
        event: the event, as positions in the person's rows.
        columns: float64 [n] per column of `CONFOUNDS`, NaN where unknown.
    """
    flags = []
    inside = slice(event.start, event.end + 1)
    for name, (words, limit, floor) in CONFOUNDS.items():
        values = columns[name]
        if not np.isfinite(values[inside]).any() or not np.isfinite(values).any():
            continue
        usual = Baseline.of(values[:, None], floor)
        departure = usual.standardise(values[inside][:, None], 1e6)
        if np.nanmax(np.abs(departure)) > limit:
            flags.append(words)
    return ", ".join(flags)
