"""Fixtures for all tests: where the real clips lie, and private folders for whatever a library writes at home."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.postgres import binaries
from tests.s3 import S3Server, s3_environment

ROOT = Path(__file__).resolve().parents[1]

# Two test processes on two cores: more threads each would only fight over them.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW", "ignore")
os.environ.setdefault("MPLBACKEND", "Agg")

# Examples take as long as a busy machine takes; no test here is about time.
hypothesis.settings.register_profile("faceline", deadline=None)
hypothesis.settings.load_profile("faceline")


def _testdata() -> Path:
    named = os.environ.get("FACELINE_TESTDATA")
    return Path(named) if named else ROOT.parent / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files marked ``long`` first, so that no process ends up with one of them when the others have nothing left."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_report_header() -> list[str]:
    folder = _testdata()
    # Looked for without importing torch, which takes seconds.
    gpu = "found" if Path("/dev/nvidia0").exists() else "NOT FOUND, tests on it are skipped"
    tools = ", ".join(name for name in ("ssh-keygen", "openssl") if shutil.which(name) is None)
    return [
        f"GPU: {gpu}",
        f"tools for signatures: {f'{tools} NOT FOUND, tests on them are skipped' if tools else 'found'}",
        f"PostgreSQL: {binaries() or 'NOT FOUND, the test on it is skipped'}",
        f"real clips: {'found' if (folder / 'clips').is_dir() else 'NOT FOUND, tests on them are skipped'}",
    ]


@pytest.fixture(scope="session")
def testdata() -> Path:
    """Folder with ``clips/``, ``broken/``, ``images/`` and ``models/``; skips the test when it is not there."""
    folder = _testdata()
    if not (folder / "clips").is_dir():
        pytest.skip("real clips are not here: set FACELINE_TESTDATA to the folder that holds clips/")
    return folder


@pytest.fixture
def vggface2_folder(testdata: Path) -> Path:
    """The model folder with the VGGFace2 weights. Where the clips are, the weights belong too: no quiet skip."""
    folder = testdata / "models"
    assert (folder / "20180402-114759-vggface2.pt").is_file(), f"the clips are here, but no VGGFace2 weights: {folder}"
    return folder


@pytest.fixture(scope="session", autouse=True)
def private_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of the tests' own for logs and the history of temporary servers."""
    folder = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACELINE_STATE", str(folder))
        patch.setenv("PREFECT_HOME", str(folder / "prefect-home"))
        patch.delenv("PREFECT_API_URL", raising=False)
        yield folder


@pytest.fixture(scope="session", autouse=True)
def private_copies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of the tests' own for copies of remote payloads."""
    folder = tmp_path_factory.mktemp("copies")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACELINE_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """One S3 server for all tests of a process; tests keep to prefixes of their own."""
    server = S3Server()
    yield server
    server.stop()


@pytest.fixture
def s3(s3_server: S3Server) -> Iterator[S3Server]:
    """The server, named in the environment as a user would."""
    from faceline.remote import forget_folders

    s3_server.forget()
    forget_folders()
    with s3_environment(s3_server.url):
        yield s3_server
    s3_server.forget()
    forget_folders()
