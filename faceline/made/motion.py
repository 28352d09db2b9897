"""How a person moves: idle movement, blinks, talk and bursts, as a pose for any instant.

Everything is a function of time, drawn once from the script's seed, so that a frame does not depend on which frames
were rendered before it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from faceline.made.fields import limits
from faceline.made.portrait import PORTRAITS
from faceline.made.puppet import Camera
from faceline.made.script import Burst, Confound, Person, Script

Channels = dict[str, float]


def _both(name: str, amount: float) -> Channels:
    return {f"{name}_left": amount, f"{name}_right": amount}


ACTIONS: dict[str, Channels] = {
    "brow_raise": {**_both("brow_inner_up", 0.085), **_both("brow_outer_up", 0.1), **_both("lid_wide", 0.015)},
    "mouth_open": {"jaw_open": 0.2, **_both("corner_up", -0.02), **_both("corner_out", -0.015)},
    "frown": {
        **_both("corner_up", -0.1), **_both("corner_out", -0.03), **_both("brow_down", 0.06), "lips_together": 1.0,
    },
    "smile": {
        **_both("corner_up", 0.08), **_both("corner_out", 0.08), **_both("lid_lower_up", 0.03), "upper_lip_up": 0.01,
    },
    "one_sided": {"corner_up_left": 0.1, "corner_out_left": 0.07, "brow_outer_up_right": 0.08},
    "pucker": {**_both("corner_out", -0.12), "lips_together": 0.5},
    "surprise": {
        **_both("brow_inner_up", 0.08), **_both("brow_outer_up", 0.08), **_both("lid_wide", 0.015), "jaw_open": 0.14,
    },
    "eyes_shut": _both("lid_close", 1.0),
}  # fmt: skip
"""Each burst kind at strength 1: channel → amount. ``lips_together`` is a share of the portrait's own lip gap."""

SILENCES_TALK: frozenset[str] = frozenset({"mouth_open", "frown", "smile", "one_sided", "pucker", "surprise"})


def envelope(burst: Burst, time_s: float) -> float:
    """How far a burst has developed at an instant: 0 … 1, smooth rise, hold, smooth fall."""
    since = time_s - burst.start_s
    if since <= 0 or time_s >= burst.end_s:
        return 0.0
    if since < burst.onset_s:
        return float(0.5 - 0.5 * np.cos(np.pi * since / burst.onset_s))
    left = burst.end_s - time_s
    if left < burst.offset_s:
        return float(0.5 - 0.5 * np.cos(np.pi * left / burst.offset_s))
    return 1.0


def window(confound: Confound, time_s: float, edge_s: float = 0.6) -> float:
    """How far a confound is present: 0 … 1 with smooth edges inside its interval; a cut has hard ones."""
    if not confound.start_s <= time_s < confound.end_s:
        return 0.0
    if confound.kind == "cut":
        return 1.0
    edge_s = min(edge_s, (confound.end_s - confound.start_s) / 2)
    inside = min(time_s - confound.start_s, confound.end_s - time_s) / edge_s
    return float(0.5 - 0.5 * np.cos(np.pi * min(inside, 1.0)))


@dataclass(frozen=True)
class Wander:
    """Band-limited noise: a sum of sinusoids with random phases, unit variance.

    Attributes:
        frequencies_hz: float64 [n].
        phases: float64 [n], radians.
    """

    frequencies_hz: np.ndarray
    phases: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator, low_hz: float, high_hz: float, count: int = 9) -> Wander:
        return cls(rng.uniform(low_hz, high_hz, count), rng.uniform(0, 2 * np.pi, count))

    def at(self, time_s: float) -> float:
        angles = 2 * np.pi * self.frequencies_hz * time_s + self.phases
        return float(np.sin(angles).sum() * np.sqrt(2 / len(angles)))


