"""Devices and precisions: what is found, what is refused, how arrays travel. Where there is a GPU, on it as well."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from faceline import devices
from faceline.devices import Device, check_precision, exact_arithmetic, find_device, to_device, to_host
from faceline.errors import ModelError


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_the_cpu_is_taken_without_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_gpu", lambda: pytest.fail("looked for a GPU"))
    assert find_device("cpu") == Device("cpu")


def test_without_a_gpu_the_cpu_with_the_reason_where_one_was_asked_for(no_gpu: None) -> None:
    assert find_device("cuda") == Device("cpu", missing="torch finds none")
    assert find_device("auto") == Device("cpu")


def test_a_gpu_that_does_not_compute_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **how: object) -> None:
        raise RuntimeError("CUDA error: no kernel image is available\nand a page of advice")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", fail)
    assert find_device("cuda") == Device("cpu", missing="CUDA error: no kernel image is available")


def test_a_gpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_gpu", lambda: "Some GPU")
    assert find_device("cuda") == find_device("auto") == Device("cuda", "Some GPU")


@pytest.mark.parametrize(
    ("precision", "device", "native", "complaint"),
    [
        ("fp32", "cpu", False, None),
        ("fp32", "cuda", False, None),
        ("bf16", "cpu", True, None),
        ("bf16", "cpu", False, "AVX512-BF16 or AMX.*embed.precision=fp32"),
        ("bf16", "cuda", True, "precision of the CPU; .*fp16"),
        ("fp16", "cuda", False, None),
        ("fp16", "cpu", True, "needs a GPU.*runtime.device=cuda.*embed.precision=fp32"),
    ],
)
def test_each_precision_belongs_to_what_can_do_it(
    precision: str, device: str, native: bool, complaint: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "native_bf16", lambda: native)
    if complaint is None:
        check_precision(precision, device)
        return
    with pytest.raises(ModelError, match=complaint) as caught:
        check_precision(precision, device)
    assert "\n" not in str(caught.value)


def test_float32_on_a_gpu_is_float32_and_deterministic(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's switches are there without a GPU, and cuDNN's TF32 is on by default."""
    cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
    before = (cuda.matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark)
    try:
        cuda.matmul.allow_tf32 = cudnn.allow_tf32 = True
        exact_arithmetic("cpu")
        assert cudnn.allow_tf32
        exact_arithmetic("cuda")
        assert (cuda.matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark) == (
            *(False, False),
            *(True, False),
        )
        assert not cuda.matmul.allow_fp16_reduced_precision_reduction
    finally:
        cuda.matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark = before


class Journey:
    """Stands for a GPU: pinning and copying are recorded, and the tensor stays where it is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[tuple[Any, ...]] = []
        self._to = torch.Tensor.to
        monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: self._pin(tensor))
        monkeypatch.setattr(torch.Tensor, "to", lambda *args, **how: self._move(*args, **how))

    def _pin(self, tensor: torch.Tensor) -> torch.Tensor:
        self.steps.append(("pin", tensor.dtype))
        return tensor.clone()

    def _move(self, tensor: torch.Tensor, *where: Any, **how: Any) -> torch.Tensor:
        if where and where[0] == "cuda":
            self.steps.append(("cuda", tensor.dtype, how.get("non_blocking", False)))
            return tensor
        self.steps.append(("to", *where))
        return self._to(tensor, *where, **how)


def test_arrays_go_to_a_gpu_small_pinned_and_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    journey = Journey(monkeypatch)
    faces = np.arange(48, dtype=np.uint8).reshape(2, 4, 6)[:, ::2]
    tensor = to_device(faces, "cuda", torch.float32)
    # As bytes over the bus, a quarter of what floats would be; widened over there.
    assert journey.steps == [("pin", torch.uint8), ("cuda", torch.uint8, True), ("to", torch.float32)]
    np.testing.assert_array_equal(tensor.numpy(), faces.astype(np.float32))


def test_on_the_cpu_nothing_is_pinned_or_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pytest.fail("pinned"))
    faces = np.zeros((2, 3), np.float32)
    tensor = to_device(faces, torch.device("cpu"))
    faces[1, 2] = 7
    assert tensor[1, 2] == 7


def test_results_come_back_as_float32() -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        array = to_host(torch.tensor([0.5, 2.0], dtype=dtype))
        assert array.dtype == np.float32 and array.tolist() == [0.5, 2.0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_there_and_back_on_the_gpu() -> None:
    faces = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    tensor = to_device(faces, "cuda", torch.float32)
    assert tensor.is_cuda
    np.testing.assert_array_equal(to_host(tensor), faces.astype(np.float32))
    assert find_device("cuda").name
