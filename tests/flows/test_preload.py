"""Libraries imported ahead: the right ones exist, and a missing one is nobody's trouble here."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from faceline.stages import STAGES
from flows import preload
from flows.preload import _LIBRARIES


@pytest.mark.parametrize("module", sorted({module for modules in _LIBRARIES.values() for module in modules}))
def test_every_library_is_installed(module):
    assert importlib.util.find_spec(module) is not None


def test_stages_are_those_of_the_pipeline():
    assert set(_LIBRARIES) <= {stage.name for stage in STAGES}


def test_they_are_imported_once_the_thread_has_ended():
    code = (
        "import sys; from flows.preload import preload; preload(['emote', 'cluster']).join();"
        "assert 'h5py' in sys.modules and 'torch' in sys.modules and 'mediapipe' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_what_cannot_be_imported_is_left_to_the_stage(monkeypatch):
    monkeypatch.setitem(_LIBRARIES, "report", ("there_is_no_such_library", "json.decoder"))
    preload.preload(["report"]).join(timeout=10)
    assert "json.decoder" in sys.modules
