"""Convolutions that add and rectify in the pass in which they compute, for networks that are only run, never trained.

On the CPU these are oneDNN's fused convolutions through torch's own operators (``mkldnn::_convolution_pointwise``, what
torch's compiler makes of such a network): the filters are laid out once for the processor at hand instead of at every
call, and a sum and a rectifier cost no pass over memory of their own. They differ from convolution, sum and rectifier
one by one in the last bits of float32 only. Where torch lacks the operators, and on a GPU, the same is computed one by
one.

Imported by adapters when they build a network, since it imports torch.
"""

from __future__ import annotations

import functools
import threading
from typing import Any

import torch
from torch import nn
from torch.nn import functional


@functools.cache
def _operators() -> Any | None:
    """torch's operators for fused convolutions, or None where this build of torch has none."""
    operators = torch.ops.mkldnn
    names = ("_convolution_pointwise", "_reorder_convolution_weight")
    return operators if torch.backends.mkldnn.is_available() and all(hasattr(operators, n) for n in names) else None


class FusedConvolution(nn.Module):
    """``relu(scale · convolution(x) + added)`` in one pass, ``added`` and the rectifier as wanted.

    Args:
        convolution: filters and bias (both are taken over), with zero padding and one group.
        relu: whether to rectify.
        scale: factor of the convolution's result; folded into filters and bias.
    """

    def __init__(self, convolution: nn.Conv2d, relu: bool, scale: float = 1.0) -> None:
        super().__init__()
        if convolution.groups != 1 or convolution.padding_mode != "zeros" or isinstance(convolution.padding, str):
            raise ValueError(f"not a convolution that can be fused: {convolution}")
        filters, bias = convolution.weight.detach(), convolution.bias
        bias = filters.new_zeros(len(filters)) if bias is None else bias.detach()
        self.weight = nn.Parameter(filters if scale == 1.0 else filters * scale, False)
        self.bias = nn.Parameter(bias if scale == 1.0 else bias * scale, False)
        self.stride, self.padding = list(convolution.stride), list(convolution.padding)
        self.dilation = list(convolution.dilation)
        self.relu = relu
        self._packed: Any = None
        self._packing = threading.Lock()

    def forward(self, x: torch.Tensor, added: torch.Tensor | None = None) -> torch.Tensor:
        """The convolution of ``x`` [n, channels, height, width], channels last in memory; ``added`` in its shape."""
        operators = _operators() if x.device.type == "cpu" else None
        if operators is None:
            return self._one_by_one(x, added)
        filters = self._filters(operators, x)
        placed = (filters, self.bias, self.padding, self.stride, self.dilation, 1)
        if added is None:
            return operators._convolution_pointwise(x, *placed, "relu" if self.relu else "none", [], "")
        rectifier = "relu" if self.relu else None
        return operators._convolution_pointwise.binary(x, added, *placed, "add", 1.0, rectifier, [], None)

    def _one_by_one(self, x: torch.Tensor, added: torch.Tensor | None) -> torch.Tensor:
        y = functional.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation)
        if added is not None:
            y = y.add_(added)
        return y.relu_() if self.relu else y

    def _filters(self, operators: Any, x: torch.Tensor) -> Any:
        """The filters as the processor wants them for pictures of this size; the plain ones are let go."""
        with self._packing:
            if self._packed is None:
                self._packed = operators._reorder_convolution_weight(
                    self.weight, self.padding, self.stride, self.dilation, 1, list(x.shape)
                )
                # Every thread comes by here before it convolves, and no two forms of 90 MB need to lie in memory.
                self.weight = None
            return self._packed
