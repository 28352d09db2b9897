"""Rendered files: decoded again, frame by frame."""

from __future__ import annotations

import hashlib
import itertools
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from faceline.errors import FacelineError
from faceline.made import landmarks as lm
from faceline.made.render import Tile, frame_times, frames, render, render_once, truth_path
from faceline.made.script import Confound, Person, Script, short_test_script
from faceline.made.truth import Truth

TINY = Script(duration_s=0.6, tile_width_px=160, tile_height_px=160)


def decode(path: Path) -> list[tuple[Fraction, np.ndarray]]:
    """(presentation time, RGB) of every frame."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [(frame.pts * stream.time_base, frame.to_ndarray(format="rgb24")) for frame in container.decode(stream)]


def digest(path: Path) -> str:
    sha = hashlib.sha256()
    for time_s, rgb in decode(path):
        sha.update(repr(time_s).encode() + rgb.tobytes())
    return sha.hexdigest()


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> tuple[Script, Path, Truth]:
    script = short_test_script()
    path = tmp_path_factory.mktemp("made") / "short.mp4"
    return script, path, render(script, path)


def test_short_clip_has_the_declared_frames(short: tuple[Script, Path, Truth]) -> None:
    script, path, truth = short
    decoded = decode(path)
    assert len(decoded) == truth.frames == 125
    assert [time_s for time_s, _ in decoded] == [Fraction(k, 25) for k in range(125)]
    assert decoded[0][1].shape == (320, 320, 3) == (truth.height_px, truth.width_px, 3)
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.duration / av.time_base == pytest.approx(script.duration_s, abs=0.05)
    assert truth == Truth.load(truth_path(path))


def test_truth_repeats_the_script(short: tuple[Script, Path, Truth]) -> None:
    script, path, truth = short
    (burst,) = truth.bursts
    assert (burst.kind, burst.person, burst.start_s, burst.apex_s, burst.end_s) == ("mouth_open", 1, 2.0, 2.5, 3.1)
    assert truth.footage == path.name and truth.script_sha256 == script.digest and truth.seed == script.seed
    assert "public domain" in truth.persons[0].credit


def test_true_times_are_the_times_of_the_pixels(short: tuple[Script, Path, Truth]) -> None:
    """The mouth's dark area, measured in the decoded frames alone, rises and falls when the truth says so."""
    _, path, truth = short
    (burst,) = truth.bursts
    tile = Tile(short_test_script(), 1)
    marks = tile.puppet.landmarks_at({})
    low = marks[[*lm.INNER_LIP_UPPER, lm.CHIN]].min(axis=0).astype(int)
    high = marks[[*lm.INNER_LIP_UPPER, lm.CHIN]].max(axis=0).astype(int)
    decoded = decode(path)
    dark = np.array([(rgb[low[1] : high[1], low[0] : high[0]].max(axis=2) < 75).mean() for _, rgb in decoded])
    times = np.array([float(time_s) for time_s, _ in decoded])
    usual = np.median(dark)
    half = usual + 0.5 * (np.percentile(dark, 98) - usual)
    above = times[dark > half]
    onset, offset = burst.start_s + 0.1, burst.end_s - 0.15  # half-way points of rise (0.2 s) and fall (0.3 s)
    assert abs(above.min() - onset) < 0.1
    assert abs(above.max() - offset) < 0.1
    assert abs(times[dark > usual + 0.85 * (dark.max() - usual)].mean() - burst.apex_s) < 0.1


def test_same_script_same_frames(tmp_path: Path) -> None:
    script = TINY.model_copy(update={"persons": (Person(), Person(portrait="commodore"))})
    digests = set()
    for k, threads in enumerate((1, 2, 3)):
        render(script, tmp_path / f"{k}.mp4", threads=threads)
        digests.add(digest(tmp_path / f"{k}.mp4"))
    assert len(digests) == 1
    render(script.model_copy(update={"seed": 2}), tmp_path / "other.mp4")
    assert digest(tmp_path / "other.mp4") not in digests


def test_frames_are_drawn_one_by_one() -> None:
    """An hour is not rendered before its first frame is handed out."""
    long = TINY.model_copy(update={"duration_s": 3600.0})
    taken = list(itertools.islice(frames(long), 2))
    assert [time_s for time_s, _ in taken] == [0, Fraction(1, 25)]
    assert taken[0][1].shape == (160, 160, 3)


def test_persons_stand_side_by_side(tmp_path: Path) -> None:
    script = TINY.model_copy(update={"duration_s": 0.2, "persons": (Person(), Person(portrait="commodore"))})
    truth = render(script, tmp_path / "pair.mp4")
    assert [person.box_px for person in truth.persons] == [(0, 0, 160, 160), (160, 0, 160, 160)]
    picture = decode(tmp_path / "pair.mp4")[0][1]
    alone = next(iter(frames(script)))[1]
    assert picture.shape == (160, 320, 3)
    assert np.abs(picture.astype(int) - alone).mean() < 8


