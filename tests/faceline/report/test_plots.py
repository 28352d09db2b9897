"""The PNG plots: complete, not blank, legible sizes, same bytes for the same input, honest about gaps."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import matplotlib
import numpy as np
import pytest
from PIL import Image

from faceline.report import plots
from faceline.report.findings import EMOTIONS, Findings, load
from tests.faceline.report import factory

KINDS = ("score", "emotions", "components", "expression", "trials")


@pytest.fixture(scope="module")
def findings() -> Findings:
    script = factory.Script(
        length_s=30,
        persons=(((0, 12), (15, 30)), ((5, 20),)),
        events=((1, 8, 9), (2, 10, 11)),
        unknown_every=19,
        no_crop_every=17,
        damaged_at_s=29.0,
        pictures=False,
    )
    return load(factory.make(script))


def _pixels(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as picture:
        picture.verify()
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def _draw(findings: Findings, dpi: int = 60) -> Iterator[tuple[str, bytes]]:
    return plots.draw(findings, (0.0, 30.0), "clip", dpi, findings.persons)


def test_every_person_has_every_plot_and_none_is_blank(findings: Findings) -> None:
    drawn = dict(_draw(findings))
    assert set(drawn) == {"overview.png", *(f"person_{n}_{kind}.png" for n in (1, 2) for kind in KINDS)}
    for name, png in drawn.items():
        pixels = _pixels(png)
        assert pixels.shape[1] == 660, name
        inked = (pixels < 200).any(axis=2).mean()
        assert inked > 0.005, name


def test_same_input_same_bytes_and_no_date(findings: Findings) -> None:
    first = next(_draw(findings))[1]
    assert first == next(_draw(findings))[1]
    with Image.open(io.BytesIO(first)) as picture:
        picture.load()
        assert set(picture.text) == {"Source"}
        assert picture.info["dpi"] == pytest.approx((60, 60), abs=0.1)


def test_threads_draw_the_same_and_leave_matplotlib_as_it_was(findings: Findings) -> None:
    settings = dict(matplotlib.rcParams)
    alone = dict(_draw(findings))
    with ThreadPoolExecutor(4) as pool:
        together = [job.result() for job in [pool.submit(lambda: dict(_draw(findings))) for _ in range(4)]]
    assert all(drawn == alone for drawn in together)
    assert dict(matplotlib.rcParams) == settings


@pytest.mark.parametrize("name", ["price $5 $6", "a\nb\x00c", "面接.mp4", "x" * 500])
def test_any_name_of_footage_can_be_drawn(findings: Findings, name: str) -> None:
    _, png = next(plots.draw(findings, (0.0, 30.0), name, 50, ()))
    assert _pixels(png).any()


def _blue_columns(png: bytes, span: tuple[float, float]) -> np.ndarray:
    """Times of the pixel columns in which the series' colour occurs."""
    pixels = _pixels(png).astype(int)
    blue = np.abs(pixels - np.array([0, 0x72, 0xB2])).max(axis=2) < 40
    columns = np.flatnonzero(blue.any(axis=0))
    width = pixels.shape[1]
    left, right = width * 1.75 / 11, width * (1 - 0.75 / 11)
    pad = (span[1] - span[0]) * 0.005
    return span[0] - pad + (columns + 0.5 - left) / (right - left) * (span[1] - span[0] + 2 * pad)


def test_no_line_crosses_a_gap() -> None:
    script = factory.Script(length_s=30, persons=(((0, 10), (20, 30)),), events=(), pictures=False)
    drawn = dict(plots.draw(load(factory.make(script)), (0.0, 30.0), "clip", 100, (1,)))
    at_s = _blue_columns(drawn["person_1_score.png"], (0.0, 30.0))
    assert at_s.min() < 0.2 and at_s.max() > 29.7
    assert not ((at_s > 10.1) & (at_s < 19.9)).any()
    seen = at_s[(at_s < 10)]
    assert len(seen) > 200


