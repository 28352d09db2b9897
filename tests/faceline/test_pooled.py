"""Pooling first gives what rectifying first gives, whatever the slopes and sizes."""

from __future__ import annotations

import copy
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from faceline.adapters.facenet import network_module
from faceline.adapters.pooled import Largest, PooledConvolution, pool_first
from faceline.weights import resolve

sides = st.sampled_from([2, 3])


def pictures(*shape: int, seed: int = 0) -> torch.Tensor:
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return values.contiguous(memory_format=torch.channels_last)


@settings(max_examples=60)
@given(side=sides, size=st.tuples(st.integers(2, 9), st.integers(2, 9)), channels=st.integers(1, 17))
def test_the_largest_are_those_of_torch(side: int, size: tuple[int, int], channels: int) -> None:
    pool = nn.MaxPool2d(side, 2, ceil_mode=True)
    for x in (pictures(2, channels, *size), pictures(1, channels, *size).contiguous()):
        kept = x.clone()
        assert torch.equal(Largest(pool)(x), pool(x))
        assert torch.equal(x, kept)


@settings(max_examples=60)
@given(
    side=sides,
    size=st.tuples(st.integers(4, 12), st.integers(4, 12)),
    slopes=st.lists(st.sampled_from([-1.5, -1.0, -0.3, -0.0, 0.0, 0.2, 1.0, 1.3]), min_size=1, max_size=20),
)
def test_pooled_first_is_rectified_first(side: int, size: tuple[int, int], slopes: list[float]) -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, len(slopes), 3).requires_grad_(False)
    rectifier = nn.PReLU(len(slopes)).requires_grad_(False)
    rectifier.weight.copy_(torch.tensor(slopes))
    pool = nn.MaxPool2d(side, 2, ceil_mode=True)
    x = pictures(3, 3, *size)
    pooled = PooledConvolution(convolution, rectifier, pool)
    expected = pool(rectifier(convolution(x)))[:, pooled.order]
    assert sorted(pooled.order.tolist()) == list(range(len(slopes)))
    torch.testing.assert_close(pooled(x), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.models
@pytest.mark.parametrize("size", [(12, 12), (13, 12), (14, 15), (61, 90), (64, 87)])
@pytest.mark.parametrize("name", ["PNet", "RNet", "ONet"])
def test_the_networks_of_mtcnn_say_the_same(name: Literal["PNet", "RNet", "ONet"], size: tuple[int, int]) -> None:
    network = getattr(network_module("mtcnn"), name)(pretrained=False).eval().requires_grad_(False)
    weights = resolve("detector").path / "data" / f"{name.lower()}.pt"
    network.load_state_dict(torch.load(weights, weights_only=True))
    x = pictures(2, 3, *(size if name == "PNet" else {"RNet": (24, 24), "ONet": (48, 48)}[name]))
    other = copy.deepcopy(network)
    pool_first(other)
    for found, expected in zip(other(x), network(x), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "wrong", [{"kernel_size": 4}, {"padding": 1}, {"ceil_mode": False}, {"stride": 1}, {"dilation": 2}]
)
def test_other_poolings_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="not a pooling"):
        Largest(nn.MaxPool2d(**{"kernel_size": 2, "stride": 2, "ceil_mode": True, **wrong}))
