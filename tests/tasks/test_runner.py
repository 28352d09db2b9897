"""The stage runner: keys, hits, commits, reasons, and faults in the middle of a stage."""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from faceline.artifacts import ArtifactRef
from faceline.errors import ArtifactError, FootageChangedError, ModelError
from faceline.inputs import StoredInputs
from faceline.stage import Inputs, Payload, Runtime, Stage, StageParams
from faceline.store import Store
from faceline.timeline import Segment
from tasks.runner import StageRequest, address_of, explain_stage, find_stage, key_parts, run_stage


class SampleParams(StageParams):
    fps: float = 5.0


class CountParams(StageParams):
    factor: int = 1


class TrialParams(StageParams):
    window_s: float = 2.0


class SumParams(StageParams):
    pass


def sample(params: SampleParams, inputs: Inputs, runtime: Runtime) -> Iterator[dict[str, Any]]:
    start = inputs.segment.index * 10
    content = inputs.footage.path.read_text()
    for i in range(0, 10, runtime.batch_size):
        rows = list(range(start + i, start + min(10, i + runtime.batch_size)))
        yield {
            "frames": pa.table({"frame": pa.array(rows, pa.int64()), "text": [content] * len(rows)}),
            "points": np.array(rows, np.float32)[:, None] * np.ones((1, 3), np.float32),
        }


def count(params: CountParams, inputs: Inputs, runtime: Runtime) -> Iterator[dict[str, Any]]:
    total = 0
    for batch in inputs.batches("sample", "frames", ["frame"], batch_size=4):
        assert batch.num_rows <= 4
        total += batch.num_rows * params.factor
    weights = inputs.models["identity"].path.read_text() if "identity" in inputs.models else ""
    yield {"counts": pa.table({"total": [total], "note": [str(inputs.facts.get("note")) + weights]})}


def trial(params: TrialParams, inputs: Inputs, runtime: Runtime) -> Iterator[dict[str, Any]]:
    yield {"scores": pa.table({"trial": [str(params.window_s)]})}


def summed(params: SumParams, inputs: Inputs, runtime: Runtime) -> Iterator[dict[str, Any]]:
    frames, points = inputs.table("sample", "frames"), inputs.array("sample", "points")
    assert len(points) == frames.num_rows
    trials = inputs.table("trial", "scores")["trial"].to_pylist()
    yield {"pages": {"sum.txt": f"{sum(frames['frame'].to_pylist())} {points.sum():.0f} {' '.join(trials)}".encode()}}


SAMPLE = Stage(
    "sample",
    1,
    "segment",
    SampleParams,
    (),
    (Payload("frames", "parquet"), Payload("points", "npy")),
    sample,
    reads_footage=True,
)
COUNT = Stage(
    "count",
    1,
    "footage",
    CountParams,
    ("sample",),
    (Payload("counts", "parquet"),),
    count,
    roles=lambda params: ("identity",),
)
TRIAL = Stage("trial", 1, "trial", TrialParams, (), (Payload("scores", "parquet"),), trial)
SUM = Stage("sum", 1, "footage", SumParams, ("sample", "trial"), (Payload("pages", "files"),), summed)


@dataclass(frozen=True)
class Clip:
    """Stands in for footage: a text file."""

    path: Path
    sha256: str = field(default="")

    @classmethod
    def at(cls, path: Path) -> Clip:
        return cls(path, hashlib.sha256(path.read_bytes()).hexdigest())

    def check_unchanged(self) -> None:
        if Clip.at(self.path).sha256 != self.sha256:
            raise FootageChangedError("footage changed while it was read", where=str(self.path))


@dataclass(frozen=True)
class Weights:
    role: str
    name: str
    sha256: str
    path: Path
    source: str = "bundled"

    def check_unchanged(self) -> None:
        if self.path.read_text() != "W":
            raise ModelError("the weights changed while they were used", where=self.name)


