"""The landmark model on scikit-image's astronaut: the right face, the same bytes each time, no noise."""

from __future__ import annotations

import os
from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from faceline.adapters.facemesh import FaceMesh, Glimpse, _read_landmarks, belongs, five_points
from faceline.adapters.noise import without_noise
from faceline.measures import MEASURE_NAMES, compute_measures
from faceline.pose import fit_heads

BOX = np.array([180.0, 66.0, 90.0, 120.0])
POINTS = np.array([(204, 102), (246, 104), (223, 127), (202, 139), (245, 141)], dtype=float)
UNKNOWN = np.full((5, 2), np.nan)


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    from skimage import data

    return data.astronaut()


@pytest.fixture(scope="module")
def model() -> Iterator[FaceMesh]:
    model = FaceMesh()
    yield model
    model.close()


@pytest.fixture(scope="module")
def mesh(model: FaceMesh, astronaut: np.ndarray) -> np.ndarray:
    found = model.find(astronaut, BOX, POINTS)
    assert found is not None
    return found


@pytest.mark.models
def test_landmarks_lie_on_the_face(mesh: np.ndarray) -> None:
    assert mesh.shape == (478, 3) and mesh.dtype == np.float32
    # Eye centres, nose tip and mouth corners, as read off the picture by eye.
    np.testing.assert_allclose(five_points(mesh), POINTS, atol=3)
    assert mesh[4, 2] < mesh[[33, 263, 61, 291, 234, 454], 2].min()  # the nose tip is nearest to the camera


@pytest.mark.models
def test_a_rerun_gives_the_same_bytes_whatever_came_before(
    model: FaceMesh, astronaut: np.ndarray, mesh: np.ndarray
) -> None:
    moved = np.roll(astronaut, 40, axis=1)
    assert model.find(moved, BOX + np.array([40, 0, 0, 0]), POINTS + np.array([40, 0])) is not None
    assert model.find(np.zeros_like(astronaut), BOX, POINTS) is None
    again = model.find(astronaut, BOX, POINTS)
    other = FaceMesh()
    fresh = other.find(astronaut, BOX, POINTS)
    other.close()
    assert again is not None and again.tobytes() == mesh.tobytes()
    assert fresh is not None and fresh.tobytes() == mesh.tobytes()


@pytest.mark.models
def test_a_model_that_served_one_tracklet_serves_the_next_like_a_fresh_one(
    model: FaceMesh, astronaut: np.ndarray
) -> None:
    """So that a worker may keep it from segment to segment: led by glimpses, lost and found, byte for byte."""

    def tracklet(with_model: FaceMesh) -> list[bytes]:
        before, found = None, []
        for shift in range(0, 40, 8):
            box = BOX + np.array([shift, 0, 0, 0])
            mesh = with_model.find(np.roll(astronaut, shift, axis=1), box, UNKNOWN, before)
            before = None if mesh is None else Glimpse(mesh, box)
            found.append(b"" if mesh is None else mesh.tobytes())
        return found

    used = tracklet(model)
    assert model.find(np.zeros_like(astronaut), BOX, POINTS) is None
    fresh = FaceMesh()
    assert all(used) and tracklet(model) == used == tracklet(fresh)
    fresh.close()


@pytest.mark.models
@pytest.mark.parametrize("further", [False, True])
def test_landmarks_are_read_as_protobuf_would_read_them(further: bool) -> None:
    """Whether or not the message has fields that the network of today does not write."""
    from mediapipe.framework.formats.landmark_pb2 import NormalizedLandmark, NormalizedLandmarkList

    points = np.random.default_rng(0).normal(0.5, 0.2, (478, 3)).astype(np.float32)
    points[3] = 0
    kinds = {"visibility": 0.5} if further else {}
    entries = [NormalizedLandmark(x=x, y=y, z=z, **kinds) for x, y, z in points.tolist()]
    read = _read_landmarks(NormalizedLandmarkList(landmark=entries).SerializeToString())
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, points)
    assert _read_landmarks(b"").shape == (0, 3)


