"""An LSTM autoencoder over subsequences."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from faceline.anomaly.baseline import Baseline
from faceline.anomaly.models.sequences import BATCH, SequenceModel
from faceline.stage import StageParams


class LstmAeParams(StageParams):
    """LSTM autoencoder (Malhotra et al. 2016): what a small network that has to remember a course cannot retell."""

    name: Literal["lstm_ae"] = "lstm_ae"
    seeded: ClassVar[bool] = True
    length: int = Field(
        8, ge=2, le=32, description="windows that make a course, spaced as those that the model is fitted on"
    )
    hidden: int = Field(
        4,
        ge=1,
        le=128,
        description="numbers in which the network has to remember a course; with more of them it learns single moments"
        " of short footage by heart",
    )
    epochs: int = Field(20, ge=1, le=200, description="times that the network sees each course while it learns")
    learning_rate: float = Field(0.01, gt=0, le=0.1, description="step size of Adam")
    max_rows: int = Field(
        1000,
        ge=50,
        le=5000,
        description="courses that the network learns from, evenly spaced; time grows with this times epochs",
    )

    def build(self, seed: int) -> SequenceModel:
        """An unfitted model."""
        return _LstmAe(self, seed)


class _LstmAe(SequenceModel):
    """Root mean squared error of a row's features in robust units, over all subsequences that hold the row.

    Where no feature ever moved there is nothing to learn: then the usual picture is what is retold.
    """

    def __init__(self, params: LstmAeParams, seed: int) -> None:
        super().__init__(params.length, params.max_rows)
        self._params, self._seed = params, seed

    def _learn(self, x: np.ndarray, index: np.ndarray) -> None:
        from faceline.anomaly.lstm import Autoencoder

        p = self._params
        self._usual = Baseline.of(x)
        sequences = self._standardised(x, index)
        self._network = (
            Autoencoder.train(sequences, p.hidden, p.epochs, p.learning_rate, self._seed) if sequences.any() else None
        )

    def _errors(self, x: np.ndarray, index: np.ndarray) -> np.ndarray:
        sequences = self._standardised(x, index)
        if self._network is not None:
            sequences = sequences - self._network.retold(sequences, BATCH)
        return np.asarray((sequences.astype(np.float64) ** 2).mean(axis=2))

    def _row_score(self, mean_error: np.ndarray) -> np.ndarray:
        return np.sqrt(mean_error)

    def _standardised(self, x: np.ndarray, index: np.ndarray) -> np.ndarray:
        """float32 [m, length, d]."""
        low = int(index.min())
        part = self._usual.standardise(x[low : int(index.max()) + 1]).astype(np.float32)
        return np.asarray(part[index - low])
