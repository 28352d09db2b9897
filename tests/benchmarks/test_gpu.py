"""The benchmark of the GPU: says in one line that there is none; its measurements work on any device."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import gpu
from faceline.devices import Device


def test_without_a_gpu_it_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(gpu, "find_device", lambda wanted: Device("cpu", missing="torch finds none"))
    monkeypatch.setattr(gpu, "networks", lambda *args: pytest.fail("measured something"))
    assert gpu.main([]) == 2
    said = capsys.readouterr()
    assert said.err == "there is no GPU to measure: torch finds none\n" and not said.out


@pytest.mark.models
def test_every_network_is_measured_against_the_cpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """With the CPU in the GPU's place: the networks agree with themselves."""
    # The bundled networks; the weights of the fourth need not be here.
    rows = gpu.networks([2], seconds=0.01, device=Device("cpu"))
    names = [row["network"] for row in rows]
    assert [name for name in names if name != "vggface2"] == ["mtcnn", "dlib", "fer"]
    assert all(row["difference"] == 0 and row["per_second"] > 0 and row["batch"] == 2 for row in rows)
    assert all((row["of_distances"] == 0) == (row["network"] in ("vggface2", "dlib")) for row in rows)


def test_differences_are_the_largest_of_what_is_there() -> None:
    assert gpu.largest(np.array([0.1, -0.3, np.nan])) == pytest.approx(0.3)
    assert gpu.distances(np.array([[0.0, 0.0], [3.0, 4.0]])).tolist() == [[0, 5], [5, 0]]
