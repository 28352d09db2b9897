"""The wheel holds everything its console script needs, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the checkout and unpacked as an installer would."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = folder.glob("faceline-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def _run(unpacked: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Isolated from the editable install: the wheel's own packages come first, the checkout is not the working folder.
    program = f"import sys; sys.path.insert(0, {str(unpacked)!r}); from flows.cli import run; run()"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=unpacked, env={**os.environ, "PYTHONPATH": str(unpacked)}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_it_holds_the_packages_their_data_and_the_configuration(unpacked: Path) -> None:
    top = {path.name for path in unpacked.iterdir() if not path.name.endswith(".dist-info")}
    assert top == {"faceline", "flows", "tasks"}
    templates = ("faceline/report/templates", "faceline/nightly/templates")
    for needed in ("flows/conf/config.yaml", "flows/conf/anomaly/iforest.yaml", *templates):
        assert (unpacked / needed).exists(), needed
    assert list((unpacked / "faceline" / "made" / "portraits").glob("*.csv"))


def test_the_console_script_is_declared(unpacked: Path) -> None:
    (entry_points,) = unpacked.glob("*.dist-info/entry_points.txt")
    assert "faceline = flows.cli:run" in entry_points.read_text()


def test_it_finds_its_configuration_without_the_checkout(unpacked: Path) -> None:
    ended = _run(unpacked, "config", "sample.fps=7")
    assert ended.returncode == 0, ended.stderr
    assert "fps: 7" in ended.stdout
    assert str(ROOT / "conf") not in ended.stdout
