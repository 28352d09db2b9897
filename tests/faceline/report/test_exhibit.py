"""The source frame of an event: the very frame, or one line that says why not."""

from __future__ import annotations

import io
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from faceline.errors import FacelineError, FootageChangedError, FootageError, UsageError
from faceline.report import exhibit
from faceline.report.exhibit import find_event, marked_png, source_frame
from faceline.video import open_footage
from tests.faceline.conftest import number_in
from tests.faceline.report.chain import Chain


def test_it_is_the_frame_that_the_tables_name(kept: Chain) -> None:
    footage = open_footage(kept.footage)
    for rank in (1, 2):
        place = find_event(kept.folder, rank)
        frame = source_frame(footage, place, 60)
        assert number_in(frame.rgb()) == frame.index == place.frame == int(place.event.values["frame"])
        assert float(frame.time_s) == pytest.approx(place.time_s, abs=1e-6)
        lines = (kept.folder / place.face.table).read_text().splitlines()
        assert lines[place.face.number].split(",")[0] == str(place.frame)


def test_an_event_that_is_not_there(kept: Chain) -> None:
    with pytest.raises(UsageError, match="no event of rank 9; there are 1, 2"):
        find_event(kept.folder, 9)


def test_tables_that_do_not_fit_are_told(kept: Chain) -> None:
    table = kept.folder / find_event(kept.folder, 1).face.table
    table.write_text(table.read_text().splitlines()[0] + "\n")
    with pytest.raises(FacelineError, match="the tables do not say where event 1 is"):
        find_event(kept.folder, 1)
    table.unlink()
    with pytest.raises(FacelineError, match="cannot be read as a table"):
        find_event(kept.folder, 1)


def test_a_frame_at_another_time_is_refused(kept: Chain) -> None:
    place = find_event(kept.folder, 1)
    with pytest.raises(FootageError, match=r"frame 108 is shown at 00:00:03\.600, the table says 00:00:03\.700"):
        source_frame(open_footage(kept.footage), replace(place, time_s=3.7), 60)
    with pytest.raises(FootageError, match="frame 5000 cannot be decoded"):
        source_frame(open_footage(kept.footage), replace(place, frame=5000), 60)


def test_footage_that_changes_or_takes_too_long(kept: Chain, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(kept.footage.read_bytes())
    footage, place = open_footage(copy), find_event(kept.folder, 1)
    monkeypatch.setattr(exhibit, "_decode", lambda *given: time.sleep(0.5))
    with pytest.raises(FootageError, match=r"was not decoded within 0\.05 s"):
        source_frame(footage, place, 0.05)
    monkeypatch.undo()
    copy.write_bytes(kept.footage.read_bytes()[:-1] + b"x")
    with pytest.raises(FootageChangedError):
        source_frame(footage, place, 60)


@pytest.mark.parametrize("box", [(30.0, 20.0, 40.0, 30.0), (-10.0, -10.0, 30.0, 30.0), (80.5, 50.5, 100.0, 100.0)])
def test_the_box_is_drawn_around_the_face_and_nothing_else_is_touched(box: tuple[float, ...]) -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    png = marked_png(rgb, box, {"SHA-256": "ab", "event": "≥ +12"})  # type: ignore[arg-type]
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.text == {"SHA-256": "ab", "event": "≥ +12"}  # type: ignore[attr-defined]
        drawn = np.asarray(picture)
    changed = (drawn != rgb).any(axis=2)
    assert changed.any()
    x, y, w, h = (round(value) for value in (box[0], box[1], box[2], box[3]))
    assert not changed[max(0, y) : y + h, max(0, x) : x + w].any()
    outside = np.ones_like(changed)
    outside[max(0, y - 4) : y + h + 5, max(0, x - 4) : x + w + 5] = False
    assert not changed[outside].any()
