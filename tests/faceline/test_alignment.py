"""The align stage: one row per face in order, states, independence of threads and chunks, and a whole small run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from faceline import alignment
from faceline.adapters.facemesh import Glimpse
from faceline.aligning import (
    AlignedFace,
    AlignParams,
    DetectedFace,
    align_frames,
    describe_face,
    place_mesh,
    visible_share,
)
from faceline.alignment import ALIGN, CROPS_SCHEMA, FACES_SCHEMA
from faceline.cropping import decode_jpeg, fer_crop, transform
from faceline.emotion import EMOTE, EmoteParams
from faceline.errors import FootageError
from faceline.pose import RIGID_INDICES, mean_face
from faceline.stage import MemoryInputs, Runtime, collect

FIVE = np.array([(0.3, 0.35), (0.7, 0.35), (0.5, 0.55), (0.35, 0.75), (0.65, 0.75)])


@dataclass
class FakeFrame:
    index: int
    size: tuple[int, int] = (240, 320)

    def rgb(self) -> np.ndarray:
        rng = np.random.default_rng(self.index)
        return rng.integers(0, 256, (*self.size, 3)).astype(np.uint8)


class FakeMesh:
    """A mean face standing in the box, leaning on the one before; none where the box's x is above 200.

    Two threads must not use it at once.
    """

    def __init__(self) -> None:
        self.closed = False
        self.busy = False

    def find(
        self, rgb: np.ndarray, box_px: np.ndarray, points_px: np.ndarray, before: Glimpse | None = None
    ) -> np.ndarray | None:
        assert not self.closed and not self.busy
        self.busy = True
        time.sleep(0.0005)  # long enough for another thread to walk in
        self.busy = False
        if box_px[0] > 200:
            return None
        mesh = np.zeros((478, 3))
        mesh[list(RIGID_INDICES)] = mean_face() * [1, -1, -1]
        middle = box_px[:2] + box_px[2:] / 2
        mesh = (mesh * box_px[2] * 0.6 + [*middle, 0]).astype(np.float32)
        return mesh if before is None else (0.8 * mesh + 0.2 * before.mesh).astype(np.float32)

    def close(self) -> None:
        self.closed = True


def faces_table(rows: list[dict[str, Any]]) -> pa.Table:
    """Detection's faces; missing keys get plain values."""
    full = []
    for number, row in enumerate(rows):
        x, y, w, h = row.get("box", (60.0, 50.0, 80.0, 100.0))
        points = row.get("points", (FIVE * [w, h] + [x, y]).ravel().tolist())
        full.append(
            {
                "segment": 3,
                "face": number,
                "frame": row.get("frame", 0),
                "time_s": row.get("time_s", row.get("frame", 0) / 10),
                "track": row.get("track", number % 2),
                "x_px": x,
                "y_px": y,
                "w_px": w,
                "h_px": h,
                "confidence": 0.99,
                "detected": row.get("detected", True),
                "points_px": points,
            }
        )
    schema = pa.schema([FACES_SCHEMA.field(name) for name in alignment._DETECTED_COLUMNS])
    return pa.Table.from_pylist(full, schema=schema)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the stage on made faces with the fake model and fake frames."""

    def run(faces: pa.Table, runtime: Runtime | None = None, params: AlignParams | None = None) -> dict[str, Any]:
        footage = SimpleNamespace(time_base=Fraction(1, 30))

        def read(given: object, segment: object, *, wanted: dict[int, int]) -> Any:
            assert (given, segment) == (footage, "segment")
            assert wanted == {index: 3 * index for index in wanted}, "frames of 0.1 s in units of a 30th"
            return nullcontext(iter([FakeFrame(index) for index in sorted(wanted)]))

        monkeypatch.setattr(alignment, "read_frames", read)
        monkeypatch.setattr("faceline.adapters.facemesh.FaceMesh", lambda **_: FakeMesh())
        inputs = MemoryInputs({("detect", "faces"): faces}, footage=footage, segment="segment")
        return collect(ALIGN.compute(params or AlignParams(), inputs, runtime or Runtime()))

    return run


def test_every_face_keeps_its_row_with_the_reason(run: Any) -> None:
    rows = [
        {"frame": 0},
        {"frame": 0, "box": (210.0, 50.0, 80.0, 100.0)},  # detected, but the mesh finds nothing
        {"frame": 2, "box": (210.0, 50.0, 80.0, 100.0), "detected": False},
        {"frame": 2, "box": (60.0, 50.0, 20.0, 30.0)},
        {"frame": 5, "box": (290.0, 50.0, 80.0, 100.0)},
        {"frame": 5, "detected": False},
        {"frame": 5, "box": (float("nan"), 50.0, 80.0, 100.0)},
        {"frame": 5, "box": (210.0, 50.0, 80.0, 100.0), "points": None},
    ]
    done = run(faces_table(rows))
    faces, crops, landmarks = done["faces"], done["crops"], done["landmarks"]
    assert faces.schema == FACES_SCHEMA and crops.schema == CROPS_SCHEMA
    states = ["ok", "no_mesh", "no_face", "too_small", "outside", "ok", "too_small", "no_face"]
    assert faces["state"].to_pylist() == states
    assert faces["face"].to_pylist() == crops["face"].to_pylist() == list(range(8))
    assert set(faces["segment"].to_pylist()) == {3}
    assert landmarks.dtype == np.float32 and landmarks.shape == (8, 478, 3)
    has_mesh = [state == "ok" for state in states]
    has_crop = [state in ("ok", "no_mesh") for state in states]
    assert np.isfinite(landmarks).all(axis=(1, 2)).tolist() == has_mesh
    assert np.isnan(landmarks).all(axis=(1, 2)).tolist() == [not mesh for mesh in has_mesh]
    for name in ("yaw_deg", "pitch_deg", "roll_deg"):
        assert faces[name].is_valid().to_pylist() == has_mesh
    for name in ("sharpness", "luma_mean", "contrast", "eye_distance_px", "quality", "crop_matrix"):
        assert faces[name].is_valid().to_pylist() == has_crop
    for name in ("crop", "fer_crop"):
        assert crops[name].is_valid().to_pylist() == has_crop


def test_detections_columns_pass_through_unchanged(run: Any) -> None:
    given = faces_table([{"frame": 1}, {"frame": 4, "detected": False}])
    faces = run(given)["faces"]
    assert faces.select(given.schema.names).equals(given)


def test_the_crop_and_its_matrix_belong_together(run: Any) -> None:
    done = run(faces_table([{"frame": 7}]))
    matrix = np.array(done["faces"]["crop_matrix"][0].as_py()).reshape(2, 3)
    eyes = transform(matrix, done["landmarks"][0][[33, 263], :2])
    # The outer eye corners of the template at 160 px; the mean face differs a little from dlib's.
    np.testing.assert_allclose(eyes, [(48.0, 55.9), (110.3, 55.9)], atol=5)
    crop = decode_jpeg(done["crops"]["crop"][0].as_py())
    assert crop.shape == (160, 160, 3)
    picture = np.frombuffer(done["crops"]["fer_crop"][0].as_py(), np.uint8).reshape(64, 64)
    expected = fer_crop(FakeFrame(7).rgb(), (60.0, 50.0, 80.0, 100.0))
    assert expected is not None
    np.testing.assert_array_equal(picture, expected)
    assert done["faces"]["eye_distance_px"][0].as_py() == pytest.approx(0.6 * 80, rel=1e-4)
    assert done["faces"]["yaw_deg"][0].as_py() == pytest.approx(0, abs=1e-3)


def test_an_eye_distance_without_mesh_is_on_the_same_scale() -> None:
    """The five points of an ordinary face and its mesh agree on the distance of the outer eye corners within 10 %."""
    mesh = np.zeros((478, 3))
    mesh[list(RIGID_INDICES)] = mean_face() * [100, -100, -100]
    mesh[:, :2] += [160, 100]
    points = np.array([(-35, 0), (35, 0), (0, 33.8), (-30, 74), (30, 74)]) + np.array([160, 100])

    class Found(FakeMesh):
        def find(self, *_: Any) -> np.ndarray:
            return mesh.astype(np.float32)

    class Lost(FakeMesh):
        def find(self, *_: Any) -> None:
            return None

    face = DetectedFace(np.array([90.0, 30.0, 140.0, 180.0]), points, True)
    picture = FakeFrame(0).rgb()
    with_mesh, without = (
        describe_face(picture, face, place_mesh(picture, face, model, AlignParams())) for model in (Found(), Lost())
    )
    assert (with_mesh.state, without.state) == ("ok", "no_mesh")
    assert with_mesh.eye_distance_px is not None and without.eye_distance_px is not None
    assert without.eye_distance_px == pytest.approx(with_mesh.eye_distance_px, rel=0.1)


def many() -> pa.Table:
    boxes = [(20.0 + 7 * i, 30.0 + 3 * i, 60.0 + i, 70.0 + i) for i in range(30)]
    return faces_table([{"frame": i // 3, "box": box, "detected": i % 4 > 0} for i, box in enumerate(boxes)])


@pytest.mark.parametrize(("threads", "chunk"), [(1, 1), (3, 7), (4, 256)])
def test_threads_and_chunks_do_not_change_a_byte(
    run: Any, monkeypatch: pytest.MonkeyPatch, threads: int, chunk: int
) -> None:
    plain = run(many(), Runtime(threads=1))
    monkeypatch.setattr(alignment, "_CHUNK_FACES", chunk)
    other = run(many(), Runtime(threads=threads, batch_size=5))
    assert other["faces"].equals(plain["faces"]) and other["crops"].equals(plain["crops"])
    assert other["landmarks"].tobytes() == plain["landmarks"].tobytes()


def test_no_faces_give_whole_but_empty_payloads(run: Any) -> None:
    done = run(faces_table([]))
    assert done["faces"].schema == FACES_SCHEMA and done["faces"].num_rows == 0
    assert done["crops"].schema == CROPS_SCHEMA and done["landmarks"].shape == (0, 478, 3)
    assert set(done) == {payload.name for payload in ALIGN.outputs}


def test_progress_ends_at_the_number_of_faces(run: Any) -> None:
    seen: list[tuple[int, int]] = []
    run(many(), Runtime(progress=lambda done, total: seen.append((done, total))))
    assert seen[-1] == (30, 30)


def test_each_thread_has_its_own_model_and_all_are_closed() -> None:
    models: list[FakeMesh] = []

    def open_model() -> FakeMesh:
        models.append(FakeMesh())
        return models[-1]

    frames = [FakeFrame(i) for i in range(10)]
    assert len(list(align_frames(many(), frames, open_model, AlignParams(), threads=3))) == 30
    assert len(models) == 3 and all(model.closed for model in models)
    # Also when the reader loses interest.
    faces = align_frames(many(), frames, open_model, AlignParams(), threads=2)
    assert isinstance(next(faces), AlignedFace)
    faces.close()  # type: ignore[attr-defined]
    assert all(model.closed for model in models)


class Noting(FakeMesh):
    """Notes for each face, by its box's x, the box of the glimpse that it was given."""

    given: dict[float, float | None]

    def __init__(self, given: dict[float, float | None]) -> None:
        super().__init__()
        self.given = given

    def find(
        self, rgb: np.ndarray, box_px: np.ndarray, points_px: np.ndarray, before: Glimpse | None = None
    ) -> np.ndarray | None:
        self.given[float(box_px[0])] = None if before is None else float(before.box_px[0])
        return super().find(rgb, box_px, points_px, before)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_face_is_led_by_its_own_mesh_shortly_before_and_by_no_other(threads: int) -> None:
    def face(frame: int, x: float, track: int, time_s: float) -> dict[str, Any]:
        return {"frame": frame, "box": (x, 50.0, 80.0, 100.0), "track": track, "time_s": time_s}

    table = faces_table(
        [
            face(0, 10.0, 0, 0.0),
            face(0, 100.0, 1, 0.0),
            face(1, 101.0, 1, 0.3),
            face(1, 12.0, 0, 0.3),
            face(2, 14.0, 0, 0.7),  # too long after
            face(2, 230.0, 1, 0.4),  # lost here …
            face(3, 102.0, 1, 0.5),  # … so searched for anew
            face(3, 15.0, 0, 0.8),
        ]
    )
    given: dict[float, float | None] = {}
    frames = [FakeFrame(i) for i in range(4)]
    list(align_frames(table, frames, lambda: Noting(given), AlignParams(follow_s=0.35), threads=threads))
    assert given == {10: None, 100: None, 101: 100, 12: 10, 14: None, 230: 101, 102: None, 15: 14}
    given.clear()
    list(align_frames(table, frames, lambda: Noting(given), AlignParams(follow_s=0.0), threads=threads))
    assert set(given.values()) == {None}


