"""Every embedder keeps the same contract; dlib's network on torch is held against dlib itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from faceline.adapters.dlib_format import read_layers
from faceline.cropping import matrix_from_points, warp
from faceline.embedding import Embedder, open_embedder
from faceline.errors import ModelError
from faceline.weights import ResolvedModel, resolve

pytestmark = pytest.mark.models

NAMES = ("dlib", "vggface2")

# Five points of the portrait in scikit-image's `astronaut` (eye, eye, nose, mouth corners), by eye.
_ASTRONAUT_POINTS = [(200.0, 110.0), (240.0, 108.0), (223.0, 130.0), (206.0, 150.0), (240.0, 149.0)]
_ASTRONAUT_BOX = np.array([173.0, 66.0, 92.0, 116.0])


def _model(name: str) -> ResolvedModel:
    folder = _folder()
    if name == "vggface2" and folder is None:
        pytest.skip("the weights of vggface2 are not here (FACELINE_TESTDATA or ../shared/data)")
    return resolve("identity", name, folder)


def _folder() -> Path | None:
    import os

    root = Path(os.environ.get("FACELINE_TESTDATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
    return root / "models" if (root / "models").is_dir() else None


@pytest.fixture(scope="module", params=NAMES)
def embedder(request: pytest.FixtureRequest) -> Iterator[Embedder]:
    yield open_embedder(_model(request.param))


@pytest.fixture(scope="module")
def portrait() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Aligned crop, its matrix, and the box in the picture's pixels."""
    from skimage.data import astronaut

    picture = astronaut()
    matrix = matrix_from_points(_ASTRONAUT_POINTS)
    return warp(picture, matrix), matrix, _ASTRONAUT_BOX


@pytest.fixture(scope="module")
def batch(embedder: Embedder, portrait: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
    """The portrait as it is, dimmed, blurred, shifted; noise; another face (the portrait, stretched and mirrored)."""
    crop, matrix, box_px = portrait
    face = embedder.prepare(crop, matrix, box_px)
    noise = np.random.default_rng(0).integers(0, 256, face.shape, dtype=np.uint8)
    return np.stack(
        [face, (face * 0.8).astype(np.uint8), cv2.GaussianBlur(face, (0, 0), 1.0), np.roll(face, 3, axis=1), noise]
    )


def test_prepared_faces_are_what_the_network_takes(
    embedder: Embedder, portrait: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> None:
    crop, matrix, box_px = portrait
    before = crop.copy()
    face = embedder.prepare(crop, matrix, box_px)
    assert face.shape == (embedder.input_px, embedder.input_px, 3) and face.dtype == np.uint8
    assert np.array_equal(crop, before)
    assert face.std() > 20
    # Same person, same colours: the order of channels survives.
    assert (
        np.argsort(face.reshape(-1, 3).mean(axis=0)).tolist() == np.argsort(crop.reshape(-1, 3).mean(axis=0)).tolist()
    )


def test_shape_type_and_length(embedder: Embedder, batch: np.ndarray) -> None:
    vectors = embedder.embed(batch)
    assert vectors.shape == (len(batch), embedder.dimension) and vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    lengths = np.linalg.norm(vectors, axis=1)
    if embedder.name == "vggface2":
        assert lengths == pytest.approx(np.ones(len(batch)), abs=1e-5)
    else:
        assert ((lengths > 0.5) & (lengths < 3)).all()


def test_no_faces(embedder: Embedder) -> None:
    none = np.empty((0, embedder.input_px, embedder.input_px, 3), np.uint8)
    assert embedder.embed(none).shape == (0, embedder.dimension)


def test_the_same_faces_give_the_same_bytes(embedder: Embedder, batch: np.ndarray) -> None:
    before = batch.copy()
    assert embedder.embed(batch).tobytes() == embedder.embed(batch).tobytes()
    assert np.array_equal(batch, before)


def test_a_row_depends_on_its_own_face_alone(embedder: Embedder, batch: np.ndarray) -> None:
    whole = embedder.embed(batch)
    for size in (1, 2, 3):
        parts = np.concatenate([embedder.embed(batch[i : i + size]) for i in range(0, len(batch), size)])
        assert parts.tobytes() == whole.tobytes()
    order = [3, 0, 4, 2, 1]
    assert embedder.embed(batch[order]).tobytes() == whole[order].tobytes()


def test_threads_do_not_change_a_byte(embedder: Embedder, batch: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    many = np.concatenate([batch, batch[::-1], batch // 2, 255 - batch])
    found = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(embedder, "_threads", threads)
        found.append(embedder.embed(many).tobytes())
    assert len(many) > 16 and len(set(found)) == 1


def test_a_face_lies_nearer_to_its_own_variants_than_to_anything_else(embedder: Embedder, batch: np.ndarray) -> None:
    face, *variants, noise = embedder.embed(batch)
    near = [np.linalg.norm(face - variant) for variant in variants]
    assert max(near) < embedder.same_person_threshold < np.linalg.norm(face - noise) + 0.3
    assert max(near) < 0.7 * np.linalg.norm(face - noise)


def test_colour_order_matters(embedder: Embedder, batch: np.ndarray) -> None:
    """A network that is fed BGR still works a little; that must not go unnoticed."""
    right, wrong = embedder.embed(batch[:1]), embedder.embed(np.ascontiguousarray(batch[:1, ..., ::-1]))
    assert np.linalg.norm(right - wrong) > 0.1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("damage", ["text", "truncated"])
def test_wrong_files_are_one_line(name: str, damage: str, tmp_path: Path) -> None:
    model = _model(name)
    wrong = tmp_path / "weights.bin"
    wrong.write_bytes(b"not weights" if damage == "text" else model.path.read_bytes()[:1_000_000])
    with pytest.raises(ModelError, match=r"^weights\.bin: not the weights of") as caught:
        open_embedder(ResolvedModel("identity", name, "", wrong, ""))
    assert "\n" not in str(caught.value)


def test_unknown_embedders_are_refused() -> None:
    with pytest.raises(ValueError, match="arcface"):
        open_embedder(ResolvedModel("identity", "arcface", "", Path(), ""))


# --- dlib ------------------------------------------------------------------------------------------------------------


def test_dlibs_file_is_read_to_its_last_weight() -> None:
    model = _model("dlib")
    layers = read_layers(model.path.read_bytes())
    assert [layer.name for layer in layers] == ["con_4", "affine_"] * 29 + ["fc_2"]
    assert sum(layer.params.size for layer in layers) * 4 > 0.999 * model.path.stat().st_size
    assert layers[-1].params.shape == (256, 128)


def test_the_network_on_torch_is_dlibs(portrait: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    dlib = pytest.importorskip("dlib")
    model = _model("dlib")
    ours = open_embedder(model)
    face = ours.prepare(*portrait)
    faces = np.stack(
        [
            face,
            np.ascontiguousarray(face[:, ::-1]),
            np.random.default_rng(1).integers(0, 256, face.shape, dtype=np.uint8),
        ]
    )
    theirs = dlib.face_recognition_model_v1(str(model.path)).compute_face_descriptor(list(faces))
    assert np.abs(ours.embed(faces) - np.array(theirs)).max() < 1e-5
