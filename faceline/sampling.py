"""Stage *sample*: which frames of a segment are looked at, by presentation time, and where shots begin."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field

from faceline.picture import Frame, luma
from faceline.shots import MOTION_SEARCHED_FROM, cut_score
from faceline.stage import Chunk, Inputs, Payload, Runtime, Stage, StageParams
from faceline.video import Footage, read_frames

FRAMES_SCHEMA = pa.schema(
    [
        pa.field("frame", pa.int64(), nullable=False),
        pa.field("pts", pa.int64(), nullable=False),
        pa.field("time_s", pa.float64(), nullable=False),
        pa.field("tick", pa.int64(), nullable=False),
        pa.field("segment", pa.int32(), nullable=False),
        pa.field("cut", pa.bool_(), nullable=False),
        pa.field("luma_mean", pa.float32(), nullable=False),
        pa.field("cut_score", pa.float32()),
    ]
)

FACTS_SCHEMA = pa.schema(
    [
        pa.field("segment", pa.int32(), nullable=False),
        pa.field("time_base_num", pa.int64(), nullable=False),
        pa.field("time_base_den", pa.int64(), nullable=False),
        pa.field("width_px", pa.int32(), nullable=False),
        pa.field("height_px", pa.int32(), nullable=False),
        pa.field("rotation_deg", pa.int32(), nullable=False),
        pa.field("native_fps", pa.float64(), nullable=False),
        pa.field("frames_decoded", pa.int64(), nullable=False),
        pa.field("damaged_at_s", pa.float64()),
        pa.field("damage", pa.string()),
    ]
)

_ROWS_PER_CHUNK = 512

#: Containers round timestamps to a millisecond at worst; the last tick may be missed by as much.
_ROUNDING_S = Fraction(1, 1000)


class SampleParams(StageParams):
    """How footage is sampled."""

    fps: float | Literal["native"] = Field(
        default=10.0,
        description="Sampled frames per second; each tick takes the frame nearest in time, no frame twice, so that "
        "more than the native rate gives the native rate. 'native' takes every frame.",
    )
    segment_s: float = Field(
        default=75.0,
        gt=0,
        le=86_400,
        description="Most seconds of a segment: stages work on each of the equal segments of footage on its own.",
    )
    cut_threshold: float = Field(
        default=0.6,
        ge=MOTION_SEARCHED_FROM,
        le=2,
        description="Cut score (0 to 2) from which a shot boundary is assumed between two sampled frames.",
    )

    def model_post_init(self, context: Any, /) -> None:
        """Bounds of ``fps``, which a union cannot carry."""
        if self.fps != "native" and not 0 < self.fps <= 1000:
            raise ValueError(f"fps must lie above 0 and not above 1000, got {self.fps}")


def sampled(frames: Iterable[Frame], start_s: Fraction, fps: Fraction | None) -> Iterator[tuple[Frame, int]]:
    """Choose frames by ticks at ``start_s + k / fps``.

    Each tick takes the frame nearest in time, the earlier one of two equally near; a frame that is nearest to several
    ticks is taken once, for the nearest of them. Ticks end half a frame after the last frame. Whether a frame is
    taken depends on it and its two neighbours alone, so that segments read with their neighbours choose as the whole
    footage does.

    Args:
        frames: in order of time.
        start_s: time of tick 0, the first frame of the footage.
        fps: ticks per second; None takes every frame, numbered by its index.

    Yields:
        (frame, tick), in order.
    """
    if fps is None:
        for frame in frames:
            yield frame, frame.index
        return
    held: Frame | None = None
    held_s = shown_s = Fraction(0)
    # Ticks up to ``last`` are nearer to an earlier frame than to the one held.
    last, half = -1, fps / 2
    for frame in frames:
        time_s = frame.time_s
        if held is not None:
            first, last = last + 1, math.floor((held_s + time_s - 2 * start_s) * half)
            if first <= last:
                yield held, _nearest(first, last, (held_s - start_s) * fps)
            shown_s = time_s - held_s
        held, held_s = frame, time_s
    if held is not None:
        first, last = last + 1, math.floor((2 * held_s + shown_s + 2 * _ROUNDING_S - 2 * start_s) * half)
        if first <= last:
            yield held, _nearest(first, last, (held_s - start_s) * fps)


def _nearest(first: int, last: int, position: Fraction) -> int:
    """The tick from ``first`` to ``last`` that is nearest to a position between ticks, the earlier of two."""
    return max(first, min(last, math.ceil(position - Fraction(1, 2))))


def _compute(params: SampleParams, inputs: Inputs, runtime: Runtime) -> Iterator[Chunk]:
    footage, segment = inputs.footage, inputs.segment
    fps = None if params.fps == "native" else Fraction(repr(params.fps))
    total = math.ceil(segment.end_s - segment.start_s)
    # Two ticks back lies the frame that was sampled last before the segment: a cut may fall on the segment's edge.
    lead_s = min(2 / fps, segment.end_s - segment.start_s) if fps else Fraction(0)
    with read_frames(footage, segment, neighbours=True, lead_s=lead_s) as reader:
        rows: list[dict[str, Any]] = []
        previous = None
        for frame, tick in sampled(reader, footage.start_s, fps):
            runtime.progress(min(total, max(0, int(frame.time_s - segment.start_s))), total)
            if frame.time_s >= segment.end_s:
                continue
            thumbnail = frame.thumbnail()
            score = None if previous is None else cut_score(previous, thumbnail)
            previous = thumbnail
            if frame.time_s < segment.start_s:
                continue
            rows.append(
                {
                    "frame": frame.index,
                    "pts": frame.pts,
                    "time_s": float(frame.time_s),
                    "tick": tick,
                    "segment": segment.index,
                    "cut": score is not None and score >= params.cut_threshold,
                    "luma_mean": float(luma(thumbnail).mean()),
                    "cut_score": score,
                }
            )
            if len(rows) >= _ROWS_PER_CHUNK:
                yield {"frames": pa.Table.from_pylist(rows, FRAMES_SCHEMA)}
                rows = []
    yield {"frames": pa.Table.from_pylist(rows, FRAMES_SCHEMA)}
    runtime.progress(total, total)
    damage = reader.damage
    facts = {
        "segment": segment.index,
        "frames_decoded": reader.frames_decoded,
        "damaged_at_s": None if damage is None else float(damage.at_s),
        "damage": None if damage is None else damage.reason,
        **_facts(footage),
    }
    yield {"facts": pa.Table.from_pylist([facts], FACTS_SCHEMA)}


def _facts(footage: Footage) -> dict[str, Any]:
    return {
        "time_base_num": footage.time_base.numerator,
        "time_base_den": footage.time_base.denominator,
        "width_px": footage.width_px,
        "height_px": footage.height_px,
        "rotation_deg": footage.rotation_deg,
        "native_fps": footage.native_fps,
    }


SAMPLE = Stage(
    name="sample",
    version=1,
    scope="segment",
    params=SampleParams,
    inputs=(),
    outputs=(
        Payload(
            "frames",
            "parquet",
            "One row per sampled frame, by time. `time_s` is the presentation timestamp, not shifted to start at 0; "
            "`cut`: a shot boundary lies between the previous sampled frame, which may belong to the segment "
            "before, and this one; `luma_mean` 0–255; `cut_score` 0–2, null where no frame before it can be seen; "
            "below 0.3 an upper bound.",
        ),
        Payload(
            "facts",
            "parquet",
            "One row: what reading the segment told. `damaged_at_s`: time of the first picture that is missing or "
            "spoilt, null when all is well; spoilt pictures count as decoded, but are never sampled.",
        ),
    ),
    compute=_compute,
    reads_footage=True,
)
