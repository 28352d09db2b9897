"""A drive that stumbles while footage is read: no damage of the file, and never the end of an analysis."""

from __future__ import annotations

import errno
import itertools
import pickle
from pathlib import Path
from types import SimpleNamespace

import av
import pytest

from faceline import decoding, reading, unsteady, video
from faceline.containers import demuxed, open_container
from faceline.errors import FootageChangedError, FootageError, FootageUnreadableError
from faceline.video import open_footage, read_frames
from tasks.states import can_pass

TWICE = "did not read the same twice"


def stumble():
    return av.error.FFmpegError(errno.EIO, "Input/output error")


@pytest.fixture(scope="module")
def clip(clips) -> Path:
    """100 pictures, a keyframe every ten."""
    return clips("steady.mkv", count=100, options={"g": "10", "bf": "0"})


@pytest.fixture
def stumbling(monkeypatch):
    """Has the demuxer fail after so many packets: the first time only, or each time."""

    def strike(module, after: int, *, always: bool, error: Exception | None) -> list[int]:
        calls: list[int] = []

        def struck(*given):
            calls.append(after)
            packets = demuxed(*given)
            if len(calls) > 1 and not always:
                yield from packets
                return
            yield from itertools.islice(packets, after)
            if error is not None:
                raise error

        monkeypatch.setattr(module, "demuxed", struck)
        return calls

    return strike


@pytest.fixture
def unreadable(monkeypatch):
    """Reading the bytes themselves fails, after they were hashed."""

    def fail(file, name):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(unsteady, "hashlib", SimpleNamespace(file_digest=fail))


def test_opening_believes_an_error_that_comes_again(clip, stumbling):
    stumbling(video, 60, always=True, error=stumble())
    footage = open_footage(clip)
    assert footage.packets == 60
    assert footage.damage.reason == "reading the container failed: Input/output error"


def test_opening_does_not_believe_an_error_that_passes(clip, stumbling):
    stumbling(video, 60, always=False, error=stumble())
    with pytest.raises(FootageUnreadableError, match=rf"{TWICE} \(once an error: Input/output error\)") as caught:
        open_footage(clip)
    assert can_pass(pickle.loads(pickle.dumps(caught.value))), "worth another try at once"  # noqa: S301


def test_opening_believes_no_error_of_a_file_whose_bytes_cannot_be_read(clip, stumbling, unreadable):
    stumbling(video, 60, always=True, error=stumble())
    with pytest.raises(FootageUnreadableError, match=r"cannot be read \(Input/output error\); check the drive"):
        open_footage(clip)


def test_no_footage_is_refused_for_an_error_that_passes(clip, monkeypatch):
    failures = [stumble(), stumble()]

    def fail(*given, **named):
        if failures:
            raise failures.pop()
        return open_container(*given, **named)

    monkeypatch.setattr(video, "open_container", fail)
    with pytest.raises(FootageError, match="this is not a video that can be read") as caught:
        open_footage(clip)
    assert not isinstance(caught.value, FootageUnreadableError), "it said so twice"
    failures.append(stumble())
    with pytest.raises(FootageUnreadableError, match=TWICE):
        open_footage(clip)


def test_whole_footage_is_read_once(clip, monkeypatch):
    monkeypatch.setattr(video, "check_readable", lambda *_: pytest.fail("read again"))
    monkeypatch.setattr(reading, "check_readable", lambda *_: pytest.fail("read again"))
    footage = open_footage(clip)
    for segment in footage.segments(1.3):
        list(read_frames(footage, segment))


@pytest.mark.parametrize("error", [stumble(), None], ids=["an error", "a silent end"])
def test_reading_does_not_believe_an_end_that_passes(clip, stumbling, error):
    footage = open_footage(clip)
    stumbling(reading, 60, always=False, error=error)
    met = "an error: Input/output error" if error else "the end"
    with pytest.raises(FootageUnreadableError, match=rf"{TWICE} \(once {met} after 60 pictures\)"):
        list(read_frames(footage))


def test_reading_believes_an_end_that_comes_again(clip, stumbling):
    footage = open_footage(clip)
    calls = stumbling(reading, 60, always=True, error=stumble())
    reader = read_frames(footage)
    assert [frame.index for frame in reader] == list(range(60))
    assert len(calls) == 2
    assert reader.damage.reason.startswith("reading the container failed")


def test_reading_believes_no_end_of_a_file_whose_bytes_cannot_be_read(clip, stumbling, unreadable):
    footage = open_footage(clip)
    stumbling(reading, 60, always=True, error=stumble())
    with pytest.raises(FootageUnreadableError, match="cannot be read"):
        list(read_frames(footage))


def test_an_end_that_was_met_on_opening_costs_no_second_reading(clip, stumbling):
    stumbling(video, 60, always=True, error=stumble())
    footage = open_footage(clip)
    calls = stumbling(reading, 60, always=True, error=stumble())
    assert [frame.index for frame in read_frames(footage)] == list(range(60))
    assert len(calls) == 1


def test_a_packet_cut_short_is_believed_once_it_is_so_again(clip, monkeypatch):
    footage = open_footage(clip)
    torn = iter([*[False] * 30, True, *[False] * 1000])
    monkeypatch.setattr(decoding, "is_torn", lambda packet, container: next(torn))
    with pytest.raises(FootageUnreadableError, match=rf"{TWICE} \(once a torn packet after 31 pictures\)"):
        list(read_frames(footage))
    monkeypatch.setattr(decoding, "is_torn", lambda packet, container: packet.pts == 30 * 40)
    reader = read_frames(footage)
    assert [frame.index for frame in reader][29:31] == [29, 40]
    assert reader.damage.reason == "the container holds a torn packet"


def test_bytes_that_are_others_now_are_a_change(clip):
    with pytest.raises(FootageChangedError, match="changed while it was read"):
        unsteady.check_readable(clip, "0" * 64)
