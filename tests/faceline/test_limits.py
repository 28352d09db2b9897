"""What a file may ask for: each limit ends in one line that names its option, and costs next to nothing."""

from __future__ import annotations

import os
import resource
import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from faceline.boxes import claimed_samples
from faceline.errors import FootageError
from faceline.limits import Limits, Watch
from faceline.video import open_footage, read_frames


def refusal(path: Path, **limits) -> str:
    with pytest.raises(FootageError) as caught:
        open_footage(path, Limits(**limits))
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("limits", "option"),
    [
        ({"max_megapixels": 0.01}, "192 x 96 pixels, more than limits.max_megapixels=0.01 allows"),
        ({"max_frames": 49}, "it claims to hold 50 pictures, more than limits.max_frames=49 allows"),
        ({"max_hours": 0.0005}, "limits.max_hours=0.0005"),
        ({"max_packets": 40}, "limits.max_packets=40"),
        ({"max_decoding_mib": 0}, "limits.max_decoding_mib=0"),
        ({"open_s": 1e-9}, "limits.open_s=1e-09"),
    ],
)
def test_each_limit_names_its_option_and_the_cure(clips, limits, option):
    path = clips("plain.mp4")
    said = refusal(path, **limits)
    assert option in said
    assert "raise it if the file can be trusted" in said
    assert said.startswith(str(path))


def test_within_its_limits_footage_is_the_same_whatever_they_are(clips):
    path = clips("plain.mp4")
    tight = Limits(max_megapixels=0.02, max_frames=50, max_hours=1e-3, max_packets=200, max_decoding_mib=1)
    assert open_footage(path, tight) == open_footage(path)


def test_pictures_are_counted_where_no_header_counts_them(clips):
    assert "it holds 11 pictures" in refusal(clips("plain.ts"), max_frames=10)


def patched(path: Path, target: Path, box: bytes, at: int, values: bytes) -> Path:
    data = bytearray(path.read_bytes())
    start = data.index(box) + 4 + at
    data[start : start + len(values)] = values
    target.write_bytes(data)
    return target


