"""The benchmark's tables as plain text, and its figures as plain JSON values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.anomalies.judging import FIGURES, Figure
from benchmarks.anomalies.metrics import Interval
from benchmarks.anomalies.reported import (
    Calibrated,
    ConfoundCount,
    DriverCount,
    NaturalMoment,
    poisson_range,
)
from benchmarks.anomalies.scale import Measured, exponent

NOTHING = "–"


def lines(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A titled table: the first column to the left, all others to the right."""
    cells = [list(columns), *(list(row) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    text = ["", title]
    for row in cells:
        first, *others = (
            f"{cell:<{w}}" if i == 0 else f"{cell:>{w}}" for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        text.append("  ".join([first, *others]).rstrip())
    return "\n".join(text)


def number(value: float, digits: int = 2) -> str:
    """Rounded, or a dash where it is unknown."""
    return NOTHING if not math.isfinite(value) else f"{value:.{digits}f}"


def interval(value: Interval, digits: int = 2, sign: bool = False) -> str:
    """``0.91 [0.80, 0.97]``; without draws the figure alone."""
    shown = number(value.value, digits)
    if sign and math.isfinite(value.value):
        shown = f"{value.value:+.{digits}f}"
    if not math.isfinite(value.low):
        return shown
    return f"{shown} [{value.low:.{digits}f}, {value.high:.{digits}f}]"


def _digits(key: str) -> int:
    return 1 if key == "control_fa" else 2


def methods_table(title: str, found: Mapping[str, Mapping[str, Figure]]) -> str:
    """All methods as rows, all figures as columns."""
    rows = [[name, *(interval(row[key].interval, _digits(key)) for key in FIGURES)] for name, row in found.items()]
    return lines(title, ["", *FIGURES.values()], rows)


def differences_table(title: str, found: Mapping[str, Mapping[str, Interval]]) -> str:
    """What one method is better by than each other, paired."""
    rows = [[name, *(interval(row[key], _digits(key), sign=True) for key in FIGURES)] for name, row in found.items()]
    return lines(title, ["", *FIGURES.values()], rows)


def reported_table(rows: Sequence[tuple[str, int, int, int, Figure | None, Figure | None]]) -> str:
    """(group, recordings, persons, true events, recall, false alarms per hour) of faceline's own threshold."""
    cells = [
        [
            name,
            str(recordings),
            str(persons),
            str(events),
            interval(recall.interval) if recall else NOTHING,
            interval(alarms.interval, 1) if alarms else NOTHING,
        ]
        for name, recordings, persons, events, recall, alarms in rows
    ]
    columns = ["", "recordings", "persons", "true events", "recall", "FA/h"]
    return lines("Events that faceline reports at its own threshold", columns, cells)


def confounds_table(counts: Mapping[str, ConfoundCount]) -> str:
    """What was found where nothing but a confound happens."""
    rows = [
        [
            kind,
            *map(str, (c.shown, c.near, c.explained, c.flagged, c.right)),
            number(c.share_right),
            *map(str, (c.taken, c.elsewhere)),
        ]
        for kind, c in counts.items()
    ]
    columns = ["", "shown", "events near it", "set apart", "flagged", "right cause", "share"]
    return lines(
        "Confounds alone: events near the confound, what they say, and those that are reported: taken for expressions,"
        " or elsewhere",
        [*columns, "taken", "elsewhere"],
        rows,
    )


def drivers_table(counts: Mapping[str, DriverCount]) -> str:
    """Whether found bursts name what moved."""
    rows = [[k, str(c.bursts), str(c.found), str(c.right), number(c.share_right)] for k, c in counts.items()]
    columns = ["", "bursts", "found", "moved measure in top 2", "share"]
    return lines("Drivers: what the events on made bursts name", columns, rows)


def calibration_table(found: Sequence[tuple[str, Calibrated]]) -> str:
    """(which footage, what came) for each setting."""
    rows = []
    for name, c in found:
        low, high = poisson_range(c.expected)
        least, most = c.interval
        rows.append(
            [
                f"{name}: {c.nominal.name}",
                str(c.recordings),
                str(c.units),
                number(c.judged_s / 3600),
                number(c.expected),
                f"{low}–{high}",
                str(c.events),
                f"[{least:.1f}, {most:.1f}]",
                NOTHING if c.by_person is None else interval(c.by_person, 1),
                str(c.footages),
                "yes" if c.holds else "no",
            ]
        )
    columns = [
        "", "recordings", "persons", "hours", "nominal", "its 95 %", "events", "exact 95 %", "per hour, over persons",
        "recordings with any", "holds",
    ]  # fmt: skip
    title = (
        "Calibration: events where there are none. The 95 % of the nominal number, the exact 95 %, and whether it holds"
        "\nsuppose that events come independently of each other; the interval over persons does not, but they are few"
    )
    return lines(title, columns, rows)


def natural_table(moments: Sequence[NaturalMoment]) -> str:
    """Every noted moment of the clips, and where it came."""
    rows = [
        [
            f"{m.clip} {m.moment.kind}",
            f"{m.moment.start_s:g}–{m.moment.end_s:g}",
            "missed" if m.rank is None else str(m.rank),
            NOTHING if m.peak_rank is None else str(m.peak_rank),
        ]
        for m in moments
    ]
    found = sum(m.rank is not None for m in moments)
    title = f"Real clips as they are: {found} of {len(moments)} noted moments reported"
    return lines(title, ["", "seconds", "rank", "rank of its peak"], rows)


def scale_table(measured: Sequence[Measured]) -> str:
    """Time and memory by rows."""
    rows = [
        [str(m.rows), *(number(v, 1) for v in (m.trials_s, m.gridsearch_s)), *(number(v, 0) for v in _memory(m))]
        for m in measured
    ]
    title = (
        "Scale: trials and grid search on one person's rows; time grows as (n log n) to the power of"
        f" {number(exponent_of(measured))}"
    )
    return lines(title, ["rows", "trials s", "gridsearch s", "MB before", "MB at most"], rows)


def exponent_of(measured: Sequence[Measured]) -> float:
    """The exponent of trials and grid search together."""
    return exponent([m.rows for m in measured], [m.trials_s + m.gridsearch_s for m in measured])


def _memory(measured: Measured) -> tuple[float, float]:
    return measured.before_mb, measured.peak_mb


def plain(value: Any) -> Any:
    """A value as JSON can hold it: intervals as [value, low, high], unknown numbers as null."""
    if isinstance(value, Figure):
        return plain(value.interval)
    if isinstance(value, Interval):
        return [plain(value.value), plain(value.low), plain(value.high)]
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return round(value, 5) if math.isfinite(value) else None
    return value
