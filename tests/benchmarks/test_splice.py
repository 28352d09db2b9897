"""Morphing and splicing on pictures that the project makes itself, whose meshes are known exactly."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest

from benchmarks.anomalies import morph
from benchmarks.anomalies.sources import Section, Source
from benchmarks.anomalies.splice import Request, splice
from faceline.made.landmarks import FaceFrame
from faceline.made.portrait import ASTRONAUT
from faceline.made.puppet import Puppet
from faceline.made.render import render
from faceline.made.script import Burst, Person, Script

OPEN = {"jaw_open": 0.2}


@pytest.fixture(scope="module")
def puppet() -> Puppet:
    return Puppet(ASTRONAUT, 320, 320)


def mesh(puppet: Puppet, pose: dict[str, float]) -> np.ndarray:
    """Exact mesh in the tile, float64 [478, 3]."""
    depth = puppet.landmarks_px[:, 2:]
    return np.concatenate([puppet.landmarks_at(pose), depth], axis=1)


def gap(points: np.ndarray) -> float:
    """Distance of the lips in eye distances."""
    face = FaceFrame.of(points).to_face(points[:, :2])
    return float(face[14, 1] - face[13, 1])


def test_moving_nowhere_changes_nothing(puppet: Puppet) -> None:
    picture, rest = puppet.render({}), mesh(puppet, {})
    assert np.abs(morph.moved(picture, rest, rest).astype(int) - picture).max() <= 1


def test_moved_to_another_mesh_it_looks_like_that_picture(puppet: Puppet) -> None:
    smile = {"corner_out_left": 0.08, "corner_out_right": 0.08, "corner_up_left": 0.06, "corner_up_right": 0.06}
    rest, there = puppet.render({}), puppet.render(smile)
    moved = morph.moved(rest, mesh(puppet, {}), mesh(puppet, smile))
    before = np.abs(rest.astype(int) - there).mean()
    assert np.abs(moved.astype(int) - there).mean() < 0.5 * before


def test_between_begins_and_ends_with_its_pictures(puppet: Puppet) -> None:
    a, b = puppet.render({}), puppet.render({"yaw": 0.1})
    meshes = mesh(puppet, {}), mesh(puppet, {"yaw": 0.1})
    assert np.abs(morph.between(a, b, *meshes, 0.0).astype(int) - a).max() <= 1
    assert np.abs(morph.between(a, b, *meshes, 1.0).astype(int) - b).max() <= 1
    faded = morph.between(a, b, None, None, 0.5)
    assert np.abs(faded.astype(int) - (a.astype(int) + b) / 2).max() <= 1
    # Along the mesh the picture stays sharp; faded it does not.
    face = np.s_[80:240, 100:220]
    sharp = [
        float(np.abs(np.diff(x[face].astype(int), axis=1)).mean()) for x in (morph.between(a, b, *meshes, 0.5), faded)
    ]
    assert sharp[0] > sharp[1]


def test_reposed_takes_the_expression_and_leaves_the_pose(puppet: Puppet) -> None:
    rest = mesh(puppet, {})
    turned = mesh(puppet, OPEN)
    turned[:, :2] = (turned[:, :2] - 160) * 1.1 + 150
    turned[:, 2] *= 1.1
    back = morph.reposed(turned, rest)
    assert np.abs(back - mesh(puppet, OPEN)).max() < 1.0
    assert np.abs(morph.reposed(rest, rest) - rest).max() < 1e-9


def test_part_way_leaves_what_is_outside_the_face(puppet: Puppet) -> None:
    base, other = puppet.render({}), puppet.render(OPEN)
    half = morph.part_way(base, other, mesh(puppet, {}), mesh(puppet, OPEN), 0.5)
    assert half.dtype == np.uint8
    assert np.abs(half[:20].astype(int) - base[:20]).max() <= 2
    assert np.abs(half[:, :20].astype(int) - base[:, :20]).max() <= 2
    assert (morph.part_way(base, other, mesh(puppet, {}), mesh(puppet, OPEN), 0.0) == base).all()


@pytest.mark.models
def test_half_an_expression_measures_about_half(puppet: Puppet) -> None:
    from benchmarks.anomalies.meshes import NetworkMesh

    find = NetworkMesh()
    base, other = puppet.render({}), puppet.render(OPEN)
    half = morph.part_way(base, other, mesh(puppet, {}), mesh(puppet, OPEN), 0.5)
    found = [find(picture) for picture in (base, half, other)]
    find.close()
    none, some, whole = (gap(points) for points in found if points is not None)
    assert 0.3 < (some - none) / (whole - none) < 0.7


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    calm = Person(talking_share=0.0, blinks_per_min=0.0)
    burst = Burst(kind="mouth_open", start_s=2.0, onset_s=0.2, hold_s=0.5, offset_s=0.2)
    render(
        Script(duration_s=3.0, tile_width_px=200, tile_height_px=200, persons=(calm,), bursts=(burst,)),
        folder / "made.mp4",
    )
    return folder


SOURCE = Source(
    "made", "tuning", (0, 0, 200, 200), 200, 200, 25,
    (Section("made.mp4", 0.0, 1.9),), (Section("made.mp4", 2.1, 2.8, "mouth_open", 2.45),),
)  # fmt: skip


@cache
def rest_mesh(size_px: int) -> np.ndarray:
    return mesh(Puppet(ASTRONAUT, size_px, size_px), {})


def known_mesh(rgb: np.ndarray) -> np.ndarray:
    """The portrait at rest: near enough for splicing, and no network."""
    return rest_mesh(len(rgb))


def decoded(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(container.streams.video[0])]


def test_a_spliced_recording_is_as_its_truth_says_and_the_same_again(clip: Path, tmp_path: Path) -> None:
    request = Request(SOURCE, duration_s=24.0, events_each=1, seed=2)
    path = splice(request, clip, tmp_path / "one", known_mesh)
    truth = json.loads(path.with_suffix("").with_suffix(".truth.json").read_text())
    frames = decoded(path)
    assert len(frames) == 24 * 25
    assert frames[0].shape == (200, 200, 3)
    assert [e["difficulty"] for e in sorted(truth["events"], key=lambda e: e["difficulty"])] == [
        "short",
        "strong",
        "subtle",
    ]
    assert sorted(path.parent.iterdir()) == [path, path.parent / "made_events_2.truth.json"]  # nothing is left behind
    again = splice(request, clip, tmp_path / "two", known_mesh)
    assert [hashlib.sha256(f.tobytes()).digest() for f in frames] == [
        hashlib.sha256(f.tobytes()).digest() for f in decoded(again)
    ]
    written = path.stat().st_mtime_ns
    assert splice(request, clip, tmp_path / "one", known_mesh).stat().st_mtime_ns == written
    # The mouth is darker at the apex of the strong event than almost ever outside the events.
    mouth = np.array([f[118:150, 88:112].mean() for f in frames])
    at = np.arange(len(frames)) / 25
    near = np.zeros(len(at), dtype=bool)
    for event in truth["events"]:
        near |= (at > event["start_s"] - 0.1) & (at < event["end_s"] + 0.1)
    strong = next(e for e in truth["events"] if e["difficulty"] == "strong")
    apex = np.abs(at - strong["apex_s"]).argmin()
    assert mouth[apex] < np.quantile(mouth[~near], 0.01)
    assert mouth[apex] < np.median(mouth[~near]) - 8


def test_a_face_missed_in_one_frame_is_carried_along_the_mesh_of_the_next(clip: Path, tmp_path: Path) -> None:
    request = Request(SOURCE, duration_s=24.0, events_each=1, seed=2)
    calls = 0

    def every_other(rgb: np.ndarray) -> np.ndarray | None:
        nonlocal calls
        calls += 1
        return known_mesh(rgb) if calls % 2 else None

    assert len(decoded(splice(request, clip, tmp_path / "some", every_other))) == 24 * 25
    with pytest.raises(ValueError, match="no face mesh in source frame"):
        splice(request, clip, tmp_path / "none", lambda rgb: None)


def test_a_control_has_no_events_and_needs_no_expressions(clip: Path, tmp_path: Path) -> None:
    control = Source("calm", "control", SOURCE.crop_px, 200, 200, 25, SOURCE.usual)
    path = splice(Request(control, 8.0, 0, 1), clip, tmp_path, known_mesh)
    assert json.loads((tmp_path / "calm_control_1.truth.json").read_text())["events"] == []
    assert len(decoded(path)) == 200


def test_what_changes_no_picture_is_brought_up_to_date_without_another_render(clip: Path, tmp_path: Path) -> None:
    control = Source("calm", "control", SOURCE.crop_px, 200, 200, 25, SOURCE.usual)
    path = splice(Request(control, 4.0, 0, 1), clip, tmp_path, known_mesh)
    written, file = path.stat().st_mtime_ns, tmp_path / "calm_control_1.truth.json"
    before = json.loads(file.read_text())
    later = replace(control, split="tuning", perhaps="somebody", note="seen before")
    assert splice(Request(later, 4.0, 0, 1), clip, tmp_path, known_mesh).stat().st_mtime_ns == written
    truth = json.loads(file.read_text())
    assert (truth["unit"], truth["split"]) == ("somebody", "tuning")
    assert truth["request"]["source"]["note"] == "seen before"
    assert truth["jumps_s"] == before["jumps_s"] and list(truth) == list(before)
    # Another length is another picture.
    assert len(decoded(splice(Request(later, 5.0, 0, 1), clip, tmp_path, known_mesh))) == 125
