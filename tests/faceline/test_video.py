"""Footage: exact times, stable indices, upright pictures, damage, and errors that name the cause."""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
import shutil
import threading
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faceline import containers, reading, video
from faceline.errors import FootageChangedError, FootageError, FootageUnreadableError
from faceline.picture import shrunk
from faceline.timeline import Segment
from faceline.video import open_footage, read_frames, results_name

#: Irregular on purpose: bursts, pauses and a late start, in milliseconds.
VFR_MS = [1500 + t for t in np.cumsum([0, *([33, 67, 40, 200, 5, 33, 533] * 7)]).tolist()]
MS = Fraction(1, 1000)


def stamps(footage, segment=None, **how):
    return [(frame.index, frame.pts, frame.time_s) for frame in read_frames(footage, segment, **how)]


@pytest.fixture(scope="module")
def varied(clips):
    """Clips whose containers state time, order and keyframes in different ways; 50 numbered pictures each."""
    return {
        "mp4": clips("plain.mp4"),
        "open gop": clips("open.mp4", options={"x264-params": "open-gop=1:keyint=8:bframes=3:b-adapt=0"}),
        "one gop": clips("onegop.mp4", options={"g": "250"}),
        "vfr mkv": clips("vfr.mkv", count=len(VFR_MS), pts=VFR_MS, time_base=MS),
        "ts": clips("plain.ts"),
        "mpeg": clips("plain.mpg", codec="mpeg1video", options={"g": "10", "bf": "2", "b": "4000000"}),
        "avi": clips("plain.avi", codec="mpeg4", options={"g": "10", "qscale": "2"}),
        "avi with b-frames": clips("bframes.avi"),
        "webm": clips(
            "plain.webm", codec="libvpx-vp9", options={"g": "10", "crf": "12", "cpu-used": "8", "lag-in-frames": "8"}
        ),
        "raw": clips("plain.h264"),
    }


ALL = ["mp4", "open gop", "one gop", "vfr mkv", "ts", "mpeg", "avi", "avi with b-frames", "webm", "raw"]


def test_facts_of_a_plain_clip(varied):
    footage = open_footage(varied["mp4"])
    assert (footage.name, footage.codec, footage.packets) == ("plain", "h264", 50)
    assert (footage.start_s, footage.end_s) == (0, Fraction(49, 25))
    assert footage.native_fps == 25.0
    assert (footage.width_px, footage.height_px, footage.rotation_deg) == (192, 96, 0)
    assert footage.damage is None
    assert footage.sha256 == hashlib.sha256(varied["mp4"].read_bytes()).hexdigest()


def test_footage_survives_pickling_and_compares_by_value(varied):
    footage = open_footage(varied["vfr mkv"])
    assert pickle.loads(pickle.dumps(footage)) == footage  # noqa: S301


def test_times_are_the_timestamps_of_the_container(varied):
    footage = open_footage(varied["vfr mkv"])
    assert [time_s for _, _, time_s in stamps(footage)] == [Fraction(t, 1000) for t in VFR_MS]
    assert footage.start_s == Fraction(3, 2)
    span_s = (VFR_MS[-1] - VFR_MS[0]) / 1000
    assert footage.native_fps == pytest.approx((len(VFR_MS) - 1) / span_s)


@pytest.mark.parametrize("kind", ALL)
def test_pictures_come_in_the_order_in_which_they_were_made(varied, read_number, kind):
    footage = open_footage(varied[kind])
    frames = list(read_frames(footage))
    assert [read_number(frame.rgb()) for frame in frames] == list(range(footage.packets))
    assert [frame.index for frame in frames] == list(range(footage.packets))
    times = [frame.time_s for frame in frames]
    assert times == sorted(times)
    assert (times[0], times[-1]) == (footage.start_s, footage.end_s)


