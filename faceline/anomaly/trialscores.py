"""What the trials of a footage found, looked up by trial, person and face."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from faceline.anomaly.baseline import robust_z
from faceline.anomaly.judge import Planting
from faceline.anomaly.rows import PersonRows
from faceline.stage import Inputs

Variation = Literal["score", "score_reseeded", "score_halved"]


class TrialScores:
    """All trials' scores, looked up by trial and (segment, face)."""

    def __init__(self, inputs: Inputs) -> None:
        keys = face_keys(inputs.table("align", "faces", ("segment", "face")))
        order = np.argsort(keys, kind="stable")
        table = inputs.table("trial", "scores", ("trial", "segment", "face", "score", "score_reseeded", "score_halved"))
        self._names, self._rows = _by_name(table["trial"])
        self._position = order[np.searchsorted(keys[order], face_keys(table))] if len(keys) else np.zeros(0, np.int64)
        self._table = table
        self._faces = len(keys)
        self._planted = inputs.table("trial", "planted")
        self._planted_names, self._planted_rows = _by_name(self._planted["trial"])

    def matrix(self, names: Sequence[str], rows: PersonRows, variation: Variation = "score") -> np.ndarray:
        """float64 [trials, n] of a person's rows, NaN where a trial has no score."""
        score = self._table[variation].to_numpy(zero_copy_only=False).astype(np.float64)
        out = np.full((len(names), len(rows)), np.nan)
        whole = np.full(self._faces, np.nan)
        for i, name in enumerate(names):
            if name in self._names:
                mine = self._rows[self._names[name]]
                whole[:] = np.nan
                whole[self._position[mine]] = score[mine]
                out[i] = whole[rows.index]
        return out

    def planted(self, name: str, rows: PersonRows) -> Planting | None:
        """What a trial scored in the person's footage with planted anomalies, as a robust z; `None` without any."""
        if name not in self._planted_names:
            return None
        mine = self._planted.take(pa.array(self._planted_rows[self._planted_names[name]]))
        mine = mine.filter(pc.equal(mine["person"], rows.person))
        if mine.num_rows == 0:
            return None
        score = mine["score"].to_numpy().astype(np.float64)
        return Planting(mine["row"].to_numpy(), mine["planted"].to_numpy(zero_copy_only=False), robust_z(score))


def face_keys(table: pa.Table) -> np.ndarray:
    """(segment, face) as one int64 per row."""
    segment = table["segment"].to_numpy().astype(np.int64)
    return np.asarray(segment * (1 << 40) + table["face"].to_numpy())


def _by_name(column: pa.ChunkedArray) -> tuple[dict[str, int], list[np.ndarray]]:
    """Name → its number, and per number the positions of its rows."""
    trial = column.combine_chunks().dictionary_encode()
    names = {name: i for i, name in enumerate(trial.dictionary.to_pylist())}
    codes = trial.indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    bounds = np.searchsorted(codes[order], np.arange(len(names) + 1))
    return names, [order[bounds[i] : bounds[i + 1]] for i in range(len(names))]