def test_dropped_frames_keep_their_true_times(tmp_path: Path) -> None:
    script = TINY.model_copy(update={"duration_s": 1.0, "timing": "dropped", "first_pts_s": 1.5})
    script = Script.model_validate(
        script.model_dump() | {"bursts": [{"kind": "frown", "start_s": 0.1, "hold_s": 0.0, "offset_s": 0.1}]}
    )
    for suffix in ("mp4", "mkv"):
        truth = render(script, tmp_path / f"vfr.{suffix}")
        times = [time_s for time_s, _ in decode(tmp_path / f"vfr.{suffix}")]
        expected = [time_s + Fraction(3, 2) for time_s in frame_times(script)]
        assert len(times) == len(expected) == truth.frames == 25 - 7
        assert max(abs(float(a - b)) for a, b in zip(times, expected, strict=True)) <= 0.0006
        assert {round(float(b - a), 2) for a, b in itertools.pairwise(times)} == {0.04, 0.12}
        assert truth.bursts[0].start_s == pytest.approx(1.6)


def test_footage_is_reused_only_for_the_same_script(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    first, new = render_once(TINY, path)
    assert new
    stamp = path.stat().st_mtime_ns
    assert render_once(TINY, path) == (first, False)
    assert path.stat().st_mtime_ns == stamp
    other, new = render_once(TINY.model_copy(update={"seed": 9}), path)
    assert new and other.seed == 9
    assert Truth.load(truth_path(path)).seed == 9


def test_an_interrupted_rendering_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"

    def stop(done: int, total: int) -> None:
        if done == total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render(TINY, path, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_every_frame(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    render(TINY, tmp_path / "clip.mp4", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(k, 15) for k in range(1, 16)]


def test_a_broken_truth_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.truth.json").write_text("{}")
    with pytest.raises(FacelineError, match="is not a truth file"):
        Truth.load(tmp_path / "x.truth.json")
    with pytest.raises(FacelineError, match="cannot be read"):
        Truth.load(tmp_path / "y.truth.json")


@pytest.mark.parametrize("kind", ["light", "turn", "blur", "occlusion", "zoom", "cut", "leave"])
def test_confounds_are_seen_while_they_last_and_only_then(kind: str) -> None:
    still = Person(talking_share=0, blinks_per_min=0, sway=0)
    base = Script(duration_s=4.0, tile_width_px=160, tile_height_px=160, persons=(still,), noise=0.0)
    confound = Confound.model_validate({"kind": kind, "start_s": 1.0, "end_s": 3.0, "strength": 1.0})
    with_it, without = Tile(base.model_copy(update={"confounds": (confound,)}), 1), Tile(base, 1)
    for time_s, seen in ((0.5, False), (2.0, True), (3.5, False)):
        difference = np.abs(with_it.at(time_s, 3).astype(int) - without.at(time_s, 3)).mean()
        assert (difference > 2) == seen
    at, usual = with_it.at(2.0, 3).astype(float), without.at(2.0, 3).astype(float)
    if kind == "light":
        assert at.mean() < 0.75 * usual.mean()
    elif kind == "blur":
        assert np.abs(np.diff(at, axis=1)).mean() < 0.55 * np.abs(np.diff(usual, axis=1)).mean()
    elif kind == "leave":
        marks = with_it.landmarks_at(2.0)
        assert marks[:, 0].max() < 0
    elif kind == "zoom":
        span = [np.ptp(tile.landmarks_at(2.0)[:, 0]) for tile in (without, with_it)]
        assert span[1] == pytest.approx(1.5 * span[0])
    elif kind == "occlusion":
        x, y = np.rint(without.landmarks_at(2.0)[14]).astype(int)
        assert np.abs(at - usual)[y - 4 : y + 12, x - 8 : x + 9].mean() > 40


def test_only_the_named_person_is_confounded() -> None:
    still = Person(talking_share=0, blinks_per_min=0, sway=0)
    confounds = (Confound(kind="light", start_s=0.5, end_s=3.0, person=2),)
    script = Script(
        duration_s=4.0, tile_width_px=160, tile_height_px=160, persons=(still, still), confounds=confounds, noise=0.0
    )
    first, second = Tile(script, 1).at(2.0, 0), Tile(script, 2).at(2.0, 0)
    assert second.mean() < 0.85 * first.mean()


def test_noise_has_the_declared_strength() -> None:
    still = Person(talking_share=0, blinks_per_min=0, sway=0)
    script = Script(duration_s=1.0, tile_width_px=160, tile_height_px=160, persons=(still,), noise=3.0)
    tile = Tile(script, 1)
    difference = tile.at(0.5, 1).astype(float) - tile.at(0.5, 2)
    assert difference.std() / np.sqrt(2) == pytest.approx(3.0, rel=0.15)
