"""MediaPipe without its solutions: for us nothing else is imported, for others the package is as ever."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from faceline.adapters import mediapipe_core

pytestmark = pytest.mark.models


def told(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return done.stdout.split()


def test_a_mesh_needs_neither_solutions_nor_pyplot() -> None:
    code = (
        "import sys; from faceline.adapters.facemesh import FaceMesh; FaceMesh().close();"
        "print('mediapipe.python.solutions' in sys.modules, 'matplotlib' in sys.modules)"
    )
    assert told(code) == ["False", "False"]


def test_whoever_asks_later_finds_the_whole_package() -> None:
    code = (
        "from faceline.adapters import mediapipe_core; mediapipe_core.lay_out();"
        "from mediapipe.python import packet_creator; import mediapipe as mp;"
        "print(mp.solutions.face_mesh.FaceMesh.__name__, mp.Image.__name__, mp.tasks.BaseOptions.__name__);"
        "mediapipe_core.lay_out(); from mediapipe.tasks.python import vision; print(vision.FaceLandmarker.__name__)"
    )
    assert told(code) == ["FaceMesh", "Image", "BaseOptions", "FaceLandmarker"]


def test_what_was_imported_stays() -> None:
    code = (
        "import mediapipe as mp; from faceline.adapters import mediapipe_core; mediapipe_core.lay_out();"
        "import sys; print(sys.modules['mediapipe'] is mp, hasattr(mp, 'nothing'))"
    )
    assert told(code) == ["True", "False"]


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mediapipe", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="mediapipe is not installed"):
        mediapipe_core.lay_out()
