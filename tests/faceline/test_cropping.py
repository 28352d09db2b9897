"""Aligned crops, and FER's crop against FER's own code."""

from __future__ import annotations

import importlib.util
import sys
import types

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceline import cropping
from faceline.cropping import (
    decode_jpeg,
    encode_jpeg,
    fer_crop,
    fit_similarity,
    invert,
    matrix_from_mesh,
    matrix_from_points,
    scale_of,
    transform,
    warp,
)


def similarity(scale: float, turn_deg: float, shift: tuple[float, float]) -> np.ndarray:
    turn = np.radians(turn_deg)
    linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return np.column_stack([linear, shift])


@given(
    scale=st.floats(0.05, 20),
    turn_deg=st.floats(-180, 180),
    shift=st.tuples(st.floats(-500, 500), st.floats(-500, 500)),
    seed=st.integers(0, 999),
)
def test_a_similarity_is_recovered(scale: float, turn_deg: float, shift: tuple[float, float], seed: int) -> None:
    points = np.random.default_rng(seed).normal(0, 50, (5, 2))
    truth = similarity(scale, turn_deg, shift)
    np.testing.assert_allclose(fit_similarity(points, transform(truth, points)), truth, atol=1e-6 * (1 + scale))


@given(seed=st.integers(0, 999))
def test_no_other_similarity_fits_better(seed: int) -> None:
    rng = np.random.default_rng(seed)
    source, target = rng.normal(0, 10, (5, 2)), rng.normal(0, 10, (5, 2))
    best = fit_similarity(source, target)

    def error(matrix: np.ndarray) -> float:
        return float(((transform(matrix, source) - target) ** 2).sum())

    for step in (similarity(1.01, 0, (0, 0)), similarity(1, 1, (0, 0)), similarity(1, 0, (0.1, 0))):
        moved = np.column_stack([step[:, :2] @ best[:, :2], transform(step, best[:, 2])])
        assert error(best) <= error(moved) + 1e-9


def test_faces_are_never_mirrored() -> None:
    points = np.array([(0, 0), (4, 0), (2, 3), (1, 5), (3, 5)], dtype=float)
    mirrored = points * [-1, 1]
    assert np.linalg.det(fit_similarity(points, mirrored)[:, :2]) > 0


@pytest.mark.parametrize("source", [np.ones((5, 2)), np.full((5, 2), np.nan), np.zeros((1, 2))])
def test_points_that_carry_no_alignment_are_refused(source: np.ndarray) -> None:
    with pytest.raises(ValueError):
        fit_similarity(source, np.arange(2.0 * len(source)).reshape(-1, 2))


def test_the_template_stands_where_dlib_puts_it() -> None:
    """dlib: chip pixel = (padding + template) / (2·padding + 1) · size, here for padding 0.45 at 160 px."""
    mesh = np.zeros((478, 3))
    chip = {263: (110.2788, 55.8735), 362: (92.2998, 57.1764), 33: (48.0484, 55.8928), 133: (66.0282, 57.1844)}
    chip[2] = (79.1673, 90.7619)
    for index, place in chip.items():
        mesh[index, :2] = place
    np.testing.assert_allclose(matrix_from_mesh(mesh), [[1, 0, 0], [0, 1, 0]], atol=2e-3)
    # A face twice as large, elsewhere in the frame.
    mesh[:, :2] = mesh[:, :2] * 2 + [300, 40]
    np.testing.assert_allclose(transform(matrix_from_mesh(mesh), mesh[list(chip), :2]), list(chip.values()), atol=2e-3)
    assert scale_of(matrix_from_mesh(mesh)) == pytest.approx(0.5, abs=1e-4)


def test_five_points_give_an_upright_crop_with_the_eyes_level_with_the_meshs() -> None:
    level = np.array([(40, 50), (80, 50), (60, 74), (42, 93), (78, 93)], dtype=float)
    turned = transform(similarity(1.7, 25, (200, 100)), level)
    placed = transform(matrix_from_points(turned), turned)
    np.testing.assert_allclose(placed, transform(matrix_from_points(level), level), atol=1e-6)
    assert placed[0, 1] == pytest.approx(placed[1, 1], abs=0.5)
    assert placed[:2, 1].mean() == pytest.approx(56.0, abs=1.5)  # the mesh's eye corners lie at 55.9…57.2
    assert placed[:2, 0].mean() == pytest.approx(79.5, abs=1.5)


def test_invert_undoes_transform() -> None:
    matrix = similarity(0.3, 40, (12, -7))
    points = np.array([(0.0, 0.0), (100.0, 3.0), (-5.0, 40.0)])
    np.testing.assert_allclose(transform(invert(matrix), transform(matrix, points)), points, atol=1e-9)


