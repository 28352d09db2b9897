"""A results folder with its whole chain, from made-up tables and real pictures: no network is run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from faceline.artifacts import ArtifactRef
from faceline.custody import custody_bytes
from faceline.inputs import StoredInputs
from faceline.keys import KeyParts
from faceline.report.results import write_results
from faceline.report.stage import REPORT, ReportParams
from faceline.stage import Payload, Runtime, collect
from faceline.store import Store
from faceline.video import open_footage
from tests.faceline.conftest import numbered_picture, write_clip
from tests.faceline.report import factory

SCRIPT = factory.Script(
    length_s=8,
    persons=(((0, 8),), ((2, 6),)),
    events=((1, 3, 4), (2, 4.5, 5)),
    segment_s=4,
    unknown_every=9,
    no_crop_every=11,
)
MODELS = {"detector": {"name": "mtcnn", "sha256": "01" * 32}}
SEGMENTED = ("sample", "align", "embed", "emote")


@dataclass(frozen=True)
class Chain:
    """What was made.

    Attributes:
        folder: the results folder.
        footage: 8 s at 30 frames per second, each picture bearing its number.
        store: root of the store.
    """

    folder: Path
    footage: Path
    store: Path


def make(home: Path, sign: Callable[[bytes], bytes] | None = None, signature: dict[str, str] | None = None) -> Chain:
    """Footage, a store with an artifact for every stage, and the results of both."""
    footage = write_clip(
        home / "clip.mp4", (numbered_picture(i, 640, 320) for i in range(240)), time_base=Fraction(1, 30)
    )
    sha256 = open_footage(footage).sha256
    store = Store(home / "store")
    tables = factory.make(SCRIPT).payloads
    refs: dict[str, list[ArtifactRef]] = {}
    for name in ("sample", "align", "embed", "emote", "cluster", "gridsearch"):
        payloads = {payload: value for (stage, payload), value in tables.items() if stage == name}
        for segment in (0, 1) if name in SEGMENTED else (None,):
            parts = key_parts(name, sha256, refs, segment)
            refs.setdefault(name, []).append(commit(store, parts, payloads, segment))
    facts = {
        "faceline": "0.1.0",
        "footage": {"name": "clip", "sha256": sha256, "duration_s": 8.0, "start_s": 0.0},
        "params": {"sample": {"fps": 10.0}},
    }
    inputs = StoredInputs(REPORT, refs, facts=facts)
    report = collect(REPORT.compute(ReportParams(plots=False), inputs, Runtime()))
    refs["report"] = [commit(store, key_parts("report", sha256, refs, None, facts), report, None)]
    ordered = [ref for made in refs.values() for ref in made]
    run: dict[str, Any] = {
        "faceline": "0.1.0",
        "footage": {"path": str(footage), "sha256": sha256, "duration_s": 8.0, "start_s": 0.0},
        "config": {"sample": {"fps": 10}},
        "models": {role: {**model, "source": "package"} for role, model in MODELS.items()},
        "stages": [
            {"stage": ref.stage, "segment": ref.segment, "trial": None, "key": ref.key, "digest": ref.digest}
            for ref in ordered
        ],
        **({"signature": signature} if signature else {}),
    }
    folder = home / "results" / "clip"
    custody = custody_bytes([store.read(ref).manifest for ref in ordered])
    write_results(folder, dict(report["files"]), inputs, run, custody=custody, sign=sign)
    return Chain(folder, footage, home / "store")


def key_parts(
    stage: str,
    sha256: str,
    refs: dict[str, list[ArtifactRef]],
    segment: int | None,
    facts: dict[str, Any] | None = None,
) -> KeyParts:
    """Parts as the stage runner makes them."""
    before = {"sample": (), "align": ("sample",), "embed": ("align",), "emote": ("align",)}
    reads: Sequence[str] = REPORT.inputs if stage == "report" else before.get(stage, ("embed", "emote"))
    chosen = {name: [ref for ref in refs[name] if segment is None or ref.segment == segment] for name in reads}
    scope = {"segment": segment, "start_s": Fraction(4 * (segment or 0)), "end_s": Fraction(4 * (segment or 0) + 4)}
    return KeyParts(
        stage=stage,
        version=1,
        params={"fps": 10.0} if stage == "sample" else {},
        inputs={name: [ref.digest for ref in chosen[name]] for name in reads},
        footage=sha256 if stage in ("sample", "align") else None,
        scope={} if segment is None else scope,
        facts=facts or {},
        models=MODELS if stage == "sample" else {},
        code={f"faceline.{stage}": "ab" * 32, "faceline.timeline": "cd" * 32},
    )


def commit(store: Store, parts: KeyParts, payloads: dict[str, Any], segment: int | None) -> ArtifactRef:
    """Store what a stage gave, or a segment's share of it."""
    share = {name: of_segment(value, segment) for name, value in payloads.items()}
    kinds = {name: "files" if isinstance(value, dict) else _kind(value) for name, value in share.items()}
    outputs = [Payload(name, kind) for name, kind in kinds.items()]  # type: ignore[arg-type]
    with store.draft(parts.stage, parts.key, outputs) as draft:
        draft.append(share)
        manifest = store.commit(draft, parts, runtime={}, timings={})
    return ArtifactRef(parts.stage, parts.key, manifest.digest, store.root, segment, None, manifest.rows)


def of_segment(value: Any, segment: int | None) -> Any:
    """The rows of a segment; arrays that nobody asks for go with the first."""
    if segment is None or isinstance(value, dict):
        return value
    if isinstance(value, pa.Table):
        return value.filter(pc.equal(value["segment"], segment))
    return value if segment == 0 else value[:0]


def _kind(value: pa.Table | np.ndarray) -> str:
    return "parquet" if isinstance(value, pa.Table) else "npy"
