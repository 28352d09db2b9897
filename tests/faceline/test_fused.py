"""Fused convolutions compute what convolution, sum and rectifier compute one by one, from any number of threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from faceline.adapters import fused
from faceline.adapters.fused import FusedConvolution


def pictures(*shape: int, seed: int = 0) -> torch.Tensor:
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return values.contiguous(memory_format=torch.channels_last)


@settings(max_examples=40)
@given(
    channels=st.sampled_from([(3, 8), (16, 16), (5, 33)]),
    kernel=st.sampled_from([(1, 1), (3, 3), (1, 7), (7, 1)]),
    stride=st.integers(1, 2),
    size=st.tuples(st.integers(7, 15), st.integers(7, 15)),
    padded=st.booleans(),
    bias=st.booleans(),
    relu=st.booleans(),
    adding=st.booleans(),
    scale=st.sampled_from([1.0, 0.17]),
)
def test_the_same_as_one_by_one(channels, kernel, stride, size, padded, bias, relu, adding, scale) -> None:
    padding = (kernel[0] // 2, kernel[1] // 2) if padded else 0
    torch.manual_seed(1)
    plain = nn.Conv2d(*channels, kernel, stride, padding, bias=bias).requires_grad_(False)
    x = pictures(3, channels[0], *size)
    expected = plain(x) * scale
    added = pictures(*expected.shape, seed=2) if adding else None
    if added is not None:
        expected = expected + added
    kept = None if added is None else added.clone()
    with torch.inference_mode():
        found = FusedConvolution(plain, relu, scale)(x, added)
    torch.testing.assert_close(found, functional.relu(expected) if relu else expected, atol=1e-5, rtol=1e-5)
    if added is not None:
        assert torch.equal(added, kept), "what is added is an activation that others read as well"


def test_where_torch_has_no_such_operators_the_result_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = nn.Conv2d(16, 32, 3, padding=1).requires_grad_(False)
    x, added = pictures(4, 16, 9, 9), pictures(4, 32, 9, 9, seed=3)
    with torch.inference_mode():
        fast = FusedConvolution(plain, True, 0.5)(x, added)
        monkeypatch.setattr(fused, "_operators", lambda: None)
        slow = FusedConvolution(plain, True, 0.5)(x, added.clone())
    torch.testing.assert_close(fast, slow, atol=1e-6, rtol=1e-5)


def test_this_torch_has_the_operators() -> None:
    """The locked torch does; without them everything works, a third slower, and nobody would notice."""
    assert fused._operators() is not None


def test_many_threads_may_begin_at_once() -> None:
    convolution = FusedConvolution(nn.Conv2d(8, 8, 3, padding=1).requires_grad_(False), relu=True)
    x = pictures(2, 8, 12, 12)

    def run(_: int) -> torch.Tensor:
        with torch.inference_mode():
            return convolution(x)

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(run, range(32)))
    assert all(torch.equal(results[0], other) for other in results)
    assert convolution.weight is None, "the plain filters are let go"


@pytest.mark.parametrize("wrong", [{"groups": 2}, {"padding_mode": "reflect"}, {"padding": "same"}])
def test_other_convolutions_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="not a convolution"):
        FusedConvolution(nn.Conv2d(4, 4, 3, **wrong), relu=False)
