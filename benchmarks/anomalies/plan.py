"""What a spliced recording shows in each of its frames, decided before any picture is touched.

A person's usual behaviour runs on and on: forwards and backwards through its sections, turning at their ends and now
and then before them, and jumping to another place every few seconds. Into it come the events. A jump inside the usual
is faded over exactly as an event is, so that a method which finds fades finds jumps, and pays for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from benchmarks.anomalies.sources import Section, Source

Difficulty = Literal["strong", "short", "subtle"]
Way = Literal["faded", "carried"]

DIFFICULTIES: tuple[Difficulty, ...] = ("strong", "short", "subtle")
SUBTLE_STRENGTH = 0.5
FADES_S = {"strong": 0.2, "short": 0.08, "subtle": 0.25}
SHORT_S = (0.24, 0.48)
LONGEST_S = {"strong": 2.5, "subtle": 2.0}
SHORTEST_SUBTLE_S = 0.8
LEAD_S, GAP_S, REST_S = 6.0, 5.0, 3.0
"""No event before the first, within the second after another, or in the last seconds of a recording."""

JUMPS_S = (3.0, 7.0)
"""Least and most time between jumps inside the usual."""

TURNS_S = (2.0, 12.0)
"""Least and most time before the direction changes within a section."""


@dataclass(frozen=True)
class Event:
    """One expression put into the usual.

    Attributes:
        section: where it comes from.
        difficulty: how much of it is shown.
        way: "faded": whole pictures of the section, cross-faded along the mesh; "carried": the face alone, moved onto
            the usual head, so that nothing but the expression changes.
        start_s, end_s: first instant at which anything of it can be seen, and first without.
        apex_s: when most of it is shown.
    """

    section: Section
    difficulty: Difficulty
    way: Way
    start_s: float
    apex_s: float
    end_s: float

    @property
    def fade_s(self) -> float:
        """Seconds from nothing to all of it."""
        return FADES_S[self.difficulty]

    @property
    def strength(self) -> float:
        """Share of the expression that is shown at most."""
        return SUBTLE_STRENGTH if self.difficulty == "subtle" else 1.0

    def weight(self, time_s: float) -> float:
        """Share that is shown at an instant, 0 … `strength`."""
        inside = min(time_s - self.start_s, self.end_s - time_s)
        if inside <= 0:
            return 0.0
        return self.strength * float(0.5 - 0.5 * np.cos(np.pi * min(inside / self.fade_s, 1.0)))

    def clip_time_s(self, time_s: float) -> float:
        """Second of the clip that is seen at an instant; beyond the section's ends it turns back."""
        length, shown = self.section.length_s, self.end_s - self.start_s
        first = self.section.start_s
        if self.difficulty == "short":
            first = self.section.peak_s - shown / 2
            return float(np.clip(first + time_s - self.start_s, self.section.start_s, self.section.end_s))
        if self.difficulty == "subtle" and shown < length - 1e-6:
            # A part of the section: the one around its apex, as far as that lies inside.
            first = max(first, min(self.section.peak_s - shown / 2, self.section.end_s - shown))
        along = (first - self.section.start_s + time_s - self.start_s) % (2 * length)
        return self.section.start_s + (along if along <= length else 2 * length - along)


def schedule(source: Source, duration_s: float, events_each: int, seed: int) -> tuple[Event, ...]:
    """Events of one recording, in order of time: `events_each` of every difficulty; none for a control.

    Args:
        source: the person.
        duration_s: length of the recording.
        events_each: events per difficulty; 0 gives a control.
        seed: of everything random; one seed gives different recordings for different persons.

    Raises:
        ValueError: if the recording is too short for its events.
    """
    if events_each == 0:
        return ()
    if not source.expressions:
        raise ValueError(f"{source.person} has no expressions to put in")
    rng = np.random.default_rng([seed, *source.person.encode()])
    shown: list[tuple[Section, Difficulty, Way, float]] = []
    for difficulty in DIFFICULTIES:
        fit = [section for section in source.expressions if difficulty != "subtle" or not section.turned]
        order = rng.permutation(len(fit))
        for k in range(events_each):
            section = fit[order[k % len(order)]]
            way: Way = "carried" if (difficulty == "subtle" or k % 2) and not section.turned else "faded"
            shown.append((section, difficulty, way, _length_s(section, difficulty, rng)))
    shown = [shown[i] for i in rng.permutation(len(shown))]
    free = duration_s - LEAD_S - REST_S - GAP_S * (len(shown) - 1) - sum(length for *_, length in shown)
    if free < 0:
        raise ValueError(f"{duration_s:g} s are too short for {len(shown)} events of {source.person}")
    slack = np.diff(np.sort(np.concatenate([[0.0], rng.uniform(0, free, len(shown))])))
    events, at = [], LEAD_S
    for (section, difficulty, way, length), wait in zip(shown, slack, strict=True):
        start = round(at + float(wait), 3)
        end = round(start + length, 3)
        apex = (start + end) / 2
        if difficulty == "strong":
            fade = FADES_S["strong"]
            apex = float(np.clip(start + section.peak_s - section.start_s, start + fade, end - fade))
        events.append(Event(section, difficulty, way, start, round(apex, 3), end))
        at = end + GAP_S
    return tuple(events)


