"""Feature sets: what is looked at, per row, in units of the person's own baseline.

A set is made of blocks, each with its own sampling: emotions and expression measures exist for every face,
embeddings and UMAP components only for about one face a second. A block knows which of its rows are there; nothing
is carried over to the rows between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pyarrow as pa

from faceline.anomaly.baseline import Baseline, without_confounds
from faceline.anomaly.blinks import EYES, blinks
from faceline.anomaly.rows import PersonRows
from faceline.anomaly.windows import window_stats
from faceline.blendshapes import BLENDSHAPES, DEAD_BLENDSHAPES
from faceline.stage import Inputs

FeatureSet = Literal["expressions", "dynamics", "components", "embeddings", "all"]
FEATURE_SETS: tuple[str, ...] = get_args(FeatureSet)

BLOCKS: dict[str, tuple[str, ...]] = {
    "expressions": ("emotions", "measures", "blendshapes"),
    "dynamics": ("dynamics",),
    "components": ("components",),
    "embeddings": ("embeddings",),
    "all": ("emotions", "measures", "blendshapes", "embeddings", "components"),
}
"""Blocks of each set. Blendshapes are there only when their weights are."""

EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
EMOTION_FLOOR = 1e-2
"""Emotion scores enter as logarithms; smaller ones are taken as this. With 0.001, "neutral" rising from 0.0001 to 0.002
beside a sure "happy" counted as a departure of five baseline units: both false events of the demo were of that kind."""

MIN_PRESENCE = 0.25
"""A block that fewer of a person's usable rows carry (at the block's own sampling) is left out for that person."""

BLINKLESS = ("emotions", "measures", "blendshapes")
"""Blocks from which blinks are left out. How much a face moves includes them."""

SPARSE = ("embeddings", "components")
"""Blocks that exist only for embedded faces, about one a second."""

PCA_ROWS = 4000
"""At most so many rows, evenly spaced, define the principal directions of a person's embeddings."""


@dataclass(frozen=True)
class Block:
    """One family of features of one person.

    Attributes:
        name: "emotions", "measures", "blendshapes", "dynamics", "embeddings" or "components".
        columns: name of each feature.
        x: float64 [n, d], in units of the person's baseline (robust z); NaN where not present.
        present: bool [n]; usable rows on which the whole block is there.
        interval_s: spacing of the present rows, at least the footage's sampling interval.
    """

    name: str
    columns: tuple[str, ...]
    x: np.ndarray
    present: np.ndarray
    interval_s: float


def build_blocks(
    inputs: Inputs, rows: PersonRows, features: str, *, confound_free: bool = True, embedding_components: int = 6
) -> list[Block]:
    """The blocks of a feature set for one person; a block too rare is left out (the list may be empty)."""
    blocks = []
    wanted = BLOCKS[features]
    blinking = _blinks(inputs, rows) if set(BLINKLESS) & set(wanted) else None
    for name in wanted:
        columns, raw, floor = _raw_block(inputs, rows, name)
        if blinking is not None and name in BLINKLESS:
            raw = np.where(blinking[:, None], np.nan, raw)
        block = make_block(
            name, columns, raw, rows, floor, confound_free=confound_free, components=embedding_components
        )
        if block is not None:
            blocks.append(block)
    return blocks


def make_block(
    name: str,
    columns: Sequence[str],
    raw: np.ndarray,
    rows: PersonRows,
    floor: float,
    *,
    confound_free: bool,
    components: int,
) -> Block | None:
    """A block from raw features [n, d] (NaN = missing); `None` when too little of it is there.

    Columns that are missing in more than half of the rows that carry the block are dropped; a row that lacks any of
    the others does not carry it.
    """
    carrying = rows.usable & np.isfinite(raw).any(axis=1)
    if not carrying.any():
        return None
    kept = np.isfinite(raw[carrying]).mean(axis=0) > 0.5
    raw = raw[:, kept]
    present = carrying & np.isfinite(raw).all(axis=1)
    if present.sum() < 8:
        return None
    interval_s = _spacing_s(rows.time_s[present], rows.interval_s)
    if present.sum() * interval_s < MIN_PRESENCE * rows.usable.sum() * rows.interval_s:
        return None
    names = tuple(c for c, k in zip(columns, kept, strict=True) if k)
    x = raw[present].astype(np.float64)
    if confound_free:
        # Embedded faces are few: for what exists only for them, the regression stays linear.
        x = without_confounds(x, rows.confounds[present], squares=name not in SPARSE)
    if name == "embeddings":
        x = principal_components(x, components)
        names = tuple(f"embedding_{i + 1}" for i in range(x.shape[1]))
    whole = np.full((len(rows), x.shape[1]), np.nan)
    whole[present] = Baseline.of(x, floor).standardise(x)
    return Block(name, names, whole, present, interval_s)


def principal_components(x: np.ndarray, components: int) -> np.ndarray:
    """What an embedding says beyond identity (the person's median), on its principal directions.

    float64 [n, ≤ components]; signs are fixed so that the largest loading is positive.
    """
    residual = x - np.median(x, axis=0)
    sample = residual[np.linspace(0, len(x) - 1, min(len(x), PCA_ROWS)).astype(np.int64)]
    covariance = sample.T @ sample / len(sample)
    _, vectors = np.linalg.eigh(covariance)
    directions = vectors[:, ::-1][:, : min(components, x.shape[1], len(x) - 1)]
    signs = np.sign(directions[np.abs(directions).argmax(axis=0), np.arange(directions.shape[1])])
    return np.asarray(residual @ (directions * signs))


