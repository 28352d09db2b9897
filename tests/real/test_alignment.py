"""Alignment on real pictures and clips: pose against MediaPipe's own, the right face of several, nothing made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from faceline.adapters.facemesh import FaceMesh, five_points
from faceline.alignment import ALIGN
from faceline.cropping import decode_jpeg, matrix_from_mesh, transform
from faceline.detection import DETECT
from faceline.pose import angles_from_rotation, fit_heads
from faceline.sampling import SAMPLE
from faceline.stage import MemoryInputs, Runtime, collect
from faceline.video import open_footage
from faceline.weights import resolve

pytestmark = [pytest.mark.real, pytest.mark.models]


def aligned(clip: Path, fps: float) -> dict[tuple[str, str], Any]:
    """Payloads of sample, detect and align for the whole clip as one segment."""
    footage = open_footage(clip)
    models = {role: resolve(role) for role in ("detector", "landmarks")}
    inputs = MemoryInputs({}, footage, footage.segments(300)[0], models)
    payloads: dict[tuple[str, str], Any] = {}
    for stage in (SAMPLE, DETECT, ALIGN):
        params = stage.params(fps=fps) if stage is SAMPLE else stage.params()
        given = MemoryInputs(payloads, inputs.footage, inputs.segment, inputs.models)
        payloads |= {
            (stage.name, name): value for name, value in collect(stage.compute(params, given, Runtime())).items()
        }
    return payloads


def test_head_pose_agrees_with_mediapipes_face_landmarker(testdata: Path) -> None:
    """An independent answer: that model's transformation matrix to its own canonical face."""
    import cv2
    import mediapipe as mp
    from mediapipe.tasks.python import BaseOptions, vision

    task = testdata / "models" / "face_landmarker.task"
    assert task.is_file(), "the clips are here, but no face_landmarker.task beside them"
    options = vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=str(task)), output_facial_transformation_matrixes=True
    )
    mesh_model = FaceMesh()
    differences = []
    with vision.FaceLandmarker.create_from_options(options) as landmarker:
        for number in range(1, 26, 2):
            rgb = cv2.cvtColor(
                cv2.imread(str(testdata / "images" / "deepface" / f"img{number}.jpg")), cv2.COLOR_BGR2RGB
            )
            found = landmarker.detect(mp.Image(image_format=mp.ImageFormat.SRGB, data=rgb))
            points = np.array([(p.x, p.y) for p in found.face_landmarks[0]]) * rgb.shape[1::-1]
            low, high = points.min(axis=0), points.max(axis=0)
            mesh = mesh_model.find(rgb, np.array([*low, *(high - low)]), five_points(points))
            assert mesh is not None, number
            matrix = np.array(found.facial_transformation_matrixes[0])[:3, :3]
            theirs = angles_from_rotation((matrix / np.cbrt(np.linalg.det(matrix)))[None])[0]
            differences.append(fit_heads(mesh[None]).angles_deg[0] - theirs)
    mesh_model.close()
    assert (np.median(np.abs(differences), axis=0) < 2.5).all()
    assert np.abs(differences).max() < 7


def test_two_men_who_look_at_each_other_turn_opposite_ways(testdata: Path) -> None:
    """5.5–6.8 s: the man at the left of the picture turns to its right edge (positive yaw), the other to its left."""
    faces = aligned(testdata / "clips" / "den250400_interview.mp4", 3)["align", "faces"].to_pandas()
    looking = faces[(faces.time_s > 5.6) & (faces.time_s < 6.7)]
    middle = looking.x_px + looking.w_px / 2
    left, right = looking[middle < middle.mean()], looking[middle > middle.mean()]
    assert left.yaw_deg.max() > 15 and right.yaw_deg.min() < -15
    assert left.yaw_deg.median() > right.yaw_deg.median() + 15
    # Each mesh lies on its own man, and the crops are upright whatever the tilt of his head.
    assert (faces.state == "ok").mean() > 0.95


def test_every_mesh_stands_on_its_own_face(testdata: Path) -> None:
    """Three men whose heads overlap: meshes stay on the face of their box, never two on one face."""
    done = aligned(testdata / "clips" / "clm_multi_face.avi", 0.7)
    faces, landmarks = done["align", "faces"].to_pandas(), done["align", "landmarks"]
    noses = landmarks[:, 4, :2]
    ok = (faces.state == "ok").to_numpy()
    assert ok.mean() > 0.95 and faces.groupby("frame").size().max() >= 3
    inside = (noses > faces[["x_px", "y_px"]].to_numpy()).all(axis=1)
    inside &= (noses < faces[["x_px", "y_px"]].to_numpy() + faces[["w_px", "h_px"]].to_numpy()).all(axis=1)
    assert inside[ok].all()
    for _, group in faces[ok].groupby("frame"):
        for a in group.index:
            for b in group.index[group.index > a]:
                assert np.linalg.norm(noses[a] - noses[b]) > 0.5 * min(faces.w_px[a], faces.w_px[b])


def test_crops_show_upright_centred_faces(testdata: Path) -> None:
    done = aligned(testdata / "clips" / "pyfeat_single_face.mp4", 3)
    faces, crops, landmarks = done["align", "faces"], done["align", "crops"], done["align", "landmarks"]
    assert set(faces["state"].to_pylist()) == {"ok"} and faces.num_rows >= 6
    model = FaceMesh()
    for row in range(faces.num_rows):
        matrix = np.array(faces["crop_matrix"][row].as_py()).reshape(2, 3)
        np.testing.assert_allclose(matrix, matrix_from_mesh(landmarks[row]), rtol=1e-6)
        # The mesh found again in the crop itself lies where the matrix says.
        crop = decode_jpeg(crops["crop"][row].as_py())
        placed = transform(matrix, landmarks[row][:, :2])
        low, high = placed.min(axis=0), placed.max(axis=0)
        again = model.find(crop, np.array([*low, *(high - low)]), five_points(placed))
        assert again is not None
        assert np.linalg.norm(again[:, :2] - placed, axis=1).mean() < 2.0
    model.close()


def test_a_printed_skull_gets_no_mesh_for_long(testdata: Path) -> None:
    """A T-shirt shows a skull; the man's own face is found in every frame."""
    faces = aligned(testdata / "clips" / "intel_yes.mkv", 5)["align", "faces"].to_pandas()
    man = faces[(faces.w_px < 100)]
    assert (man.state == "ok").all() and man.frame.nunique() == faces.frame.nunique()
