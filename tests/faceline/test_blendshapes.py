"""Names of the blendshapes, the bytes that the graph is fed, and bundles that are none."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from faceline.adapters.blendshapes import Blendshapes, _messages
from faceline.blendshapes import BLENDSHAPES, DEAD_BLENDSHAPES
from faceline.emotion import EMOTION_NAMES
from faceline.errors import ModelError
from faceline.measures import MEASURE_NAMES


def test_names_are_columns_of_their_own() -> None:
    assert len(BLENDSHAPES) == len(set(BLENDSHAPES)) == 52
    assert not set(BLENDSHAPES) & {*EMOTION_NAMES, *MEASURE_NAMES}
    assert set(BLENDSHAPES) > DEAD_BLENDSHAPES and "_neutral" in DEAD_BLENDSHAPES


@pytest.mark.models
def test_faces_are_written_as_protobuf_would_write_them() -> None:
    from mediapipe.framework.formats.landmark_pb2 import NormalizedLandmark, NormalizedLandmarkList

    landmarks = np.random.default_rng(0).normal(700, 60, (2, 478, 3)).astype(np.float32)
    for face, message in zip(landmarks.astype(np.float64), _messages(landmarks), strict=True):
        low, high = face[:, :2].min(axis=0), face[:, :2].max(axis=0)
        placed = (face[:, :2] - (low + high) / 2) / (high - low).max() + 0.5
        expected = NormalizedLandmarkList(landmark=[NormalizedLandmark(x=x, y=y) for x, y in placed.tolist()])
        assert NormalizedLandmarkList.FromString(message) == expected


@pytest.mark.models
@pytest.mark.parametrize("kind", ["missing", "no zip", "no network in it", "no network at all"])
def test_what_is_no_bundle_is_one_line_with_the_cure(
    kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "face_landmarker.task"
    if kind == "no zip":
        path.write_bytes(b"half a download")
    elif kind != "missing":
        name = "face_detector.tflite" if kind == "no network in it" else "face_blendshapes.tflite"
        with zipfile.ZipFile(path, "w") as bundle:
            bundle.writestr(name, bytes(1000))
    with pytest.raises(ModelError) as caught:
        Blendshapes(path)
    text = str(caught.value)
    assert "\n" not in text and "faceline models fetch face_landmarker" in text and "face_landmarker.task" in text
    assert capfd.readouterr() == ("", "")