@pytest.mark.parametrize("kind", ALL)
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(segment_s=st.fractions(min_value=Fraction(1, 10), max_value=Fraction(3), max_denominator=997))
def test_segments_read_one_by_one_are_the_footage_read_through(varied, read_number, kind, segment_s):
    footage = open_footage(varied[kind])
    through = stamps(footage)
    parts, numbers, decoded = [], [], 0
    for segment in footage.segments(segment_s):
        reader = read_frames(footage, segment)
        for frame in reader:
            assert frame.time_s in segment
            parts.append((frame.index, frame.pts, frame.time_s))
            numbers.append(read_number(frame.rgb()))
        decoded += reader.frames_decoded
        assert reader.damage is None
    assert parts == through
    assert numbers == [index for index, _, _ in through]
    assert decoded == footage.packets


def test_reading_a_late_segment_begins_at_a_keyframe_near_it(clips, monkeypatch):
    footage = open_footage(clips("long.mp4", count=300))
    start = reading._start
    begun_at_s = []

    def spy(footage, stream, packets, entry):
        begun_at_s.append(entry and entry.pts * footage.time_base)
        return start(footage, stream, packets, entry)

    monkeypatch.setattr(reading, "_start", spy)
    stamps(footage, footage.segments(4)[2])
    assert len(begun_at_s) == 1
    assert 8 - 3 <= begun_at_s[0] <= 8


def test_wanted_frames_only(varied):
    footage = open_footage(varied["mp4"])
    through = stamps(footage)
    assert stamps(footage, wanted=frozenset({3, 17, 40})) == [through[i] for i in (3, 17, 40)]
    assert stamps(footage, wanted=frozenset()) == []


def test_neighbours_of_a_segment(varied):
    footage = open_footage(varied["vfr mkv"])
    through = stamps(footage)
    for segment in footage.segments(Fraction(7, 10)):
        inside = [i for i, (_, _, time_s) in enumerate(through) if time_s in segment]
        if inside:
            around = through[max(0, inside[0] - 1) : inside[-1] + 2]
            assert stamps(footage, segment, neighbours=True) == around


def test_a_reader_can_be_closed_early(varied):
    with read_frames(open_footage(varied["mp4"])) as reader:
        next(reader)
    assert list(reader) == []
    assert not [thread for thread in threading.enumerate() if thread.name == "read-ahead"]


def test_closing_does_not_wait_for_a_frame_far_ahead(varied, monkeypatch):
    footage = open_footage(varied["mp4"])
    decoded, asked = [], threading.Event()

    class Slow(reading.Decoding):
        def __iter__(self):
            for picture in super().__iter__():
                decoded.append(picture.rank)
                if len(decoded) == 3:
                    assert asked.wait(timeout=20)
                yield picture

    monkeypatch.setattr(reading, "Decoding", Slow)
    reader = read_frames(footage, wanted=frozenset({0, 40}))
    next(reader)
    threading.Timer(0.2, asked.set).start()
    reader.close()
    assert len(decoded) < 10


# --- upright, square pixels, right colours ---------------------------------------------------------------------------


