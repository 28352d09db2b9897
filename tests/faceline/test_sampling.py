"""Sampling: the frame nearest each tick, the same for every way of cutting the footage into segments."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from faceline.sampling import FACTS_SCHEMA, FRAMES_SCHEMA, SAMPLE, SampleParams, sampled
from faceline.stage import MemoryInputs, Runtime, collect
from faceline.timeline import cut_into_segments
from faceline.video import open_footage


@dataclass(frozen=True)
class Moment:
    index: int
    time_s: Fraction


def moments(gaps_ms, start_ms=0):
    times = np.cumsum([start_ms, *gaps_ms]).tolist()
    return [Moment(i, Fraction(t, 1000)) for i, t in enumerate(times)]


def nearest_to_ticks(frames, fps):
    """The obvious way: every tick looks at every frame."""
    start_s, last_s = frames[0].time_s, frames[-1].time_s
    end_s = last_s + (last_s - frames[-2].time_s) / 2 + Fraction(1, 1000)
    takers: dict[int, list[int]] = {}
    for tick in range(math.floor((end_s - start_s) * fps) + 1):
        at_s = start_s + tick / fps
        frame = min(frames, key=lambda frame: (abs(frame.time_s - at_s), frame.time_s))
        takers.setdefault(frame.index, []).append(tick)
    return {
        index: min(ticks, key=lambda tick: (abs(frames[index].time_s - start_s - tick / fps), tick))
        for index, ticks in takers.items()
    }


gaps = st.lists(st.integers(1, 700), min_size=1, max_size=40)
rates = st.fractions(min_value=Fraction(1, 3), max_value=60, max_denominator=7)


@given(gaps_ms=gaps, start_ms=st.integers(-2000, 2000), fps=rates)
def test_sampling_takes_the_frame_nearest_each_tick(gaps_ms, start_ms, fps):
    frames = moments(gaps_ms, start_ms)
    chosen = {frame.index: tick for frame, tick in sampled(frames, frames[0].time_s, fps)}
    assert chosen == nearest_to_ticks(frames, fps)


@given(gaps_ms=gaps, fps=rates, segment_s=st.fractions(Fraction(1, 5), 5, max_denominator=11))
def test_segments_with_their_neighbours_choose_as_the_whole_does(gaps_ms, fps, segment_s):
    frames = moments(gaps_ms, 1500)
    whole = list(sampled(frames, frames[0].time_s, fps))
    parts = []
    for segment in cut_into_segments(frames[0].time_s, frames[-1].time_s, segment_s):
        inside = [i for i, frame in enumerate(frames) if frame.time_s in segment]
        if inside:
            around = frames[max(0, inside[0] - 1) : inside[-1] + 2]
            parts += [(f, t) for f, t in sampled(around, frames[0].time_s, fps) if f.time_s in segment]
    assert parts == whole


@given(gaps_ms=gaps)
def test_more_than_the_native_rate_gives_every_frame_once(gaps_ms):
    frames = moments(gaps_ms)
    chosen = list(sampled(frames, frames[0].time_s, Fraction(2000)))
    assert [frame for frame, _ in chosen] == frames
    ticks = [tick for _, tick in chosen]
    assert ticks == sorted(set(ticks))


@pytest.mark.parametrize(
    ("native", "wanted"), [(Fraction(30), 30.0), (Fraction(30000, 1001), 30.0), (Fraction(25), 60.0)]
)
def test_the_native_rate_and_more_give_every_frame(native, wanted):
    frames = [Moment(i, Fraction(round(1000 * i / native), 1000)) for i in range(500)]
    chosen = [frame for frame, _ in sampled(frames, Fraction(0), Fraction(repr(wanted)))]
    assert chosen == frames


def run(path, segment_s=300.0, **params):
    footage = open_footage(path)
    parts = [
        collect(
            SAMPLE.compute(
                SampleParams(segment_s=segment_s, **params), MemoryInputs(footage=footage, segment=s), Runtime()
            )
        )
        for s in footage.segments(segment_s)
    ]
    return footage, pa.concat_tables([p["frames"] for p in parts]), pa.concat_tables([p["facts"] for p in parts])


VFR_MS = [1500 + t for t in np.cumsum([0, *([33, 67, 40, 200, 5, 33, 533] * 7)]).tolist()]


@pytest.fixture(scope="module")
def vfr(clips):
    return clips("sampled.mkv", count=len(VFR_MS), pts=VFR_MS, time_base=Fraction(1, 1000))


@pytest.mark.parametrize("segment_s", [0.4, 1.0, 2.3])
@pytest.mark.parametrize("fps", [4.0, 10.0, "native"])
def test_the_stage_samples_alike_in_one_segment_and_in_many(vfr, segment_s, fps):
    _, whole, _ = run(vfr, fps=fps)
    _, parts, facts = run(vfr, segment_s=segment_s, fps=fps)
    same = ["frame", "pts", "time_s", "tick", "luma_mean"]
    assert parts.select(same).equals(whole.select(same))
    assert parts.schema == FRAMES_SCHEMA
    assert facts.schema == FACTS_SCHEMA
    assert sum(facts["frames_decoded"].to_pylist()) == len(VFR_MS)
    scores = dict(zip(whole["frame"].to_pylist(), whole["cut_score"].to_pylist(), strict=True))
    for row in parts.to_pylist():
        assert row["cut_score"] is None or row["cut_score"] == pytest.approx(scores[row["frame"]], abs=1e-6)
    assert [row["cut_score"] is None for row in parts.to_pylist()] == [True] + [False] * (parts.num_rows - 1)


def test_times_are_presentation_times_and_frames_are_what_they_claim(vfr):
    footage, frames, facts = run(vfr, fps=5.0)
    for row in frames.to_pylist():
        assert row["time_s"] == VFR_MS[row["frame"]] / 1000
        assert row["pts"] * footage.time_base == Fraction(VFR_MS[row["frame"]], 1000)
    (fact,) = facts.to_pylist()
    assert (fact["time_base_num"], fact["time_base_den"]) == (1, 1000)
    assert (fact["width_px"], fact["height_px"], fact["rotation_deg"]) == (192, 96, 0)
    assert fact["damaged_at_s"] is None
    assert fact["damage"] is None


def test_native_takes_every_frame_and_numbers_ticks_by_it(vfr):
    _, frames, _ = run(vfr, fps="native")
    assert frames["frame"].to_pylist() == frames["tick"].to_pylist() == list(range(len(VFR_MS)))


def test_cuts_and_brightness(tmp_path, clip_writer):
    rng = np.random.default_rng(3)
    coarse = rng.integers(0, 256, (2, 6, 12, 3), dtype=np.uint8)
    first, second = coarse.repeat(16, 1).repeat(16, 2)
    path = clip_writer(tmp_path / "cut.mp4", [first] * 30 + [second] * 30 + [second // 2] * 20)
    _, frames, _ = run(path, fps=10.0)
    rows = frames.to_pylist()
    assert [row["time_s"] for row in rows if row["cut"]] == [1.2]
    assert rows[0]["luma_mean"] == pytest.approx(first.mean((0, 1)) @ [0.299, 0.587, 0.114], abs=2)
    assert rows[-1]["luma_mean"] == pytest.approx(rows[-10]["luma_mean"] / 2, abs=2)


@pytest.mark.parametrize("segment_s", [0.4, 0.5, 0.6, 1.2])
@pytest.mark.parametrize("fps", [3.0, 10.0, "native"])
def test_a_cut_on_the_edge_of_a_segment_is_seen(tmp_path, clip_writer, segment_s, fps):
    rng = np.random.default_rng(3)
    first, second = rng.integers(0, 256, (2, 6, 12, 3), dtype=np.uint8).repeat(16, 1).repeat(16, 2)
    path = clip_writer(tmp_path / "cut.mp4", [first] * 30 + [second] * 30)
    _, whole, _ = run(path, fps=fps)
    _, parts, _ = run(path, segment_s=segment_s, fps=fps)
    assert sum(whole["cut"].to_pylist()) == 1
    for column in ("frame", "cut", "cut_score"):
        assert parts[column].equals(whole[column])


def test_damage_is_stated_and_what_is_spoilt_is_not_sampled(clips, tmp_path):
    whole = clips("tocut.mp4", count=100, container={"movflags": "faststart"})
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    _, frames, facts = run(path, fps=10.0)
    (fact,) = facts.to_pylist()
    assert fact["damaged_at_s"] > frames["time_s"].to_pylist()[-1]
    assert fact["damage"]
    assert 20 < fact["frames_decoded"] < 80


def test_a_failure_that_is_kept_keeps_no_reader(vfr):
    footage = open_footage(vfr)

    def fail(done, total):
        raise OSError("full")

    with pytest.raises(OSError, match="full") as kept:
        collect(
            SAMPLE.compute(
                SampleParams(), MemoryInputs(footage=footage, segment=footage.segments(300)[0]), Runtime(progress=fail)
            )
        )
    assert kept.value.__traceback__ is not None  # which knows the stage's frame, and through it the reader
    assert not [thread for thread in threading.enumerate() if thread.name == "read-ahead"]


@pytest.mark.parametrize(
    "wrong",
    [{"fps": 0}, {"fps": -1}, {"fps": 1001}, {"fps": "all"}, {"segment_s": 0}, {"cut_threshold": 0.2}, {"sps": 3}],
)
def test_params_have_bounds(wrong):
    with pytest.raises(ValidationError):
        SampleParams(**wrong)
