"""Made footage with truth: bursts of every kind, strength and length, and clips that hold confounds alone.

The scripts are rendered by `faceline.made.render.render_once`; their truth is `faceline.made.truth.Truth`. Each shows
one person, so that a recording is a person's.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np

from faceline.made.portrait import PortraitName
from faceline.made.render import render_once
from faceline.made.script import NEEDS_BROWS, Burst, BurstKind, Confound, ConfoundKind, Person, Script

BURST_KINDS: tuple[BurstKind, ...] = get_args(BurstKind)
CONFOUND_KINDS: tuple[ConfoundKind, ...] = get_args(ConfoundKind)

STRENGTHS: dict[str, float] = {"strong": 1.0, "short": 1.0, "subtle": 0.5}
SHAPES: dict[str, tuple[float, float, float]] = {
    # onset, hold, offset in seconds
    "strong": (0.3, 0.8, 0.4),
    "short": (0.1, 0.12, 0.12),
    "subtle": (0.3, 0.8, 0.4),
}
LONG_SHAPE = (0.5, 3.0, 0.8)
LONG_BURSTS = 4
"""Long bursts are few: what a person does half of the time is their usual."""

BURSTS_S, CONFOUNDS_S = 120.0, 60.0
"""Length of recordings with bursts, and with confounds alone."""

SLOW_KINDS: frozenset[str] = frozenset({"freeze", "blinking", "eyes_shut"})
"""A short one of these is an ordinary pause or blink, no anomaly."""

PERSONS: dict[str, Person] = {
    "talker": Person(portrait="astronaut", talking_share=0.6),
    "listener": Person(portrait="astronaut", talking_share=0.1, sway=0.7),
    "speaker": Person(portrait="commodore", talking_share=0.6),
    "calm": Person(portrait="commodore", talking_share=0.0, blinks_per_min=12.0, sway=0.6),
}
"""Usual behaviours; two portraits only, so that figures over them say nothing about how persons differ."""

LEAD_S, GAP_S, REST_S = 6.0, 5.0, 3.0


def kinds_of(portrait: PortraitName) -> tuple[BurstKind, ...]:
    """Burst kinds that a portrait can play."""
    return tuple(kind for kind in BURST_KINDS if portrait != "commodore" or kind not in NEEDS_BROWS)


def burst_script(person: str, difficulty: str, *, duration_s: float = BURSTS_S, seed: int = 0) -> Script:
    """One person's recording with one burst of every kind that makes sense at a difficulty, in random order and times.

    Args:
        person: a name in `PERSONS`.
        difficulty: "strong", "short", "subtle" (half strength), or "long".
        duration_s: length.
        seed: of order, times and usual behaviour.

    Raises:
        ValueError: if the recording is too short for its bursts.
    """
    who = PERSONS[person]
    rng = np.random.default_rng([seed, *person.encode(), *difficulty.encode()])
    kinds = [k for k in kinds_of(who.portrait) if difficulty != "short" or k not in SLOW_KINDS]
    # Half a frozen face, or eyes half shut in a blink, would be no burst at all.
    kinds = [k for k in kinds if difficulty != "subtle" or k not in SLOW_KINDS]
    onset, hold, offset = LONG_SHAPE if difficulty == "long" else SHAPES[difficulty]
    order = rng.permutation(len(kinds))[: LONG_BURSTS if difficulty == "long" else None]
    kinds = [kinds[i] for i in order]
    # A second more tells a frozen face, or shut eyes, from a pause or a blink.
    lengths = [(onset, hold + 1.0 * (k in SLOW_KINDS and difficulty == "strong"), offset) for k in kinds]
    free = duration_s - LEAD_S - REST_S - GAP_S * (len(kinds) - 1) - sum(map(sum, lengths))
    if free < 0:
        raise ValueError(f"{duration_s:g} s are too short for {len(kinds)} bursts")
    waits = np.diff(np.sort(np.concatenate([[0.0], rng.uniform(0, free, len(kinds))])))
    bursts, at = [], LEAD_S
    for kind, (onset_s, hold_s, offset_s), wait in zip(kinds, lengths, waits, strict=True):
        burst = Burst(
            kind=kind,
            start_s=round(at + float(wait), 3),
            onset_s=onset_s,
            hold_s=hold_s,
            offset_s=offset_s,
            strength=STRENGTHS.get(difficulty, 1.0),
        )
        bursts.append(burst)
        at = burst.end_s + GAP_S
    return Script(
        name=f"{person}_{difficulty}_{seed}",
        seed=_seed(seed, person, difficulty),
        duration_s=duration_s,
        persons=(who,),
        bursts=tuple(bursts),
    )


def confound_script(person: str, kind: ConfoundKind, *, duration_s: float = CONFOUNDS_S, seed: int = 0) -> Script:
    """One person's recording with one confound several times, at rising strengths, and no burst: all events are false.

    A ``leave`` is a person who goes out of the picture and comes back.
    """
    rng = np.random.default_rng([seed, *person.encode(), *kind.encode()])
    strengths = (0.4, 0.7, 1.0)
    room = (duration_s - LEAD_S - REST_S) / len(strengths)
    if room < 5.5:
        raise ValueError(f"{duration_s:g} s are too short for {len(strengths)} confounds")
    confounds = []
    for k, strength in enumerate(strengths):
        length = float(rng.uniform(2.0, 4.0))
        start = LEAD_S + k * room + float(rng.uniform(0, room - length - 1.0))
        confounds.append(
            Confound(kind=kind, start_s=round(start, 3), end_s=round(start + length, 3), strength=strength)
        )
    return Script(
        name=f"{person}_{kind}_{seed}",
        seed=_seed(seed, person, kind),
        duration_s=duration_s,
        persons=(PERSONS[person],),
        confounds=tuple(confounds),
    )


def quiet_script(person: str, *, duration_s: float = BURSTS_S, seed: int = 0) -> Script:
    """One person's usual behaviour and nothing else."""
    return Script(
        name=f"{person}_quiet_{seed}",
        seed=_seed(seed, person, "quiet"),
        duration_s=duration_s,
        persons=(PERSONS[person],),
    )


def all_scripts(
    seeds: Sequence[int] = (0,), burst_s: float = BURSTS_S, confound_s: float = CONFOUNDS_S
) -> list[Script]:
    """Everything: each person at each difficulty and quiet; each confound with a talker and with a calm person."""
    scripts = []
    for seed in seeds:
        for person in PERSONS:
            scripts += [burst_script(person, d, duration_s=burst_s, seed=seed) for d in (*SHAPES, "long")]
            scripts.append(quiet_script(person, duration_s=burst_s, seed=seed))
        for kind in CONFOUND_KINDS:
            scripts += [confound_script(p, kind, duration_s=confound_s, seed=seed) for p in ("talker", "calm")]
    return scripts


def _seed(seed: int, *words: str) -> int:
    """A seed of its own for each recording, so that no two share their usual behaviour."""
    return int(np.random.default_rng([seed, *"/".join(words).encode()]).integers(2**31))


def main(argv: list[str] | None = None) -> int:
    """``python -m benchmarks.anomalies.made FOLDER [NAME …]``"""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", help="of scripts; all when none is named")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    args = parser.parse_args(argv)
    for script in all_scripts(args.seeds):
        if not args.names or script.name in args.names:
            path = args.folder / f"{script.name}.mp4"
            render_once(script, path)
            print(path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