def test_an_unscaled_upright_square_is_copied() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (80, 90, 3)).astype(np.uint8)
    matrix = np.array([[1.0, 0.0, -20.0], [0.0, 1.0, -10.0]])
    np.testing.assert_array_equal(warp(rgb, matrix, 32), rgb[10:42, 20:52])


@pytest.mark.parametrize("shrink", [0.6, 1.0, 1.7, 2.0, 3.3, 6.25, 9.0])
@pytest.mark.parametrize("turn_deg", [0.0, 30.0])
def test_crops_show_the_place_that_the_matrix_says(shrink: float, turn_deg: float) -> None:
    """On a picture whose gray value is its x (or y) coordinate, each crop pixel tells where it was taken from."""
    matrix = np.column_stack([similarity(1 / shrink, turn_deg, (0, 0))[:, :2], (0, 0)])
    centre = np.array([900.0, 700.0])
    matrix[:, 2] = 20 - matrix[:, :2] @ centre
    slope = 140 / (40 * shrink)  # half a crop pixel is 1.75 gray levels
    y, x = np.mgrid[0:1400, 0:1800].astype(np.float64) + 0.5
    expected = transform(invert(matrix), np.stack(np.meshgrid(np.arange(40) + 0.5, np.arange(40) + 0.5), axis=-1))
    for axis, plane in enumerate((x, y)):
        ramp = np.clip((plane - centre[axis]) * slope + 128, 0, 255)
        shown = warp(np.repeat(np.round(ramp).astype(np.uint8)[..., None], 3, axis=2), matrix, 40)[..., 0]
        wanted = (expected[..., axis] - centre[axis]) * slope + 128
        assert np.abs(shown - wanted).max() < 1.7
        assert abs(float((shown - wanted).mean())) < 0.6


