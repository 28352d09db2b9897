"""Clips made longer without encoding them again."""

from __future__ import annotations

import hashlib
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from benchmarks.speed import footage
from faceline.video import open_footage, read_frames

FPS, GOP = 10, 8


def make(path: Path, frames: int, *, size: tuple[int, int] = (64, 48), seed: int = 0, b_frames: int = 2) -> Path:
    """A clip whose pictures all differ, with pictures stored out of order and a keyframe every `GOP` of them."""
    rng = np.random.default_rng(seed)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=FPS)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.options = {"g": str(GOP), "keyint_min": str(GOP), "sc_threshold": "0", "bf": str(b_frames), "crf": "1"}
        for _ in range(frames):
            coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
            rgb = cv2.resize(coarse, size, interpolation=cv2.INTER_NEAREST)
            for packet in stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")):
                output.mux(packet)
        for packet in stream.encode():
            output.mux(packet)
    return path


def pictures(path: Path) -> list[str]:
    opened = open_footage(path)
    with read_frames(opened) as reader:
        found = [hashlib.md5(frame.rgb().tobytes(), usedforsecurity=False).hexdigest() for frame in reader]
        assert reader.damage is None
    return found


def test_repetitions_show_the_same_pictures_at_even_times(tmp_path: Path) -> None:
    clip = make(tmp_path / "clip.mp4", 20)
    longer = tmp_path / "longer.mp4"
    footage.join([clip], longer, 6.0)
    once = pictures(clip)
    assert len(set(once)) == 20
    assert pictures(longer) == once * 3
    opened = open_footage(longer)
    with read_frames(opened) as reader:
        times = [float(frame.time_s) for frame in reader]
    np.testing.assert_allclose(times, np.arange(60) / FPS, atol=1e-6)
    assert opened.native_fps == pytest.approx(FPS) and opened.damage is None
    # The script seeks by the number of the frame: it has to see the same pictures under them.
    capture = cv2.VideoCapture(str(longer))
    with read_frames(opened, wanted=frozenset([0, 13, 27, 41, 59])) as reader:
        for frame in reader:
            capture.set(cv2.CAP_PROP_POS_FRAMES, frame.index)
            assert np.abs(capture.read()[1][..., ::-1].astype(int) - frame.rgb()).mean() < 4
    capture.release()


def test_it_ends_at_the_first_keyframe_that_is_late_enough(tmp_path: Path) -> None:
    clip = make(tmp_path / "clip.mp4", 20)
    for seconds, frames in ((0.5, 8), (0.8, 8), (0.9, 16), (2.1, 28), (3.7, 40)):
        footage.join([clip], tmp_path / "out.mp4", seconds)
        found = pictures(tmp_path / "out.mp4")
        assert len(found) == frames, seconds
        assert found == (pictures(clip) * 3)[:frames]


def test_several_clips_take_turns(tmp_path: Path) -> None:
    one, other = make(tmp_path / "one.mp4", 10, seed=1), make(tmp_path / "other.mp4", 14, seed=2)
    footage.join([one, other], tmp_path / "both.mp4", 4.8)
    assert pictures(tmp_path / "both.mp4") == (pictures(one) + pictures(other)) * 2


def test_clips_that_do_not_fit_together_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    one, other = make(tmp_path / "one.mp4", 10), make(tmp_path / "other.mp4", 10, size=(32, 32))
    with pytest.raises(ValueError, match=r"other\.mp4 is not encoded as one\.mp4 is"):
        footage.join([one, other], tmp_path / "both.mp4", 3.0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one.mp4", "other.mp4"]


def test_what_is_there_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(footage, "FOLDER", tmp_path / "bench")
    clip = make(tmp_path / "clip.mp4", 20)
    longer = footage.lengthened(clip, 4.0)
    state = longer.stat().st_mtime_ns
    assert footage.lengthened(clip, 4.0) == longer and longer.stat().st_mtime_ns == state
    assert footage.lengthened(clip, 6.0) != longer
    make(clip, 20, seed=3)  # other content under the same name
    assert footage.lengthened(clip, 4.0) != longer


def test_mixed_footage_is_of_one_size_and_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(footage, "FOLDER", tmp_path / "bench")
    monkeypatch.setattr(footage, "MIXED_SIZE_PX", (96, 64))
    wide, high = make(tmp_path / "wide.mp4", 10, size=(128, 48)), make(tmp_path / "high.mp4", 6, size=(32, 64), seed=1)
    mixed = footage.mixed(5.0, [wide, high])
    opened = open_footage(mixed)
    assert (opened.width_px, opened.height_px) == (96, 64)
    assert opened.native_fps == pytest.approx(footage.MIXED_FPS) and opened.damage is None
    assert opened.duration_s == pytest.approx(5.0, abs=1.0)
    with read_frames(opened) as reader:
        frames = [frame.rgb() for frame in reader]
    # The wide one leaves bars above and below, the high one at its sides.
    assert frames[2][:10].mean() < 8 < frames[2][20:44].mean()
    at = next(i for i, rgb in enumerate(frames) if rgb[:10, 40:56].mean() > 16)
    assert frames[at + 2][:, :24].mean() < 8
    # Shown for 0.9 s at 10 frames/s (the last one for an instant) at 25 ticks/s.
    assert at == pytest.approx(0.9 * 25 + 1, abs=1.5)


def test_clips_that_are_named_have_to_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACELINE_TESTDATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        footage.chosen_clips(["nowhere.mp4"])
    monkeypatch.setattr(footage, "made_footage", lambda: tmp_path / "made.mp4")
    assert footage.chosen_clips([]) == {"made": tmp_path / "made.mp4"}
    (tmp_path / "clips").mkdir()
    clip = make(tmp_path / "clips" / footage.CLIPS["two people"], 4)
    assert footage.chosen_clips([]) == {"two people": clip}
    assert footage.chosen_clips([clip.name]) == {clip.stem: clip}


@pytest.mark.real
@pytest.mark.parametrize("name", [footage.CLIPS["two people"], footage.CLIPS["crowd 1080p"]])
def test_real_clips_become_longer(name: str, testdata: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(footage, "FOLDER", tmp_path)
    clip = testdata / "clips" / name
    once = open_footage(clip)
    opened = open_footage(footage.lengthened(clip, 2.5 * once.duration_s))
    assert opened.duration_s >= 2.5 * once.duration_s - 0.1
    assert opened.native_fps == pytest.approx(once.native_fps) and opened.damage is None
    wanted = frozenset([3, once.packets + 3, 2 * once.packets + 3])
    with read_frames(opened, wanted=wanted) as reader:
        first, second, third = (frame.rgb() for frame in reader)
    assert np.array_equal(first, second) and np.array_equal(first, third)