@pytest.fixture
def clip(tmp_path: Path) -> Clip:
    (tmp_path / "clip.mp4").write_text("moving pictures")
    return Clip.at(tmp_path / "clip.mp4")


@pytest.fixture
def weights(tmp_path: Path) -> dict[str, Weights]:
    (tmp_path / "weights").write_text("W")
    return {"identity": Weights("identity", "dlib", "aa" * 32, tmp_path / "weights")}


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "store")


@pytest.fixture
def sampling(clip: Clip, root: str) -> StageRequest:
    return StageRequest(SAMPLE, SampleParams(), root, footage=clip, segment=_segment(0))


@pytest.fixture
def counting(sampling: StageRequest, clip: Clip, root: str, weights: dict[str, Weights]) -> StageRequest:
    refs = tuple(run_stage(replace(sampling, segment=_segment(i))).ref for i in range(3))
    return StageRequest(COUNT, CountParams(), root, {"sample": refs}, footage=clip, models=weights)


def _segment(index: int) -> Segment:
    return Segment(index, Fraction(10 * index), Fraction(10 * index + 10))


def _table(ref: ArtifactRef, payload: str) -> pa.Table:
    return Store(ref.root).read(ref).table(payload)


# Running.


def test_a_stage_runs_once(sampling: StageRequest) -> None:
    first, second = run_stage(sampling), run_stage(sampling)
    assert (first.state, first.reason, first.rows) == ("run", "first run", {"frames": 10, "points": 10})
    assert (second.state, second.reason) == ("cached", "unchanged")
    assert first.ref == second.ref
    assert first.ref.segment == 0
    assert _table(first.ref, "frames")["frame"].to_pylist() == list(range(10))


def test_how_it_is_executed_changes_neither_key_nor_bytes(sampling: StageRequest, tmp_path: Path) -> None:
    one = run_stage(sampling)
    elsewhere = replace(sampling, store=str(tmp_path / "other"), runtime=Runtime("cuda", batch_size=3, threads=7))
    other = run_stage(elsewhere)
    assert (other.ref.key, other.ref.digest) == (one.ref.key, one.ref.digest)
    manifest = Store(elsewhere.store).read(other.ref).manifest
    assert manifest.runtime == {"device": "cuda", "batch_size": 3, "threads": 7}


def test_segments_and_trials_are_read_as_one(counting: StageRequest, root: str, clip: Clip) -> None:
    trials = tuple(
        run_stage(StageRequest(TRIAL, TrialParams(window_s=w), root, footage=clip, trial=f"w={w}")).ref
        for w in (0.5, 8.0)
    )
    assert [ref.trial for ref in trials] == ["w=0.5", "w=8.0"]
    request = StageRequest(SUM, SumParams(), root, {"sample": counting.refs["sample"], "trial": trials}, footage=clip)
    done = run_stage(request)
    assert dict(Store(root).read(done.ref).files("pages")) == {"sum.txt": b"435 1305 0.5 8.0"}


def test_every_reason_is_told(counting: StageRequest, weights: dict[str, Weights], clip: Clip) -> None:
    def ran(request: StageRequest) -> tuple[str, str]:
        planned, done = explain_stage(request), run_stage(request)
        assert (planned.state, planned.reason) == (done.state, done.reason)
        assert planned.key == done.ref.key
        return done.state, done.reason

    assert ran(counting) == ("run", "first run")
    assert ran(counting) == ("cached", "unchanged")
    assert ran(replace(counting, params=CountParams(factor=2))) == ("run", "params.factor 1 → 2")
    assert ran(counting) == ("cached", "computed before")
    assert ran(replace(counting, force=True)) == ("run", "forced")
    assert ran(replace(counting, facts={"note": "hi"})) == ("run", "facts.note is new (hi)")
    other = {"identity": replace(weights["identity"], name="vggface2", sha256="bb" * 32)}
    assert ran(counting) == ("cached", "computed before")
    assert ran(replace(counting, models=other)) == ("run", "model identity: dlib → vggface2")
    assert ran(counting) == ("cached", "computed before")
    reversed_refs = tuple(reversed(counting.refs["sample"]))
    assert ran(replace(counting, refs={"sample": reversed_refs})) == ("run", "input sample changed (2 of 3 artifacts)")
    assert ran(replace(counting, stage=replace(COUNT, version=2)))[1].startswith("stage version 1 → 2")