@pytest.mark.models
def test_the_mesh_is_the_one_of_mediapipes_own_graph(astronaut: np.ndarray) -> None:
    """`FaceLandmarkCpu`, which cuts and projects besides, on the picture that is handed to the network."""
    import mediapipe
    from google.protobuf import text_format
    from mediapipe.framework import calculator_pb2
    from mediapipe.framework.formats import rect_pb2
    from mediapipe.python.solution_base import SolutionBase

    assert mediapipe.solutions, "which import the options of the calculators that this graph is made of"
    config = text_format.Parse(
        """
        input_stream: "IMAGE:image" input_stream: "ROI:roi" input_side_packet: "WITH_ATTENTION:with_attention"
        output_stream: "LANDMARKS:landmarks"
        node {
          calculator: "FaceLandmarkCpu" input_stream: "IMAGE:image" input_stream: "ROI:roi"
          input_side_packet: "WITH_ATTENTION:with_attention" output_stream: "LANDMARKS:landmarks"
        }""",
        calculator_pb2.CalculatorGraphConfig(),
    )
    patch = np.ascontiguousarray(astronaut[30:222, 130:322])
    with without_noise():
        graph = SolutionBase(graph_config=config, side_inputs={"with_attention": True}, outputs=["landmarks"])
        whole = rect_pb2.NormalizedRect(x_center=0.5, y_center=0.5, width=1.0, height=1.0, rotation=0.0)
        theirs = graph.process({"image": patch, "roi": whole}).landmarks
        graph.close()
    model = FaceMesh()
    ours = model._graph.landmarks(patch)
    model.close()
    assert ours is not None
    np.testing.assert_allclose(ours, [(p.x, p.y, p.z) for p in theirs.landmark], rtol=0, atol=1e-7)


@pytest.mark.models
def test_where_there_is_no_face_none_is_made_up(model: FaceMesh, astronaut: np.ndarray) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3)).astype(np.uint8)
    for picture in (np.full((300, 300, 3), 127, np.uint8), noise):
        assert model.find(picture, np.array([100.0, 100, 100, 100]), UNKNOWN) is None
    for x, y in ((20, 20), (380, 40), (20, 300), (300, 350)):
        assert model.find(astronaut, np.array([x, y, 90.0, 110.0]), UNKNOWN) is None


@pytest.mark.models
def test_of_two_faces_the_one_in_the_box_is_taken(model: FaceMesh, astronaut: np.ndarray) -> None:
    head = astronaut[40:220, 150:300]
    both = np.hstack([head, head[:, ::-1]])
    left_box, right_box = np.array([(30.0, 26.0, 90.0, 120.0), (180.0, 26.0, 90.0, 120.0)])
    for box in (left_box, right_box):
        found = model.find(both, box, UNKNOWN)
        assert found is not None
        np.testing.assert_allclose(five_points(found).mean(axis=0), box[:2] + box[2:] / 2, atol=12)


@pytest.mark.models
def test_the_mesh_hardly_depends_on_how_the_box_was_drawn(
    model: FaceMesh, astronaut: np.ndarray, mesh: np.ndarray
) -> None:
    eyes_px = float(np.linalg.norm(mesh[33] - mesh[263]))
    for change in ([6, 0, 0, 0], [-5, 4, 8, 0], [0, -6, 0, 10]):
        found = model.find(astronaut, BOX + change, UNKNOWN)
        assert found is not None
        assert np.linalg.norm(found[:, :2] - mesh[:, :2], axis=1).mean() < 0.05 * eyes_px