def _length_s(section: Section, difficulty: Difficulty, rng: np.random.Generator) -> float:
    if difficulty == "short":
        return min(float(rng.uniform(*SHORT_S)), section.length_s)
    least = SHORTEST_SUBTLE_S if difficulty == "subtle" else 2.5 * FADES_S["strong"]
    return float(np.clip(section.length_s, least, LONGEST_S[difficulty]))


@dataclass(frozen=True)
class Layout:
    """The frames of a recording, one entry per frame.

    Attributes:
        base: int64 [n], source frame of the usual behaviour.
        other: int64 [n], source frame that is mixed in; −1 where none is.
        weight: float64 [n], its share.
        carried: bool [n], whether only its face is taken.
        event: int64 [n], position of the event that is seen; −1 where none is.
        jumps_s: middles of the jumps inside the usual, seconds.
    """

    base: np.ndarray
    other: np.ndarray
    weight: np.ndarray
    carried: np.ndarray
    event: np.ndarray
    jumps_s: tuple[float, ...]


def lay_out(
    source: Source, events: tuple[Event, ...], times_s: Mapping[Section, np.ndarray], duration_s: float, seed: int
) -> Layout:
    """Choose the source frames.

    Args:
        source: the person.
        events: what `schedule` says.
        times_s: of every section the times of its frames in the clip, float64 [k], ascending; frames are numbered
            through all sections in the order of this mapping.
        duration_s: length of the recording.
        seed: the one of the schedule.
    """
    first = dict(zip(times_s, np.cumsum([0, *(len(t) for t in times_s.values())]), strict=False))
    count = round(duration_s * source.fps)
    rng = np.random.default_rng([seed, 1, *source.person.encode()])
    usual = [(int(first[s]), len(times_s[s])) for s in source.usual if len(times_s[s]) >= 2]
    if not usual:
        raise ValueError(f"no usual behaviour of {source.person}")
    walk, jumps = _walk(usual, count, source.fps, events, rng)
    base = walk.copy()
    other, weight = np.full(count, -1), np.zeros(count)
    carried, which = np.zeros(count, dtype=bool), np.full(count, -1)
    for frame, fade_frames in jumps:
        # Two walkers at once would be needed to fade from one to the other; the old one stands still meanwhile.
        inside = np.arange(fade_frames)
        base[frame + inside] = walk[frame - 1]
        other[frame + inside] = walk[frame + inside]
        weight[frame + inside] = 0.5 - 0.5 * np.cos(np.pi * (inside + 1) / (fade_frames + 1))
    for number, event in enumerate(events):
        clip_times = times_s[event.section]
        for frame in range(int(np.ceil(event.start_s * source.fps)), min(int(event.end_s * source.fps) + 1, count)):
            share = event.weight(frame / source.fps)
            if share > 0:
                nearest = int(np.abs(clip_times - event.clip_time_s(frame / source.fps)).argmin())
                other[frame], weight[frame] = first[event.section] + nearest, share
                carried[frame], which[frame] = event.way == "carried", number
    middles = tuple(round((frame + (fade - 1) / 2) / source.fps, 3) for frame, fade in jumps)
    return Layout(base, other, weight, carried, which, middles)


def _walk(
    usual: list[tuple[int, int]], count: int, fps: int, events: tuple[Event, ...], rng: np.random.Generator
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Source frame of the usual per frame, int64 [count], and the jumps as (first frame, frames of the fade)."""
    busy = np.zeros(count + fps, dtype=bool)
    for event in events:
        busy[max(0, int((event.start_s - 0.7) * fps)) : int((event.end_s + 0.7) * fps) + 1] = True
    share = np.array([length for _, length in usual], dtype=np.float64)
    share /= share.sum()

    def land() -> tuple[int, int, int]:
        section = int(rng.choice(len(usual), p=share))
        return section, int(rng.integers(usual[section][1])), int(rng.choice((-1, 1)))

    section, position, step = land()
    jump_in, turn_in = rng.uniform(*JUMPS_S) * fps, rng.uniform(*TURNS_S) * fps
    walk, jumps = np.empty(count, dtype=np.int64), []
    for frame in range(count):
        fade = max(1, round(FADES_S["strong" if rng.random() < 0.5 else "short"] * fps))
        if jump_in <= 0 and frame > 0 and frame + fade < count and not busy[frame : frame + fade].any():
            section, position, step = land()
            jumps.append((frame, fade))
            jump_in = max(rng.uniform(*JUMPS_S) * fps, fade + 1)
        start, length = usual[section]
        walk[frame] = start + position
        if turn_in <= 0:
            step, turn_in = -step, rng.uniform(*TURNS_S) * fps
        if not 0 <= position + step < length:
            step = -step
        position += step
        jump_in, turn_in = jump_in - 1, turn_in - 1
    return walk, jumps