def window_table(
    blocks: Sequence[Block],
    rows: PersonRows,
    *,
    window_s: float,
    min_coverage: float,
    baseline: list[Baseline] | None = None,
) -> tuple[np.ndarray, list[Baseline]]:
    """Window features float64 [n, D] of all blocks side by side, NaN rows where a window is not covered.

    Of most blocks the window's mean counts, in robust units once more (a long window's mean varies less than a row).
    Of the block "dynamics" it is the logarithms of the window's speed and deviation instead: how much a face moves, not
    where it is. Both in one table cost more than they gave: on the talking persons of the benchmark the movements of
    speech drowned short smiles (docs/adr/0006-anomalies.md).

    A block enters with the same total weight, however many columns it has (as in multiple factor analysis, Escofier &
    Pagès 1994), so that seven emotions are not drowned by thirty measures. A block whose rows lie further apart than
    the window is looked at through a window that holds two of them.

    A row is scored when it is usable itself and all blocks are covered. `baseline` (as returned) standardises with
    another table's location and scale: that of the untouched footage, for footage with planted anomalies.
    """
    tables, used = [], []
    for i, block in enumerate(blocks):
        wide_s = max(window_s, 2.0 * block.interval_s)
        moving = block.name == "dynamics"
        stats = window_stats(
            block.x,
            block.present,
            rows.time_s,
            rows.stretch,
            window_s=wide_s,
            interval_s=block.interval_s,
            min_coverage=min_coverage,
            movement=moving,
        )
        table = np.concatenate([np.log1p(stats.deviation), np.log1p(stats.speed)], axis=1) if moving else stats.mean
        table[~rows.usable] = np.nan
        if baseline is None:
            covered = np.isfinite(table).all(axis=1)
            # 0.05 robust units of the row features: below this a change of the window is measuring noise.
            usual = Baseline.of(table[covered], 0.05) if covered.any() else Baseline(np.zeros(1), np.ones(1))
        else:
            usual = baseline[i]
        used.append(usual)
        tables.append(usual.standardise(table) / np.sqrt(table.shape[1]))
    x = np.concatenate(tables, axis=1) if tables else np.zeros((len(rows), 0))
    x *= np.sqrt(x.shape[1] / max(len(blocks), 1))
    x[~np.isfinite(x).all(axis=1)] = np.nan
    return x, used


def _raw_block(inputs: Inputs, rows: PersonRows, name: str) -> tuple[list[str], np.ndarray, float]:
    """Column names, raw features float64 [n, d] with NaN for missing, and the floor of their scale."""
    if name == "emotions":
        raw = table_columns(inputs.table("emote", "expressions", EMOTIONS), EMOTIONS)[rows.index]
        return list(EMOTIONS), np.log(np.maximum(raw, EMOTION_FLOOR)), 0.25
    if name in ("measures", "dynamics"):
        table = inputs.table("emote", "expressions")
        columns = measure_columns(table)
        return columns, table_columns(table, columns)[rows.index], 0.005
    if name == "blendshapes":
        return _blendshapes(inputs, rows)
    if name == "embeddings":
        state = inputs.table("embed", "embedded", ("state",))["state"].to_pylist()
        embedded = np.asarray([s == "embedded" for s in state], dtype=bool)[rows.index]
        array = inputs.array("embed", "embeddings")
        raw = np.full((len(rows), array.shape[1]), np.nan, dtype=np.float32)
        raw[embedded] = array[rows.index[embedded]]
        return [f"embedding_{i + 1}" for i in range(array.shape[1])], raw, 1e-4
    array = inputs.array("cluster", "components")
    raw = np.asarray(array[rows.index], dtype=np.float64)
    return [f"comp_{i + 1}" for i in range(array.shape[1])], raw, 1e-3


def _blinks(inputs: Inputs, rows: PersonRows) -> np.ndarray:
    """bool [n]: rows of blinks; none where the eyes are not measured."""
    table = inputs.table("emote", "expressions")
    if not set(EYES) <= set(table.column_names):
        return np.zeros(len(rows), dtype=bool)
    return blinks(table_columns(table, EYES)[rows.index], rows.time_s, rows.stretch, rows.interval_s)


def _blendshapes(inputs: Inputs, rows: PersonRows) -> tuple[list[str], np.ndarray, float]:
    """The channels that are alive; without the weights none."""
    array = inputs.array("emote", "blendshapes")
    alive = [i for i, name in enumerate(BLENDSHAPES) if name not in DEAD_BLENDSHAPES] if array.shape[1] else []
    return [BLENDSHAPES[i] for i in alive], np.asarray(array[rows.index][:, alive], dtype=np.float64), 0.02


def measure_columns(expressions: pa.Table) -> list[str]:
    """Names of the expression measures in emote's table: its float columns that are neither time nor emotion."""
    return [
        field.name
        for field in expressions.schema
        if pa.types.is_floating(field.type) and field.name not in (*EMOTIONS, "time_s")
    ]


def table_columns(table: pa.Table, columns: Sequence[str]) -> np.ndarray:
    """Numeric columns as float64 [n, d], null → NaN."""
    parts = [table[c].cast(pa.float64()).to_numpy(zero_copy_only=False) for c in columns]
    return np.stack(parts, axis=1) if parts else np.zeros((table.num_rows, 0))


def _spacing_s(time_s: np.ndarray, interval_s: float) -> float:
    """Typical distance of present rows: their median step, at least the sampling interval."""
    steps = np.diff(time_s)
    return max(float(np.median(steps)), interval_s) if len(steps) else interval_s