def quarters(height_px=96, width_px=192):
    """Red, green / blue, white."""
    picture = np.zeros((height_px, width_px, 3), np.uint8)
    picture[: height_px // 2, : width_px // 2, 0] = 255
    picture[: height_px // 2, width_px // 2 :, 1] = 255
    picture[height_px // 2 :, : width_px // 2, 2] = 255
    picture[height_px // 2 :, width_px // 2 :] = 255
    return picture


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(("clockwise_deg", "turns"), [(0, 0), (90, 3), (180, 2), (270, 1)])
def test_display_matrix_is_applied(tmp_path, clip_writer, clockwise_deg, turns, mirrored):
    path = clip_writer(
        tmp_path / "turned.mp4",
        [quarters()] * 3,
        prepare=lambda stream: stream.set_display_rotation(-clockwise_deg, hflip=mirrored),
    )
    footage = open_footage(path)
    frame = next(read_frames(footage))
    expected = np.rot90(quarters(), turns)
    if mirrored:
        expected = expected[:, ::-1]
    assert (footage.height_px, footage.width_px) == expected.shape[:2] == frame.rgb().shape[:2]
    if not mirrored:
        assert footage.rotation_deg == clockwise_deg
    for y in (0.25, 0.75):
        for x in (0.25, 0.75):
            spot = int(y * expected.shape[0]), int(x * expected.shape[1])
            np.testing.assert_allclose(frame.rgb()[spot].astype(int), expected[spot], atol=12)


def test_sample_aspect_ratio_is_applied_to_the_width(tmp_path, clip_writer):
    def prepare(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)

    footage = open_footage(clip_writer(tmp_path / "sar.mp4", [quarters()] * 3, prepare=prepare))
    assert (footage.width_px, footage.height_px) == (256, 96)
    frame = next(read_frames(footage))
    assert frame.rgb().shape == (96, 256, 3)
    assert frame.rgb(64).shape == (24, 64, 3)


@pytest.mark.parametrize(("colorspace", "yuv"), [(1, (63, 102, 240)), (5, (81, 90, 240))])
def test_colours_follow_the_stated_matrix(tmp_path, colorspace, yuv):
    """Pure red in BT.709 and in BT.601 comes out red; with the wrong matrix it would be off by 20 and more."""
    import av

    path = tmp_path / "red.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = colorspace, 1
        image = av.VideoFrame(64, 64, "yuv420p")
        for plane, value in zip(image.planes, yuv, strict=True):
            plane.update(bytes([value]) * plane.buffer_size)
        image.colorspace, image.color_range, image.pts = colorspace, 1, 0
        output.mux(stream.encode(image))
        output.mux(stream.encode(None))
    rgb = next(read_frames(open_footage(path))).rgb()
    np.testing.assert_allclose(rgb[32, 32].astype(int), (255, 0, 0), atol=4)


def test_shrinking_keeps_proportions_and_never_enlarges(varied):
    frame = next(read_frames(open_footage(varied["mp4"])))
    assert frame.rgb(96).shape == (48, 96, 3)
    assert frame.rgb(4000).shape == frame.rgb().shape == (96, 192, 3)
    assert frame.rgb().dtype == np.uint8
    assert frame.rgb().flags.c_contiguous
    assert frame.thumbnail().shape == (36, 64, 3)


# --- damage ----------------------------------------------------------------------------------------------------------


def intact_pictures(path):
    return [frame.rgb() for frame in read_frames(open_footage(path))]


def spoil(path: Path, target: Path, *, keep: float | None = None, zero_at: int | None = None) -> Path:
    data = bytearray(path.read_bytes())
    if keep is not None:
        data = data[: int(len(data) * keep)]
    if zero_at is not None:
        data[zero_at : zero_at + 4000] = bytes(4000)
    target.write_bytes(data)
    return target


def byte_of_picture(path: Path, number: int) -> int:
    import av

    with av.open(str(path)) as container:
        return [packet.pos for packet in container.demux(video=0) if packet.size][number]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "avi"])
def test_a_file_cut_off_gives_its_beginning_and_says_where_it_ends(clips, tmp_path, suffix):
    how = {"container": {"movflags": "faststart"}} if suffix == "mp4" else {}
    codec = "mpeg4" if suffix == "avi" else "libx264"
    whole = clips(f"tocut.{suffix}", count=100, codec=codec, **how)
    footage = open_footage(spoil(whole, tmp_path / f"cut.{suffix}", keep=0.5))
    reader = read_frames(footage)
    frames = list(reader)
    assert 20 < len(frames) < 80
    for frame, intact in zip(frames, intact_pictures(whole), strict=False):
        np.testing.assert_array_equal(frame.rgb(), intact)
    if suffix in {"mp4", "avi"}:  # Matroska and MPEG-TS may end anywhere; a clean end is no damage.
        assert reader.damage is not None
        assert frames[-1].time_s < reader.damage.at_s <= frames[-1].time_s + 1


@pytest.fixture(scope="module")
def holed(clips, tmp_path_factory):
    """100 pictures, a keyframe every 12; 4000 bytes are gone from the fourth group on."""
    whole = clips("tohole.mp4", count=100, options={"g": "12", "crf": "4"})
    target = tmp_path_factory.mktemp("holed") / "holed.mp4"
    return whole, spoil(whole, target, zero_at=byte_of_picture(whole, 40))


def test_spoilt_pictures_are_not_delivered_and_reading_goes_on_at_the_next_keyframe(holed, read_number):
    whole, path = holed
    footage = open_footage(path)
    reader = read_frames(footage)
    frames = list(reader)
    intact = intact_pictures(whole)
    for frame in frames:
        np.testing.assert_array_equal(frame.rgb(), intact[frame.index])
        assert frame.time_s == Fraction(frame.index, 25)
    indices = [frame.index for frame in frames]
    assert indices[:36] == list(range(36))
    assert indices[-1] == 99
    assert len(indices) < 100
    assert reader.damage is not None
    first_missing = min(set(range(100)) - set(indices))
    assert reader.damage.at_s == Fraction(first_missing, 25)
    assert reader.damage.reason


def test_damage_is_told_by_the_segment_that_it_lies_in(holed):
    footage = open_footage(holed[1])
    damages = []
    for segment in footage.segments(1):
        reader = read_frames(footage, segment)
        for frame in reader:
            assert frame.time_s in segment
        damages.append(reader.damage)
        assert reader.damage is None or reader.damage.at_s in segment
    assert damages[0] is None
    assert any(damage is not None for damage in damages)


@pytest.mark.parametrize("threads", [1, 4])
def test_damage_does_not_depend_on_decoder_threads(holed, monkeypatch, threads):
    def read():
        reader = read_frames(open_footage(holed[1]))
        return [frame.index for frame in reader], reader.frames_decoded, reader.damage

    usual = read()
    monkeypatch.setattr(containers, "DECODER_THREADS", threads)
    assert read() == usual


def test_recordings_glued_together_end_where_the_clock_is_reset(clips, tmp_path):
    whole = clips("toglue.ts", count=75)
    glued = tmp_path / "glued.ts"
    glued.write_bytes(whole.read_bytes() * 2)
    footage = open_footage(glued)
    reader = read_frames(footage)
    assert len(list(reader)) == 75
    assert reader.damage is not None
    assert "jump back" in reader.damage.reason
    assert footage.end_s - footage.start_s == Fraction(74, 25)


def test_pictures_that_come_out_of_order_are_damage_and_time_never_runs_back(clips, monkeypatch):
    """Stamps that contradict the order of decoding, as damage to a transport stream's headers makes them."""
    footage = open_footage(clips("plain.ts"))
    place = reading.Decoding._place

    def misplaced(decoding, image):
        found = place(decoding, image)
        return (found[0], found[1] - 20_000) if found is not None and found[0] == 30 else found

    monkeypatch.setattr(reading.Decoding, "_place", misplaced)
    reader = read_frames(footage)
    frames = list(reader)
    assert [frame.index for frame in frames] == [*range(30), *range(31, 50)]
    assert [frame.time_s for frame in frames] == sorted(frame.time_s for frame in frames)
    assert reader.damage is not None
    assert "out of order" in reader.damage.reason


def test_streams_that_appear_on_the_way_end_nothing(clips, monkeypatch):
    class Container:
        def demux(self, *streams):
            yield from (1, 2)
            raise IndexError("list index out of range")

    assert list(containers.demuxed(Container())) == [1, 2]


# --- errors ----------------------------------------------------------------------------------------------------------


def test_missing_file(tmp_path):
    with pytest.raises(FootageUnreadableError, match=r"none\.mp4: no such file"):
        open_footage(tmp_path / "none.mp4")


def test_a_drive_that_goes_away_is_no_fault_of_the_file(tmp_path, monkeypatch):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"no video")
    hashed = video._hashed

    def vanish(path):
        found = hashed(path)
        path.unlink()
        return found

    monkeypatch.setattr(video, "_hashed", vanish)
    with pytest.raises(FootageUnreadableError, match=r"clip\.mp4: the file cannot be read \(No such file"):
        open_footage(path)

    def stale(path):
        raise OSError(errno.ESTALE, "Stale file handle")

    path.write_bytes(b"no video")
    monkeypatch.setattr(video, "_hashed", hashed)
    monkeypatch.setattr(video, "_sha256", stale)
    with pytest.raises(FootageUnreadableError, match="Stale file handle"):
        open_footage(path)


def test_folder(tmp_path):
    with pytest.raises(FootageError, match="this is a folder"):
        open_footage(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.mp4", b"", "the file is empty"),
        ("text.mp4", b"Dear diary,\n" * 50, "not a video that can be read"),
        ("notes.txt", b"Dear diary,\n" * 50, "not a video"),
        ("noise.mkv", bytes(range(7, 256)) * 20, "not a video that can be read"),
    ],
)
def test_what_is_no_video(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(FootageError, match=message) as caught:
        open_footage(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_still_picture(tmp_path):
    import cv2

    cv2.imwrite(str(tmp_path / "still.png"), np.zeros((32, 32, 3), np.uint8))
    with pytest.raises(FootageError, match="still picture"):
        open_footage(tmp_path / "still.png")


def test_sound_only(tmp_path):
    import av

    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        sound.sample_rate, sound.pts = 8000, 0
        output.mux(stream.encode(sound))
        output.mux(stream.encode(None))
    with pytest.raises(FootageError, match=r"no video stream \(only audio\)"):
        open_footage(path)


def test_index_missing(clips, tmp_path):
    path = spoil(clips("plain.mp4"), tmp_path / "noindex.mp4", keep=0.6)
    with pytest.raises(FootageError, match=r"index \(moov\) is missing"):
        open_footage(path)


def test_footage_that_changes_behind_its_times_is_noticed(clips, tmp_path):
    path = tmp_path / "changing.mp4"
    shutil.copy(clips("plain.mp4"), path)
    footage = open_footage(path)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(path, ns=(footage.mtime_ns, footage.mtime_ns))
    with pytest.raises(FootageChangedError, match="changed while it was read"):
        footage.check_unchanged()


def test_a_playlist_is_no_footage(clips, tmp_path):
    playlist = tmp_path / "list.m3u8"
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{clips('plain.ts')}\n#EXT-X-ENDLIST\n")
    with pytest.raises(FootageError, match="a playlist, not a video"):
        open_footage(playlist)


def test_footage_that_changes_is_noticed(clips, tmp_path):
    path = tmp_path / "changing.mp4"
    shutil.copy(clips("plain.mp4"), path)
    footage = open_footage(path)
    footage.check_unchanged()
    os.utime(path, ns=(1, 1))
    footage.check_unchanged()
    with path.open("ab") as file:
        file.write(b"x")
    with pytest.raises(FootageChangedError, match="changed while it was read"):
        footage.check_unchanged()
    path.unlink()
    with pytest.raises(FootageChangedError, match="vanished"):
        footage.check_unchanged()
    with pytest.raises(FootageChangedError, match="cannot be opened any more"):
        next(read_frames(footage))


def test_a_segment_without_frames_is_empty(varied):
    footage = open_footage(varied["vfr mkv"])
    gap = Segment(0, Fraction(VFR_MS[3] + 10, 1000), Fraction(VFR_MS[3] + 11, 1000))
    reader = read_frames(footage, gap)
    assert list(reader) == []
    assert reader.frames_decoded == 0


@pytest.mark.parametrize(
    ("file", "name"),
    [("interview.mp4", "interview"), ("a.b.mp4", "a.b"), ("..mp4", "..mp4"), ("...mp4", "...mp4"), (".mp4", ".mp4")],
)
def test_a_results_name_never_means_another_folder(file: str, name: str) -> None:
    assert results_name(Path(file)) == name


def test_a_results_name_is_valid_text() -> None:
    results_name(Path(os.fsdecode(b"caf\xe9.mp4"))).encode("utf-8")


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("h264.mp4", "libx264", {"bf": "3", "x264-params": "b-pyramid=0:b-adapt=0"}),
        ("pyramid.ts", "libx264", {"bf": "7", "g": "20", "x264-params": "b-pyramid=2:b-adapt=0:open-gop=1"}),
        ("hevc.mp4", "libx265", {"x265-params": "bframes=4:b-pyramid=1:keyint=20:open-gop=1:log-level=none"}),
        ("mpeg1.mpg", "mpeg1video", {"g": "10", "bf": "2", "b": "4000000"}),
    ],
)
def test_pictures_that_nobody_wants_are_left_out_and_the_others_stay_the_same(clips, name, codec, options):
    path = clips(f"left out {name}", count=60, codec=codec, options=options)
    footage = open_footage(path)
    every = {frame.index: frame for frame in read_frames(footage)}
    for step in (2, 3, 7):
        wanted = {i: frame.pts for i, frame in every.items() if i % step == 1}
        reader = read_frames(footage, wanted=wanted)
        found = list(reader)
        assert {frame.index: frame.pts for frame in found} == wanted
        for frame in found:
            np.testing.assert_array_equal(frame.rgb(), every[frame.index].rgb())
        if codec != "mpeg1video":
            assert reader.frames_decoded < 60


