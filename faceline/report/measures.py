"""Which expression measures are worth showing, and their names in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from faceline.report import series
from faceline.report.findings import Findings, floats


def label_of(column: str) -> str:
    """A column name in words: those of the measure of that name, else its own."""
    from faceline.measures import MEASURES

    words = next((measure.words for measure in MEASURES if measure.name == column), column)
    return words.replace("_", " ").strip()


def leading_measures(
    findings: Findings, faces: pa.Table, events: Sequence[dict[str, Any]], most: int
) -> list[tuple[str, np.ndarray]]:
    """The measures that depart most at the events' peaks, as (label, robust z of every face); else the first ones.

    Args:
        findings: names the measures.
        faces: the rows of one person.
        events: that person's events (``segment, face`` of the peak).
        most: how many to give at most.
    """
    if faces.num_rows == 0:
        return []
    scaled = {name: series.robust_z(floats(faces, name)) for name in findings.measures}
    peaks = {(event["segment"], event["face"]) for event in events}
    keys = zip(faces["segment"].to_pylist(), faces["face"].to_pylist(), strict=True)
    at_peak = np.fromiter((key in peaks for key in keys), dtype=bool, count=faces.num_rows)

    def departure(name: str) -> float:
        values = np.abs(scaled[name][at_peak])
        values = values[np.isfinite(values)]
        return float(values.max()) if len(values) else 0.0

    drawable = [name for name in findings.measures if np.isfinite(scaled[name]).any()]
    leading = sorted(drawable, key=departure, reverse=True)[:most]
    return [(label_of(name), scaled[name]) for name in leading]
