"""Whose face, when, and can it be relied on: the rows of one person, in time, with what is masked and why.

A *row* is one sampled face. Rows are cut into *stretches*: runs of one shot without a longer gap, over which a window
may reach. Nothing is interpolated and nothing is filled in; a row that cannot be relied on stays in place, masked.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from pydantic import Field

from faceline.stage import Inputs, StageParams

ALIGN_COLUMNS = (
    "frame",
    "time_s",
    "state",
    "quality",
    "yaw_deg",
    "pitch_deg",
    "roll_deg",
    "luma_mean",
    "eye_distance_px",
)

CONFOUNDS = ("yaw_deg", "pitch_deg", "roll_deg", "luma_mean", "size_octaves")
"""What changes a face's picture without being an expression: head pose, light, and the logarithm (to base 2) of the
distance between the eyes in pixels."""

MASK_REASONS = ("no_face", "quality", "turned")
"""Why a row is masked, in the order in which the reasons are tried; each masked row counts once."""


class MaskParams(StageParams):
    """Which faces may carry an anomaly, and over what a window may reach."""

    min_quality: float = Field(0.2, ge=0, le=1, description="faces of lower alignment quality are masked")
    max_yaw_deg: float = Field(45.0, gt=0, le=90, description="faces turned further to a side are masked")
    max_pitch_deg: float = Field(40.0, gt=0, le=90, description="faces raised or lowered further are masked")
    max_gap_s: float = Field(
        1.0, gt=0, description="a person unseen for longer starts a new stretch; never below 2.5 sampling intervals"
    )


@dataclass(frozen=True)
class PersonRows:
    """The rows of one person, in order of time.

    Attributes:
        person: 1-based person number.
        index: int64 [n], position of each row in align's table (and in every table and array lined up with it).
        time_s: float64 [n], ascending.
        stretch: int64 [n], ascending from 0; a new one begins at a cut and after a gap.
        usable: bool [n], whether an anomaly may rest on the row.
        confounds: float64 [n, 5], see `CONFOUNDS`; NaN where unknown.
        quality: float64 [n], NaN where unknown.
        interval_s: sampling interval of the footage, seconds.
        masked: how many rows each reason masks.
    """

    person: int
    index: np.ndarray
    time_s: np.ndarray
    stretch: np.ndarray
    usable: np.ndarray
    confounds: np.ndarray
    quality: np.ndarray
    interval_s: float
    masked: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.index)


def people_rows(inputs: Inputs, params: MaskParams) -> list[PersonRows]:
    """The rows of every known person, by person number; faces that fit nobody belong to none of them."""
    faces = inputs.table("align", "faces", ALIGN_COLUMNS)
    person = _floats(inputs.table("cluster", "persons", ("person",)), "person")
    frames = inputs.table("sample", "frames", ("frame", "time_s", "cut"))
    if len(person) != faces.num_rows:
        raise ValueError(f"cluster/persons has {len(person)} rows, align/faces {faces.num_rows}: they must line up")
    interval_s = sampling_interval_s(frames)
    shots = Shots.of(frames)
    time_s, frame = _floats(faces, "time_s"), faces["frame"].to_numpy()
    pose = np.stack([_floats(faces, name) for name in ("yaw_deg", "pitch_deg", "roll_deg")], axis=1)
    quality = _floats(faces, "quality")
    with np.errstate(divide="ignore", invalid="ignore"):
        octaves = np.log2(_floats(faces, "eye_distance_px"))
    confounds = np.column_stack([pose, _floats(faces, "luma_mean"), np.where(np.isfinite(octaves), octaves, np.nan)])
    reason = mask_reasons(np.asarray(faces["state"].to_pylist(), dtype=object), quality, pose, params)
    people = []
    for number in sorted({int(p) for p in person[np.isfinite(person)]}):
        index = np.flatnonzero(person == number)
        index = index[np.argsort(time_s[index], kind="stable")]
        counts = {name: int(np.sum(reason[index] == i)) for i, name in enumerate(MASK_REASONS)}
        people.append(
            PersonRows(
                person=number,
                index=index,
                time_s=time_s[index],
                stretch=stretches(time_s[index], shots.of_frame(frame[index]), max(params.max_gap_s, 2.5 * interval_s)),
                usable=reason[index] < 0,
                confounds=confounds[index],
                quality=quality[index],
                interval_s=interval_s,
                masked=counts,
            )
        )
    return people


def mask_reasons(state: np.ndarray, quality: np.ndarray, pose_deg: np.ndarray, params: MaskParams) -> np.ndarray:
    """int8 [n]: −1 for a usable row, else the position of the reason in `MASK_REASONS`.

    An unknown pose does not mask by itself (a face without a mesh has emotions all the same); an unknown quality does.
    """
    reason = np.full(len(state), -1, dtype=np.int8)
    with np.errstate(invalid="ignore"):
        turned = (np.abs(pose_deg[:, 0]) > params.max_yaw_deg) | (np.abs(pose_deg[:, 1]) > params.max_pitch_deg)
        reason[turned] = 2
        reason[~(quality >= params.min_quality)] = 1
    reason[~np.isin(state, ("ok", "no_mesh"))] = 0
    return reason


@dataclass(frozen=True)
class Shots:
    """Which shot a frame belongs to: `frame` ascending int64 [m], `shot` int64 [m]."""

    frame: np.ndarray
    shot: np.ndarray

    @classmethod
    def of(cls, frames: pa.Table) -> Shots:
        """From frames.parquet; a segment's edge alone starts no shot."""
        frame = frames["frame"].to_numpy()
        order = np.argsort(frame, kind="stable")
        cut = np.asarray(frames["cut"].fill_null(False).to_numpy(zero_copy_only=False), dtype=bool)
        return cls(frame[order], np.cumsum(cut[order]))

    def of_frame(self, frame: np.ndarray) -> np.ndarray:
        """int64 shot of each frame: that of the last sampled frame at or before it."""
        if len(self.frame) == 0:
            return np.zeros(len(frame), dtype=np.int64)
        position = np.clip(np.searchsorted(self.frame, frame, side="right") - 1, 0, None)
        return self.shot[position]


def stretches(time_s: np.ndarray, shot: np.ndarray, max_gap_s: float) -> np.ndarray:
    """int64 [n] ids from 0, rising wherever the shot changes or the next row lies more than `max_gap_s` later."""
    if len(time_s) == 0:
        return np.zeros(0, dtype=np.int64)
    breaks = (np.diff(time_s) > max_gap_s + 1e-6) | (np.diff(shot) != 0)
    return np.concatenate([[0], np.cumsum(breaks)]).astype(np.int64)


def sampling_interval_s(frames: pa.Table) -> float:
    """Mean distance of sampled frames in seconds, gaps left out; 0.1 when there are fewer than two.

    Not the median: 10 frames of 25 a second are 0.08 and 0.12 s apart in turn, and it would be one of the two.
    """
    steps = np.diff(np.unique(_floats(frames, "time_s")))
    if not len(steps):
        return 0.1
    return float(np.mean(steps[steps <= 2.5 * np.median(steps)]))


def _floats(table: pa.Table, column: str) -> np.ndarray:
    """A numeric column as float64, null → NaN."""
    values = table[column].cast(pa.float64()).to_numpy(zero_copy_only=False)
    return np.asarray(values, dtype=np.float64)