def test_edited_footage_is_named(sampling: StageRequest, clip: Clip) -> None:
    run_stage(sampling)
    clip.path.write_text("other pictures")
    done = run_stage(replace(sampling, footage=Clip.at(clip.path)))
    assert (done.state, done.reason) == ("run", "footage changed")


def test_a_moved_clip_stays_cached(sampling: StageRequest, clip: Clip) -> None:
    run_stage(sampling)
    moved = clip.path.rename(clip.path.with_name("moved.mp4"))
    done = run_stage(replace(sampling, footage=Clip.at(moved)))
    assert (done.state, done.reason) == ("cached", "unchanged")


def test_the_same_bytes_leave_what_follows_cached(counting: StageRequest, sampling: StageRequest) -> None:
    run_stage(counting)
    # The sampling rate of this toy stage enters its key, but not its output.
    refs = tuple(run_stage(replace(sampling, segment=_segment(i), params=SampleParams(fps=9.0))).ref for i in range(3))
    assert {ref.key for ref in refs}.isdisjoint(ref.key for ref in counting.refs["sample"])
    pending = explain_stage(replace(counting, refs={}, pending=("sample",)))
    assert (pending.state, pending.reason) == ("depends", "runs unless sample gives the same bytes")
    assert run_stage(replace(counting, refs={"sample": refs})).state == "cached"


def test_models_that_a_stage_does_not_use_do_not_count(counting: StageRequest, weights: dict[str, Weights]) -> None:
    more = {**weights, "emotion": replace(weights["identity"], role="emotion")}
    assert key_parts(replace(counting, models=more)).key == key_parts(counting).key


def test_footage_that_a_stage_does_not_read_does_not_count(counting: StageRequest, clip: Clip) -> None:
    assert key_parts(replace(counting, footage=replace(clip, sha256="00" * 32))).key == key_parts(counting).key


def test_where_the_store_lies_does_not_count(sampling: StageRequest) -> None:
    assert key_parts(replace(sampling, store="s3://elsewhere")).key == key_parts(sampling).key


# Requests that do not fit.


def test_a_stage_takes_only_its_own_parameters(sampling: StageRequest) -> None:
    class Wider(SampleParams):
        more: int = 1

    for params in (CountParams(), Wider()):
        with pytest.raises(TypeError, match="stage sample takes SampleParams, got"):
            run_stage(replace(sampling, params=params))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"refs": {}}, r"stage count reads \['sample'\], got artifacts of \[\]"),
        ({"refs": {"sample": (), "detect": ()}}, r"got artifacts of \['detect', 'sample'\]"),
        ({"models": {}}, "uses the models identity, which were not given"),
        ({"segment": _segment(0)}, "of scope footage, segment is"),
        ({"trial": "t"}, "of scope footage, trial is t"),
        (
            {"refs": {"sample": (ArtifactRef("detect", "k", "d", "r"),)}},
            r"artifacts of \['detect'\] were given as input",
        ),
    ],
)
def test_a_request_that_does_not_fit_is_refused(counting: StageRequest, change: dict[str, Any], message: str) -> None:
    for act in (run_stage, explain_stage, key_parts):
        with pytest.raises(ValueError, match=message):
            act(replace(counting, **change))


def test_a_stage_that_reads_footage_needs_some(sampling: StageRequest) -> None:
    with pytest.raises(ValueError, match="reads the footage, but got none"):
        run_stage(replace(sampling, footage=None))


