"""Reader of the weights of dlib's face recognition network from the file that dlib serialised.

The file is the network written layer by layer from input to output (dlib ``dnn/layers.h``): each layer writes its
name (length-prefixed), its parameters as a tensor, and small settings. An integer is one control byte (low four bits:
number of bytes that follow; high bit: sign) and little-endian bytes; a tensor is the version 2, four sizes, and raw
float32 values. Only the layers with weights are read: ``con_4`` (filters, then biases), ``affine_`` (scale, then shift)
and ``fc_2`` (without bias).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_NAMES = (b"con_4", b"affine_", b"fc_2")
# Between two layers with weights lie settings and layers without weights, a few hundred bytes at most.
_GAP_BYTES = 400
_TENSOR_VERSION = 2


@dataclass(frozen=True)
class Layer:
    """A layer with weights: its name in dlib and its parameters, float32 [n] (``fc_2``: [inputs, outputs])."""

    name: str
    params: np.ndarray


def read_layers(data: bytes) -> list[Layer]:
    """Layers with weights in the order of computation; `ValueError` when the bytes are not such a network."""
    layers = []
    position = 0
    while (found := _next_name(data, position)) is not None:
        name, position = found
        if name == "fc_2":  # Numbers of outputs and inputs come before the tensor.
            for _ in range(2):
                _, position = _integer(data, position)
        values, position = _tensor(data, position)
        layers.append(Layer(name, values))
    return layers


def _next_name(data: bytes, start: int) -> tuple[str, int] | None:
    """Name of the next layer with weights and the position behind it."""
    hits = []
    for name in _NAMES:
        written = bytes([1, len(name)]) + name  # Its length as an integer, then the letters.
        position = data.find(written, start, start + _GAP_BYTES)
        if position >= 0:
            hits.append((position, position + len(written), name.decode()))
    if not hits:
        return None
    _, end, name_text = min(hits)
    return name_text, end


def _integer(data: bytes, position: int) -> tuple[int, int]:
    control = data[position : position + 1]
    if not control or not 1 <= control[0] & 0x0F <= 8:
        raise ValueError(f"no integer at byte {position}")
    end = position + 1 + (control[0] & 0x0F)
    value = int.from_bytes(data[position + 1 : end], "little")
    return (-value if control[0] & 0x80 else value), end


def _tensor(data: bytes, position: int) -> tuple[np.ndarray, int]:
    version, position = _integer(data, position)
    if version != _TENSOR_VERSION:
        raise ValueError(f"tensor of version {version} at byte {position}")
    sizes = []
    for _ in range(4):
        size, position = _integer(data, position)
        sizes.append(size)
    end = position + 4 * int(np.prod(sizes))
    if min(sizes) < 0 or end > len(data):
        raise ValueError(f"the file ends inside a tensor at byte {position}")
    values = np.frombuffer(data, "<f4", count=int(np.prod(sizes)), offset=position).reshape(sizes)
    return np.squeeze(values), end
