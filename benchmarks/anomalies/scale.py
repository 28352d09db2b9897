"""Time and memory of the trials and the grid search on one person's rows, more and more of them.

``python -m benchmarks.anomalies.scale VIDEO STORE ROWS [OVERRIDE …]`` measures one size in a process of its own and
prints it as JSON; `measure` starts those processes one after the other.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.anomalies.recordings import ROOT, Analysis, analyse, known_options, one_thread, stages_until

SIZES = (4_500, 9_000, 18_000, 36_000)
NOISE = 0.2
"""Noise on repeated rows, in deviations of each column: copies would let a model look a row up."""

STAGES = ("align", "emote", "cluster", "embed")
LEFT_OUT = frozenset({"crops", "landmarks"})
"""Large payloads that neither trials nor the grid search read."""


@dataclass(frozen=True)
class Measured:
    """One size.

    Attributes:
        rows: faces of the one person.
        trials_s, gridsearch_s: wall time of all trials together, and of the grid search over them.
        before_mb, peak_mb: resident memory of the process before the first trial, and at most.
    """

    rows: int
    trials_s: float
    gridsearch_s: float
    before_mb: float
    peak_mb: float


def measure(video: Path, store: Path, overrides: Sequence[str] = (), sizes: Sequence[int] = SIZES) -> list[Measured]:
    """Measure all sizes on repeated rows of an analysed recording."""
    found = []
    for rows in sizes:
        command = [sys.executable, "-m", "benchmarks.anomalies.scale", str(video), str(store), str(rows), *overrides]
        done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
        found.append(Measured(**json.loads(done.stdout.splitlines()[-1])))
    return found


def exponent(rows: Sequence[int], seconds: Sequence[float]) -> float:
    """Slope of log time over log (n log n), by least squares: 1 grows like n log n, 2 like its square.

    NaN with fewer than two different sizes.
    """
    n = np.asarray(rows, dtype=np.float64)
    if len(set(n.tolist())) < 2:
        return float("nan")
    slope, _ = np.polyfit(np.log(n * np.log(n)), np.log(np.asarray(seconds, dtype=np.float64)), 1)
    return float(slope)


def repeated(inputs: Analysis, rows: int, seed: int = 0) -> dict[tuple[str, str], pa.Table | np.ndarray]:
    """Payloads of as many rows of the person seen most, one after the other in time, with noise on what is measured.

    Every copy of the recording follows a sampling interval after the one before; identifiers are numbered anew.
    """
    person = inputs.people[0]
    faces = inputs.table("align", "faces")
    times = faces["time_s"].to_numpy()[person.index]
    period_s = float(times[-1] - times[0]) + person.interval_s
    which = np.arange(rows) % len(person)
    time_s = times[which] + np.arange(rows) // len(person) * period_s
    index = person.index[which]
    rng = np.random.default_rng(seed)
    numbers = {
        "segment": np.zeros(rows, dtype=np.int64),
        "face": np.arange(rows),
        "frame": np.arange(rows),
        "track": np.zeros(rows, dtype=np.int64),
        "person": np.ones(rows, dtype=np.int64),
        "time_s": time_s,
    }
    payloads: dict[tuple[str, str], pa.Table | np.ndarray] = {}
    columns: dict[str, Any] = {"frame": np.arange(rows), "time_s": time_s, "cut": np.zeros(rows, dtype=bool)}
    payloads["sample", "frames"] = pa.table(columns)
    for stage in STAGES:
        for payload, (kind, count) in inputs.payloads(stage).items():
            if payload in LEFT_OUT or count != faces.num_rows:
                continue
            if kind == "npy":
                values = np.array(inputs.array(stage, payload)[index], dtype=np.float64)
                noisy = [_noisy(v, rng) for v in values.T]
                payloads[stage, payload] = (np.column_stack(noisy) if noisy else values).astype(np.float32)
            elif kind == "parquet":
                payloads[stage, payload] = _noisy_table(inputs.table(stage, payload).take(index), numbers, rng)
    return payloads


def _noisy_table(table: pa.Table, numbers: Mapping[str, np.ndarray], rng: np.random.Generator) -> pa.Table:
    for i, name in enumerate(table.column_names):
        kind = table.schema.field(i).type
        if name in numbers:
            table = table.set_column(i, table.schema.field(i), pa.array(numbers[name]).cast(kind))
        elif pa.types.is_floating(kind) and name not in ("quality", "confidence"):
            values = table[name].cast(pa.float64()).to_numpy(zero_copy_only=False)
            noisy = pa.array(_noisy(values, rng), from_pandas=True).cast(kind)
            table = table.set_column(i, table.schema.field(i), noisy)
    return table


def _noisy(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Values with noise; scores between 0 and 1 stay there."""
    known = values[np.isfinite(values)]
    if not len(known):
        return values
    out = values + NOISE * known.std() * rng.standard_normal(len(values))
    return np.clip(out, 0, 1) if known.min() >= 0 and known.max() <= 1 else out


def run_stages(payloads: dict[tuple[str, str], pa.Table | np.ndarray], overrides: Sequence[str]) -> tuple[float, float]:
    """Seconds of all trials of the configuration, and of the grid search over them."""
    from faceline.anomaly.gridsearch import GRIDSEARCH
    from faceline.anomaly.trial import TRIAL
    from faceline.stage import MemoryInputs, Runtime, collect
    from flows.config import load_config

    stages = stages_until("gridsearch")
    config = load_config(known_options(overrides, stages), stages)
    runtime = Runtime(threads=1)
    began_s = time.perf_counter()
    done = [collect(TRIAL.compute(trial.params, MemoryInputs(payloads), runtime)) for trial in config.trials]
    trials_s = time.perf_counter() - began_s
    whole = {("trial", name): pa.concat_tables([d[name] for d in done]) for name in ("scores", "summary", "planted")}
    began_s = time.perf_counter()
    collect(GRIDSEARCH.compute(config.params["gridsearch"], MemoryInputs({**payloads, **whole}), runtime))
    return trials_s, time.perf_counter() - began_s


def main(argv: list[str] | None = None) -> int:
    """Measure one size."""
    one_thread()
    video, store, rows, *overrides = sys.argv[1:] if argv is None else argv
    payloads = repeated(analyse(Path(video), Path(store), overrides), int(rows))
    import sklearn.ensemble
    import sklearn.neighbors
    import sklearn.svm  # noqa: F401 (not part of what is timed)

    before_mb = _peak_mb()
    trials_s, gridsearch_s = run_stages(payloads, overrides)
    print(json.dumps(vars(Measured(int(rows), trials_s, gridsearch_s, before_mb, _peak_mb()))))
    return 0


def _peak_mb() -> float:
    """Most resident memory of this process so far; Linux counts it in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    raise SystemExit(main())
