"""The source frame of an event: found in the tables, decoded from the footage, the face marked, as a PNG."""

from __future__ import annotations

import io
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from faceline.errors import FacelineError, FootageError, UsageError
from faceline.report.checking import EVENTS, Row, peak_rows, read_rows, table_of
from faceline.timeline import timecode

if TYPE_CHECKING:
    from faceline.video import Footage, Frame

_BOX_COLUMNS = ("x_px", "y_px", "w_px", "h_px")
_TIME_DIGITS_S = 1e-6
_MARK, _RIM = (255, 200, 0), (0, 0, 0)
_SIDES_PER_LINE = 360


@dataclass(frozen=True)
class Place:
    """Where an event's peak stands in the tables.

    Attributes:
        event: row of ``events.csv``.
        face: row of the person's table.
        frame: 0-based index of the frame in the footage.
        time_s: its presentation time as the table has it, to the microsecond.
        box_px: x, y, width, height of the face in the upright picture.
    """

    event: Row
    face: Row
    frame: int
    time_s: float
    box_px: tuple[float, float, float, float]


def find_event(folder: Path, rank: int) -> Place:
    """The place of the event of that rank.

    Raises:
        UsageError: there is no event of that rank.
        FacelineError: the tables cannot be read, or do not fit each other.
    """
    try:
        events = read_rows(folder, EVENTS)
        found = [event for event in events if event.values.get("rank") == str(rank)]
        if not found:
            ranks = [event.values.get("rank", "") for event in events]
            there = f"there are {', '.join(ranks[:20])}{' …' if len(ranks) > 20 else ''}" if ranks else "there are none"
            raise UsageError(f"there is no event of rank {rank}", where=str(folder / EVENTS), cure=there)
        faces = peak_rows(found[0], read_rows(folder, table_of(found[0].values.get("person", ""))))
        if len(faces) != 1:
            raise ValueError(f"the peak of event {rank} is not one row of its person's table")
        values = faces[0].values
        x, y, w, h = (float(values[name]) for name in _BOX_COLUMNS)
        return Place(found[0], faces[0], int(values["frame"]), float(values["time_s"]), (x, y, w, h))
    except (ValueError, KeyError) as error:
        raise FacelineError(f"the tables do not say where event {rank} is: {error}", where=str(folder)) from error


def source_frame(footage: Footage, place: Place, limit_s: float) -> Frame:
    """Decode the frame that an event's peak stands on.

    Args:
        footage: the footage, opened.
        place: which frame.
        limit_s: seconds after which decoding is given up: footage without an index is decoded from its beginning.

    Raises:
        FootageError: the frame cannot be decoded, not in that time, or has another time than the table says.
        FootageChangedError: the file changed meanwhile.
    """
    found: list[Frame | Exception | None] = []
    work = threading.Thread(target=_decode, args=(footage, place.frame, found), daemon=True)
    work.start()
    work.join(limit_s)
    footage.check_unchanged()
    where = str(footage.path)
    if not found:
        raise FootageError(f"frame {place.frame} was not decoded within {limit_s:g} s", where=where)
    frame = found[0]
    if isinstance(frame, Exception):
        raise frame
    if frame is None:
        raise FootageError(f"frame {place.frame} cannot be decoded", where=where, cure="the footage is damaged there")
    if abs(round(float(frame.time_s), 6) - place.time_s) > _TIME_DIGITS_S:
        raise FootageError(
            f"frame {place.frame} is shown at {timecode(frame.time_s)}, the table says {timecode(place.time_s)}",
            where=where,
            cure="another version of FFmpeg counts its frames in another way",
        )
    return frame


def _decode(footage: Footage, index: int, found: list[Frame | Exception | None]) -> None:
    from faceline.video import read_frames

    try:
        with read_frames(footage, wanted=frozenset({index})) as reader:
            found.append(next((frame for frame in reader if frame.index == index), None))
    except Exception as error:
        found.append(error)


def marked_png(rgb: np.ndarray, box_px: tuple[float, float, float, float], words: dict[str, str]) -> bytes:
    """A picture with a box drawn around (not over) a face, as PNG.

    Args:
        rgb: uint8 [H, W, 3], RGB.
        box_px: x, y, width, height.
        words: keyword → text, kept in the file (PNG ``iTXt``).
    """
    from PIL import Image, ImageDraw, PngImagePlugin

    picture = Image.fromarray(rgb)
    draw = ImageDraw.Draw(picture)
    width_px = max(1, round(min(rgb.shape[:2]) / _SIDES_PER_LINE))
    x, y, w, h = box_px
    for out_px, colour in ((3, _RIM), (2, _MARK), (1, _RIM)):
        grown = out_px * width_px
        edges = (round(x) - grown, round(y) - grown, round(x + w) + grown, round(y + h) + grown)
        draw.rectangle(edges, outline=colour, width=width_px)
    info = PngImagePlugin.PngInfo()
    for keyword, text in words.items():
        info.add_itxt(keyword, text)
    out = io.BytesIO()
    picture.save(out, "PNG", pnginfo=info)
    return out.getvalue()