@pytest.mark.parametrize("count", [10**8, 10**9])
def test_a_header_that_promises_any_number_of_frames(clips, tmp_path, count):
    """stsz: size of all samples, and their number; stts: how many last equally long. Neither needs a table."""
    path = patched(clips("plain.mp4"), tmp_path / "sizes.mp4", b"stsz", 4, struct.pack(">II", 1, count))
    path = patched(path, tmp_path / "many.mp4", b"stts", 8, struct.pack(">I", count))
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "limits.max_frames" in refusal(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 64 * 1024


def fragmented(clips) -> Path:
    return clips("fragments.mp4", container={"movflags": "frag_keyframe+empty_moov+default_base_moof"})


@pytest.mark.parametrize("count", [1_000_000, 80_000_000, 2**32 - 1])
def test_a_fragment_that_promises_any_number_of_samples(clips, tmp_path, count):
    """trun: flags without a field per sample, so that the count is all there is of it."""
    whole = fragmented(clips)
    path = patched(whole, tmp_path / "many.mp4", b"trun", 0, struct.pack(">II", 0, count))
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "samples, more than it has bytes; the file is damaged" in refusal(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 16 * 1024


def test_samples_of_fragments_are_counted(clips):
    assert claimed_samples(fragmented(clips)) == open_footage(fragmented(clips)).packets == 50
    assert claimed_samples(clips("plain.mp4")) == claimed_samples(clips("plain.ts")) == 0
    assert "limits.max_packets=20" in refusal(fragmented(clips), max_packets=20)


@pytest.mark.parametrize("size", [0, 1, 7, 2**32 - 1])
def test_boxes_that_lie_about_their_size_end_the_count(clips, tmp_path, size):
    path = patched(fragmented(clips), tmp_path / "size.mp4", b"moof", -8, struct.pack(">I", size))
    assert 0 <= claimed_samples(path) <= 50


@pytest.mark.parametrize("sides_px", [(65535, 65535), (16000, 16000)])
def test_a_header_that_promises_a_picture_of_any_size(tmp_path, sides_px):
    lines = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    path = tmp_path / "large.gif"
    path.write_bytes(
        b"GIF89a" + struct.pack("<HHBBB", *sides_px, 0xF0, 0, 0) + b"\0\0\0\xff\xff\xff" + 2 * lines + b";"
    )
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "limits.max_megapixels=64" in refusal(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 64 * 1024


def test_a_clock_that_jumps_ahead_is_a_long_recording(tmp_path, clip_writer):
    pictures = (np.full((64, 64, 3), 40 * i, np.uint8) for i in range(4))
    path = clip_writer(tmp_path / "jump.mkv", pictures, pts=[0, 40, 80, 10**12], time_base=Fraction(1, 1000))
    assert "2.778e+05 hours apart, more than limits.max_hours=100" in refusal(path)


def test_the_time_allowed_grows_with_the_file():
    assert Limits(open_s=10).seconds_for(0) == 10
    assert Limits(open_s=10).seconds_for(3 * 2**30) == 40


def test_a_watch_ends_what_takes_too_long():
    now = [0.0]
    watch = Watch(Limits(open_s=5), Path("x.mp4"), 0, clock=lambda: now[0])
    watch.count()
    assert watch.left_s == 5
    now[0] = 5.1
    assert watch.left_s > 0
    with pytest.raises(FootageError, match=r"more than 5 s, more than limits\.open_s=5"):
        watch.count()


def test_giving_up_in_the_middle_is_no_damage(clips, monkeypatch):
    """FFmpeg's own error when its time is up must not pass for the end of the file."""
    import av

    from faceline import video

    def packets(container, *streams):
        yield from list(container.demux(*streams))[:3]
        raise av.error.ExitError(1, "Immediate exit requested")

    monkeypatch.setattr(video, "demuxed", packets)
    monkeypatch.setattr(Watch, "is_late", property(lambda watch: watch._packets >= 3))
    monkeypatch.setattr(Watch, "count", lambda watch: setattr(watch, "_packets", watch._packets + 1))
    with pytest.raises(FootageError, match=r"limits\.open_s"):
        open_footage(clips("plain.mp4"))


def test_a_machine_without_memory_says_nothing_about_the_footage(clips, monkeypatch):
    import av

    from faceline import video

    def packets(container, *streams):
        yield from list(container.demux(*streams))[:3]
        raise av.error.MemoryError(12, "Cannot allocate memory")

    monkeypatch.setattr(video, "demuxed", packets)
    with pytest.raises(FootageError, match="takes more memory than there is"):
        open_footage(clips("plain.mp4"))


# --- files that are none, or name others -----------------------------------------------------------------------------


def test_a_pipe_is_not_waited_for_and_a_device_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    for path in (tmp_path / "pipe.mp4", Path("/dev/zero")):
        assert "not a file" in refusal(path)


@pytest.mark.parametrize(
    "name", ["file:plain.mp4", "concat:a|b.mp4", "http:x.mp4", "subfile,,start,0,end,9,,:x.mp4", "-.mp4"]
)
def test_a_name_that_looks_like_a_protocol_is_a_name(clips, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(clips("plain.mp4").read_bytes())
    footage = open_footage(name)
    assert len(list(read_frames(footage))) == footage.packets == 50


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{clip}\n#EXT-X-ENDLIST\n"),
        ("list.mp4", "ffconcat version 1.0\nfile '{clip}'\n"),
        ("list.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"),
        ("list.mpd", '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period/></MPD>\n'),
    ],
)
def test_no_list_of_other_files_is_footage(clips, tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text.format(clip=clips("plain.ts")))
    assert "this is a playlist, not a video" in refusal(path)


def test_a_pattern_of_picture_names_is_not_followed(tmp_path):
    import cv2

    for i in range(1, 4):
        cv2.imwrite(str(tmp_path / f"shot{i}.jpg"), np.zeros((32, 32, 3), np.uint8))
    (tmp_path / "shot%d.jpg").write_bytes((tmp_path / "shot1.jpg").read_bytes())
    assert "a still picture" in refusal(tmp_path / "shot%d.jpg")


def test_later_pictures_that_are_larger_take_no_more_memory_than_the_first(tmp_path, clip_writer):
    """The decoder's pictures are brought to the size of the first, whose memory decides how many are held."""
    small = clip_writer(tmp_path / "small.h264", [np.full((64, 96, 3), 90, np.uint8)] * 3)
    large = clip_writer(tmp_path / "large.h264", [np.full((640, 960, 3), 90, np.uint8)] * 3)
    path = tmp_path / "grows.h264"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    footage = open_footage(path)
    frames = list(read_frames(footage))
    assert len(frames) == footage.packets == 6
    for frame in frames:
        assert (frame._image.width, frame._image.height) == (96, 64)
        assert frame.rgb().shape == (64, 96, 3)
        assert abs(int(frame.rgb().mean()) - 90) <= 2