def test_a_face_without_neighbours_is_a_dot() -> None:
    script = factory.Script(length_s=30, persons=(((0, 5), (15, 15.05)),), events=(), pictures=False)
    drawn = dict(plots.draw(load(factory.make(script)), (0.0, 30.0), "clip", 100, (1,)))
    at_s = _blue_columns(drawn["person_1_score.png"], (0.0, 30.0))
    assert ((at_s > 14.8) & (at_s < 15.2)).any()


def test_nobody_gives_an_overview_that_says_so() -> None:
    findings = load(factory.empty())
    drawn = dict(plots.draw(findings, (0.0, 3.0), "clip", 60, findings.persons))
    assert set(drawn) == {"overview.png"}
    assert (_pixels(drawn["overview.png"]) < 200).any()


def test_what_has_nothing_to_show_is_not_drawn() -> None:
    script = factory.Script(length_s=3, persons=(((0, 3),),), events=(), no_crop_every=1, pictures=False)
    findings = load(factory.make(script))
    assert plots.drawable(findings, 1) == ("components", "trials")
    drawn = dict(plots.draw(findings, (0.0, 3.0), "clip", 50, findings.persons))
    assert set(drawn) == {"overview.png", "person_1_components.png", "person_1_trials.png"}


def test_a_threshold_far_above_the_scores_does_not_flatten_them() -> None:
    def height(threshold: float) -> int:
        script = factory.Script(length_s=10, persons=(((0, 10),),), events=(), threshold=threshold, pictures=False)
        png = dict(plots.draw(load(factory.make(script)), (0.0, 10.0), "clip", 60, (1,)))["person_1_score.png"]
        blue = np.abs(_pixels(png).astype(int) - np.array([0, 0x72, 0xB2])).max(axis=2) < 40
        rows = np.flatnonzero(blue.any(axis=1))
        return int(rows[-1] - rows[0])

    assert height(80.0) > height(4.0) > 20


def test_each_strip_has_a_frame_ticks_and_a_name_of_its_own(findings: Findings) -> None:
    pixels = _pixels(dict(_draw(findings, dpi=100))["person_1_emotions.png"]).astype(int)
    dark = (pixels < 140).all(axis=2)
    left = round(1.75 * 100)
    # Seven upright gray lines with gaps between them, and left of each its name and the labels 0 and 1.
    edge = (pixels[:, left] == 0x76).all(axis=1)
    changes = np.flatnonzero(np.diff(edge.astype(int)))
    runs = [(start, end) for start, end in itertools.pairwise(changes) if edge[end] and end - start > 20]
    assert len(runs) == len(EMOTIONS)
    for start, end in runs:
        assert dark[start:end, : left - 38].any()
        for label in (start, end):
            assert dark[label - 3 : label + 3, left - 20 : left - 10].any()
    # The same marks of time below every strip.
    marks = [np.count_nonzero(np.diff(dark[end + 3, left:].astype(int)) == 1) for _, end in runs]
    assert len(set(marks)) == 1 and marks[0] > 5


def test_footage_of_one_frame_is_drawn() -> None:
    script = factory.Script(length_s=0.1, persons=(((0, 1),),), events=(), pictures=False)
    findings = load(factory.make(script))
    drawn = dict(plots.draw(findings, (0.0, 0.0), "clip", 50, findings.persons))
    assert {"overview.png", "person_1_score.png", "person_1_emotions.png"} <= set(drawn)


def test_explained_events_are_gray() -> None:
    def orange(explained: int) -> int:
        script = factory.Script(
            length_s=9, persons=(((0, 9),),), events=((1, 4, 5),), explained=explained, pictures=False
        )
        _, png = next(plots.draw(load(factory.make(script)), (0.0, 9.0), "clip", 60, ()))
        return int((np.abs(_pixels(png).astype(int) - np.array([0xD5, 0x5E, 0])).max(axis=2) < 40).sum())

    assert orange(0) > 50
    assert orange(1) == 0