IDLE: dict[str, tuple[float, float, float]] = {
    # channel: standard deviation, lowest and highest frequency in Hz
    "shift_x": (0.030, 0.05, 0.35),
    "shift_y": (0.020, 0.05, 0.35),
    "roll": (0.014, 0.05, 0.40),
    "scale": (0.008, 0.04, 0.20),
    "yaw": (0.040, 0.05, 0.40),
    "pitch": (0.025, 0.05, 0.40),
    "brow_inner_up": (0.006, 0.10, 0.80),
    "brow_outer_up": (0.006, 0.10, 0.80),
    "corner_up": (0.008, 0.10, 0.70),
    "corner_out": (0.006, 0.10, 0.70),
    "lower_lip_down": (0.004, 0.20, 1.00),
    "lid_lower_up": (0.004, 0.10, 0.80),
}
BLINK_CLOSE_S, BLINK_OPEN_S = 0.075, 0.130
SYLLABLES_PER_S = 4.2


@dataclass(frozen=True)
class Blink:
    """One blink: closes, stays, opens; 0.15–0.3 s together."""

    start_s: float
    hold_s: float

    @property
    def end_s(self) -> float:
        return self.start_s + BLINK_CLOSE_S + self.hold_s + BLINK_OPEN_S

    def at(self, time_s: float) -> float:
        """Closure of the lids, 0 … 1."""
        since, left = time_s - self.start_s, self.end_s - time_s
        if since <= 0 or left <= 0:
            return 0.0
        return float(np.sin(np.pi / 2 * min(since / BLINK_CLOSE_S, left / BLINK_OPEN_S, 1.0)) ** 2)


@dataclass(frozen=True)
class Syllable:
    """One opening of the mouth while talking."""

    middle_s: float
    half_width_s: float
    opening: float
    rounding: float


class Behaviour:
    """One person's movement throughout a script."""

    def __init__(self, script: Script, person: int) -> None:
        """
        Args:
            script: the whole script.
            person: 1-based number.
        """
        self.person: Person = script.persons[person - 1]
        self.bursts = tuple(burst for burst in script.bursts if burst.person == person)
        self.confounds = tuple(c for c in script.confounds if c.person in (None, person))
        self._brows_free = PORTRAITS[self.person.portrait].brows_free
        idle, blinks, talk = (np.random.default_rng([script.seed, person, k]) for k in range(3))
        sides = {"brow_inner_up", "brow_outer_up", "corner_up", "corner_out", "lid_lower_up"}
        self._idle: dict[str, list[tuple[float, Wander]]] = {}
        for name, (deviation, low_hz, high_hz) in IDLE.items():
            shared = (deviation, Wander.draw(idle, low_hz, high_hz))
            if name in sides:
                for side in ("left", "right"):
                    own = (0.3 * deviation, Wander.draw(idle, low_hz, high_hz))
                    self._idle[f"{name}_{side}"] = [shared, own]
            else:
                self._idle[name] = [shared]
        self.blinks = _draw_blinks(blinks, script.duration_s, self.person.blinks_per_min) + _rapid_blinks(self.bursts)
        self.syllables = _draw_talk(talk, script.duration_s, self.person.talking_share)
        self._syllable_middles = np.array([s.middle_s for s in self.syllables])

    def pose(self, time_s: float, lip_gap: float) -> Channels:
        """The pose at an instant.

        Args:
            time_s: seconds from the first frame.
            lip_gap: distance of the portrait's lips at rest, in eye distances; what ``lips_together`` closes.
        """
        strengths = [(burst, envelope(burst, time_s) * burst.strength) for burst in self.bursts]
        frozen = max((s for burst, s in strengths if burst.kind == "freeze"), default=0.0)
        quiet = max((s for burst, s in strengths if burst.kind in SILENCES_TALK), default=0.0)
        alive = 1.0 - min(frozen, 1.0)
        pose: Channels = {}
        for channel, parts in self._idle.items():
            amount = sum(deviation * wander.at(time_s) for deviation, wander in parts)
            pose[channel] = self.person.sway * alive * amount
        opening, rounding = self._talk(time_s)
        speaking = alive * (1.0 - min(quiet, 1.0))
        pose["jaw_open"] = speaking * opening
        closure = max((blink.at(time_s) for blink in self.blinks), default=0.0)
        for side in ("left", "right"):
            pose[f"corner_out_{side}"] -= speaking * rounding
            pose[f"lid_close_{side}"] = alive * closure
        together = 0.0
        for burst, strength in strengths:
            for channel, amount in ACTIONS.get(burst.kind, {}).items():
                if channel == "lips_together":
                    together += strength * amount
                else:
                    pose[channel] = pose.get(channel, 0.0) + strength * amount
        pose["upper_lip_up"] = pose.get("upper_lip_up", 0.0) - 0.45 * min(together, 1.0) * lip_gap
        pose["lower_lip_down"] = pose["lower_lip_down"] - 0.5 * min(together, 1.0) * lip_gap
        for confound in self.confounds:
            if confound.kind == "turn":
                pose["yaw"] += 0.38 * confound.strength * window(confound, time_s)
                pose["shift_x"] += 0.10 * confound.strength * window(confound, time_s)
        if not self._brows_free:
            pose = {channel: amount for channel, amount in pose.items() if not channel.startswith("brow")}
        return {channel: _clip(amount, *limits(channel)) for channel, amount in pose.items()}

    def camera(self, time_s: float) -> Camera:
        """The view at an instant: zoom, cut and a person who leaves the picture."""
        shift_x = shift_y = 0.0
        zoom = 1.0
        for confound in self.confounds:
            present = confound.strength * window(confound, time_s)
            if confound.kind == "zoom":
                zoom *= 1.0 + 0.5 * present
            elif confound.kind == "cut":
                zoom *= 1.0 + 0.35 * present
                shift_x, shift_y = shift_x - 0.35 * present, shift_y + 0.15 * present
            elif confound.kind == "leave":
                # The whole way whatever the strength: a person half out of the picture is another confound.
                shift_x += 4.3 * window(confound, time_s)
        return Camera(shift_x, shift_y, zoom)

    def _talk(self, time_s: float) -> tuple[float, float]:
        """Jaw opening and rounding of the lips by talk, in eye distances."""
        first = int(np.searchsorted(self._syllable_middles, time_s - 0.5))
        opening = rounding = 0.0
        for syllable in self.syllables[first : first + 8]:
            part = abs(time_s - syllable.middle_s) / syllable.half_width_s
            if part < 1:
                weight = 0.5 + 0.5 * np.cos(np.pi * part)
                opening += weight * syllable.opening
                rounding += weight * syllable.rounding
        return float(opening), float(rounding)


