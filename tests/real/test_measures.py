"""Measures and scores on real clips whose expressions were noted by eye: the right ones move, the others stay."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from faceline.alignment import ALIGN
from faceline.detection import DETECT
from faceline.emotion import EMOTE
from faceline.measures import MEASURE_NAMES, MEASURES
from faceline.sampling import SAMPLE
from faceline.stage import MemoryInputs, Runtime, collect
from faceline.video import open_footage
from faceline.weights import resolve

pytestmark = [pytest.mark.real, pytest.mark.models]


@cache  # two tests look at one of the clips
def expressions(clip: Path, fps: float = 10) -> pd.DataFrame:
    """Expressions of a clip with one face, by time from its start."""
    footage = open_footage(clip)
    models = {role: resolve(role) for role in ("detector", "landmarks", "emotion")}
    payloads: dict[tuple[str, str], Any] = {}
    for stage in (SAMPLE, DETECT, ALIGN, EMOTE):
        params = stage.params(fps=fps) if stage is SAMPLE else stage.params()
        given = MemoryInputs(payloads, footage, footage.segments(300)[0], models)
        payloads |= {
            (stage.name, name): value for name, value in collect(stage.compute(params, given, Runtime())).items()
        }
    table = payloads["emote", "expressions"].to_pandas()
    assert (table.measures_state == "ok").mean() > 0.95
    return table.assign(time_s=table.time_s - float(footage.start_s))


def during(table: pd.DataFrame, start_s: float, end_s: float) -> pd.DataFrame:
    return table[(table.time_s >= start_s) & (table.time_s <= end_s)]


def test_a_smile(testdata: Path) -> None:
    table = expressions(testdata / "clips" / "pyfeat_single_face.mp4")
    neutral, smile = during(table, 0, 0.45), during(table, 0.9, 2.1)
    assert smile.mouth_width.min() > neutral.mouth_width.max() + 0.15
    for name in ("corner_lift_left", "corner_lift_right", "mouth_curve"):
        assert smile[name].min() > neutral[name].max() + 0.04, name
    for name in ("cheek_raise_left", "cheek_raise_right"):
        assert smile[name].median() > neutral[name].median() + 0.03, name
    assert smile.happy.min() > 0.9 and neutral.happy.max() < 0.2
    # The brows have no part in it.
    assert abs(smile.brow_outer_left.median() - neutral.brow_outer_left.median()) < 0.03


def test_a_wide_open_mouth(testdata: Path) -> None:
    table = expressions(testdata / "clips" / "lp_d18.mp4")
    neutral, wide = during(table, 0, 0.4), during(table, 2.4, 3.0)
    assert wide.mouth_opening.min() > neutral.mouth_opening.max() + 0.3
    assert wide.jaw_drop.min() > neutral.jaw_drop.max() + 0.15
    assert wide.surprise.median() > 0.5 > neutral.surprise.max()
    closed = during(table, 5.6, 7.0)
    assert closed.mouth_opening.max() < 0.1


def test_eyes_shut_and_brows_up(testdata: Path) -> None:
    table = expressions(testdata / "clips" / "lp_d7.mp4")
    shut, squeezed, brows_up = during(table, 2.35, 2.6), during(table, 3.5, 4.0), during(table, 4.5, 4.9)
    brows_down = during(table, 5.35, 5.6)
    for side in ("left", "right"):
        open_eye = table[f"eye_opening_{side}"].quantile(0.6)
        assert open_eye > 0.25
        assert shut[f"eye_opening_{side}"].min() < 0.15
        assert squeezed[f"eye_opening_{side}"].median() < 0.15
        assert brows_up[f"eye_opening_{side}"].median() > open_eye
        for part in ("inner", "outer"):
            name = f"brow_{part}_{side}"
            assert brows_up[name].min() > table[name].median() + 0.03, name
            assert brows_down[name].median() < table[name].median(), name
    # The wink at 1.6 s shuts the right eye alone.
    assert during(table, 1.5, 1.9).eye_asymmetry.max() > 0.1


def test_a_pucker(testdata: Path) -> None:
    table = expressions(testdata / "clips" / "lp_d5.mp4")
    neutral, pucker, smile = during(table, 0, 1.0), during(table, 1.4, 1.7), during(table, 3.8, 4.5)
    assert pucker.lip_pucker.min() > neutral.lip_pucker.max() + 0.05
    assert pucker.mouth_width.max() < neutral.mouth_width.min() - 0.1
    assert pucker.mouth_opening.max() < 0.1  # a pucker is no open mouth
    assert smile.mouth_curve.min() > neutral.mouth_curve.max() + 0.02


def test_light_is_no_expression(testdata: Path) -> None:
    """A lamp goes on and off; the measures' spread stays far below what expressions do in the clips above."""
    table = expressions(testdata / "clips" / "clm_changeLighting.wmv")
    for name in MEASURE_NAMES:
        values = table[name].dropna()
        eyes_or_gaze = name.startswith(("eye_", "gaze_"))
        assert values.quantile(0.95) - values.quantile(0.05) < (0.12 if eyes_or_gaze else 0.06), name


def test_turning_the_head_is_no_smile(testdata: Path) -> None:
    """Neutral with head turns until 14.9 s, a smile from 15.0 s: every second of the smile beats all turns."""
    table = expressions(testdata / "clips" / "clm_default.wmv", fps=4)
    turns, smile = during(table, 0, 14.5), during(table, 15.3, 17.5)
    for name in ("mouth_width", "mouth_curve"):
        assert smile[name].median() > turns[name].quantile(0.99), name
    spread = {name: turns[name].quantile(0.95) - turns[name].quantile(0.05) for name in MEASURE_NAMES}
    assert np.median(list(spread.values())) < 0.04


def test_measures_and_scores_have_sane_ranges(testdata: Path) -> None:
    table = expressions(testdata / "clips" / "lp_d5.mp4")
    scores = table[["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]]
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)
    for measure in MEASURES:
        assert table[measure.name].abs().max() < 3, measure.name
    assert table.mouth_opening.min() >= 0 and table.eye_opening_left.between(0, 1).all()
