"""The CSV files: ``events.csv`` and one table per person.

UTF-8, line feeds, one header line, missing values empty. Text that a spreadsheet would run as a formula is made
harmless with a leading apostrophe (OWASP, "CSV Injection").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from faceline.report.findings import EMOTIONS, Findings, positions
from faceline.timeline import timecode

EVENT_COLUMNS = (
    "person",
    "rank",
    "start_s",
    "peak_s",
    "end_s",
    "start_timecode",
    "peak_timecode",
    "end_timecode",
    "score",
    "p_value",
    "quality",
    "top_features",
    "frame",
    "thumbnail",
    "expected_false",
    "survival",
    "flags",
    "explained",
)

_DIGITS = {"time_s": 6, "start_s": 6, "peak_s": 6, "end_s": 6, "quality": 4, "score": 4, "survival": 3}
_SIGNIFICANT = ("p_value", "expected_false")
_OF_EVENT = ("expected_false", "flags", "explained")
"""What a face's row repeats of the event that it belongs to."""

_FORMULA = "^[=+\\-@\t\r\n＝＋－＠]"


def person_columns(findings: Findings) -> tuple[str, ...]:
    """Column names of a person's table, in order."""
    return (
        *("frame", "time_s", "timecode", "track", "x_px", "y_px", "w_px", "h_px"),
        *("quality", "yaw_deg", "pitch_deg", "roll_deg"),
        *EMOTIONS,
        *findings.components,
        *findings.measures,
        *findings.scores,
        *("score", "is_anomaly", "event", *_OF_EVENT, "reason"),
    )


def person_csv(findings: Findings, person: int) -> bytes:
    """``anomaly_detection_results_person_<n>.csv``: one row per sampled face of the person, in time order."""
    faces = findings.faces_of(person)
    faces = faces.append_column("timecode", pa.array(_timecodes(faces["time_s"])))
    events = findings.events
    at = positions(faces["event"].fill_null(-1).to_numpy(), events["event"].to_numpy())
    for name in _OF_EVENT:
        faces = faces.append_column(name, events[name].take(at))
    return to_csv(faces.select(list(person_columns(findings))))


def events_csv(findings: Findings, thumbnails: Sequence[str | None]) -> bytes:
    """``events.csv``: all events of all persons, the most unusual first, those explained otherwise last.

    Args:
        findings: the joined tables.
        thumbnails: path of the peak face's picture within the results folder, one per event; None where there is none.
    """
    events = findings.events
    for name in ("start", "peak", "end"):
        events = events.append_column(f"{name}_timecode", pa.array(_timecodes(events[f"{name}_s"]), pa.string()))
    events = events.append_column("thumbnail", pa.array(list(thumbnails), pa.string()))
    return to_csv(events.select(list(EVENT_COLUMNS)))


def to_csv(table: pa.Table) -> bytes:
    """A table as CSV bytes (RFC 4180 quoting, but with line feeds)."""
    header = ",".join(_quoted(pa.array(table.column_names, pa.string())).to_pylist())
    if table.num_rows == 0:
        return f"{header}\n".encode()
    cells = [_cells(table[name], name) for name in table.column_names]
    if len(cells) == 1:
        # A line with nothing in it would read as no line at all.
        cells = [pc.if_else(pc.equal(cells[0], ""), '""', cells[0])]
    lines = pc.binary_join_element_wise(*cells, ",")
    return (header + "\n" + "\n".join(lines.to_pylist()) + "\n").encode()


def _cells(column: pa.ChunkedArray, name: str) -> pa.Array:
    """A column as CSV text, ``""`` where missing."""
    values = column.combine_chunks()
    if isinstance(values, pa.ChunkedArray):
        values = pa.concat_arrays(values.chunks) if values.num_chunks else pa.nulls(0, column.type)
    if pa.types.is_floating(values.type):
        values = values.cast(pa.float64())
        values = pc.if_else(pc.is_finite(values), values, None)
        values = _significant(values) if name in _SIGNIFICANT else pc.round(values, _digits(name))
        # -0.0 reads as a sign that means nothing.
        values = pc.if_else(pc.equal(values, 0.0), 0.0, values)
        text = values.cast(pa.string())
    elif pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        values = values.cast(pa.string())
        risky = pc.match_substring_regex(values, _FORMULA)
        text = _quoted(pc.if_else(risky, pc.binary_join_element_wise("'", values, ""), values))
    else:
        text = values.cast(pa.string())
    return pc.fill_null(text, "")


def _digits(name: str) -> int:
    if name in _DIGITS:
        return _DIGITS[name]
    if name.startswith("score_"):
        return _DIGITS["score"]
    return 2 if name.endswith(("_px", "_deg")) else 5


def _significant(values: pa.Array) -> pa.Array:
    """Six significant digits, so that a tiny chance never becomes zero."""
    return pa.array([None if v is None else float(f"{v:.6g}") for v in values.to_pylist()], pa.float64())


def _quoted(text: Any) -> Any:
    special = pc.match_substring_regex(text, '[",\r\n]|^\\s|\\s$')
    doubled = pc.replace_substring(text, '"', '""')
    return pc.if_else(special, pc.binary_join_element_wise('"', doubled, '"', ""), text)


def _timecodes(column: pa.ChunkedArray) -> list[str | None]:
    return [None if t is None or not np.isfinite(t) else timecode(t) for t in column.to_pylist()]
