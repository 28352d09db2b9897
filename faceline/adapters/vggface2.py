"""Identity embedding by InceptionResnetV1 trained on VGGFace2, in facenet-pytorch's port (Cao et al. 2018)."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from faceline.batches import in_fixed_batches
from faceline.devices import check_precision, exact_arithmetic, to_device, to_host, torch_dtype
from faceline.errors import ModelError
from faceline.threads import one_torch_thread

# Euclidean distance of two unit vectors below which two faces count as one person. On the 300 labelled pairs that
# the project is verified with, pairs of one person lie at 0.39–0.87 and pairs of two persons at 1.00 and more.
SAME_PERSON_THRESHOLD = 0.95

# The same for the mean embeddings of two tracklets, where the scatter of single frames has averaged out. In 35 real
# clips, tracklets of one person lie at 0.84 and less, of two persons at 0.80 and more (all but two of 1490 pairs
# at 0.84 and more). Clustering finds the right persons with anything from 0.77 to 0.86.
SAME_PERSON_TRACKLETS = 0.83

DIMENSION = 512
INPUT_PX = 160


class VGGFace2:
    """Embedder: 160×160 RGB face as MTCNN's box cuts it → unit vector of 512.

    The network was trained on upright (not rotated) MTCNN boxes stretched to a square, so `prepare` cuts that box
    out of the aligned crop.

    Args:
        path: facenet-pytorch's state dictionary ``20180402-114759-vggface2.pt``.
        device: ``cpu`` or ``cuda``.
        threads: calls of the network at the same time; does not change the result.
        precision: ``fp32``; ``bf16`` (CPU) or ``fp16`` (GPU) for filters and activations, with sums, the last layer
            and the length in float32.

    Raises:
        ModelError: the file does not hold these weights, or the device cannot do this precision.
    """

    name = "vggface2"
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
        self._network = load_network(path).to(device=device, memory_format=torch.channels_last)
        self._dtype = torch_dtype(precision)
        self._network.trunk.to(self._dtype)
        self._device = device
        self.faces_per_call, self._threads = (8, threads) if device == "cpu" else (64, 1)

    def prepare(self, crop_rgb: np.ndarray, crop_matrix: np.ndarray, box_px: np.ndarray) -> np.ndarray:
        """Cut MTCNN's box out of the aligned crop.

        Args:
            crop_rgb: aligned crop, uint8 [H, W, 3], RGB.
            crop_matrix: float64 [2, 3], similarity transform from frame pixels to crop pixels.
            box_px: x, y, width, height of the detector's box in frame pixels.

        Returns:
            uint8 [160, 160, 3], RGB. Where the box passes the crop's edge, the edge is continued.
        """
        import cv2

        x, y, width, height = (float(value) for value in box_px)
        scale = float(np.hypot(crop_matrix[0, 0], crop_matrix[0, 1]))
        centre = crop_matrix @ (x + width / 2, y + height / 2, 1.0)
        stretch = INPUT_PX / (np.array([width, height]) * scale)
        cut = np.array(
            [
                [stretch[0], 0.0, INPUT_PX / 2 - centre[0] * stretch[0]],
                [0.0, stretch[1], INPUT_PX / 2 - centre[1] * stretch[1]],
            ]
        )
        return cv2.warpAffine(
            crop_rgb, cut, (INPUT_PX, INPUT_PX), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )

    def embed(self, batch: np.ndarray) -> np.ndarray:
        """Embed faces.

        Args:
            batch: uint8 [n, 160, 160, 3], RGB.

        Returns:
            float32 [n, 512], rows of length 1. Bit for bit the same in whatever batch.
        """
        if len(batch) == 0:
            return np.empty((0, DIMENSION), np.float32)
        return in_fixed_batches(batch, self.faces_per_call, self._run, self._threads)

    def _run(self, batch: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            # NHWC memory seen as NCHW is exactly the channels-last layout: no copy. (x − 127.5) / 128 is
            # facenet-pytorch's fixed_image_standardization; exact in bf16 and fp16 but for the last bit or two.
            faces = to_device(batch, self._device, torch.float32).permute(0, 3, 1, 2).sub_(127.5).div_(128.0)
            return to_host(self._network(faces.to(self._dtype)))


def load_network(path: Path) -> Any:
    """Load the weights strictly into the network, ready for inference on the CPU.

    Every entry must be there and nothing besides, but for the classification layer (``logits``), which is not used.
    Batch normalisation and the residuals' scales are folded into the convolutions, and sums and rectifiers are done
    in the pass of the convolution before them: same function, 28 instead of 41 ms of one core per face in batches of 8.

    Returns:
        A torch module, float [n, 3, 160, 160] → float32 [n, 512] of unit length, with its convolutions in ``trunk``.

    Raises:
        ModelError: unreadable, or other weights.
    """
    import torch
    from torch.nn.utils.fusion import fuse_conv_bn_weights

    from faceline.adapters.facenet import network_module

    try:
        # Mapped, since of 112 MB one sixth is not used and most of the rest is read once, to be folded. torch's older
        # format cannot be mapped.
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # torch.load raises anything from EOFError to pickle.UnpicklingError.
        raise _not_the_weights(path, f"{type(error).__name__} while reading it") from error
    with torch.device("meta"):  # Shapes only: random weights would be made for a second, then thrown away.
        network = network_module("inception_resnet_v1").InceptionResnetV1(pretrained=None, classify=False)
    try:
        weights = {key: value for key, value in state.items() if not key.startswith("logits.")}
        network.load_state_dict(weights, assign=True)
    except (RuntimeError, AttributeError, TypeError) as error:
        raise _not_the_weights(path, str(error).splitlines()[0]) from error
    network.eval()
    for block in network.modules():
        if hasattr(block, "conv") and hasattr(block, "bn"):
            conv, norm = block.conv, block.bn
            statistics = (norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
            conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, *statistics)
            block.bn = torch.nn.Identity()
    fused = _fused(network).eval().requires_grad_(False)
    mapped = {value.data_ptr() for value in weights.values()}
    for kept in (*fused.parameters(), *fused.buffers()):
        if kept.data_ptr() in mapped:  # Else the process would die, should the file be cut short one day.
            kept.data = kept.data.clone()
    return fused


def _fused(network: Any) -> Any:
    """InceptionResnetV1 (its normalisation folded in) with fused convolutions; see `load_network`."""
    import torch
    from torch import nn
    from torch.nn import functional

    from faceline.adapters.fused import FusedConvolution

    class Residual(nn.Module):
        """facenet-pytorch's Block35, Block17 and Block8: branches side by side, brought together and added."""

        def __init__(self, block: nn.Module) -> None:
            super().__init__()
            branches = [getattr(block, f"branch{i}") for i in range(3) if hasattr(block, f"branch{i}")]
            self.branches = nn.ModuleList(branches)
            self.together = FusedConvolution(block.conv2d, not getattr(block, "noReLU", False), block.scale)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.together(torch.cat([branch(x) for branch in self.branches], 1), x)

    def fuse(module: nn.Module) -> nn.Module:
        for name, child in list(module.named_children()):
            setattr(module, name, fuse(child))
        if hasattr(module, "conv") and hasattr(module, "bn"):
            return FusedConvolution(module.conv, relu=True)
        return Residual(module) if hasattr(module, "scale") and hasattr(module, "conv2d") else module

    class Network(nn.Module):
        def __init__(self, trunk: nn.Module, last: nn.Module, norm: nn.Module) -> None:
            super().__init__()
            self.trunk, self.last, self.norm = trunk, last, norm

        def forward(self, faces: torch.Tensor) -> torch.Tensor:
            # The mean over the picture on: little work, and it decides about the distances.
            features = self.trunk(faces).float().mean(dim=(2, 3))
            return functional.normalize(self.norm(self.last(features)), p=2, dim=1)

    parts = (
        *("conv2d_1a", "conv2d_2a", "conv2d_2b", "maxpool_3a", "conv2d_3b", "conv2d_4a", "conv2d_4b"),
        *("repeat_1", "mixed_6a", "repeat_2", "mixed_7a", "repeat_3", "block8"),
    )
    # Given to the class rather than read in it, which would keep the unfused network in memory as long as the class.
    trunk = nn.Sequential(*(fuse(getattr(network, name)) for name in parts))
    return Network(trunk, network.last_linear, network.last_bn)


def _not_the_weights(path: Path, reason: str) -> ModelError:
    return ModelError(
        f"not the weights of InceptionResnetV1 ({reason})",
        where=path.name,
        cure="delete it and run 'faceline models fetch vggface2', or choose embedder=dlib",
    )
