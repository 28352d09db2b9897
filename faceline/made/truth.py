"""The truth file beside made footage: who shows what, and when."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from faceline.errors import FacelineError
from faceline.made.script import BurstKind, ConfoundKind, Script


class _Fact(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TruePerson(_Fact):
    """A person of the footage; ``box_px`` is the tile (x, y, width, height) in which it is seen."""

    person: int
    portrait: str
    credit: str
    box_px: tuple[int, int, int, int]


class TrueBurst(_Fact):
    """A true moment; times are presentation times in seconds."""

    person: int
    kind: BurstKind
    strength: float
    start_s: float
    apex_s: float
    end_s: float


class TrueConfound(_Fact):
    """A change that is no expression; times are presentation times in seconds; no person: everybody."""

    person: int | None
    kind: ConfoundKind
    strength: float
    start_s: float
    end_s: float


class Truth(_Fact):
    """What is true of one piece of made footage."""

    version: int
    footage: str
    script_sha256: str
    seed: int
    fps: int
    frames: int
    width_px: int
    height_px: int
    persons: tuple[TruePerson, ...]
    bursts: tuple[TrueBurst, ...]
    confounds: tuple[TrueConfound, ...]

    @classmethod
    def of(cls, script: Script, footage: str, frames: int) -> Self:
        """The truth of a script rendered to a file of that name."""
        from faceline.made.portrait import PORTRAITS
        from faceline.made.script import GENERATOR_VERSION

        width, height, offset = script.tile_width_px, script.tile_height_px, script.first_pts_s

        def at(time_s: float) -> float:
            return round(time_s + offset, 6)

        return cls(
            version=GENERATOR_VERSION,
            footage=footage,
            script_sha256=script.digest,
            seed=script.seed,
            fps=script.fps,
            frames=frames,
            width_px=width * len(script.persons),
            height_px=height,
            persons=tuple(
                TruePerson(
                    person=k + 1,
                    portrait=person.portrait,
                    credit=PORTRAITS[person.portrait].credit,
                    box_px=(k * width, 0, width, height),
                )
                for k, person in enumerate(script.persons)
            ),
            bursts=tuple(
                TrueBurst(
                    person=b.person,
                    kind=b.kind,
                    strength=b.strength,
                    start_s=at(b.start_s),
                    apex_s=at(b.apex_s),
                    end_s=at(b.end_s),
                )
                for b in sorted(script.bursts, key=lambda burst: burst.start_s)
            ),
            confounds=tuple(
                TrueConfound(
                    person=c.person, kind=c.kind, strength=c.strength, start_s=at(c.start_s), end_s=at(c.end_s)
                )
                for c in sorted(script.confounds, key=lambda confound: confound.start_s)
            ),
        )

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read it; raises `FacelineError` when the file is missing or not a truth file."""
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValidationError, UnicodeDecodeError) as error:
            reason = "cannot be read" if isinstance(error, OSError) else "is not a truth file"
            raise FacelineError(reason, where=str(path), cure="render the footage again") from error