@pytest.mark.parametrize("period", [1, 2])
@pytest.mark.parametrize("shrink", [2.6, 4.0, 6.7])
def test_a_fine_checkerboard_does_not_alias(period: int, shrink: float) -> None:
    y, x = np.mgrid[0:1200, 0:1200]
    board = ((((x // period) + (y // period)) % 2) * 255).astype(np.uint8)
    matrix = similarity(1 / shrink, 7.0, (5.0, -9.0))
    plain = cv2.warpAffine(board, matrix, (160, 160), flags=cv2.INTER_LINEAR)
    assert plain.std() > 30  # without care it does
    crop = warp(np.repeat(board[..., None], 3, axis=2), matrix)
    assert crop[20:140, 20:140].std() < 5
    assert crop[20:140, 20:140].mean() == pytest.approx(127.5, abs=2)


def test_the_frames_edge_is_repeated_beyond_it() -> None:
    rgb = np.full((100, 100, 3), 200, np.uint8)
    rgb[:, :50] = 20
    shown = warp(rgb, np.array([[1.0, 0, 60.0], [0, 1.0, 60.0]]), 120)
    assert (shown[:, :60] == 20).all()
    assert (shown[:60, 115:] == 200).all()
    outside = warp(rgb, np.array([[1.0, 0, -500.0], [0, 1.0, -500.0]]), 40)
    assert (outside == 200).all()


def test_a_jpeg_keeps_the_colour_order() -> None:
    rgb = np.zeros((160, 160, 3), np.uint8)
    rgb[..., 0] = 220
    rgb[80:, :, 2] = 180
    back = decode_jpeg(encode_jpeg(rgb))
    assert back.shape == (160, 160, 3) and back.dtype == np.uint8
    assert np.abs(back.astype(int) - rgb)[8:72].max() < 6
    with pytest.raises(ValueError, match="no picture"):
        decode_jpeg(b"nothing")


@pytest.fixture(scope="module")
def fer_class() -> type:
    """FER 22.5.1's class from its own file, with the two modules that are not installed replaced by empty ones."""
    package = importlib.util.find_spec("fer")
    assert package is not None and package.submodule_search_locations
    folder = package.submodule_search_locations[0]
    stubs = {name: types.ModuleType(name) for name in ("pkg_resources", "tensorflow", "tensorflow.keras", "fer_oracle")}
    models = types.ModuleType("tensorflow.keras.models")
    models.load_model = None  # type: ignore[attr-defined]
    stubs["tensorflow.keras.models"] = models
    stubs["fer_oracle"].__path__ = [folder]
    with pytest.MonkeyPatch.context() as patch:
        for name, module in stubs.items():
            patch.setitem(sys.modules, name, module)
        for name in ("utils", "fer"):
            spec = importlib.util.spec_from_file_location(f"fer_oracle.{name}", f"{folder}/{name}.py")
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            patch.setitem(sys.modules, f"fer_oracle.{name}", module)
            spec.loader.exec_module(module)
    return module.FER


def fer_pictures(fer_class: type, rgb: np.ndarray, box: tuple[int, int, int, int]) -> list[np.ndarray]:
    """What FER itself hands to its network, −1..1 float32, for a box (x, y, w, h); nothing where it skips the face."""
    fer = object.__new__(fer_class)
    seen: list[np.ndarray] = []
    fer._FER__offsets = (10, 10)
    fer._FER__emotion_target_size = (64, 64)

    def classify(faces: np.ndarray) -> np.ndarray:
        seen.extend(faces)
        return np.zeros((len(faces), 7))

    fer._classify_emotions = classify
    fer.detect_emotions(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), face_rectangles=[box])
    return seen


def check_against_fer(fer_class: type, rgb: np.ndarray, box: tuple[float, float, float, float]) -> None:
    x, y, w, h = box
    # As FER's find_faces turns MTCNN's corners into a box.
    whole = (int(x), int(y), int(x + w) - int(x), int(y + h) - int(y))
    square = fer_class.tosquare(whole)
    if min(square[0] + square[2], square[1] + square[3]) <= -50:
        # FER's slice then ends at a negative index, so it takes a stretch of the frame that is not the face.
        assert fer_crop(rgb, box) is None
        return
    theirs = fer_pictures(fer_class, rgb, whole)
    ours = fer_crop(rgb, box)
    if not theirs:
        assert ours is None
        return
    assert ours is not None and ours.dtype == np.uint8 and ours.shape == (64, 64)
    np.testing.assert_array_equal((ours.astype("float32") / 255.0 - 0.5) * 2.0, theirs[0])


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    shape=st.tuples(st.integers(2, 160), st.integers(2, 200)),
    box=st.tuples(st.floats(-80, 220), st.floats(-80, 180), st.floats(0, 150), st.floats(0, 150)),
)
def test_the_emotion_crop_is_fers_bit_for_bit(
    fer_class: type, seed: int, shape: tuple[int, int], box: tuple[float, float, float, float]
) -> None:
    rgb = np.random.default_rng(seed).integers(0, 256, (*shape, 3)).astype(np.uint8)
    check_against_fer(fer_class, rgb, box)


@pytest.mark.parametrize(
    "box",
    [
        (30.9, 20.2, 41.3, 60.7),  # higher than wide
        (30.9, 20.2, 60.7, 41.3),  # wider than high
        (-25.5, -30.5, 60.0, 61.0),  # over the upper left corner
        (90.0, 70.0, 90.0, 90.0),  # over the lower right corner, past the padding
        (400.0, 300.0, 20.0, 20.0),  # nowhere
        (-400.0, 10.0, 20.0, 20.0),
    ],
)
def test_the_emotion_crop_is_fers_at_the_edges(fer_class: type, box: tuple[float, float, float, float]) -> None:
    y, x = np.mgrid[0:120, 0:140]
    rgb = np.stack([x, y, (x * y) % 251], axis=-1).astype(np.uint8)
    check_against_fer(fer_class, rgb, box)


@pytest.mark.parametrize("seed", range(6))
def test_the_emotion_crop_is_the_one_cut_from_the_whole_gray_frame(seed: int) -> None:
    """Byte for byte what a frame gives that is turned gray and padded as a whole, FER's own way."""
    rng = np.random.default_rng(seed)
    rgb = rng.integers(0, 256, (1 if seed == 0 else 90, 121, 3)).astype(np.uint8)
    gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    mean = cv2.mean(gray[-2:])[0]
    padded = cv2.copyMakeBorder(gray, 40, 40, 40, 40, borderType=cv2.BORDER_CONSTANT, value=[mean, mean, mean])
    for side in (1, 13, 40, 64, 150):
        for x, y in rng.integers(-70, 150, (20, 2)):
            whole = padded[max(0, y + 30) : y + side + 50, max(0, x + 30) : x + side + 50] if min(x, y) > -50 else None
            cut = fer_crop(rgb, (x, y, side, side))
            if whole is not None and whole.size:
                assert cut is not None and cut.tobytes() == cv2.resize(whole, (64, 64)).tobytes()
            elif whole is not None:
                assert cut is None


def test_beyond_the_frame_the_emotion_crop_shows_the_mean_of_the_last_two_rows() -> None:
    rgb = np.full((20, 30, 3), 10, np.uint8)
    rgb[-2:] = 90
    corner = fer_crop(rgb, (-30.0, -30.0, 20.0, 20.0))  # from −40 to 0: the border alone
    assert corner is not None and (corner == 90).all()
    inside = fer_crop(rgb, (10.0, 10.0, 0.0, 0.0))
    assert inside is not None and (inside[:40] == 10).all() and (inside[-1] == 90).all()


def test_the_jpeg_quality_is_the_documented_one() -> None:
    assert cropping.JPEG_QUALITY == 95
    rgb = np.random.default_rng(0).integers(0, 256, (160, 160, 3)).astype(np.uint8)
    assert len(encode_jpeg(rgb)) > len(encode_jpeg(rgb, 80))