# What a stage may see.


def test_a_stage_sees_only_what_it_declares(counting: StageRequest, clip: Clip) -> None:
    inputs = StoredInputs(COUNT, counting.refs, footage=clip)
    for look in (
        lambda: inputs.footage,
        lambda: inputs.segment,
        lambda: inputs.table("detect", "faces"),
        lambda: StoredInputs(COUNT, {}).table("sample", "frames"),
    ):
        with pytest.raises(LookupError, match="stage count"):
            look()
    with pytest.raises(TypeError):
        inputs.facts["x"] = 1  # type: ignore[index]


def test_one_array_is_mapped_and_several_are_joined(counting: StageRequest) -> None:
    refs = counting.refs["sample"]
    one = StoredInputs(COUNT, {"sample": refs[:1]}).array("sample", "points")
    assert isinstance(one, np.memmap)
    all_of_them = StoredInputs(COUNT, {"sample": refs}).array("sample", "points")
    np.testing.assert_array_equal(all_of_them[:, 0], np.arange(30))


# Faults.


def test_footage_that_changes_while_it_is_read_leaves_nothing(sampling: StageRequest, root: str) -> None:
    def spoiled(params: SampleParams, inputs: Inputs, runtime: Runtime) -> Iterator[dict[str, Any]]:
        yield from sample(params, inputs, runtime)
        inputs.footage.path.write_text("changed under our feet")

    with pytest.raises(FootageChangedError, match="changed while it was read"):
        run_stage(replace(sampling, stage=replace(SAMPLE, compute=spoiled)))
    assert list(Store(root).artifacts()) == []
    assert Store(root).folder.names("sample") == []


def test_weights_that_change_while_they_are_used_leave_nothing(
    counting: StageRequest, weights: dict[str, Weights], root: str
) -> None:
    weights["identity"].path.write_text("other weights")
    with pytest.raises(ModelError, match="changed while they were used"):
        run_stage(counting)
    assert Store(root).folder.names("count") == []


@pytest.mark.parametrize("error", [RuntimeError, MemoryError, KeyboardInterrupt])
def test_a_stage_that_fails_leaves_nothing_and_can_run_again(
    sampling: StageRequest, root: str, error: type[BaseException]
) -> None:
    closed: list[bool] = []

    def failing(params: SampleParams, inputs: Inputs, runtime: Runtime) -> Iterator[dict[str, Any]]:
        try:
            yield next(sample(params, inputs, runtime))
            raise error("in the middle")
        finally:
            closed.append(True)

    with pytest.raises(error):
        run_stage(replace(sampling, stage=replace(SAMPLE, compute=failing)))
    assert closed == [True]
    assert Store(root).folder.names("sample") == Store(root).folder.names("_locks") == []
    assert run_stage(sampling).state == "run"


def test_a_generator_is_closed_when_its_chunk_is_refused(sampling: StageRequest) -> None:
    closed: list[bool] = []

    def wrong(params: SampleParams, inputs: Inputs, runtime: Runtime) -> Iterator[dict[str, Any]]:
        try:
            yield {"other": pa.table({})}
        finally:
            closed.append(True)

    with pytest.raises(ValueError, match="yielded 'other'"):
        run_stage(replace(sampling, stage=replace(SAMPLE, compute=wrong)))
    assert closed == [True]


def test_a_truncated_artifact_is_computed_anew_and_says_so(
    sampling: StageRequest, caplog: pytest.LogCaptureFixture
) -> None:
    first = run_stage(sampling)
    path = Path(first.ref.root) / first.ref.folder / "points.npy"
    path.write_bytes(path.read_bytes()[:-4])
    with caplog.at_level(logging.WARNING):
        again = run_stage(sampling)
    assert (again.state, again.ref) == ("run", first.ref)
    assert again.reason == "artifact damaged: points.npy has 244 bytes, expected 248"
    assert "set aside in _damaged/sample-" in caplog.text
    assert run_stage(sampling).state == "cached"


