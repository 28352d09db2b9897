import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata, spearmanr
from sklearn.metrics import average_precision_score

from faceline.anomaly.ranks import average_precision, average_ranks, spearman

values = st.lists(st.integers(0, 8), min_size=3, max_size=40).map(np.array)


@given(values)
def test_ranks_are_scipys(x):
    np.testing.assert_allclose(average_ranks(x), rankdata(x))


@given(values, st.integers(0, 1000))
def test_spearman_is_scipys(x, seed):
    y = np.random.default_rng(seed).permutation(x)
    if np.ptp(x) > 0:
        assert spearman(x, y) == pytest.approx(spearmanr(x, y)[0], abs=1e-9)
    else:
        assert spearman(x, y) == 0


def test_average_precision_is_scikit_learns_without_ties():
    rng = np.random.default_rng(0)
    high, low = rng.standard_normal(30) + 1, rng.standard_normal(200)
    truth = np.repeat([1, 0], [30, 200])
    expected = average_precision_score(truth, np.concatenate([high, low]))
    assert average_precision(high, low) == pytest.approx(expected)


def test_average_precision_counts_ties_against():
    assert average_precision(np.zeros(2), np.zeros(8)) == pytest.approx(np.mean([1 / 9, 2 / 10]))
    assert average_precision(np.ones(2), np.zeros(8)) == 1