def test_few_frames_are_held_at_a_time() -> None:
    delivered = 0

    def frames() -> Iterator[FakeFrame]:
        nonlocal delivered
        for index in range(10):
            delivered += 1
            yield FakeFrame(index)

    for number, _ in enumerate(align_frames(many(), frames(), FakeMesh, AlignParams(), threads=2)):
        # One per thread being cut, one being placed, and two read and converted ahead.
        assert delivered <= number // 3 + 1 + 5


def test_a_frame_that_cannot_be_decoded_again_is_an_error() -> None:
    frames = [FakeFrame(i) for i in range(10) if i != 4]
    with pytest.raises(FootageError, match="frame 4"):
        list(align_frames(many(), frames, FakeMesh, AlignParams()))


def test_faces_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="ascending"):
        list(align_frames(faces_table([{"frame": 2}, {"frame": 1}]), [FakeFrame(1)], FakeMesh, AlignParams()))


@pytest.mark.parametrize(
    ("box", "share"),
    [
        ((0, 0, 10, 10), 1.0),
        ((-5, 0, 10, 10), 0.5),
        ((95, 45, 10, 10), 0.25),
        ((200, 0, 10, 10), 0.0),
        ((0, 0, 0, 5), 0.0),
    ],
)
def test_the_visible_share_of_a_box(box: tuple[float, ...], share: float) -> None:
    assert visible_share(np.array(box, dtype=float), (50, 100, 3)) == pytest.approx(share)


