"""Spliced footage: real persons, their usual behaviour at length, and their own expressions at known times.

Everything is made anew from the real clips when it is wanted, and is a function of person, seed and length alone.
Pictures stream: those that a recording is made from lie in a file on disk, never all in memory.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.anomalies.morph import MeshFinder, between, part_way
from benchmarks.anomalies.plan import Event, Layout, lay_out, schedule
from benchmarks.anomalies.sources import SOURCES, Section, Source, clips_folder
from faceline.made.motion import Wander

VERSION = 1
"""Raised when the same request gives other footage than before."""

DURATION_S = 180.0
EVENTS_EACH = 4
NEAR_FRAMES = 3
"""A face hardly moves within so many frames."""

MARGIN = 1.05
"""The camera stands this much closer than the crop, so that its jitter shows no border."""


@dataclass(frozen=True)
class Request:
    """One recording: who, how long, how many events of each difficulty (0: a control), and the seed."""

    source: Source
    duration_s: float = DURATION_S
    events_each: int = EVENTS_EACH
    seed: int = 0

    @property
    def name(self) -> str:
        """File name without suffix."""
        return f"{self.source.person}_{'events' if self.events_each else 'control'}_{self.seed}"


class Spool:
    """The frames of a person's sections at working size, on disk; with their meshes where these are asked for.

    Args:
        source: the person.
        clips: the folder of clips.
        folder: where the file of pictures goes.
        find_mesh: finds the face mesh of a picture.
        expressions: whether the sections of expressions are wanted too.
    """

    def __init__(self, source: Source, clips: Path, folder: Path, find_mesh: MeshFinder, expressions: bool) -> None:
        self._find = find_mesh
        self._meshes: dict[int, np.ndarray | None] = {}
        self.times_s: dict[Section, np.ndarray] = {}
        path = folder / f"{source.person}.rgb"
        shape = (source.height_px, source.width_px, 3)
        with path.open("wb") as file:
            for section in (*source.usual, *(source.expressions if expressions else ())):
                times = []
                for time_s, rgb in _decoded(clips / section.clip, section, source):
                    file.write(np.ascontiguousarray(rgb).tobytes())
                    times.append(time_s)
                if len(times) < 2:
                    raise ValueError(f"{section.clip} has no frames from {section.start_s} to {section.end_s} s")
                self.times_s[section] = np.array(times)
        count = sum(len(times) for times in self.times_s.values())
        self._pictures = np.memmap(path, dtype=np.uint8, mode="r", shape=(count, *shape))

    def picture(self, frame: int) -> np.ndarray:
        """uint8 [h, w, 3] RGB."""
        return np.asarray(self._pictures[frame])

    def mesh(self, frame: int) -> np.ndarray | None:
        """float [478, 3] in its pixels, or None where no face is found."""
        if frame not in self._meshes:
            self._meshes[frame] = self._find(np.ascontiguousarray(self.picture(frame)))
        return self._meshes[frame]

    def mesh_about(self, frame: int) -> np.ndarray | None:
        """`mesh`, or that of the nearest frame of the section within `NEAR_FRAMES` where this one's face is missed."""
        bounds = np.cumsum([0, *(len(times) for times in self.times_s.values())])
        section = int(np.searchsorted(bounds, frame, side="right"))
        near = range(max(bounds[section - 1], frame - NEAR_FRAMES), min(bounds[section] - 1, frame + NEAR_FRAMES) + 1)
        found = (self.mesh(k) for k in sorted(near, key=lambda k: abs(k - frame)))
        return next((mesh for mesh in found if mesh is not None), None)


def _decoded(path: Path, section: Section, source: Source) -> Iterator[tuple[float, np.ndarray]]:
    """(presentation time, uint8 [h, w, 3] at working size) of a section's frames."""
    import av
    import cv2

    x, y, width, height = source.crop_px
    shrinks = height > source.height_px
    with av.open(str(path)) as container:
        for frame in container.decode(container.streams.video[0]):
            if frame.time is None or frame.time < section.start_s - 1e-6:
                continue
            if frame.time > section.end_s + 1e-6:
                return
            rgb = frame.to_ndarray(format="rgb24")[y : y + height, x : x + width]
            size = (source.width_px, source.height_px)
            yield frame.time, cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


