"""Verification: published distances, and 300 labelled pairs, through the project's own alignment and crops."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from faceline.adapters.facemesh import FaceMesh
from faceline.aligning import AlignedFace, AlignParams, DetectedFace, describe_face, place_mesh
from faceline.cropping import decode_jpeg
from faceline.embedding import open_embedder
from faceline.weights import resolve

pytestmark = [pytest.mark.real, pytest.mark.models]


@pytest.fixture(scope="module")
def mtcnn() -> Any:
    """facenet-pytorch's own detector: an oracle that shares no code with the detect stage."""
    from facenet_pytorch import MTCNN

    return MTCNN(keep_all=True, min_face_size=40)


def _picture(path: Path) -> Any:
    from PIL import Image

    return Image.open(path).convert("RGB")


PUBLISHED = {
    ("angelina_jolie", "kate_siegel"): 0.886,
    ("angelina_jolie", "paul_rudd"): 1.438,
    ("angelina_jolie", "shea_whigham"): 1.438,
    ("kate_siegel", "paul_rudd"): 1.363,
    ("kate_siegel", "shea_whigham"): 1.339,
    ("paul_rudd", "shea_whigham"): 1.066,
}


def test_published_distances_of_facenet_pytorch(testdata: Path, vggface2_folder: Path) -> None:
    """facenet-pytorch's own test: shorter side 512, its detector, its crop, the four portraits, distances to 0.01."""
    from facenet_pytorch import MTCNN
    from torchvision.transforms import Resize

    embedder = open_embedder(resolve("identity", "vggface2", vggface2_folder))
    detector = MTCNN(image_size=160, margin=0, post_process=False)
    names = ("angelina_jolie", "kate_siegel", "paul_rudd", "shea_whigham")
    faces = []
    for name in names:
        picture = _picture(testdata / "images" / "facenet_pytorch" / "test_images" / name / "1.jpg")
        face = detector(Resize(512)(picture))
        faces.append(face.permute(1, 2, 0).round().clamp(0, 255).byte().numpy())
    vectors = dict(zip(names, embedder.embed(np.stack(faces)), strict=True))
    for (one, other), distance in PUBLISHED.items():
        assert np.linalg.norm(vectors[one] - vectors[other]) == pytest.approx(distance, abs=0.01)


@pytest.fixture(scope="module")
def aligned_pictures(testdata: Path, mtcnn: Any) -> dict[str, tuple[AlignedFace, np.ndarray]]:
    """Largest face of each labelled picture, aligned as the align stage does it, and its box."""
    model = FaceMesh()
    result = {}
    for number in range(1, 26):
        name = f"img{number}.jpg"
        picture = _picture(testdata / "images" / "deepface" / name)
        boxes, _, points = mtcnn.detect(picture, landmarks=True)
        largest = int(np.argmax([(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes]))
        x0, y0, x1, y1 = (float(value) for value in boxes[largest])
        box_px = np.array([x0, y0, x1 - x0, y1 - y0])
        face = DetectedFace(box_px, np.asarray(points[largest], np.float64), True)
        whole = np.asarray(picture)
        result[name] = describe_face(whole, face, place_mesh(whole, face, model, AlignParams())), box_px
    model.close()
    return result


@pytest.mark.parametrize("name", ["vggface2", "dlib"])
def test_300_labelled_pairs_at_the_documented_threshold(
    name: str, testdata: Path, vggface2_folder: Path, aligned_pictures: dict[str, tuple[AlignedFace, np.ndarray]]
) -> None:
    assert {face.state for face, _ in aligned_pictures.values()} == {"ok"}
    embedder = open_embedder(resolve("identity", name, vggface2_folder))
    prepared = []
    for face, box_px in aligned_pictures.values():
        assert face.crop is not None and face.crop_matrix is not None
        prepared.append(embedder.prepare(decode_jpeg(face.crop), face.crop_matrix, box_px))
    vectors = dict(zip(aligned_pictures, embedder.embed(np.stack(prepared)), strict=True))

    distances: dict[bool, list[float]] = {True: [], False: []}
    with (testdata / "images" / "deepface" / "master.csv").open(newline="", encoding="utf-8") as stream:
        rows = csv.reader(stream)
        next(rows)
        for one, other, decision in rows:
            distances[decision.strip() == "Yes"].append(float(np.linalg.norm(vectors[one] - vectors[other])))
    same, different = np.array(distances[True]), np.array(distances[False])
    assert len(same) + len(different) == 300
    threshold = embedder.same_person_threshold
    balanced = (np.mean(same <= threshold) + np.mean(different > threshold)) / 2
    assert balanced >= 0.99, f"same {same.max():.3f} at most, different {different.min():.3f} at least"
