"""Detection on real clips: who is there when, prints and title cards that are nobody, tracklets of one person each."""

from __future__ import annotations

import numpy as np
import pytest

from faceline.detection import DETECT, DetectParams
from faceline.sampling import SAMPLE, SampleParams
from faceline.stage import MemoryInputs, Runtime, collect
from faceline.timeline import Segment
from faceline.video import open_footage
from faceline.weights import resolve

pytestmark = [pytest.mark.real, pytest.mark.models]


@pytest.fixture(scope="module")
def detect(testdata):
    """Times of the sampled frames, the number of faces in each, and all faces as arrays by column."""
    done = {}

    def run(name, fps=5.0, until_s=None, **params):
        key = (name, fps, until_s, *params.items())
        if key not in done:
            footage = open_footage(testdata / "clips" / name)
            segment = footage.segments(600)[0]
            if until_s is not None:
                segment = Segment(0, segment.start_s, segment.start_s + until_s)
            models = {"detector": resolve("detector")}
            sample = collect(
                SAMPLE.compute(SampleParams(fps=fps), MemoryInputs(footage=footage, segment=segment), Runtime())
            )
            inputs = MemoryInputs({("sample", "frames"): sample["frames"]}, footage, segment, models)
            table = collect(DETECT.compute(DetectParams(**params), inputs, Runtime(threads=1)))["faces"]
            faces = {name: np.array(table[name].to_pylist()) for name in table.column_names}
            counts = np.array([np.sum(faces["frame"] == frame) for frame in sample["frames"]["frame"].to_pylist()])
            done[key] = sample["frames"]["time_s"].to_numpy(), counts, faces
        return done[key]

    return run


def test_an_interview_with_title_cards_at_both_ends(detect):
    time_s, counts, faces = detect("jiho_foreigner_interview.mp4")
    interviewed = (time_s >= 2) & (time_s <= 90)
    assert np.mean(counts[interviewed] > 0) >= 0.97
    assert counts[(time_s < 0.7) | (time_s > 92)].sum() == 0
    assert counts.max() == 1
    # Shots are parted by white flashes at 17.6 and 64.4 s; within them, one tracklet each.
    long = [track for track in set(faces["track"].tolist()) if np.sum(faces["track"] == track) > 20]
    assert len(long) == 3
    # Of the five frames of a second, one is searched and two are measured anew.
    assert np.mean(faces["detected"]) < 0.7


def test_a_cartoon_title_card_has_no_face(detect):
    _, counts, _ = detect("pyfeat_no_face.mp4")
    assert counts.sum() == 0


def test_a_face_until_the_cut_and_none_after_it(detect):
    time_s, counts, _ = detect("pyfeat_face_noface.mov", fps=10.0)
    assert (counts[time_s < 2.4] == 1).all()
    assert counts[time_s > 2.45].sum() == 0


@pytest.mark.parametrize("interval_s", [0.0, 0.3])
def test_a_skull_on_a_shirt_is_no_face(detect, interval_s):
    """It passes the networks' thresholds in several frames, but not three looks."""
    _, counts, faces = detect("intel_yes.mkv", fps=10.0, interval_s=interval_s)
    assert (counts == 1).all()
    assert set(faces["track"].tolist()) == {0}
    assert faces["y_px"].max() < 120


def test_rotated_footage_gives_the_same_boxes(detect):
    _, plain_counts, plain = detect("pyfeat_single_face.mp4")
    _, turned_counts, turned = detect("derived_rotated_metadata.mp4")
    np.testing.assert_array_equal(plain_counts, turned_counts)
    assert (plain_counts == 1).all()
    for column in ("x_px", "y_px", "w_px", "h_px"):
        np.testing.assert_allclose(turned[column], plain[column], atol=2.5)


def test_six_faces_in_a_group_picture(testdata):
    import cv2

    from faceline.adapters.mtcnn import MtcnnDetector
    from faceline.faces import without_duplicates

    picture = cv2.imread(str(testdata / "images" / "facenet_pytorch" / "multiface.jpg"))[..., ::-1]
    detector = MtcnnDetector(resolve("detector").path, threads=1)
    for width in (1200, 640):
        shrunk = cv2.resize(picture, (width, picture.shape[0] * width // 1200), interpolation=cv2.INTER_AREA)
        found = without_duplicates(detector.detect([shrunk])[0], DetectParams().min_confidence)
        assert len(found) == 6


@pytest.mark.parametrize(
    ("name", "until_s"),
    [("den250400_interview.mp4", 4), ("clm_multi_face.avi", 4), ("facenetpt_video.mp4", 2), ("lp_d12.mp4", 4)],
)
def test_following_between_key_frames_loses_no_face(detect, name, until_s):
    """Against the detector on every frame: as many faces, and at the same places.

    What the detector takes for a face in one to three frames is not followed, nor meant to be.
    """
    _, counts, faces = detect(name, fps=10.0, until_s=until_s)
    _, every_counts, every = detect(name, fps=10.0, until_s=until_s, interval_s=0.0)
    assert np.mean(counts > 0) >= np.mean(every_counts > 0)
    assert _lasting(faces) >= 0.98 * _lasting(every)
    apart = []
    for i in np.flatnonzero(~faces["detected"]):
        there = every["frame"] == faces["frame"][i]
        centres = every["x_px"][there] + every["w_px"][there] / 2, every["y_px"][there] + every["h_px"][there] / 2
        own = faces["x_px"][i] + faces["w_px"][i] / 2, faces["y_px"][i] + faces["h_px"][i] / 2
        apart.append(np.hypot(centres[0] - own[0], centres[1] - own[1]).min() / faces["w_px"][i])
    if apart:
        assert np.quantile(apart, 0.95) < 0.1


def _lasting(faces):
    """Number of faces in tracklets of more than three."""
    sizes = np.bincount(faces["track"])
    return sizes[sizes > 3].sum()


def test_three_men_are_three_long_tracklets_that_never_mix(detect):
    """Until the men begin to run about at 12 s: left, front, right."""
    _, counts, faces = detect("clm_multi_face.avi", until_s=11)
    assert np.mean(counts == 3) > 0.9
    sizes = np.bincount(faces["track"])
    assert np.sort(sizes)[-3:].min() >= 50
    assert sizes.sum() - np.sort(sizes)[-3:].sum() <= 2
    for track in np.argsort(sizes)[-3:]:
        widths = faces["w_px"][faces["track"] == track]
        assert widths.max() < 1.5 * widths.min()


def test_no_tracklet_holds_two_faces_of_one_frame(detect):
    _, _, faces = detect("facenetpt_video.mp4", fps=10.0, until_s=2)
    pairs = list(zip(faces["frame"].tolist(), faces["track"].tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)


def test_no_tracklet_crosses_a_cut(detect):
    time_s, _, faces = detect("pyscene_goldeneye-vfr-drop3.mp4")
    for cut_s in (3.75, 8.75):
        before = set(faces["track"][faces["time_s"] < cut_s].tolist())
        after = set(faces["track"][faces["time_s"] >= cut_s].tolist())
        assert not before & after
    assert len(time_s)
