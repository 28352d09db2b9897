"""The benchmark's recordings: what there is, what is true of each, rendering what is missing, and analysing it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from benchmarks.anomalies import made
from benchmarks.anomalies.sources import SOURCES, Source, clips_folder
from benchmarks.anomalies.splice import Request, all_requests
from faceline.made.script import Script

if TYPE_CHECKING:
    from faceline.anomaly.rows import PersonRows
    from faceline.artifacts import ArtifactRef
    from faceline.stage import Stage

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "artifacts" / "_bench-anomalies"
"""Where footage and results are kept between runs; the store passes over names that begin with an underscore."""

Kind = Literal["made", "quiet", "confounds", "spliced", "controls", "natural"]
KINDS: tuple[Kind, ...] = ("made", "quiet", "confounds", "spliced", "controls", "natural")
REAL: frozenset[Kind] = frozenset({"spliced", "controls", "natural"})
"""Kinds that need the real clips."""


@dataclass(frozen=True)
class Moment:
    """A true event, or a confound: seconds of presentation time."""

    start_s: float
    end_s: float
    kind: str
    difficulty: str = ""


NATURAL: dict[str, tuple[Moment, ...]] = {
    "pyfeat_single_face.mp4": (Moment(0.8, 2.2, "smile"),),
    "lp_d0.mp4": (Moment(0.8, 2.6, "toothy smile"),),
    "lp_d3.mp4": (
        Moment(1.2, 2.4, "grimace"),
        Moment(3.9, 5.6, "frown"),
        Moment(7.8, 9.2, "strong frown"),
        Moment(10.0, 11.8, "surprise"),
    ),
    "lp_d9.mp4": (
        Moment(3.8, 9.1, "pucker, pout"),
        Moment(9.8, 12.2, "big smile"),
        Moment(12.8, 14.4, "head up, eyes closed"),
        Moment(15.0, 17.6, "brows up"),
        Moment(18.2, 19.6, "smile"),
    ),
    "lp_d12.mp4": (
        Moment(0.8, 2.6, "big smile"),
        Moment(3.0, 3.8, "pucker"),
        Moment(4.2, 5.3, "open mouth"),
        Moment(6.6, 7.3, "laugh"),
    ),
    "lp_d18.mp4": (
        Moment(0.6, 1.3, "lips stretched"),
        Moment(2.2, 3.2, "mouth wide open"),
        Moment(3.8, 5.1, "shout"),
    ),
    "clm_default.wmv": (Moment(15.0, 18.7, "smile"),),
}
"""Real clips as they are: the moments that somebody who watched them noted."""


@dataclass(frozen=True)
class Recording:
    """One piece of footage of one person.

    Attributes:
        name: unique.
        kind: what sort of footage.
        split: "tuning", "reporting" (controls of persons without expressions among them), or "any": made footage shows
            no real persons that one side could have been tuned on.
        unit: whom intervals over persons draw.
        video: the file; it may have still to be rendered.
        order: what it is rendered from; None for a clip.
    """

    name: str
    kind: Kind
    split: str
    unit: str
    video: Path
    order: Script | Request | None = None

    def render(self) -> None:
        """Make the file unless it is there, made from the same order."""
        if isinstance(self.order, Script):
            from faceline.made.render import render_once

            render_once(self.order, self.video, threads=1)
        elif self.order is not None:
            from benchmarks.anomalies.meshes import NetworkMesh
            from benchmarks.anomalies.splice import splice

            clips = clips_folder()
            if clips is None:
                raise FileNotFoundError("the real clips are not here")
            splice(self.order, clips, self.video.parent, _Late(NetworkMesh))

    def truth(self) -> Truth:
        """What is true of it; the file has to be there."""
        if self.kind == "natural":
            return Truth(tuple(_of(m, "natural") for m in NATURAL[self.video.name]), ())
        data = json.loads(self.video.with_name(f"{self.video.stem}.truth.json").read_text(encoding="utf-8"))
        if isinstance(self.order, Script):
            difficulty = made_difficulty(self.order)
            bursts = (Moment(b["start_s"], b["end_s"], b["kind"], difficulty) for b in data["bursts"])
            confounds = (Moment(c["start_s"], c["end_s"], c["kind"]) for c in data["confounds"])
            return Truth(tuple(bursts), tuple(confounds))
        events = (Moment(e["start_s"], e["end_s"], e["kind"], e["difficulty"]) for e in data["events"])
        return Truth(tuple(events), ())


def _of(moment: Moment, difficulty: str) -> Moment:
    return Moment(moment.start_s, moment.end_s, moment.kind, difficulty)


class _Late:
    """A finder of meshes that loads its network at the first picture: most often everything is rendered already."""

    def __init__(self, make: Any) -> None:
        self._make, self._find = make, None

    def __call__(self, rgb: np.ndarray) -> np.ndarray | None:
        self._find = self._find or self._make()
        return self._find(rgb)


@dataclass(frozen=True)
class Truth:
    """True events and confounds of a recording, by time."""

    events: tuple[Moment, ...]
    confounds: tuple[Moment, ...]

    @property
    def difficulties(self) -> tuple[str, ...]:
        """Those that occur, in order of first occurrence."""
        return tuple(dict.fromkeys(event.difficulty for event in self.events))

    def spans(self, difficulty: str | None = None) -> np.ndarray:
        """float64 [m, 2], start and end of the events (of one difficulty)."""
        chosen = [(e.start_s, e.end_s) for e in self.events if difficulty in (None, e.difficulty)]
        return np.array(chosen, dtype=np.float64).reshape(-1, 2)


def made_difficulty(script: Script) -> str:
    """Difficulty of all bursts of a made script: the second word of its name."""
    return script.name.split("_")[1]


def made_kind(script: Script) -> Kind:
    """Which of the kinds a made script is."""
    if script.confounds:
        return "confounds"
    return "made" if script.bursts else "quiet"


def all_recordings(folder: Path, kinds: Sequence[Kind], split: str, seeds: Sequence[int] = (0,)) -> list[Recording]:
    """Everything that is asked for, rendered or not, without what needs clips that are not here.

    Args:
        folder: where footage lies.
        kinds: of `KINDS`.
        split: "tuning", "reporting" or "all".
        seeds: of made and spliced footage.
    """
    found: list[Recording] = []
    for script in made.all_scripts(seeds):
        unit = script.name.split("_")[0]
        video = folder / "footage" / "made" / f"{script.name}.mp4"
        found.append(Recording(script.name, made_kind(script), "any", unit, video, script))
    clips = clips_folder()
    for request in all_requests(seeds=tuple(seeds)) if clips is not None else ():
        kind: Kind = "spliced" if request.events_each else "controls"
        video = folder / "footage" / "spliced" / f"{request.name}.mp4"
        found.append(Recording(request.name, kind, side_of(request.source), request.source.unit, video, request))
    for clip in NATURAL if clips is not None else ():
        owner = next((source for source in SOURCES if clip in source.clips), None)
        side, unit = ("reporting", Path(clip).stem) if owner is None else (side_of(owner), owner.unit)
        found.append(Recording(f"natural_{Path(clip).stem}", "natural", side, unit, clips / clip))
    return [r for r in found if r.kind in kinds and (split == "all" or r.split in (split, "any"))]


def side_of(source: Source) -> str:
    """ "tuning" or "reporting". Nothing is tuned on persons without expressions, unless they may be somebody who is."""
    if source.split != "control":
        return source.split
    same = {other.split for other in SOURCES if other.unit == source.unit and other.split != "control"}
    return same.pop() if same else "reporting"


class Analysis:
    """The artifacts of an analysed recording, read like a stage's `Inputs`; segments and trials appear as one.

    Args:
        store: path of the store.
        refs: stage → references, in segment or trial order.
        states: number of stages by state ("run", "cached").
    """

    def __init__(self, store: str, refs: Mapping[str, Sequence[ArtifactRef]], states: Mapping[str, int]) -> None:
        self._store, self.refs, self.states = store, refs, states
        self._open: dict[str, list[Any]] = {}

    def _artifacts(self, stage: str) -> list[Any]:
        if stage not in self._open:
            from faceline.store import Store

            store = Store(self._store)
            self._open[stage] = [store.read(ref) for ref in self.refs[stage]]
        return self._open[stage]

    def table(self, stage: str, payload: str, columns: Sequence[str] | None = None) -> pa.Table:
        """A Parquet payload."""
        return pa.concat_tables([artifact.table(payload, columns) for artifact in self._artifacts(stage)])

    def array(self, stage: str, payload: str) -> np.ndarray:
        """An NPY payload."""
        return np.concatenate([artifact.array(payload) for artifact in self._artifacts(stage)])

    def payloads(self, stage: str) -> dict[str, tuple[str, int]]:
        """What a stage left: payload → its kind ("parquet", "npy", "files") and its rows in all segments."""
        found: dict[str, tuple[str, int]] = {}
        for artifact in self._artifacts(stage):
            for name, stored in artifact.manifest.payloads.items():
                found[name] = (stored.kind, found.get(name, ("", 0))[1] + stored.rows)
        return found

    @cached_property
    def people(self) -> list[PersonRows]:
        """All known persons, the one seen most first."""
        from faceline.anomaly.rows import MaskParams, people_rows

        return sorted(people_rows(self, MaskParams()), key=lambda rows: -len(rows))  # type: ignore[arg-type]

    @cached_property
    def duration_s(self) -> float:
        """From the first sampled frame to the end of the last."""
        from faceline.anomaly.rows import sampling_interval_s

        frames = self.table("sample", "frames", ("time_s",))
        time_s = frames["time_s"].to_numpy()
        return float(time_s.max() - time_s.min() + sampling_interval_s(frames))


def analyse(video: Path, store: Path, overrides: Sequence[str] = (), until: str = "gridsearch") -> Analysis:
    """Run the stages up to `until` in this process and thread, without Prefect; what is stored is not run again.

    Args:
        video: the footage.
        store: folder of the artifacts.
        overrides: of the configuration.
        until: the last stage, of those of the line from the picture on; report is never one.
    """
    from flows.config import load_config
    from flows.console import Silent
    from flows.job import prepare
    from flows.walk import start_here

    stages = stages_until(until)
    fixed = [f"footage={video}", f"store.root={store}", "runtime.workers=1", "runtime.threads=1"]
    job = prepare(load_config([*fixed, *known_options(overrides, stages)], stages), stages)
    walk = job.walk(start_here, Silent())
    walk.run()
    refs: dict[str, list[ArtifactRef]] = {}
    states = {"run": 0, "cached": 0}
    for name, node in job.pipeline.nodes.items():
        outcome = walk.outcomes[name]
        refs.setdefault(node.stage.name, []).append(outcome.ref)
        states[outcome.state] += 1
    return Analysis(str(store), refs, states)


def stages_until(last: str) -> tuple[Stage, ...]:
    """The stages whose results one named stage rests on, itself included, in order."""
    from faceline.stages import STAGES

    by_name = {stage.name: stage for stage in STAGES}
    wanted: set[str] = set()

    def add(name: str) -> None:
        wanted.add(name)
        for before in by_name[name].inputs:
            add(before)

    add(last)
    return tuple(stage for stage in STAGES if stage.name in wanted)


def known_options(overrides: Sequence[str], stages: Sequence[Stage]) -> list[str]:
    """Overrides without those of stages that are left out: their names would be refused as unknown."""
    from faceline.stages import STAGES
    from flows.config import section_of

    left_out = {section_of(stage) for stage in STAGES} - {section_of(stage) for stage in stages}
    return [o for o in overrides if o.lstrip("+~").partition("=")[0].partition(".")[0] not in left_out]


def one_thread() -> None:
    """Make libraries of this process keep to one thread; to be called before they are loaded."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(name, "1")
