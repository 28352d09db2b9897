"""One results folder with its whole chain for all tests that look at such a folder; each gets a copy."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faceline.report import chain


@pytest.fixture(scope="session")
def made_chain(tmp_path_factory: pytest.TempPathFactory) -> chain.Chain:
    """Made once; not to be written to."""
    return chain.make(tmp_path_factory.mktemp("chain"))


@pytest.fixture
def kept(made_chain: chain.Chain, tmp_path: Path) -> chain.Chain:
    """The same with a results folder of the test's own."""
    folder = tmp_path / "clip"
    shutil.copytree(made_chain.folder, folder)
    return replace(made_chain, folder=folder)
