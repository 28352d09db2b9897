"""Convolution, rectifier and pooling in the order that costs least, for networks that are only run, never trained.

MTCNN's first network begins with a convolution of the whole picture, a rectifier with a slope for each channel and a
pooling that keeps the largest of each window; those two take longer than the convolution. Pooled first, a quarter of
the numbers remain to be rectified.

Imported by adapters when they build a network, since it imports torch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional


class Largest(nn.Module):
    """What `nn.MaxPool2d` gives, bit for bit.

    torch's own also notes where the largest lay, and takes twice as long for it.

    Args:
        pool: windows of 2×2 or 3×3 in steps of 2, without padding, incomplete ones at the ends included.
    """

    def __init__(self, pool: nn.MaxPool2d) -> None:
        super().__init__()
        kind = (pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode)
        if kind not in ((2, 2, 0, 1, True), (3, 2, 0, 1, True)):
            raise ValueError(f"not a pooling that can be done here: {pool}")
        self.overlapping = pool.kernel_size == 3

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 [n, channels, height, width], each side 2 at least → half as high and wide, rounded up or down."""
        return self._along(self._along(x, 2), 3)

    def _along(self, x: torch.Tensor, axis: int) -> torch.Tensor:
        even, odd = (x[:, :, 0::2], x[:, :, 1::2]) if axis == 2 else (x[..., 0::2], x[..., 1::2])
        pairs, left_over = odd.shape[axis], even.shape[axis] - odd.shape[axis]
        largest = torch.maximum(even.narrow(axis, 0, pairs), odd)
        if self.overlapping:  # A last one without a pair is the third of the window before.
            thirds = even.narrow(axis, 1, pairs - 1 + left_over)
            first = largest.narrow(axis, 0, thirds.shape[axis])
            torch.maximum(first, thirds, out=first)
        elif left_over:
            largest = torch.cat([largest, even.narrow(axis, pairs, 1)], axis)
        return largest


class PooledConvolution(nn.Module):
    """``pool(rectifier(convolution(x)))``, pooled before it is rectified; its channels come in the order `order`.

    A rectifier r with slope a for what is negative rises everywhere if a ≥ 0, so the largest r(x) of a window is r of
    the largest x. If a < 0, r(x) is the larger of x and |a|·(−x), so the largest r(x) is the larger of the largest x
    and |a| times the largest −x: channels with such a slope are convolved twice, the second time with filters and bias
    negated. Rounding is alike for x and −x, so these are the same numbers as far as the library below sums in the same
    order for another number of channels.

    Args:
        convolution: filters and bias (both are taken over), without dilation, in one group.
        rectifier: one slope for each channel.
        pool: see `Largest`.

    Attributes:
        order: int64 [channels], which channel of the convolution each of the result is.
    """

    def __init__(self, convolution: nn.Conv2d, rectifier: nn.PReLU, pool: nn.MaxPool2d) -> None:
        super().__init__()
        slopes = rectifier.weight.detach()
        rising, falling = (slopes >= 0).nonzero()[:, 0], (slopes < 0).nonzero()[:, 0]
        self.order = torch.cat([rising, falling])
        self.parts = [len(rising), len(falling), len(falling)]
        filters, bias = convolution.weight.detach(), convolution.bias.detach()
        self.weight = nn.Parameter(torch.cat([filters[self.order], -filters[falling]]), False)
        self.bias = nn.Parameter(torch.cat([bias[self.order], -bias[falling]]), False)
        self.stride, self.padding = convolution.stride, convolution.padding
        self.pool = Largest(pool)
        self.rising = nn.Parameter(slopes[rising], False)
        self.steepness = nn.Parameter(-slopes[falling, None, None], False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 [n, channels, height, width], best with channels last in memory → the same, pooled."""
        pooled = self.pool(functional.conv2d(x, self.weight, self.bias, self.stride, self.padding))
        rising, falling, negated = pooled.split(self.parts, 1)
        return torch.cat([functional.prelu(rising, self.rising), torch.maximum(falling, negated * self.steepness)], 1)


def pool_first(network: Any) -> None:
    """Make one `PooledConvolution` of a network's ``conv1``, ``prelu1`` and ``pool1``, which ``conv2`` follows."""
    pooled = PooledConvolution(network.conv1, network.prelu1, network.pool1)
    network.conv1, network.prelu1, network.pool1 = pooled, nn.Identity(), nn.Identity()
    network.conv2.weight = nn.Parameter(network.conv2.weight.detach()[:, pooled.order], False)
