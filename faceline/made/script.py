"""What a piece of made footage shows, declared: persons, expression bursts and confounds at known times."""

from __future__ import annotations

import hashlib
import itertools
import json
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from faceline.made.portrait import PortraitName

GENERATOR_VERSION = 1
"""Raised when the same script gives other frames than before."""

BurstKind = Literal[
    "brow_raise", "mouth_open", "frown", "smile", "one_sided", "pucker", "surprise", "eyes_shut", "freeze", "blinking"
]
ConfoundKind = Literal["light", "turn", "blur", "occlusion", "zoom", "cut", "leave"]

NEEDS_BROWS: frozenset[str] = frozenset({"brow_raise", "surprise"})
"""Kinds that a portrait whose brows cannot be moved does not play."""


class _Declared(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Burst(_Declared):
    """An expression that departs from the person's usual behaviour: onset, hold, offset."""

    person: Annotated[int, Field(ge=1, description="1-based number of the person who shows it")] = 1
    kind: BurstKind
    start_s: Annotated[float, Field(ge=0, description="when it begins, seconds from the first frame")]
    onset_s: Annotated[float, Field(gt=0, description="rise to full strength")] = 0.3
    hold_s: Annotated[float, Field(ge=0, description="time at full strength")] = 0.7
    offset_s: Annotated[float, Field(gt=0, description="return to rest")] = 0.4
    strength: Annotated[float, Field(gt=0, le=1.3, description="1 = as strong as still looks natural")] = 1.0

    @property
    def apex_s(self) -> float:
        """Middle of the time at full strength."""
        return self.start_s + self.onset_s + self.hold_s / 2

    @property
    def end_s(self) -> float:
        """First instant back at rest."""
        return self.start_s + self.onset_s + self.hold_s + self.offset_s


class Confound(_Declared):
    """A change that is no expression: light, camera or pose. Never an anomaly of the face."""

    kind: ConfoundKind
    start_s: Annotated[float, Field(ge=0, description="when it begins, seconds from the first frame")]
    end_s: Annotated[float, Field(gt=0, description="first instant without it")]
    person: Annotated[int | None, Field(ge=1, description="whose tile it concerns; none: every tile")] = None
    strength: Annotated[float, Field(gt=0, le=1.0, description="1 = as strong as it is made")] = 0.7

    @model_validator(mode="after")
    def _lasts(self) -> Self:
        if self.end_s <= self.start_s:
            raise ValueError(f"confound {self.kind} ends at {self.end_s} s, before it starts at {self.start_s} s")
        return self


class Person(_Declared):
    """One portrait and its usual behaviour."""

    portrait: PortraitName = "astronaut"
    talking_share: Annotated[float, Field(ge=0, le=1, description="share of the time spent in talking phrases")] = 0.45
    blinks_per_min: Annotated[float, Field(ge=0, le=60, description="mean rate of blinks")] = 16.0
    sway: Annotated[float, Field(ge=0, le=2, description="amount of head and idle movement, 1 = usual")] = 1.0


class Script(_Declared):
    """Everything that a piece of made footage depends on; the same script gives the same footage.

    Persons appear side by side, each in a tile of its own, as in a video call.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9_]+$", description="name of the footage")] = "made"
    seed: Annotated[int, Field(ge=0, description="seed of everything random")] = 1
    duration_s: Annotated[float, Field(gt=0, le=7200, description="length of the footage")] = 10.0
    fps: Annotated[int, Field(ge=5, le=120, description="frames per second")] = 25
    timing: Annotated[
        Literal["constant", "dropped"],
        Field(description="dropped: every 7 frames, two are missing (variable frame rate)"),
    ] = "constant"
    first_pts_s: Annotated[float, Field(ge=0, le=60, description="presentation time of the first frame")] = 0.0
    tile_width_px: Annotated[int, Field(ge=160, le=1920, multiple_of=4, description="width of one person's tile")] = 400
    tile_height_px: Annotated[int, Field(ge=160, le=1080, multiple_of=4, description="height of the tiles")] = 480
    persons: Annotated[tuple[Person, ...], Field(min_length=1, max_length=4, description="from left to right")] = (
        Person(),
    )
    bursts: tuple[Burst, ...] = ()
    confounds: tuple[Confound, ...] = ()
    overlapping: Annotated[bool, Field(description="whether bursts of one person may overlap")] = False
    noise: Annotated[float, Field(ge=0, le=20, description="standard deviation of the sensor noise, grey levels")] = 1.5
    crf: Annotated[int, Field(ge=0, le=45, description="x264 quality; higher is coarser")] = 20

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        things: tuple[Burst | Confound, ...] = (*self.bursts, *self.confounds)
        for thing in things:
            if thing.person is not None and thing.person > len(self.persons):
                raise ValueError(
                    f"{thing.kind} at {thing.start_s} s is for person {thing.person} of {len(self.persons)}"
                )
            if thing.end_s > self.duration_s:
                raise ValueError(f"{thing.kind} ends at {thing.end_s:g} s, after the footage ({self.duration_s:g} s)")
        for burst in self.bursts:
            portrait = self.persons[burst.person - 1].portrait
            if burst.kind in NEEDS_BROWS and portrait == "commodore":
                raise ValueError(f"{burst.kind} at {burst.start_s} s: spectacles hide the brows of the {portrait}")
        if not self.overlapping:
            ordered = sorted(self.bursts, key=lambda burst: (burst.person, burst.start_s))
            for one, two in itertools.pairwise(ordered):
                if one.person == two.person and two.start_s < one.end_s:
                    raise ValueError(
                        f"bursts of person {one.person} overlap: {one.kind} ends at {one.end_s:g} s, "
                        f"{two.kind} starts at {two.start_s:g} s"
                    )
        return self

    @property
    def digest(self) -> str:
        """SHA-256 of the script and the generator's version, hexadecimal: the same digest means the same footage."""
        content = {"generator": GENERATOR_VERSION, "script": self.model_dump(mode="json")}
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def default_demo_script(duration_s: float = 75.0) -> Script:
    """Two persons in a video call, nine bursts of several kinds and strengths, and some light, turning and zoom.

    Args:
        duration_s: length; the times scale with it, the bursts keep their own lengths. At least 40 s.
    """
    if duration_s < 40:
        raise ValueError(f"the demo needs at least 40 s for its bursts, got {duration_s:g} s")
    k = duration_s / 75.0
    return Script(
        name="demo",
        seed=7,
        duration_s=duration_s,
        persons=(Person(portrait="astronaut", talking_share=0.5), Person(portrait="commodore", talking_share=0.6)),
        bursts=(
            Burst(person=1, kind="brow_raise", start_s=8.0 * k),
            Burst(person=1, kind="frown", start_s=23.0 * k, hold_s=1.0),
            Burst(person=1, kind="eyes_shut", start_s=36.0 * k, hold_s=1.2),
            Burst(person=1, kind="mouth_open", start_s=50.0 * k, strength=0.9),
            Burst(person=1, kind="surprise", start_s=66.0 * k, hold_s=0.6),
            Burst(person=2, kind="mouth_open", start_s=15.0 * k, strength=0.8),
            Burst(person=2, kind="smile", start_s=30.0 * k, hold_s=0.9),
            Burst(person=2, kind="frown", start_s=44.0 * k, hold_s=0.9),
            Burst(person=2, kind="one_sided", start_s=58.0 * k),
        ),
        confounds=(
            Confound(kind="light", start_s=12.0 * k, end_s=20.0 * k, person=1, strength=0.3),
            Confound(kind="turn", start_s=50.0 * k, end_s=54.0 * k, person=2, strength=0.5),
            Confound(kind="zoom", start_s=38.0 * k + 3, end_s=47.0 * k, person=1, strength=0.5),
        ),
    )


def short_test_script(duration_s: float = 5.0) -> Script:
    """A small clip of one person with one burst, for tests: rendered in a second or two. At least 4 s."""
    return Script(
        name="short",
        seed=3,
        duration_s=duration_s,
        tile_width_px=320,
        tile_height_px=320,
        bursts=(Burst(kind="mouth_open", start_s=2.0, onset_s=0.2, hold_s=0.6, offset_s=0.3),),
    )
