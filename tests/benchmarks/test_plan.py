"""The table of sources and the plan of spliced recordings; no footage is needed."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.anomalies.plan import DIFFICULTIES, GAP_S, LEAD_S, REST_S, SHORT_S, Event, lay_out, schedule
from benchmarks.anomalies.recordings import side_of
from benchmarks.anomalies.sources import SOURCES, Section, Source, clips_folder, of_split
from benchmarks.anomalies.splice import DURATION_S, EVENTS_EACH, all_requests

SHOWING = [source for source in SOURCES if source.expressions]


def times(source: Source) -> dict[Section, np.ndarray]:
    """Frame times as an ideal clip would have them."""
    return {
        s: np.arange(np.ceil(s.start_s * source.fps), np.floor(s.end_s * source.fps) + 1) / source.fps
        for s in (*source.usual, *source.expressions)
    }


def test_the_splits_share_no_person_and_no_clip() -> None:
    splits = [of_split(split) for split in ("tuning", "reporting", "control")]
    assert sum(map(len, splits)) == len(SOURCES)
    assert len({s.person for s in SOURCES}) == len(SOURCES)
    for one, two in itertools.combinations(splits, 2):
        assert not {c for s in one for c in s.clips} & {c for s in two for c in s.clips}


def test_who_may_be_somebody_else_is_on_their_side() -> None:
    by_person = {s.person: s for s in SOURCES}
    for source in SOURCES:
        if source.perhaps:
            assert by_person[source.perhaps].perhaps == ""
            assert side_of(source) == side_of(by_person[source.perhaps])
            assert source.split in ("control", by_person[source.perhaps].split)
    assert (by_person["lamp"].unit, side_of(by_person["lamp"])) == ("webcam", "tuning")


def test_there_are_enough_persons_and_events() -> None:
    assert len({s.unit for s in SHOWING}) >= 8
    assert len(of_split("tuning")) == len(of_split("reporting")) == 5
    events = sum(len(schedule(r.source, r.duration_s, r.events_each, r.seed)) for r in all_requests())
    assert events >= 40
    assert sum(r.events_each == 0 for r in all_requests()) >= 8


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.person)
def test_sections_are_sound_and_do_not_overlap(source: Source) -> None:
    assert source.width_px % 2 == source.height_px % 2 == 0
    for section in (*source.usual, *source.expressions):
        assert 0 <= section.start_s < section.peak_s < section.end_s
    spans = sorted((s.clip, s.start_s, s.end_s) for s in (*source.usual, *source.expressions))
    for (clip, _, end), (next_clip, start, _) in itertools.pairwise(spans):
        assert clip != next_clip or end <= start


@pytest.mark.real
def test_the_clips_hold_what_the_table_takes(testdata: Path) -> None:
    import av

    folder = testdata / "clips"
    assert clips_folder() == folder
    for source in SOURCES:
        for clip in source.clips:
            with av.open(str(folder / clip)) as container:
                stream = container.streams.video[0]
                x, y, width, height = source.crop_px
                assert x + width <= stream.width
                # One clip's picture is a row lower than its neighbours'.
                assert y + height <= stream.height
                assert round(float(stream.average_rate)) in (source.fps, source.fps + 1)


@given(st.sampled_from(SHOWING), st.integers(0, 1000))
def test_schedules_keep_their_distances(source: Source, seed: int) -> None:
    events = schedule(source, DURATION_S, EVENTS_EACH, seed)
    assert [sum(e.difficulty == d for e in events) for d in DIFFICULTIES] == [EVENTS_EACH] * 3
    assert events[0].start_s >= LEAD_S - 1e-3
    assert events[-1].end_s <= DURATION_S - REST_S + 0.01
    for one, two in itertools.pairwise(events):
        assert two.start_s - one.end_s >= GAP_S - 0.01
    for event in events:
        assert event.start_s < event.apex_s < event.end_s
        assert event.weight(event.start_s) == event.weight(event.end_s) == 0
        assert event.weight(event.apex_s) == pytest.approx(event.strength)
        shown = [event.clip_time_s(t) for t in np.linspace(event.start_s, event.end_s, 40)]
        assert min(shown) >= event.section.start_s - 1e-9
        assert max(shown) <= event.section.end_s + 1e-9
        if event.difficulty == "short":
            assert 0.2 <= event.end_s - event.start_s <= SHORT_S[1] + 0.01
        if event.difficulty == "subtle":
            assert (event.way, event.strength) == ("carried", 0.5)
        assert not (event.section.turned and event.way == "carried")


def test_a_schedule_depends_on_person_and_seed_alone() -> None:
    source = SHOWING[0]
    assert schedule(source, 90, 2, 1) == schedule(source, 90, 2, 1)
    assert schedule(source, 90, 2, 1) != schedule(source, 90, 2, 2)
    assert schedule(source, 90, 0, 1) == ()
    with pytest.raises(ValueError, match="too short"):
        schedule(source, 20, 2, 1)
    with pytest.raises(ValueError, match="no expressions"):
        schedule(of_split("control")[0], 90, 2, 1)


@given(st.sampled_from(SHOWING), st.integers(0, 50))
def test_layouts_show_the_usual_but_for_the_events(source: Source, seed: int) -> None:
    events = schedule(source, 60.0, 1, seed)
    sections = times(source)
    layout = lay_out(source, events, sections, 60.0, seed)
    usual_frames = sum(len(sections[s]) for s in source.usual)
    assert layout.base.min() >= 0
    assert layout.base.max() < usual_frames
    seen = layout.event >= 0
    assert (layout.other[seen] >= usual_frames).all()
    assert (layout.other[~seen] < usual_frames).all()
    assert ((layout.weight > 0) == (layout.other >= 0)).all()
    assert not layout.carried[~seen].any()
    at = np.arange(len(seen)) / source.fps
    for number, event in enumerate(events):
        inside = (at > event.start_s) & (at < event.end_s)
        assert (layout.event[inside] == number).all()
    # Jumps keep away from events, and come often enough to be a control.
    jumps = np.array(layout.jumps_s)
    assert len(jumps) >= 5
    for event in events:
        assert ((jumps < event.start_s - 0.5) | (jumps > event.end_s + 0.5)).all()


def test_usual_frames_follow_each_other_except_where_it_jumps() -> None:
    source = SHOWING[0]
    layout = lay_out(source, (), times(source), 60.0, 5)
    leaps = np.flatnonzero(np.abs(np.diff(layout.base)) > 1) / source.fps
    jumps = np.array(layout.jumps_s)
    assert all(np.abs(jumps - leap).min() < 0.25 for leap in leaps)


def test_short_events_show_the_apex() -> None:
    section = Section("clip", 10.0, 12.0, "smile", 11.5)
    event = Event(section, "short", "faded", 5.0, 5.15, 5.3)
    assert event.clip_time_s(5.15) == pytest.approx(11.5)
    long = Event(section, "strong", "faded", 5.0, 6.0, 8.0)
    assert long.clip_time_s(7.0) == pytest.approx(12.0)
    assert long.clip_time_s(8.0) == pytest.approx(11.0)  # it turns back at the end


def test_a_subtle_event_shows_the_apex_of_a_section_that_is_too_long_for_it() -> None:
    def shown(apex_s: float) -> tuple[float, float, float]:
        section = Section("clip", 0.0, 4.0, "smile", apex_s)
        event = Event(section, "subtle", "carried", 10.0, 11.0, 12.0)
        times_s = [event.clip_time_s(t) for t in np.linspace(10, 12, 81)]
        fully = [
            at for at, t in zip(times_s, np.linspace(10, 12, 81), strict=True) if event.weight(t) == event.strength
        ]
        assert np.diff(times_s) == pytest.approx(0.025)  # straight through
        return times_s[0], times_s[-1], float(np.abs(np.array(fully) - apex_s).min())

    assert shown(3.5) == pytest.approx((2.0, 4.0, 0.0))
    assert shown(2.2) == pytest.approx((1.2, 3.2, 0.0))
    assert shown(0.6) == pytest.approx((0.0, 2.0, 0.0))