def _clip(amount: float, least: float, most: float) -> float:
    return min(max(amount, least), most)


def _draw_blinks(rng: np.random.Generator, duration_s: float, per_min: float) -> tuple[Blink, ...]:
    """Blinks with gamma-distributed gaps (irregular, but hardly ever two at once)."""
    if per_min <= 0:
        return ()
    blinks, time_s = [], rng.uniform(0.5, 60 / per_min)
    while time_s < duration_s:
        blinks.append(Blink(float(time_s), float(rng.uniform(0.0, 0.08))))
        time_s += max(0.5, rng.gamma(2.5, 60 / per_min / 2.5))
    return tuple(blinks)


def _rapid_blinks(bursts: tuple[Burst, ...]) -> tuple[Blink, ...]:
    """Some four blinks a second throughout each burst of kind ``blinking``."""
    return tuple(
        Blink(float(start_s), 0.0)
        for burst in bursts
        if burst.kind == "blinking"
        for start_s in np.arange(burst.start_s, burst.end_s - BLINK_CLOSE_S - BLINK_OPEN_S, 0.26)
    )


def _draw_talk(rng: np.random.Generator, duration_s: float, share: float) -> tuple[Syllable, ...]:
    """Phrases of one to four seconds with pauses between, filled with syllables of varying opening."""
    syllables: list[Syllable] = []
    if share <= 0:
        return ()
    time_s = float(rng.uniform(0.2, 1.5))
    while time_s < duration_s:
        end_s = time_s + rng.uniform(1.2, 4.0)
        loudness = rng.uniform(0.7, 1.1)
        length_s = end_s - time_s
        while time_s < end_s:
            step_s = rng.uniform(0.75, 1.3) / SYLLABLES_PER_S
            opening = loudness * rng.choice([0.2, 0.5, 0.8, 1.0]) * 0.055
            syllables.append(Syllable(time_s + step_s / 2, step_s * 0.75, float(opening), float(rng.uniform(0, 0.02))))
            time_s += step_s
        time_s += float(length_s * (1 - share) / share * rng.uniform(0.6, 1.4)) if share < 1 else 0.0
    return tuple(syllables)
