"""The verb ``plan`` over a folder: what ``archive`` would do with each file, why, and how long it may take.

Footage that was analysed before, here or elsewhere with the same store, is planned from what is remembered of it,
without being opened; of new footage only the header is read. Runs nothing and changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, cast

from faceline import familiar
from faceline.errors import FootageError
from faceline.fingerprint import code_at_rest
from faceline.folders import Folder
from faceline.headers import stated_span
from faceline.remembered import Remembered, remembered
from faceline.sampling import SampleParams
from faceline.stages import STAGES
from faceline.store import Store
from faceline.timeline import Segment, cut_into_segments
from faceline.timings import Timings, spoken, stage_timings
from faceline.video import open_footage, results_name
from faceline.weights import ResolvedModel
from flows import console
from flows.archive import Archive, open_archive
from flows.config import Config
from flows.files import valid_text
from flows.job import cores, describe_models, resolve_models
from flows.pipeline import Node, build_pipeline
from flows.survey import Content
from flows.walk import plan

MOST_FILES = 200
"""Files listed with what they have to do; the rest is counted."""


_PICTURE = ("native_fps", "width_px", "height_px", "codec")
"""What a report states of footage besides its name and times."""


@dataclass(frozen=True)
class KnownFootage:
    """What planning needs of footage, without opening it.

    Attributes:
        path, name, sha256, start_s, end_s: as the footage itself has them.
        new: whether nothing is known of it but what its header states: too little to compare a key with.
        facts: further attributes of the footage (``codec`` …), as far as they are known.
    """

    path: Path
    name: str
    sha256: str
    start_s: Fraction
    end_s: Fraction
    new: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        if name in _PICTURE and name in self.facts:
            return self.facts[name]
        raise AttributeError(name)

    @property
    def duration_s(self) -> float:
        """Seconds from the first to the last frame."""
        return float(self.end_s - self.start_s)

    def segments(self, segment_s: float) -> list[Segment]:
        """As the footage itself is cut."""
        return cut_into_segments(self.start_s, self.end_s, Fraction(repr(segment_s)))

    def check_unchanged(self) -> None:
        """Nothing is read, so nothing can have changed."""


@dataclass(frozen=True)
class Outlook:
    """What a content has to do.

    Attributes:
        content: the content.
        states: how many of its stage runs are ``cached``, ``run`` and ``depends``.
        reason: why the first of those that are not cached has to run.
        estimate_s: seconds it will take, one stage after the other; None where that is not known.
    """

    content: Content
    states: Counter[str]
    reason: str
    estimate_s: float | None


def plan_archive(config: Config) -> int:
    """Print the plan of an archive; exit code."""
    work = open_archive(config)
    models = resolve_models(config, STAGES)
    console.say(describe_models(models, config))
    store = Store(config.store.root)
    survey = work.surveyor.glance({*familiar.met(store.folder), *familiar.met(work.state)})
    planner = _Planner(work, models, store, stage_timings(store, [stage.name for stage in STAGES]))
    outlooks = planner.outlooks(survey.of("work"))
    if outlooks:
        columns = ("file", "cached", "run", "depends", "time", "reason")
        rows = [_row(outlook) for outlook in outlooks[:MOST_FILES]]
        console.table(columns, rows, right=("cached", "run", "depends", "time"))
    if len(outlooks) > MOST_FILES:
        console.say(f"and {len(outlooks) - MOST_FILES} more files with something to do")
    for name, reason in sorted(survey.unreadable.items()):
        console.say(f"{valid_text(name)}: {reason}")
    _say_totals(survey.contents, outlooks, len(survey.young), config)
    return 0


class _Planner:
    """Plans contents, one after the other.

    Args:
        work: the archive.
        models: resolved weights, by role.
        store: where artifacts are kept.
        timings: what stages took before.
    """

    def __init__(self, work: Archive, models: Mapping[str, ResolvedModel], store: Store, timings: Timings) -> None:
        self._work, self._models, self._timings = work, models, timings
        self._store = store.folder
        self._laid_out: dict[int, Sequence[Node]] = {}

    def outlooks(self, contents: Sequence[Content]) -> list[Outlook]:
        """What each content has to do, in their order."""
        paths = [self._work.folder / content.files[0] for content in contents]
        # Headers first and together: opening a file waits for the disk, and keeps no other from being opened.
        with ThreadPoolExecutor(max_workers=2 * cores()) as pool:
            footages = list(pool.map(partial(known_footage, self._store), paths, contents))
        with code_at_rest():
            return [
                self._unreadable(content) if footage is None else self._outlook(content, footage)
                for content, footage in zip(contents, footages, strict=True)
            ]

    @staticmethod
    def _unreadable(content: Content) -> Outlook:
        return Outlook(content, Counter(), f"{content.why}; it cannot be opened, and will be quarantined", 0.0)

    def _outlook(self, content: Content, footage: KnownFootage) -> Outlook:
        if footage.new:
            return self._outlook_of_new(content, footage)
        config = self._work.config.for_footage(str(footage.path), None)
        planned = list(plan(build_pipeline(footage, config, self._models, STAGES)))
        states = Counter(str(item.explanation.state) for item in planned)
        due = [item for item in planned if item.explanation.state != "cached"]
        if due:
            reason = f"{due[0].node.name}: {due[0].explanation.reason}"
        else:
            reason = content.why if content.record is not None else "all is stored; only the results are made"
        runs = [(item.node.stage.name, _length_s(item.node.segment)) for item in due]
        return Outlook(content, states, reason, self._timings.estimate(runs))

    def _outlook_of_new(self, content: Content, footage: KnownFootage) -> Outlook:
        """Of a content that was never met nothing is stored, so that all its stages run and no key need be made."""
        segments = footage.segments(cast(SampleParams, self._work.config.params["sample"]).segment_s)
        nodes = self._laid_out.get(len(segments))
        if nodes is None:
            # Which nodes there are follows from the number of segments alone.
            pipeline = build_pipeline(footage, self._work.config, self._models, STAGES)
            nodes = self._laid_out[len(segments)] = list(pipeline.nodes.values())
        runs = [
            (node.stage.name, None if node.segment is None else _length_s(segments[node.segment.index]))
            for node in nodes
        ]
        return Outlook(content, Counter(run=len(nodes)), content.why, self._timings.estimate(runs))


def _length_s(segment: Segment | None) -> float | None:
    return None if segment is None else float(segment.end_s - segment.start_s)


def known_footage(store: Folder, path: Path, content: Content) -> KnownFootage | None:
    """The footage by what archive and store remember of it, else by its header; None where that cannot be read.

    Args:
        store: the store's folder.
        path: of the footage.
        content: what the archive knows of it.
    """
    met = remembered(store, content.sha256) if content.sha256 else None
    recorded = content.record.footage if content.record is not None else {}
    span = met.span if met is not None else None
    try:
        if recorded:
            span = Fraction(recorded["start_s"]), Fraction(recorded["end_s"])
        new = span is None and met is None
        if new:
            span = stated_span(path)
        if span is None:
            # Met, but not as a whole: a header is too rough to tell what of it is stored. There are few of these.
            footage = open_footage(path)
            span = footage.start_s, footage.end_s
            picture = {name: getattr(footage, name) for name in _PICTURE if hasattr(footage, name)}
            met = Remembered(span, picture)
    except FootageError:
        return None
    return KnownFootage(
        path, results_name(path), content.sha256, *span, new=new, facts={} if met is None else met.facts
    )


def _row(outlook: Outlook) -> tuple[object, ...]:
    counts = (outlook.states[state] or "" for state in ("cached", "run", "depends"))
    time = "" if outlook.estimate_s is None else spoken(outlook.estimate_s)
    return valid_text(outlook.content.files[0]), *counts, time, outlook.reason


def _say_totals(contents: Sequence[Content], outlooks: Sequence[Outlook], young: int, config: Config) -> None:
    verdicts = Counter(content.verdict for content in contents)
    duplicates = sum(len(content.files) - 1 for content in contents)
    words = [f"{verdicts['work']} to analyse", f"{verdicts['unchanged']} unchanged"]
    others = ((verdicts["quarantined"], "in quarantine"), (duplicates, "duplicates"), (young, "just written to"))
    words += [f"{count} {what}" for count, what in others if count]
    console.say(f"{len(contents)} contents: {', '.join(words)}")
    states: Counter[str] = sum((outlook.states for outlook in outlooks), Counter())
    if states:
        console.say("stages: " + ", ".join(f"{states[s]} {s}" for s in ("cached", "run", "depends") if states[s]))
    known = [outlook.estimate_s for outlook in outlooks if outlook.estimate_s is not None]
    if not outlooks:
        return
    if len(known) < len(outlooks):
        console.say("no estimate: some stage has never run into this store")
        return
    workers = config.runtime.workers or min(cores(), 4)
    console.say(f"estimated: {spoken(sum(known) / min(workers, len(known)))} with {workers} workers")
