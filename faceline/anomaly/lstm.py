"""An LSTM encoder and decoder that retell subsequences (Malhotra et al., "LSTM-based encoder-decoder for multi-sensor
anomaly detection", 2016), small, on the processor, and the same at every run.

The encoder's last state is all that the decoder knows; it retells the course backwards, each step from the state alone
(Srivastava, Mansimov & Salakhudinov 2015, unconditioned).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import numpy as np

from faceline.threads import one_torch_thread

if TYPE_CHECKING:
    import torch
    from torch import nn

TRAINING_BATCH = 64
LONGEST_GRADIENT = 1.0
"""Gradients are shortened to this length, so that one course cannot throw the network off."""


class Autoencoder:
    """A trained network; made by `train`."""

    def __init__(self, encoder: nn.LSTM, decoder: nn.LSTM, out: nn.Linear) -> None:
        self._encoder, self._decoder, self._out = encoder, decoder, out

    @classmethod
    def train(cls, x: np.ndarray, hidden: int, epochs: int, learning_rate: float, seed: int) -> Self:
        """Learn to retell x, float32 [m, length, d]: `epochs` × ⌈m / 64⌉ steps of Adam, as many for whatever data.

        The loss is Huber's: the few courses that cannot be retold are not to be learnt at the cost of the others.
        """
        import torch
        from torch import nn

        one_torch_thread()
        # The process's own random numbers are shared with whatever runs beside: they are neither used nor moved.
        random = torch.Generator().manual_seed(seed)
        parts = (
            nn.LSTM(x.shape[2], hidden, batch_first=True, device="meta").to_empty(device="cpu"),
            nn.LSTM(hidden, hidden, batch_first=True, device="meta").to_empty(device="cpu"),
            nn.Linear(hidden, x.shape[2], device="meta").to_empty(device="cpu"),
        )
        weights = [weight for part in parts for weight in part.parameters()]
        with torch.no_grad():
            for weight in weights:
                weight.uniform_(-(hidden**-0.5), hidden**-0.5, generator=random)
        network = cls(*parts)
        optimiser = torch.optim.Adam(weights, lr=learning_rate)
        data = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))
        for _ in range(epochs):
            for batch in torch.randperm(len(data), generator=random).split(TRAINING_BATCH):
                optimiser.zero_grad()
                nn.functional.smooth_l1_loss(network._run(data[batch]), data[batch]).backward()
                nn.utils.clip_grad_norm_(weights, LONGEST_GRADIENT)
                optimiser.step()
        return network

    def retold(self, x: np.ndarray, at_once: int) -> np.ndarray:
        """What the network makes of x, float32 [b ≤ at_once, length, d]; the same shape.

        Short batches are filled up to `at_once`: how a product is rounded depends on its size, and a row's score
        should not depend on how many others are scored.
        """
        import torch

        whole = np.zeros((at_once, *x.shape[1:]), dtype=np.float32)
        whole[: len(x)] = x
        one_torch_thread()
        with torch.inference_mode():
            return np.asarray(self._run(torch.from_numpy(whole)).numpy()[: len(x)])

    def _run(self, x: torch.Tensor) -> torch.Tensor:
        _, (state, _) = self._encoder(x)
        told, _ = self._decoder(state[-1][:, None].expand(-1, x.shape[1], -1))
        return self._out(told).flip(1)
