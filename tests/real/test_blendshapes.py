"""Blendshapes of real faces: MediaPipe's own answer, the same bytes whatever the batch, and the right ones move."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from faceline.adapters.blendshapes import Blendshapes
from faceline.alignment import ALIGN
from faceline.blendshapes import BLENDSHAPES, DEAD_BLENDSHAPES
from faceline.detection import DETECT
from faceline.emotion import EMOTE
from faceline.sampling import SAMPLE
from faceline.stage import MemoryInputs, Runtime, collect
from faceline.video import open_footage, read_frames
from faceline.weights import resolve

pytestmark = [pytest.mark.real, pytest.mark.models]

TOLERANCE = 1e-4
"""FaceLandmarker scores its landmarks where they lie in the picture, in float32; on 93 frames the largest difference
was 2e-5."""


@pytest.fixture(scope="session")
def bundle(testdata: Path) -> Path:
    path = testdata / "models" / "face_landmarker.task"
    assert path.is_file(), "the clips are here, but no face_landmarker.task beside them"
    return path


@pytest.fixture(scope="module")
def model(bundle: Path) -> Iterator[Blendshapes]:
    model = Blendshapes(bundle)
    yield model
    model.close()


@pytest.fixture(scope="module")
def answers(bundle: Path, testdata: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """FaceLandmarker on frames of four clips: its landmarks [n, 478, 3] in px, its scores [n, 52], their names."""
    import mediapipe as mp
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=str(bundle)), output_face_blendshapes=True
    )
    meshes, scores, names = [], [], list[str]()
    with vision.FaceLandmarker.create_from_options(options) as landmarker:
        for clip in ("lp_d7.mp4", "lp_d18.mp4", "pyfeat_single_face.mp4", "retalking_1.mp4"):
            footage = open_footage(testdata / "clips" / clip)
            segment = footage.segments(300)[0]
            with read_frames(footage, segment, wanted=frozenset(range(0, 80, 8))) as frames:
                for frame in frames:
                    picture = frame.rgb()
                    found = landmarker.detect(mp.Image(image_format=mp.ImageFormat.SRGB, data=picture))
                    if not found.face_landmarks:
                        continue
                    height, width = picture.shape[:2]
                    points = [(p.x * width, p.y * height, p.z * width) for p in found.face_landmarks[0]]
                    meshes.append(np.array(points, np.float32))
                    scores.append([entry.score for entry in found.face_blendshapes[0]])
                    names = [entry.category_name for entry in found.face_blendshapes[0]]
    return np.stack(meshes), np.array(scores), names


def test_scores_are_those_of_mediapipes_face_landmarker(
    model: Blendshapes, answers: tuple[np.ndarray, np.ndarray, list[str]]
) -> None:
    meshes, theirs, names = answers
    assert len(meshes) >= 30
    ours = model.scores(meshes)
    assert ours.shape == (len(meshes), 52) and ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, atol=TOLERANCE)
    assert np.ptp(theirs, axis=0).max() > 0.9, "the faces differ"
    assert tuple(re.sub(r"(?<=[a-z])([A-Z])", r"_\1", name).lower() for name in names) == BLENDSHAPES


def test_a_row_depends_neither_on_the_others_nor_on_threads_nor_on_the_place(
    model: Blendshapes, bundle: Path, answers: tuple[np.ndarray, np.ndarray, list[str]]
) -> None:
    meshes = answers[0]
    whole = model.scores(meshes)
    assert model.scores(meshes).tobytes() == whole.tobytes()
    assert np.concatenate([model.scores(mesh[None]) for mesh in meshes]).tobytes() == whole.tobytes()
    assert model.scores(meshes[::-1])[::-1].tobytes() == whole.tobytes()
    threaded = Blendshapes(bundle, threads=3)
    assert threaded.scores(meshes).tobytes() == whole.tobytes()
    assert threaded.scores(meshes[:1]).tobytes() == whole[:1].tobytes()
    threaded.close()
    moved = meshes * np.float32(3) + np.array([2000, 500, 0], np.float32)
    np.testing.assert_allclose(model.scores(moved), whole, atol=TOLERANCE)
    assert model.scores(meshes[:0]).shape == (0, 52)


def test_what_is_no_mesh_is_refused(model: Blendshapes) -> None:
    with pytest.raises(ValueError, match="478"):
        model.scores(np.zeros((1, 468, 3), np.float32))
    with pytest.raises(ValueError, match="finite"):
        model.scores(np.full((1, 478, 3), np.nan, np.float32))


def test_mediapipe_stays_quiet(bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = Blendshapes(bundle)
    model.scores(np.random.default_rng(0).normal(100, 20, (2, 478, 3)).astype(np.float32))
    model.close()
    assert capfd.readouterr() == ("", "")


def expressions(clip: Path, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Times from the clip's start, [n], and blendshapes, [n, 52], of a clip with one face."""
    footage = open_footage(clip)
    models = {role: resolve(role) for role in ("detector", "landmarks", "emotion")}
    models["blendshapes"] = resolve("blendshapes", folder=folder)
    payloads: dict[tuple[str, str], Any] = {}
    for stage in (SAMPLE, DETECT, ALIGN, EMOTE):
        given = MemoryInputs(payloads, footage, footage.segments(300)[0], models)
        done = collect(stage.compute(stage.params(), given, Runtime()))
        payloads |= {(stage.name, name): value for name, value in done.items()}
    table, scores = payloads["emote", "expressions"].to_pandas(), payloads["emote", "blendshapes"]
    assert scores.shape == (len(table), 52) and scores.dtype == np.float32
    assert (np.isfinite(scores).all(axis=1) == (table.measures_state == "ok")).all()
    return table.time_s.to_numpy() - float(footage.start_s), scores


def test_a_wide_open_mouth_and_a_smile(bundle: Path, testdata: Path) -> None:
    """The clips and moments of the measures' own tests."""
    time_s, scores = expressions(testdata / "clips" / "lp_d18.mp4", bundle.parent)
    jaw = scores[:, BLENDSHAPES.index("jaw_open")]
    assert jaw[(time_s >= 2.4) & (time_s <= 3.0)].min() > jaw[time_s <= 0.4].max() + 0.3
    time_s, scores = expressions(testdata / "clips" / "pyfeat_single_face.mp4", bundle.parent)
    for side in ("left", "right"):
        smile = scores[:, BLENDSHAPES.index(f"mouth_smile_{side}")]
        assert smile[(time_s >= 0.9) & (time_s <= 2.1)].min() > smile[time_s <= 0.45].max() + 0.3
    dead = [BLENDSHAPES.index(name) for name in DEAD_BLENDSHAPES]
    assert np.nanmax(scores[:, dead]) < 0.02
