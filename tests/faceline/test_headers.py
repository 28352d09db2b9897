"""What headers say, beside what reading the whole file says."""

from __future__ import annotations

from pathlib import Path

import pytest

from faceline.errors import FootageError
from faceline.headers import stated_span
from faceline.video import open_footage


@pytest.mark.parametrize("name", ["plain.mp4", "plain.mkv", "plain.ts", "plain.avi", "plain.mov"])
def test_the_stated_length_is_the_real_one(clips, name: str) -> None:
    path = clips(name)
    span = stated_span(path)
    assert span is not None
    footage = open_footage(path)
    # Headers count the last picture's own time too.
    assert float(span[1] - span[0]) == pytest.approx(float(footage.duration_s), abs=1.5 / float(footage.native_fps))


def test_every_real_clip_is_cut_into_as_many_segments_as_when_it_is_read(testdata: Path) -> None:
    from fractions import Fraction

    from faceline.timeline import cut_into_segments

    seen = 0
    for path in sorted((testdata / "clips").iterdir()):
        span = stated_span(path)
        assert span is not None, path.name
        footage = open_footage(path)
        for segment_s in (Fraction(5), Fraction(75)):
            real = cut_into_segments(footage.start_s, footage.end_s, segment_s)
            # A header may count the last picture's own time, or a sound track that goes on.
            assert abs(len(cut_into_segments(*span, segment_s)) - len(real)) <= (segment_s == 5), path.name
        seen += 1
    assert seen > 40


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no video at all\n" * 100)
    with pytest.raises(FootageError, match="not a video that can be read"):
        stated_span(text)
