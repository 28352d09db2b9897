"""Where networks run, and with how many bits: the processor or a GPU, and what either can do.

At one precision the device changes no result by more than 1e-5, so a GPU computes float32 as float32 (no TF32) by
algorithms that give the same bits at every call. Precisions other than float32 belong to one kind of device each, so
that a precision, which is part of the key, never stands for two kinds of arithmetic: ``bf16`` to processors that
multiply it themselves, ``fp16`` to GPUs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from faceline.errors import ModelError

if TYPE_CHECKING:
    import torch

Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class Device:
    """Where networks run.

    Attributes:
        kind: ``cpu`` or ``cuda``.
        name: the GPU's name; empty for the processor.
        missing: why there is no GPU although one was asked for; empty otherwise.
    """

    kind: str
    name: str = ""
    missing: str = ""


def find_device(wanted: str) -> Device:
    """The device for ``cpu``, ``cuda`` (the processor where there is no usable GPU, with the reason) or ``auto``
    (the same without a reason). Imports torch unless it is ``cpu``."""
    if wanted == "cpu":
        return Device("cpu")
    try:
        return Device("cuda", _gpu())
    except (RuntimeError, AssertionError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return Device("cpu", missing=reason if wanted == "cuda" else "")


def _gpu() -> str:
    """Name of the GPU that torch uses; `RuntimeError` or `AssertionError` when there is none that computes."""
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError("torch finds none")
    # A GPU that is older than this torch, or that others have filled, is found but does not compute.
    if int(torch.ones(2, device="cuda").sum().item()) != 2:
        raise RuntimeError("it does not compute")
    return str(torch.cuda.get_device_name())


def check_precision(precision: str, device: str) -> None:
    """Refuse what a device cannot do; `ModelError` in one line.

    Args:
        precision: ``fp32``, ``bf16`` or ``fp16``.
        device: ``cpu`` or ``cuda``.
    """
    if precision == "bf16" and device != "cpu":
        raise ModelError("bf16 is a precision of the CPU", cure="on a GPU choose embed.precision=fp16 or fp32")
    if precision == "bf16" and not native_bf16():
        raise ModelError(
            "bf16 needs a CPU with AVX512-BF16 or AMX, and this one would imitate it, several times slower than fp32",
            cure="choose embed.precision=fp32",
        )
    if precision == "fp16" and device != "cuda":
        raise ModelError(
            "fp16 needs a GPU, and this run uses the CPU",
            cure="set runtime.device=cuda on a machine with a GPU, or choose embed.precision=fp32",
        )


def native_bf16() -> bool:
    """Whether this processor multiplies bfloat16 itself; false where torch cannot tell."""
    import torch

    known = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(ask() for ask in known if ask is not None)


def torch_dtype(precision: str) -> torch.dtype:
    """torch's type of a precision's filters and activations."""
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def exact_arithmetic(device: str) -> None:
    """Make this process' GPU compute float32 as float32, sums of halves in float32, and the same bits at every call."""
    if device != "cuda":
        return
    import torch

    cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
    cuda.matmul.allow_tf32 = cudnn.allow_tf32 = False
    cuda.matmul.allow_fp16_reduced_precision_reduction = False
    cudnn.deterministic, cudnn.benchmark = True, False


def to_device(array: np.ndarray, device: Any, dtype: torch.dtype | None = None) -> torch.Tensor:
    """An array as a tensor on a device; to a GPU it goes from page-locked memory, without the CPU waiting for it.

    Args:
        array: any shape and type; small types are sent as they are and widened over there.
        device: ``cpu``, ``cuda`` or a torch device.
        dtype: type of the tensor; by default the array's.
    """
    import torch

    tensor = torch.from_numpy(np.ascontiguousarray(array))
    kind = device if isinstance(device, str) else device.type
    if kind == "cuda":
        # torch keeps the page-locked block until the copy is done, and reuses it for the next one.
        tensor = tensor.pin_memory().to(device, non_blocking=True)
    elif kind != "cpu":
        tensor = tensor.to(device)
    return tensor if dtype is None else tensor.to(dtype)


def to_host(tensor: torch.Tensor) -> np.ndarray:
    """A tensor as a float32 array; waits for the GPU."""
    import torch

    array: np.ndarray = tensor.to("cpu", torch.float32).numpy()
    return array