def test_a_flipped_bit_in_an_input_stops_the_stage_and_heals_on_the_next_run(
    counting: StageRequest, sampling: StageRequest
) -> None:
    ref = counting.refs["sample"][0]
    path = Path(ref.root) / ref.folder / "frames.parquet"
    data = bytearray(path.read_bytes())
    data[60] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match=r"frames\.parquet has SHA-256 .*; run the same command again"):
        run_stage(counting)
    healed = run_stage(sampling)
    assert healed.state == "run"
    assert healed.reason.startswith("artifact damaged: frames.parquet has SHA-256")
    assert healed.ref == ref
    assert run_stage(counting).state == "run"


def test_forcing_the_same_bytes_keeps_the_artifact(sampling: StageRequest) -> None:
    first = run_stage(sampling)
    manifest = Path(first.ref.root) / first.ref.folder / "manifest.json"
    before = manifest.read_bytes()
    assert run_stage(replace(sampling, force=True)).ref == first.ref
    assert manifest.read_bytes() == before


def test_a_pointer_that_cannot_be_written_costs_no_result(
    sampling: StageRequest, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("tasks.runner.remember", full)
    with caplog.at_level(logging.WARNING):
        assert run_stage(sampling).state == "run"
    assert "could not be noted" in caplog.text
    assert run_stage(sampling).state == "cached"


def test_planning_touches_nothing(sampling: StageRequest, root: str) -> None:
    assert explain_stage(sampling).state == "run"
    assert not Path(root).exists()


# Travelling to other processes.


def test_declarations_travel_by_address(sampling: StageRequest) -> None:
    travelled = pickle.loads(pickle.dumps(sampling))  # noqa: S301 (our own bytes)
    assert travelled.stage == f"{__name__}:SAMPLE"
    assert travelled.declaration is SAMPLE
    assert replace(travelled, stage=SAMPLE) == sampling
    assert find_stage(address_of(COUNT)) is COUNT


def test_a_declaration_that_is_no_constant_cannot_travel(sampling: StageRequest) -> None:
    with pytest.raises(ValueError, match="cannot be sent elsewhere"):
        pickle.dumps(replace(sampling, stage=replace(SAMPLE, version=9)))
    with pytest.raises(ValueError, match="no stage declaration"):
        find_stage("faceline.timeline:Segment")


LAB = textwrap.dedent(
    """
    import pyarrow as pa
    from faceline.stage import Payload, Stage, StageParams
    from lab import helper

    class LabParams(StageParams):
        n: int = 3

    def compute(params, inputs, runtime):
        yield {"a": pa.table({"x": [helper.value()] * params.n})}

    LAB = Stage("lab", 1, "footage", LabParams, (), (Payload("a", "parquet"),), compute)
    """
)
RUN_LAB = textwrap.dedent(
    """
    import sys
    from lab.stages import LAB, LabParams
    from tasks.runner import StageRequest, run_stage
    done = run_stage(StageRequest(LAB, LabParams(), sys.argv[1]))
    print(done.state, "|", done.reason, "|", done.ref.key)
    """
)


def test_an_edited_helper_reruns_the_stage_in_the_next_process(tmp_path: Path) -> None:
    """The trap that a scheduler's own caching falls into."""
    lab = tmp_path / "lab"
    lab.mkdir()
    (lab / "__init__.py").write_text("")
    (lab / "stages.py").write_text(LAB)

    def run(helper: str, seed: str) -> list[str]:
        (lab / "helper.py").write_text(helper)
        env = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", RUN_LAB, str(tmp_path / "store")]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip().split(" | ")

    first = run("def value():\n    return 1\n", "0")
    edited = run("def value():\n    return 2\n", "1")
    assert first[:2] == ["run", "first run"]
    assert edited[:2] == ["run", "code of lab.helper changed"]
