"""Render a script to an MP4 file and its truth, frame by frame."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np

from faceline.made.motion import Behaviour
from faceline.made.optics import Optics
from faceline.made.portrait import PORTRAITS
from faceline.made.puppet import Puppet
from faceline.made.script import Script
from faceline.made.truth import Truth

log = logging.getLogger(__name__)

TIME_BASE = Fraction(1, 90_000)


class Tile:
    """One person's part of the picture."""

    def __init__(self, script: Script, person: int) -> None:
        """
        Args:
            script: the whole script.
            person: 1-based number.
        """
        portrait = PORTRAITS[script.persons[person - 1].portrait]
        self.puppet = Puppet(portrait, script.tile_width_px, script.tile_height_px)
        self.behaviour = Behaviour(script, person)
        self.optics = Optics(script, person)

    def at(self, time_s: float, frame: int) -> np.ndarray:
        """The tile at an instant, uint8 [height, width, 3], RGB."""
        pose = self.behaviour.pose(time_s, self.puppet.lip_gap)
        return self.optics.apply(self.puppet.render(pose, self.behaviour.camera(time_s)), time_s, frame)

    def landmarks_at(self, time_s: float) -> np.ndarray:
        """Where the 478 landmarks are in the tile, float64 [478, 2], pixels."""
        pose = self.behaviour.pose(time_s, self.puppet.lip_gap)
        return self.puppet.landmarks_at(pose, self.behaviour.camera(time_s))


def frame_times(script: Script) -> list[Fraction]:
    """Times of the frames in seconds from the first one."""
    count = max(1, round(script.duration_s * script.fps))
    kept = range(count) if script.timing == "constant" else (k for k in range(count) if k % 7 not in (3, 4))
    return [Fraction(k, script.fps) for k in kept]


def frames(script: Script, threads: int = 2) -> Iterator[tuple[Fraction, np.ndarray]]:
    """All frames as (seconds from the first one, uint8 [height, width, 3] RGB); memory does not grow.

    Args:
        script: what to show.
        threads: how many tiles are drawn at once; has no influence on the frames.
    """
    tiles = [Tile(script, k + 1) for k in range(len(script.persons))]
    ahead: deque[tuple[Fraction, list[Future[np.ndarray]]]] = deque()
    with ThreadPoolExecutor(max(1, threads)) as pool:
        for index, time_s in enumerate(frame_times(script)):
            ahead.append((time_s, [pool.submit(tile.at, float(time_s), index) for tile in tiles]))
            # One frame is drawn while the one before it is used.
            if len(ahead) > 1:
                yield _joined(ahead.popleft())
        while ahead:
            yield _joined(ahead.popleft())


def _joined(drawn: tuple[Fraction, list[Future[np.ndarray]]]) -> tuple[Fraction, np.ndarray]:
    return drawn[0], np.concatenate([tile.result() for tile in drawn[1]], axis=1)


def render(
    script: Script, path: Path, *, threads: int = 2, progress: Callable[[int, int], None] = lambda done, total: None
) -> Truth:
    """Write the footage (H.264 in MP4 or Matroska, by suffix) and ``<stem>.truth.json`` beside it.

    Both are written to temporary siblings and renamed, the truth last, so that a truth file vouches for its footage.

    Args:
        script: what to show.
        path: the video file; its folder is made when missing.
        threads: how many tiles are drawn at once; has no influence on the frames.
        progress: called with (frames done, frames in all).

    Returns:
        The truth that was written.
    """
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    truth_path(path).unlink(missing_ok=True)
    total = len(frame_times(script))
    draft = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        with av.open(str(draft), "w") as container:
            stream = container.add_stream("libx264", rate=script.fps)
            stream.width = script.tile_width_px * len(script.persons)
            stream.height = script.tile_height_px
            stream.pix_fmt = "yuv420p"
            stream.time_base = TIME_BASE
            stream.codec_context.time_base = TIME_BASE
            # One encoder thread: x264's decisions, and so the decoded frames, depend on the number of threads.
            stream.options = {"crf": str(script.crf), "preset": "superfast", "threads": "1", "g": str(2 * script.fps)}
            for done, (time_s, rgb) in enumerate(frames(script, threads), start=1):
                frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
                frame.time_base = TIME_BASE
                frame.pts = round((time_s + Fraction(script.first_pts_s).limit_denominator(90_000)) / TIME_BASE)
                container.mux(stream.encode(frame))
                progress(done, total)
            container.mux(stream.encode())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    truth = Truth.of(script, path.name, total)
    truth_draft = truth_path(path).with_name(f".{truth_path(path).name}.part")
    truth.save(truth_draft)
    truth_draft.replace(truth_path(path))
    log.info("made %s: %d frames, %d bursts", path.name, total, len(truth.bursts))
    return truth


def render_once(
    script: Script, path: Path, *, threads: int = 2, progress: Callable[[int, int], None] = lambda done, total: None
) -> tuple[Truth, bool]:
    """`render`, unless the file was made from the same script before.

    Returns:
        The truth, and whether the footage was rendered now.
    """
    if path.is_file() and truth_path(path).is_file():
        truth = Truth.load(truth_path(path))
        if truth.script_sha256 == script.digest and truth.footage == path.name:
            return truth, False
    return render(script, path, threads=threads, progress=progress), True


def truth_path(path: Path) -> Path:
    """Where the truth of a video file lies."""
    return path.with_name(f"{path.stem}.truth.json")
