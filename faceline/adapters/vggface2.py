"""Identity embedding by InceptionResnetV1 trained on VGGFace2, in facenet-pytorch's port (Cao et al. 2018)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from faceline.batches import in_fixed_batches
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

    Raises:
        ModelError: the file does not hold these weights.
    """

    name = "vggface2"
    dimension = DIMENSION
    input_px = INPUT_PX
    same_person_threshold = SAME_PERSON_THRESHOLD
    same_person_tracklets = SAME_PERSON_TRACKLETS

    def __init__(self, path: Path, device: str = "cpu", threads: int = 1) -> None:
        import torch

        one_torch_thread()
        # Channels-last suits the convolution kernels: 33 instead of 55 ms of one core per face in batches of 16.
        self._network = load_network(path).to(device=device, memory_format=torch.channels_last)
        self._device = device
        self._size, self._threads = (8, threads) if device == "cpu" else (64, 1)

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
        return in_fixed_batches(batch, self._size, self._run, self._threads)

    def _run(self, batch: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            faces = torch.from_numpy(np.ascontiguousarray(batch)).to(self._device)
            # NHWC memory seen as NCHW is exactly the channels-last layout: no copy. (x − 127.5) / 128 is
            # facenet-pytorch's fixed_image_standardization.
            faces = faces.permute(0, 3, 1, 2).to(torch.float32).sub_(127.5).div_(128.0)
            vectors: np.ndarray = self._network(faces).to("cpu", torch.float32).numpy()
            return vectors


def load_network(path: Path) -> Any:
    """Load the weights strictly into the network, ready for inference on the CPU.

    Every entry must be there and nothing besides, but for the classification layer (``logits``), which is not used.
    Batch normalisation is folded into the convolutions before it (same function, one pass over memory less).

    Raises:
        ModelError: unreadable, or other weights.
    """
    import torch
    from facenet_pytorch import InceptionResnetV1
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises anything from EOFError to pickle.UnpicklingError.
        raise _not_the_weights(path, f"{type(error).__name__} while reading it") from error
    with torch.device("meta"):  # Shapes only: random weights would be made for a second, then thrown away.
        network = InceptionResnetV1(pretrained=None, classify=False)
    try:
        weights = {key: value for key, value in state.items() if not key.startswith("logits.")}
        network.load_state_dict(weights, assign=True)
    except (RuntimeError, AttributeError, TypeError) as error:
        raise _not_the_weights(path, str(error).splitlines()[0]) from error
    network.eval()
    for block in network.modules():
        if hasattr(block, "conv") and hasattr(block, "bn"):
            block.conv = fuse_conv_bn_eval(block.conv, block.bn)
            block.bn = torch.nn.Identity()
    return network.requires_grad_(False)


def _not_the_weights(path: Path, reason: str) -> ModelError:
    return ModelError(
        f"not the weights of InceptionResnetV1 ({reason})",
        where=path.name,
        cure="delete it and run 'faceline models fetch vggface2', or choose embedder=dlib",
    )