@pytest.mark.models
def test_a_glimpse_leads_to_the_same_face_in_one_pass(
    model: FaceMesh, astronaut: np.ndarray, mesh: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    run = model._run
    monkeypatch.setattr(model, "_run", lambda rgb, square: runs.append(1) or run(rgb, square))
    # The face has moved by 25 px and grown by a fifth since.
    shift = np.array([[1.2, 0, 25 - 0.2 * 225], [0, 1.2, -0.2 * 126]])
    moved = cv2.warpAffine(astronaut, shift, (512, 512))
    low = shift[:, :2] @ BOX[:2] + shift[:, 2]
    box = np.concatenate([low, BOX[2:] * 1.2])
    found = model.find(moved, box, UNKNOWN, Glimpse(mesh, BOX))
    assert len(runs) == 1
    assert found is not None
    expected = mesh[:, :2] @ shift[:, :2].T + shift[:, 2]
    assert np.linalg.norm(found[:, :2] - expected, axis=1).mean() < 0.02 * 1.2 * np.linalg.norm(mesh[33] - mesh[263])


@pytest.mark.models
def test_a_glimpse_that_misleads_is_forgotten(model: FaceMesh, astronaut: np.ndarray, mesh: np.ndarray) -> None:
    elsewhere = Glimpse(mesh + np.array([220, 250, 0], np.float32), BOX)
    found = model.find(astronaut, BOX, POINTS, elsewhere)
    assert found is not None and found.tobytes() == mesh.tobytes()


@pytest.mark.models
def test_turned_and_enlarged_pictures_give_the_same_face(
    model: FaceMesh, astronaut: np.ndarray, mesh: np.ndarray
) -> None:
    lying = np.ascontiguousarray(np.rot90(astronaut, -1))  # clockwise: (x, y) → (511 − y, x)
    points = np.stack([512 - POINTS[:, 1], POINTS[:, 0]], axis=1)
    found = model.find(lying, np.array([512 - 186.0, 180.0, 120.0, 90.0]), points)
    assert found is not None
    turned_back = np.stack([found[:, 1], 512 - found[:, 0]], axis=1)
    assert np.linalg.norm(turned_back - mesh[:, :2], axis=1).mean() < 3
    assert fit_heads(found[None]).angles_deg[0, 2] == pytest.approx(90 + fit_heads(mesh[None]).angles_deg[0, 2], abs=5)

    large = cv2.resize(astronaut, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    found = model.find(large, BOX * 3, POINTS * 3)
    assert found is not None
    np.testing.assert_allclose(compute_measures(found[None]), compute_measures(mesh[None]), atol=0.05)


@pytest.mark.models
def test_a_mirrored_picture_has_its_sides_swapped(model: FaceMesh, astronaut: np.ndarray, mesh: np.ndarray) -> None:
    mirrored = np.ascontiguousarray(astronaut[:, ::-1])
    points = (POINTS * [-1, 1] + [512, 0])[[1, 0, 2, 4, 3]]
    found = model.find(mirrored, np.array([512 - 270.0, 66.0, 90.0, 120.0]), points)
    assert found is not None
    yaw, pitch, roll = fit_heads(mesh[None]).angles_deg[0]
    np.testing.assert_allclose(fit_heads(found[None]).angles_deg[0], (-yaw, pitch, -roll), atol=2.5)
    one, other = compute_measures(mesh[None])[0], compute_measures(found[None])[0]
    for name in MEASURE_NAMES:
        stem, _, side = name.rpartition("_")
        partner = {"left": f"{stem}_right", "right": f"{stem}_left"}.get(side, name)
        sign = -1 if name.endswith(("_asymmetry", "_sideways")) else 1
        at = MEASURE_NAMES.index
        assert other[at(partner)] * sign == pytest.approx(one[at(name)], abs=0.06), name


@pytest.mark.models
def test_mediapipe_stays_quiet(capfd: pytest.CaptureFixture[str], astronaut: np.ndarray) -> None:
    model = FaceMesh()
    assert model.find(astronaut, BOX, POINTS) is not None
    model.close()
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


def test_only_known_noise_is_held_back(capfd: pytest.CaptureFixture[str]) -> None:
    with without_noise():
        os.write(2, b"W0000 inference_feedback_manager.cc:114] Feedback manager requires a model\n")
        os.write(2, b"something else went wrong\n")
    assert capfd.readouterr().err == "something else went wrong\n"
    with pytest.raises(KeyError), without_noise():
        os.write(2, b"last words\n")
        raise KeyError
    assert capfd.readouterr().err == "last words\n"
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def synthetic(middle: tuple[float, float], size: float) -> np.ndarray:
    """A mesh that fills a square, with its five points at the usual places."""
    mesh = np.zeros((478, 3))
    mesh[:] = (*middle, 0)
    mesh[0], mesh[1] = (middle[0] - size / 2, middle[1] - size / 2, 0), (middle[0] + size / 2, middle[1] + size / 2, 0)
    for indices, (x, y) in zip(((33, 133), (362, 263), (4,), (61,), (291,)), PLACES, strict=True):
        for index in indices:
            mesh[index, :2] = middle[0] + x * size, middle[1] + y * size
    return mesh


PLACES = ((-0.2, -0.15), (0.2, -0.15), (0.0, 0.05), (-0.17, 0.25), (0.17, 0.25))


@pytest.mark.parametrize(
    ("middle", "size", "expected"),
    [
        ((100, 100), 100, True),
        ((112, 100), 100, True),  # a little off
        ((170, 100), 100, False),  # the neighbour's face
        ((100, 100), 260, False),  # far too large
        ((100, 100), 30, False),
    ],
)
def test_a_mesh_belongs_to_the_box_it_fills(middle: tuple[int, int], size: int, expected: bool) -> None:
    box = np.array([50.0, 50.0, 100.0, 100.0])
    assert belongs(synthetic(middle, size), box, UNKNOWN) is expected


def test_a_mesh_must_agree_with_the_five_points() -> None:
    box = np.array([50.0, 50.0, 100.0, 100.0])
    mesh = synthetic((100, 100), 100)
    points = np.array(PLACES) * 100 + 100
    assert belongs(mesh, box, points)
    assert not belongs(mesh, box, points + np.array([30, 0]))


def test_no_passes_are_refused() -> None:
    with pytest.raises(ValueError, match="passes"):
        FaceMesh(passes=0)
