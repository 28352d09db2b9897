"""Models of subsequences: what follows what, not only what there is.

A row reaches most models by itself. These look at runs of rows, so they are told when each row was and where the
footage breaks (`RowTimes`), and never look across a break. Rows may lie closer together when they are scored than
when the model is fitted; a subsequence therefore is a number of steps of time, the step learnt from the rows that the
model was fitted on, and each step takes the row nearest to it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self

import numpy as np

from faceline.anomaly.models.protocol import checked, evenly

BATCH = 1024
"""Subsequences scored at once; memory is bounded by it, however many rows are scored."""

LONGEST_STEP = 2.5
"""Rows further apart than so many steps do not belong to one subsequence."""


@dataclass(frozen=True)
class RowTimes:
    """When each row was: `time_s` float64 [n], ascending, and `stretch` int64 [n], which rises wherever no
    subsequence may reach across (a cut, a gap)."""

    time_s: np.ndarray
    stretch: np.ndarray

    @classmethod
    def evenly(cls, n: int) -> RowTimes:
        """n rows of one stretch, one second apart: for tables in order of which nothing else is known."""
        return cls(np.arange(n, dtype=np.float64), np.zeros(n, dtype=np.int64))

    @classmethod
    def apart(cls, n: int) -> RowTimes:
        """n rows that have nothing to do with each other."""
        return cls(np.arange(n, dtype=np.float64), np.arange(n, dtype=np.int64))

    def checked(self, n: int) -> Self:
        """Itself; `ValueError` unless it describes n rows in order."""
        if self.time_s.shape != (n,) or self.stretch.shape != (n,):
            raise ValueError(f"{n} rows, but times {self.time_s.shape} and stretches {self.stretch.shape}")
        if not np.isfinite(self.time_s).all() or (np.diff(self.time_s) < 0).any() or (np.diff(self.stretch) < 0).any():
            raise ValueError("rows must be in order of time and stretch, without NaN")
        return self

    def step_s(self) -> float:
        """Median distance of neighbouring rows of a stretch, seconds; 1 where there is none."""
        steps = np.diff(self.time_s)[np.diff(self.stretch) == 0]
        steps = steps[steps > 0]
        return float(np.median(steps)) if len(steps) else 1.0


def subsequences(times: RowTimes, length: int, step_s: float) -> np.ndarray:
    """Positions int64 [n, length] of the rows of one subsequence for each row, in order of time.

    A subsequence begins at its row; near the end of a stretch as many steps earlier as it takes to fit, its row still
    in it. Where the stretch is shorter than a subsequence, its first row stands for what would lie before it.
    A silence of more than `LONGEST_STEP` steps ends a stretch.
    """
    time_s, n = times.time_s, len(times.time_s)
    breaks = (np.diff(times.stretch) != 0) | (np.diff(time_s) > LONGEST_STEP * step_s + 1e-6)
    piece = np.concatenate([[0], np.cumsum(breaks)])
    first = np.searchsorted(piece, piece, side="left")
    last = np.searchsorted(piece, piece, side="right") - 1
    # Half a step of tolerance: the last step may take the row nearest to it.
    follow = np.floor((time_s[last] - time_s) / step_s + 0.5)
    earlier = np.clip(length - 1 - follow, 0, length - 1).astype(np.int64)
    index = np.empty((n, length), dtype=np.int64)
    for k in range(length):
        wanted = time_s + (k - earlier) * step_s
        after = np.clip(np.searchsorted(time_s, wanted), first, last)
        before = np.maximum(after - 1, first)
        index[:, k] = np.where(wanted - time_s[before] <= time_s[after] - wanted, before, after)
    index[np.arange(n), earlier] = np.arange(n)  # of rows at the same time, the row itself
    return index


class SequenceModel(ABC):
    """A model of subsequences. It answers to `AnomalyModel`, and wants to know when the rows were.

    A row's score is the mean of the errors of all subsequences that hold it, at its place in each, as in TSB-UAD
    (Paparrizos et al. 2022). All rows of a person have to be scored at once, or a row lacks its neighbours.

    Args:
        length: rows of a subsequence.
        max_rows: subsequences that are learnt from, at most, evenly spaced.
    """

    def __init__(self, length: int, max_rows: int) -> None:
        self._length, self._max_rows = length, max_rows

    def fit(self, x: np.ndarray, times: RowTimes | None = None) -> Self:
        """Learn from x, float64 [n ≥ 1, d], finite; without `times` one stretch of evenly spaced rows."""
        x = checked(x)
        times = (times or RowTimes.evenly(len(x))).checked(len(x))
        self._step_s = times.step_s()
        index = subsequences(times, self._length, self._step_s)
        self._learn(x, index[evenly(len(index), self._max_rows)])
        return self

    def score(self, x: np.ndarray, times: RowTimes | None = None) -> np.ndarray:
        """float64 [n], finite, higher = more unusual; comparable only within one fitted model."""
        x = checked(x)
        times = (times or RowTimes.evenly(len(x))).checked(len(x))
        index = subsequences(times, self._length, self._step_s)
        total, count = np.zeros(len(x)), np.zeros(len(x))
        for i in range(0, len(x), BATCH):
            part = index[i : i + BATCH]
            errors = self._errors(x, part)
            low, high = int(part.min()), int(part.max()) + 1
            place = part.ravel() - low
            total[low:high] += np.bincount(place, weights=errors.ravel(), minlength=high - low)
            count[low:high] += np.bincount(place, minlength=high - low)
        return self._row_score(total / count)

    @abstractmethod
    def _learn(self, x: np.ndarray, index: np.ndarray) -> None:
        """Learn from the subsequences x[index], [m, length, d]."""

    @abstractmethod
    def _errors(self, x: np.ndarray, index: np.ndarray) -> np.ndarray:
        """Errors float64 [b, length] of the subsequences x[index], at most `BATCH` of them."""

    def _row_score(self, mean_error: np.ndarray) -> np.ndarray:
        """From a row's mean error to its score."""
        return mean_error