@pytest.mark.models
def test_a_made_clip_through_align_and_emote(tmp_path: Path) -> None:
    """The astronaut moved across the picture: landmarks follow by as much, expressions stay the same."""
    import av
    from skimage import data

    from faceline.video import open_footage
    from faceline.weights import resolve

    portrait = data.astronaut()[20:260, 120:360]
    path = tmp_path / "made.mp4"
    shifts = [(0, 0), (30, 10), (60, 20), (90, 30)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "4"})
        stream.width, stream.height, stream.pix_fmt = 400, 300, "yuv444p"
        for x, y in shifts:
            picture = np.full((300, 400, 3), 90, np.uint8)
            picture[y : y + 240, x : x + 240] = portrait
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    rows: list[dict[str, Any]] = []
    for frame, (x, y) in enumerate(shifts):
        rows.append({"frame": frame, "box": (60.0 + x, 46.0 + y, 90.0, 120.0)})
        rows.append({"frame": frame, "box": (10.0 + x, 200.0 + y, 90.0, 90.0), "detected": False})
    footage = open_footage(path)
    models = {"landmarks": resolve("landmarks"), "emotion": resolve("emotion")}
    given = {("detect", "faces"): faces_table(rows)}
    segment = footage.segments(300)[0]
    runs = [
        collect(ALIGN.compute(AlignParams(), MemoryInputs(given, footage, segment, models), Runtime(threads=threads)))
        for threads in (1, 2)
    ]
    assert runs[0]["landmarks"].tobytes() == runs[1]["landmarks"].tobytes()
    assert runs[0]["faces"].equals(runs[1]["faces"]) and runs[0]["crops"].equals(runs[1]["crops"])
    faces, landmarks = runs[0]["faces"], runs[0]["landmarks"]
    assert faces["state"].to_pylist() == ["ok", "no_face"] * 4
    nose = landmarks[::2, 4, :2]
    np.testing.assert_allclose(nose - nose[0], shifts, atol=1.0)

    given = {("align", name): payload for name, payload in runs[0].items()}
    done = collect(EMOTE.compute(EmoteParams(), MemoryInputs(given, models=models), Runtime()))["expressions"]
    assert done["emotion_state"].to_pylist() == done["measures_state"].to_pylist() == ["ok", "no_face"] * 4
    happy = done["happy"].to_pylist()
    assert min(happy[::2]) > 0.9 and happy[1::2] == [None] * 4
    width = done["mouth_width"].to_pylist()[::2]
    assert max(width) - min(width) < 0.03
