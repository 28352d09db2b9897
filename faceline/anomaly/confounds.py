"""What else changed while an event lasted: causes that are not expression, named so that a human can weigh them.

A cause is *flagged* when it departs from the person's usual during the event. It *explains* the event when it departs
so far that the face could hardly be read as usual whatever it expressed, or when the event sits on a seam of the
footage (a cut, a face coming or going): then the event is set apart and counts for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from faceline.anomaly.baseline import Baseline
from faceline.anomaly.events import Event
from faceline.anomaly.features import table_columns
from faceline.anomaly.rows import PersonRows
from faceline.stage import Inputs


@dataclass(frozen=True)
class Cause:
    """One cause beside expression.

    Attributes:
        words: its flag.
        floor: of a robust standard deviation, in the column's unit: what is too small to matter.
        flagged: robust standard deviations from usual beyond which it is named.
        explains: the same beyond which it explains an event.
    """

    words: str
    floor: float
    flagged: float
    explains: float


CAUSES: dict[str, Cause] = {
    "yaw_deg": Cause("head turned", 3.0, 4.0, 8.0),
    "pitch_deg": Cause("head raised or lowered", 3.0, 4.0, 8.0),
    "roll_deg": Cause("head tilted", 3.0, 4.0, 8.0),
    "luma_mean": Cause("light changed", 4.0, 4.0, 8.0),
    "sharpness": Cause("sharpness changed", 1e-3, 5.0, 10.0),
    "eye_distance_px": Cause("face size changed", 2.0, 4.0, 8.0),
}
"""By column of align's faces."""

CUT, EDGE = "cut nearby", "face comes or goes"

SEAM_S = 0.3
"""An event that begins or ends so close to a cut, or to a time without the face, sits on that seam."""


@dataclass(frozen=True)
class Audit:
    """Words for the causes of an event, and whether they explain it."""

    flags: tuple[str, ...]
    explained: bool


@dataclass(frozen=True)
class Surroundings:
    """What is known of all faces of a footage beside their expression.

    Attributes:
        columns: float64 [all faces] by column of `CAUSES`, NaN where unknown.
        cut_s: float64 [k], times of the first sampled frames of shots, ascending.
        first_s, last_s: times of the first and the last sampled frame.
    """

    columns: Mapping[str, np.ndarray]
    cut_s: np.ndarray
    first_s: float
    last_s: float

    @classmethod
    def of(cls, inputs: Inputs) -> Surroundings:
        """From the tables of align and sample."""
        faces = inputs.table("align", "faces", tuple(CAUSES))
        frames = inputs.table("sample", "frames", ("time_s", "cut"))
        time_s = frames["time_s"].to_numpy().astype(np.float64)
        cut = np.asarray(frames["cut"].fill_null(False).to_numpy(zero_copy_only=False), dtype=bool)
        ends = (float(time_s.min()), float(time_s.max())) if len(time_s) else (0.0, 0.0)
        columns = dict(zip(CAUSES, table_columns(faces, tuple(CAUSES)).T, strict=True))
        return cls(columns, np.sort(time_s[cut]), *ends)

    def audit(self, event: Event, rows: PersonRows) -> Audit:
        """The causes of one event of a person."""
        flags, explained = [], False
        inside = slice(event.start, event.end + 1)
        for name, cause in CAUSES.items():
            values = self.columns[name][rows.index]
            if not np.isfinite(values[inside]).any():
                continue
            usual = Baseline.of(values[:, None], cause.floor)
            departure = float(np.nanmax(np.abs(usual.standardise(values[inside][:, None], 1e6))))
            if departure > cause.flagged:
                flags.append(cause.words)
                explained |= departure > cause.explains
        seams = self._seams(event, rows)
        return Audit((*flags, *seams), explained or bool(seams))

    def _seams(self, event: Event, rows: PersonRows) -> list[str]:
        start_s, end_s = float(rows.time_s[event.start]), float(rows.time_s[event.end])
        seams = []
        if ((self.cut_s >= start_s - SEAM_S) & (self.cut_s <= end_s + SEAM_S)).any():
            seams.append(CUT)
        # A stretch of the person's faces that ends here, though the footage goes on.
        mine = rows.time_s[rows.stretch == rows.stretch[event.peak]]
        came = start_s - mine[0] <= SEAM_S and mine[0] > self.first_s + rows.interval_s
        went = mine[-1] - end_s <= SEAM_S and mine[-1] < self.last_s - rows.interval_s
        if (came or went) and CUT not in seams:
            seams.append(EDGE)
        return seams
