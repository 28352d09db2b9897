"""The real networks see in made pictures what was put into them, and the two portraits as two persons."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from faceline.made.landmarks import FaceFrame
from faceline.made.motion import ACTIONS, Behaviour
from faceline.made.portrait import PORTRAITS, PortraitName
from faceline.made.puppet import Puppet
from faceline.made.script import NEEDS_BROWS, Burst, Person, Script

pytestmark = pytest.mark.models

CALM = {"talking_share": 0.0, "blinks_per_min": 0.0, "sway": 0.0}
PLAYED = [
    (name, kind)
    for name, portrait in PORTRAITS.items()
    for kind in ACTIONS
    if portrait.brows_free or kind not in NEEDS_BROWS
]


@pytest.fixture(scope="module")
def stills() -> dict[tuple[str, str], np.ndarray]:
    """(portrait, burst kind or "rest") → picture at the apex, uint8 [480, 400, 3] RGB."""
    pictures = {}
    for name, portrait in PORTRAITS.items():
        puppet = Puppet(portrait, 400, 480)
        pictures[name, "rest"] = puppet.render({})
        for kind in ACTIONS:
            if (name, kind) in PLAYED:
                burst = Burst(kind=kind, start_s=1.0)  # type: ignore[arg-type]
                person = Person(portrait=name, **CALM)  # type: ignore[arg-type]
                behaviour = Behaviour(Script(persons=(person,), bursts=(burst,)), 1)
                pictures[name, kind] = puppet.render(behaviour.pose(burst.apex_s, puppet.lip_gap))
    return pictures


@pytest.fixture(scope="module")
def meshes(stills: dict[tuple[str, str], np.ndarray]) -> dict[tuple[str, str], np.ndarray]:
    """MediaPipe's landmarks of every still, float64 [478, 2], pixels."""
    import mediapipe as mp

    found = {}
    with mp.solutions.face_mesh.FaceMesh(static_image_mode=True, max_num_faces=1, refine_landmarks=True) as mesh:
        for key, picture in stills.items():
            result = mesh.process(np.ascontiguousarray(picture))
            assert result.multi_face_landmarks, f"no face in {key}"
            points = [[p.x, p.y] for p in result.multi_face_landmarks[0].landmark]
            found[key] = np.array(points) * (picture.shape[1], picture.shape[0])
    return found


def measures(mesh: np.ndarray) -> dict[str, float]:
    """Plain distances in eye distances, written down here apart from the project's own measures."""
    face = FaceFrame.of(mesh).to_face(mesh)
    return {
        "gap": face[14, 1] - face[13, 1],
        "width": face[291, 0] - face[61, 0],
        "corners": face[[0, 17], 1].mean() - face[[61, 291], 1].mean(),
        "brows": -face[[105, 334, 55, 285], 1].mean(),
        "eyes": (face[145, 1] - face[159, 1] + face[374, 1] - face[386, 1]) / 2,
        "slant": face[291, 1] - face[61, 1],
    }


EXPECTED: dict[str, tuple[tuple[str, float], ...]] = {
    "brow_raise": (("brows", 0.06),),
    "mouth_open": (("gap", 0.1),),
    "frown": (("corners", -0.06),),
    "smile": (("width", 0.08), ("corners", 0.02)),
    "one_sided": (("slant", 0.05),),
    "pucker": (("width", -0.08),),
    "surprise": (("brows", 0.05), ("gap", 0.07)),
    "eyes_shut": (("eyes", -0.03),),
}
"""Burst kind → measures that change, with the least change."""


@pytest.mark.parametrize(("name", "kind"), PLAYED)
def test_face_mesh_follows_each_burst(meshes: dict[tuple[str, str], np.ndarray], name: PortraitName, kind: str) -> None:
    rest, apex = measures(meshes[name, "rest"]), measures(meshes[name, kind])
    for measure, least in EXPECTED[kind]:
        change = apex[measure] - rest[measure]
        assert change * np.sign(least) >= abs(least), f"{measure} changed by {change:+.3f}"


@pytest.mark.parametrize("name", PORTRAITS)
def test_the_mesh_lies_where_the_puppet_says(meshes: dict[tuple[str, str], np.ndarray], name: PortraitName) -> None:
    puppet = Puppet(PORTRAITS[name], 400, 480)
    distance = np.hypot(*(meshes[name, "rest"] - puppet.landmarks_at({})).T)
    assert np.median(distance) < 0.03 * puppet.frame.eye_distance_px


@pytest.fixture(scope="module")
def crops(
    stills: dict[tuple[str, str], np.ndarray], meshes: dict[tuple[str, str], np.ndarray]
) -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]:
    """Aligned crop, uint8 [160, 160, 3], and its matrix, of every still."""
    from faceline.cropping import matrix_from_mesh, warp

    matrices = {key: matrix_from_mesh(mesh) for key, mesh in meshes.items()}
    return {key: (warp(stills[key], matrix), matrix) for key, matrix in matrices.items()}


def distances(embedded: dict[tuple[str, str], np.ndarray]) -> tuple[float, float]:
    """Largest distance of an expression from the same portrait at rest, and smallest between the two portraits."""

    def apart(a: tuple[str, str], b: tuple[str, str]) -> float:
        return float(np.linalg.norm(embedded[a] - embedded[b]))

    within = max(apart(key, (key[0], "rest")) for key in embedded)
    between = min(apart(a, b) for a in embedded for b in embedded if a[0] != b[0])
    return within, between


def test_bundled_embedder_sees_two_persons(crops: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]) -> None:
    from faceline.adapters.dlib_resnet import DlibResnet
    from faceline.weights import resolve

    embedder = DlibResnet(resolve("identity", "dlib").path)
    keys = list(crops)
    box = np.array([100.0, 120.0, 200.0, 240.0])
    batch = np.stack([embedder.prepare(*crops[key], box) for key in keys])
    within, between = distances(dict(zip(keys, embedder.embed(batch), strict=True)))
    assert within < embedder.same_person_threshold < between


@pytest.mark.real
def test_vggface2_sees_two_persons(
    stills: dict[tuple[str, str], np.ndarray],
    crops: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]],
    vggface2_folder: Path,
) -> None:
    from faceline.adapters.mtcnn import MtcnnDetector
    from faceline.adapters.vggface2 import VGGFace2
    from faceline.weights import resolve

    detector = MtcnnDetector(resolve("detector", "mtcnn").path, min_face_px=60)
    embedder = VGGFace2(resolve("identity", "vggface2", vggface2_folder).path)
    keys = list(crops)
    boxes = [found.boxes_px[0] for found in detector.detect([stills[key] for key in keys])]
    batch = np.stack([embedder.prepare(*crops[key], box) for key, box in zip(keys, boxes, strict=True)])
    within, between = distances(dict(zip(keys, embedder.embed(batch), strict=True)))
    assert within < embedder.same_person_threshold < between
