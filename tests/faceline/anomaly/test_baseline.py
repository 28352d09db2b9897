import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from faceline.anomaly.baseline import Baseline, robust_z, without_confounds


def test_is_median_and_mad_of_a_normal_sample():
    x = np.random.default_rng(0).normal(5.0, 2.0, (20_000, 1))
    usual = Baseline.of(x)
    assert usual.centre[0] == pytest.approx(5.0, abs=0.05) and usual.scale[0] == pytest.approx(2.0, rel=0.03)


def test_a_tenth_of_anomalies_changes_it_little():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((1000, 1))
    clean = Baseline.of(x).scale[0]
    x[:95] += 50.0
    assert Baseline.of(x).scale[0] < 1.4 * clean


def test_a_dead_feature_stays_quiet():
    x = np.full((100, 1), 0.3)
    z = Baseline.of(x, 0.005).standardise(x + 1e-4)
    assert np.abs(z).max() < 0.05


def test_a_feature_that_is_still_most_of_the_time_is_not_measured_by_its_stillness():
    x = np.zeros((100, 1))
    x[::5] = 1.0  # every fifth row moves: that is usual
    assert np.abs(Baseline.of(x, 1e-6).standardise(x)).max() < 6


@pytest.mark.parametrize("rows", [2, 5, 400, 401])
def test_is_the_same_for_a_column_whatever_another_one_lacks(rows):
    x = np.random.default_rng(rows).normal(size=(rows, 3)).round(1)
    lacking = np.column_stack([x, np.where(np.arange(rows) == 0, np.nan, 1.0)])
    whole, part = Baseline.of(x), Baseline.of(lacking)
    np.testing.assert_array_equal(whole.centre, part.centre[:3])
    np.testing.assert_array_equal(whole.scale, part.scale[:3])


def test_missing_stays_missing_and_outliers_are_limited():
    z = Baseline.of(np.arange(10.0)[:, None]).standardise(np.array([[np.nan], [1e9], [-1e9]]))
    assert np.isnan(z[0, 0]) and list(z[1:, 0]) == [12.0, -12.0]


@given(arrays(float, st.integers(1, 60), elements=st.floats(-1e6, 1e6)), st.floats(0.01, 100), st.floats(-1e3, 1e3))
def test_robust_z_has_median_zero_and_ignores_scale_and_shift(score, scale, shift):
    z = robust_z(score)
    assert np.median(z) == pytest.approx(0, abs=1e-6)
    assert np.isfinite(z).all()
    spread = np.median(np.abs(score - np.median(score)))
    if spread > 1e-3 * max(1.0, np.abs(score).max()):
        assert 1.4826 * np.median(np.abs(z)) == pytest.approx(1.0, rel=1e-6)
        np.testing.assert_allclose(robust_z(score * scale + shift), z, atol=1e-3, rtol=1e-3)


def test_robust_z_of_missing_and_constant():
    assert np.isnan(robust_z(np.full(5, np.nan))).all()
    z = robust_z(np.array([np.nan, 2.0, 2.0, 2.0]))
    assert np.isnan(z[0]) and (z[1:] == 0).all()
    assert robust_z(np.array([0.0] * 9 + [5.0]))[-1] > 1  # the MAD is 0, yet the outlier stands out


def scene(n=600, seed=0):
    rng = np.random.default_rng(seed)
    confounds = np.column_stack(
        [12 * rng.standard_normal((n, 3)), 120 + 15 * rng.standard_normal(n), 6 + 0.2 * rng.standard_normal(n)]
    )
    return rng, confounds


def test_takes_out_what_pose_and_light_explain():
    rng, confounds = scene()
    own = rng.standard_normal((600, 2))
    x = own + np.outer(confounds[:, 0] / 6, [1.0, -1.0]) + ((confounds[:, 3:4] - 120) / 15) ** 2
    left = without_confounds(x, confounds, squares=True)
    for j in range(2):
        assert np.corrcoef(left[:, j], own[:, j])[0, 1] > 0.95
        assert abs(np.corrcoef(left[:, j], confounds[:, 0])[0, 1]) < 0.1


def test_leaves_an_expression_that_comes_with_a_turned_head():
    rng, confounds = scene()
    x = rng.standard_normal((600, 4))
    x[300:312, 0] += 10.0
    confounds[300:312, 0] = 25.0
    left = without_confounds(x, confounds, squares=True)
    assert Baseline.of(left).standardise(left)[300:312, 0].mean() > 6


def test_rows_of_unknown_pose_keep_their_value():
    rng, confounds = scene()
    x = rng.standard_normal((600, 2))
    confounds[::7, 1] = np.nan
    np.testing.assert_array_equal(without_confounds(x, confounds, squares=True)[::7], x[::7])


def test_takes_nothing_out_of_a_handful_of_rows():
    x = np.random.default_rng(0).standard_normal((40, 2))
    np.testing.assert_array_equal(without_confounds(x, np.zeros((40, 5)), squares=False), x)
