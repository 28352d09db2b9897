"""The real pipeline with stand-ins for the work: same names, parameters and edges, but each stage only notes what it
was given. So keys, plans, Prefect states and exit codes can be tested in milliseconds per stage."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa

from faceline.errors import FootageError, FootageUnreadableError
from faceline.stage import Chunk, Inputs, Payload, Runtime, Stage
from faceline.timeline import Segment, cut_into_segments
from faceline.video import results_name

OUT = Payload("out", "parquet", "what the stage was given")
SCHEMA = pa.schema([("stage", pa.string()), ("seen", pa.string())])


@dataclass(frozen=True)
class FakeFootage:
    """A text file that passes for footage of ``length_s`` seconds."""

    path: Path
    sha256: str
    length_s: float = 20.0
    native_fps: float = 30.0

    @property
    def name(self) -> str:
        return results_name(self.path)

    @property
    def start_s(self) -> Fraction:
        return Fraction(0)

    @property
    def duration_s(self) -> float:
        return self.length_s

    @property
    def end_s(self) -> Fraction:
        return Fraction(self.length_s)

    def segments(self, segment_s: float) -> list[Segment]:
        return cut_into_segments(Fraction(0), Fraction(self.length_s), Fraction(segment_s))

    def check_unchanged(self) -> None:
        pass


def open_fake(path: str | Path, limits: object = None) -> FakeFootage:
    """Open a fake footage; one that begins with ``broken`` cannot be read as video, ``12 fps`` has that frame rate."""
    path = Path(path)
    if not path.is_file():
        raise FootageUnreadableError("no such file", where=str(path), cure="check the path")
    content = path.read_bytes()
    if content.startswith(b"broken"):
        raise FootageError("is no video", where=str(path))
    native_fps = 12.0 if content.startswith(b"12 fps") else 30.0
    return FakeFootage(path, hashlib.sha256(content).hexdigest(), native_fps=native_fps)


def fake_span(path: Path) -> tuple[Fraction, Fraction]:
    """Start and end of a fake footage."""
    footage = open_fake(path)
    return footage.start_s, footage.start_s + Fraction(footage.length_s)


class Calls:
    """What was computed, in order; what shall go wrong; and what each stage's code shall pass for."""

    def __init__(self) -> None:
        self.computed: list[str] = []
        self.errors: dict[str, list[Exception]] = {}
        self.pause_s = 0.0
        self.echo_params = True
        self.code: dict[str, str] = {}

    def names(self) -> list[str]:
        """Names of the stages computed since the last call, without segments and trials, each once."""
        names = list(dict.fromkeys(self.computed))
        self.computed.clear()
        return names


def fake_stages(stages: Sequence[Stage], calls: Calls) -> tuple[Stage, ...]:
    """Stand-ins for ``stages``, in the same order."""
    return tuple(
        replace(stage, outputs=(OUT,), compute=_compute(stage, calls), roles=lambda params: ()) for stage in stages
    )


def _compute(stage: Stage, calls: Calls) -> Callable[[Any, Inputs, Runtime], Iterator[Chunk]]:
    def compute(params: Any, inputs: Inputs, runtime: Runtime) -> Iterator[Chunk]:
        calls.computed.append(stage.name)
        if calls.errors.get(stage.name):
            raise calls.errors[stage.name].pop(0)
        runtime.progress(0, 1)
        time.sleep(calls.pause_s)
        # Without an echo, what a stage gives follows from its inputs alone, not from its code either.
        seen: dict[str, Any] = {"params": params.model_dump(mode="json"), "code": calls.code.get(stage.name)}
        if not calls.echo_params:
            seen = {}
        for name in stage.inputs:
            seen[name] = hashlib.sha256("".join(inputs.table(name, "out")["seen"].to_pylist()).encode()).hexdigest()
        if stage.reads_footage and calls.echo_params:
            seen["footage"] = inputs.footage.sha256
        if stage.scope == "segment":
            seen["segment"] = inputs.segment.index
        yield {"out": pa.table({"stage": [stage.name], "seen": [json.dumps(seen, sort_keys=True)]}, schema=SCHEMA)}
        runtime.progress(1, 1)

    return compute


def fake_finish(job: Any, outcomes: Mapping[str, Any], records: Sequence[Any], seconds: float) -> Any:
    """Stand-in for `flows.results.finish`: writes ``run.json`` alone."""
    from flows.results import Finished, run_facts

    counts = {"sampled": 10, "frames_with_face": 9, "faces": 9, "tracks": 1, "persons": 1, "unknown_faces": 0}
    run = run_facts(job, records, seconds) | {"counts": counts | {"events": 1}, "outputs": {}}
    run["footage"] |= {"frames_decoded": 10, "damaged_at_s": None}
    job.output.mkdir(parents=True, exist_ok=True)
    (job.output / "run.json").write_text(json.dumps(run))
    event = {
        "event": 0, "person": 1, "rank": 1, "start_s": 1.0, "peak_s": 1.5, "end_s": 2.0, "score": 5.0,
        "p_value": 0.01, "expected_false": 0.02, "survival": 0.8, "quality": 0.9, "flags": "", "explained": False,
        "top_features": "mouth opening +5.2",
    }  # fmt: skip
    summary = "Time of top 1 anomaly:\n- 00:00:01.500  person 1  p=0.010  mouth opening"
    return Finished(run, summary, [event], "### Person 1\n")
