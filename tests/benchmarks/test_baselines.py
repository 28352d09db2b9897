"""The methods that faceline is compared with."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.anomalies import baselines as b


def rows(seed: int = 0, n: int = 300, d: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Correlated usual rows at 10 per second with an outlier at rows 150–154."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3)) @ rng.normal(size=(3, d)) + 0.3 * rng.normal(size=(n, d))
    x[150:155] += 6 * np.sign(rng.normal(size=d))
    return np.arange(n) / 10, x, np.repeat([0, 1], n // 2)


@pytest.mark.parametrize("name", [n for n in b.BASELINES if n != "chance"])
def test_higher_means_more_unusual(name: str) -> None:
    time_s, x, stretch = rows()
    score = b.BASELINES[name](time_s, x, stretch)
    assert score.shape == (300,)
    assert np.isin(np.argsort(-score)[:3], np.arange(150, 155)).all()


@pytest.mark.parametrize("name", b.BASELINES)
def test_missing_rows_stay_missing_and_change_nothing(name: str) -> None:
    time_s, x, stretch = rows()
    x[10], x[20, 3] = np.nan, np.nan
    score = b.BASELINES[name](time_s, x, stretch)
    assert np.flatnonzero(np.isnan(score)).tolist() == [10, 20]
    kept = np.setdiff1d(np.arange(300), [10, 20])
    assert score[kept] == pytest.approx(b.BASELINES[name](time_s[kept], x[kept], stretch[kept]))


@pytest.mark.parametrize("name", b.BASELINES)
def test_hard_tables_are_survived(name: str) -> None:
    time_s, x, stretch = rows()
    assert np.isnan(b.BASELINES[name](time_s[:5], x[:5], stretch[:5])).all()
    x[:, 2] = 1.0
    assert np.isfinite(b.BASELINES[name](time_s, x, stretch)).all()


def test_reconstruction_error_rises_at_what_is_rare() -> None:
    _, x, _ = rows(d=4)
    error = b._reconstruction_error(b._standard(x), np.zeros(300, dtype=int), epochs=5)
    assert np.isfinite(error).all()
    assert 140 <= np.argmax(error) <= 165
    assert error == pytest.approx(b._reconstruction_error(b._standard(x), np.zeros(300, dtype=int), epochs=5))
    short = np.arange(300) // 4  # no stretch is as long as a sequence
    assert np.isnan(b._reconstruction_error(x, short, epochs=1)).all()


@pytest.mark.models
def test_the_ancestor_runs_and_leaves_missing_rows_out() -> None:
    _, x, _ = rows(n=80, d=12)
    emotions = np.abs(x[:, :6])
    emotions[3] = np.nan
    score = b.ancestor(x, emotions, np.zeros(80, dtype=int), epochs=1)
    assert np.isnan(score[3])
    assert np.isfinite(np.delete(score, 3)).all()