class Camera:
    """A hand that is never quite still, and light that drifts a little: a function of time, from the seed."""

    def __init__(self, source: Source, seed: int) -> None:
        rng = np.random.default_rng([seed, 2, *source.person.encode()])
        self._size = (source.width_px, source.height_px)
        self._x, self._y, self._roll, self._zoom = (Wander.draw(rng, 0.05, 0.8) for _ in range(4))
        self._light = Wander.draw(rng, 0.02, 0.2)

    def apply(self, rgb: np.ndarray, time_s: float) -> np.ndarray:
        """The picture as seen, uint8 [h, w, 3]."""
        import cv2

        width, height = self._size
        zoom = MARGIN * (1 + 0.004 * self._zoom.at(time_s))
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), 0.25 * self._roll.at(time_s), zoom)
        matrix[:, 2] += 0.004 * height * np.array([self._x.at(time_s), self._y.at(time_s)])
        seen = cv2.warpAffine(rgb, matrix, self._size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return cv2.convertScaleAbs(seen, alpha=1 + 0.012 * self._light.at(time_s))


def compose(spool: Spool, layout: Layout, frame: int) -> np.ndarray:
    """One frame before the camera, uint8 [h, w, 3]."""
    base, other = int(layout.base[frame]), int(layout.other[frame])
    if other < 0:
        return spool.picture(base)
    a, b, weight = spool.picture(base), spool.picture(other), float(layout.weight[frame])
    if layout.carried[frame]:
        mesh_a, mesh_b = spool.mesh_about(base), spool.mesh_about(other)
        if mesh_a is None or mesh_b is None:
            raise ValueError(f"no face mesh in source frame {base if mesh_a is None else other}")
        return part_way(a, b, mesh_a, mesh_b, weight)
    return between(a, b, spool.mesh(base), spool.mesh(other), weight)


def splice(request: Request, clips: Path, folder: Path, find_mesh: MeshFinder) -> Path:
    """Write ``<name>.mp4`` and, last, ``<name>.truth.json`` into a folder; returns the video's path.

    What was made from the same request before is left as it is.
    """
    import av

    video = folder / f"{request.name}.mp4"
    truth_path = folder / f"{request.name}.truth.json"
    asked = {"version": VERSION, "request": json.loads(json.dumps(asdict(request)))}
    if video.is_file() and truth_path.is_file():
        made = json.loads(truth_path.read_text(encoding="utf-8"))
        if _pictured({key: made.get(key) for key in asked}) == _pictured(asked):
            whose = {"unit": request.source.unit, "split": request.source.split}
            if made != made | asked | whose:
                truth_path.write_text(json.dumps(made | asked | whose, indent=1) + "\n", encoding="utf-8")
            return video
    folder.mkdir(parents=True, exist_ok=True)
    truth_path.unlink(missing_ok=True)
    source = request.source
    events = schedule(source, request.duration_s, request.events_each, request.seed)
    draft = video.with_name(f".{video.stem}.part.mp4")
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".spool-") as scratch:
            spool = Spool(source, clips, Path(scratch), find_mesh, expressions=bool(events))
            layout = lay_out(source, events, spool.times_s, request.duration_s, request.seed)
            camera = Camera(source, request.seed)
            with av.open(str(draft), "w") as container:
                stream = container.add_stream("libx264", rate=source.fps)
                stream.width, stream.height, stream.pix_fmt = source.width_px, source.height_px, "yuv420p"
                # One encoder thread: x264's decisions, and so the decoded frames, depend on the number of threads.
                stream.options = {"crf": "21", "preset": "superfast", "threads": "1"}
                for k in range(len(layout.base)):
                    seen = camera.apply(compose(spool, layout, k), k / source.fps)
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(seen, format="rgb24")))
                container.mux(stream.encode())
        draft.replace(video)
    finally:
        draft.unlink(missing_ok=True)
    truth = asked | truth_of(request, events, layout)
    truth_path.write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")
    return video


def _pictured(asked: dict[str, Any]) -> dict[str, Any]:
    """What was asked for, without what changes no picture."""
    request = asked["request"] or {}
    source = {k: v for k, v in request.get("source", {}).items() if k not in ("note", "perhaps", "split")}
    return asked | {"request": {**request, "source": source}}


def truth_of(request: Request, events: tuple[Event, ...], layout: Layout) -> dict[str, object]:
    """What is true of a recording, as JSON: all times in seconds of presentation time."""
    source = request.source
    return {
        "footage": f"{request.name}.mp4",
        "person": source.person,
        "unit": source.unit,
        "split": source.split,
        "duration_s": len(layout.base) / source.fps,
        "usual_s": round(source.usual_s, 3),
        "events": [
            {
                "start_s": event.start_s,
                "apex_s": event.apex_s,
                "end_s": event.end_s,
                "kind": event.section.kind,
                "difficulty": event.difficulty,
                "way": event.way,
                "strength": event.strength,
                "person": source.person,
                "source": {
                    "clip": event.section.clip,
                    "start_s": event.section.start_s,
                    "end_s": event.section.end_s,
                },
            }
            for event in events
        ],
        "jumps_s": list(layout.jumps_s),
    }


def all_requests(
    duration_s: float = DURATION_S, events_each: int = EVENTS_EACH, seeds: tuple[int, ...] = (0,)
) -> list[Request]:
    """Every recording of the benchmark: of each person with expressions one with events and one control, each seed;
    of each person without, one control."""
    requests = []
    for source in SOURCES:
        for seed in seeds:
            if source.expressions:
                requests.append(Request(source, duration_s, events_each, seed))
            # Half as long: a recording with events shows as much of the usual again.
            requests.append(Request(source, duration_s / 2 if source.expressions else duration_s, 0, seed))
    return requests


def main(argv: list[str] | None = None) -> int:
    """``python -m benchmarks.anomalies.splice FOLDER [PERSON …]``"""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("persons", nargs="*", help="all when none is named")
    parser.add_argument("--duration", type=float, default=DURATION_S)
    parser.add_argument("--events-each", type=int, default=EVENTS_EACH)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    args = parser.parse_args(argv)
    clips = clips_folder()
    if clips is None:
        raise SystemExit("the real clips are not here: set FACELINE_TESTDATA to the folder that holds clips/")
    from benchmarks.anomalies.meshes import NetworkMesh

    find_mesh = NetworkMesh()
    for request in all_requests(args.duration, args.events_each, tuple(args.seeds)):
        if not args.persons or request.source.person in args.persons:
            print(splice(request, clips, args.folder, find_mesh))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