def test_damage_takes_no_wanted_picture_that_it_spares_when_nothing_is_left_out(clips, tmp_path):
    """A decoder that leaves pictures out meets faults at other places than one that does not."""
    whole = clips("torn.mp4", count=120, codec="libx264", options={"bf": "3", "g": "30", "b": "400000"}).read_bytes()
    path = tmp_path / "torn.mp4"
    faults = compared = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        torn = bytearray(whole)
        for place in random.integers(200, len(whole) * 3 // 4, 4).tolist():
            torn[place : place + 16] = random.bytes(16)
        path.write_bytes(torn)
        try:
            footage = open_footage(path)
        except FootageError:
            continue
        plain = read_frames(footage)
        every = {frame.index: frame.pts for frame in plain}
        wanted = {i: pts for i, pts in every.items() if i % 3 == 1}
        found = {frame.index: frame.pts for frame in read_frames(footage, wanted=wanted)}
        assert found == wanted, seed
        faults += plain.damage is not None
        compared += 1
    assert compared >= 30
    assert faults >= 20


def test_luma_has_the_place_and_the_size_of_the_picture(clips):
    path = clips("luma.mp4", count=2)
    frame = next(read_frames(open_footage(path)))
    for side in (None, 96, 80):
        rgb, gray = frame.rgb(side), frame.gray(side)
        assert gray.shape == rgb.shape[:2]
        assert gray.flags.c_contiguous
        luma = 16 + 219 / 255 * (rgb.astype(float) @ [0.299, 0.587, 0.114])
        assert np.abs(gray - luma).mean() < 6


def test_shrinking_averages():
    picture = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    for size in ((640, 480), (400, 300), (320, 240), (150, 112), (64, 48)):
        small = shrunk(picture, size)
        assert small.shape == (size[1], size[0], 3)
        assert small.mean() == pytest.approx(picture.mean(), abs=1)
    assert shrunk(picture, (64, 48)).std() < 0.25 * picture.std()
