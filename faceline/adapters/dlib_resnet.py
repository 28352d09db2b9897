"""Identity embedding by dlib's face recognition ResNet (King 2017; weights from ``face_recognition_models``).

The network runs on torch, not on dlib: dlib's own kernels, as its binary distribution is built, take 133 ms of one
core per face and hold the interpreter's lock while they do; the same arithmetic through torch takes 8 ms and differs
by less than 1e-6. The tests hold the two against each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from faceline.batches import in_fixed_batches
from faceline.cropping import CROP_PADDING
from faceline.devices import check_precision, exact_arithmetic, to_device, to_host, torch_dtype
from faceline.errors import ModelError
from faceline.threads import one_torch_thread

# Euclidean distance below which two faces count as one person; dlib's author recommends 0.6 for his own chips. On
# the 300 labelled pairs that the project is verified with, pairs of one person lie at 0.62 and less, pairs of two
# persons at 0.64 and more.
SAME_PERSON_THRESHOLD = 0.63

# The same for the mean embeddings of two tracklets, where the scatter of single frames has averaged out. In 35 real
# clips, tracklets of one person lie at 0.46 and less, of two persons at 0.43 and more. Clustering finds the right
# persons from 0.43 only to 0.44: this embedder leaves no margin, VGGFace2 does.
SAME_PERSON_TRACKLETS = 0.43

DIMENSION = 128
INPUT_PX = 150
_INPUT_PADDING = 0.25

# dlib's input_rgb_image subtracts these means (R, G, B) and divides by 256.
_MEAN_RGB = (122.782, 117.001, 104.298)
# Output channels of the residual blocks, level by level, and whether the level's first block halves the picture.
_LEVELS = ((32, 3, False), (64, 4, True), (128, 3, True), (256, 3, True), (256, 1, True))


class DlibResnet:
    """Embedder: dlib's 150×150 face chip (padding 0.25) → vector of 128, as the network delivers it.

    Args:
        path: ``dlib_face_recognition_resnet_model_v1.dat``.
        device: ``cpu`` or ``cuda``.
        threads: calls of the network at the same time; does not change the result.
        precision: ``fp32``; ``bf16`` (CPU) or ``fp16`` (GPU) for filters and activations, with sums and the last layer
            in float32.

    Raises:
        ModelError: the file does not hold these weights, or the device cannot do this precision.
    """

    name = "dlib"
    dimension = DIMENSION
    input_px = INPUT_PX
    same_person_threshold = SAME_PERSON_THRESHOLD
    same_person_tracklets = SAME_PERSON_TRACKLETS
    faces_per_call: int

    def __init__(self, path: Path, device: str = "cpu", threads: int = 1, precision: str = "fp32") -> None:
        import torch

        one_torch_thread()
        check_precision(precision, device)
        exact_arithmetic(device)
        try:
            network = _build(path.read_bytes())
        except (ValueError, StopIteration, RuntimeError) as error:
            raise ModelError(
                f"not the weights of dlib's face recognition network ({error})",
                where=path.name,
                cure="reinstall face_recognition_models, which carries them",
            ) from error
        self._network = network.to(device=device, memory_format=torch.channels_last)
        self._dtype = torch_dtype(precision)
        self._network.trunk.to(self._dtype)
        self._mean = torch.tensor(_MEAN_RGB, device=device).view(1, 3, 1, 1)
        self._device = device
        self.faces_per_call, self._threads = (8, threads) if device == "cpu" else (64, 1)

    def prepare(self, crop_rgb: np.ndarray, crop_matrix: np.ndarray, box_px: np.ndarray) -> np.ndarray:
        """Resample the aligned crop to dlib's own chip.

        Crop and chip are cut by the same template and differ in padding and size only, so that the way from one to
        the other is one fixed scaling; ``crop_matrix`` and ``box_px`` are not needed.

        Args:
            crop_rgb: aligned crop, uint8 [H, H, 3], RGB, template with padding 0.45.
            crop_matrix: not used.
            box_px: not used.

        Returns:
            uint8 [150, 150, 3], RGB.
        """
        import cv2

        del crop_matrix, box_px
        # crop = (0.45 + t) / 1.9 · H and chip = (0.25 + t) / 1.5 · 150 for a template point t.
        chip_unit = INPUT_PX / (2 * _INPUT_PADDING + 1)
        scale = chip_unit * (2 * CROP_PADDING + 1) / crop_rgb.shape[0]
        shift = (_INPUT_PADDING - CROP_PADDING) * chip_unit
        cut = np.array([[scale, 0.0, shift], [0.0, scale, shift]])
        return cv2.warpAffine(
            crop_rgb, cut, (INPUT_PX, INPUT_PX), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )

    def embed(self, batch: np.ndarray) -> np.ndarray:
        """Embed faces.

        Args:
            batch: uint8 [n, 150, 150, 3], RGB.

        Returns:
            float32 [n, 128]; lengths differ from 1. Bit for bit the same in whatever batch.
        """
        if len(batch) == 0:
            return np.empty((0, DIMENSION), np.float32)
        return in_fixed_batches(batch, self.faces_per_call, self._run, self._threads)

    def _run(self, batch: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            faces = to_device(batch, self._device, torch.float32).permute(0, 3, 1, 2).sub_(self._mean).div_(256.0)
            return to_host(self._network(faces.to(self._dtype)))


def _build(data: bytes) -> Any:
    """The network as a torch module; `ValueError` or `StopIteration` when layers are missing or do not fit."""
    import torch
    from torch import nn
    from torch.nn import functional

    from faceline.adapters.dlib_format import Layer, read_layers
    from faceline.adapters.fused import FusedConvolution

    layers: Iterator[Layer] = iter(read_layers(data))

    def convolution(channels_in: int, channels_out: int, kernel: int, halving: bool, relu: bool) -> FusedConvolution:
        """A convolution with the affine layer behind it folded in: same function, one pass over memory less."""
        filters, affine = next(layers), next(layers)
        weights = channels_out * channels_in * kernel * kernel
        if (filters.name, affine.name) != ("con_4", "affine_"):
            raise ValueError(f"layers {filters.name}, {affine.name} where a convolution belongs")
        if filters.params.size != weights + channels_out or affine.params.size != 2 * channels_out:
            raise ValueError(f"a convolution of {filters.params.size} parameters where {weights} weights belong")
        scale, shift = affine.params[:channels_out], affine.params[channels_out:]
        kernels = filters.params[:weights].reshape(channels_out, channels_in, kernel, kernel)
        # dlib pads by half the kernel, but not at all when striding.
        module = nn.Conv2d(channels_in, channels_out, kernel, 2 if halving else 1, 0 if halving else kernel // 2)
        module.weight.data = torch.from_numpy(kernels * scale[:, None, None, None])
        module.bias.data = torch.from_numpy(filters.params[weights:] * scale + shift)
        return FusedConvolution(module, relu)

    class Residual(nn.Module):
        def __init__(self, channels_in: int, channels_out: int, halving: bool) -> None:
            super().__init__()
            # A sum of tensors of one size is done by the second convolution, with the rectifier behind it.
            self.plain = channels_in == channels_out and not halving
            self.first = convolution(channels_in, channels_out, 3, halving, relu=True)
            self.second = convolution(channels_out, channels_out, 3, False, relu=self.plain)
            self.halving = halving

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.plain:
                return self.second(self.first(x), x)
            y = self.second(self.first(x))
            if self.halving:
                x = functional.avg_pool2d(x, 2, 2)
            # dlib's add_prev adds tensors of unequal sizes as if both were filled up with zeros.
            size = [max(a, b) for a, b in zip(x.shape[1:], y.shape[1:], strict=True)]
            return functional.relu(_filled_up(x, size) + _filled_up(y, size))

    def _filled_up(x: torch.Tensor, size: list[int]) -> torch.Tensor:
        channels, height, width = (wanted - have for wanted, have in zip(size, x.shape[1:], strict=True))
        return functional.pad(x, (0, width, 0, height, 0, channels)) if channels or height or width else x

    stack: list[nn.Module] = [convolution(3, 32, 7, True, relu=True), nn.MaxPool2d(3, 2)]
    channels = 32
    for width, blocks, halving in _LEVELS:
        for block in range(blocks):
            stack.append(Residual(channels, width, halving and block == 0))
            channels = width
    last = next(layers)
    if last.name != "fc_2" or last.params.shape != (channels, DIMENSION) or next(layers, None) is not None:
        raise ValueError("it does not end in one fully connected layer")
    head = nn.Linear(channels, DIMENSION, bias=False)
    head.weight.data = torch.from_numpy(last.params.T.copy())

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk, self.head = nn.Sequential(*stack), head

        def forward(self, faces: torch.Tensor) -> torch.Tensor:
            return self.head(self.trunk(faces).float().mean(dim=(2, 3)))

    return Network().eval().requires_grad_(False)
