import numpy as np
import pytest
from scipy.stats import spearmanr

from faceline.anomaly.iforest import Forest, expected_length


def grow(x, **options):
    return Forest.grow(x, **({"trees": 300, "max_samples": 256, "max_features": 1.0, "seed": 0} | options))


@pytest.mark.parametrize("seed", [0, 1])
def test_scores_as_scikit_learn(seed):
    from sklearn.ensemble import IsolationForest

    rng = np.random.default_rng(seed)
    x = rng.standard_normal((600, 4)) * [1, 2, 5, 0.1]
    x[:20] *= 3
    ours = grow(x, seed=seed).score(x)
    theirs = -IsolationForest(n_estimators=300, max_samples=256, random_state=seed).fit(x).score_samples(x)
    assert spearmanr(ours, theirs)[0] > 0.97
    np.testing.assert_allclose([ours.mean(), ours.max()], [theirs.mean(), theirs.max()], atol=0.03)


def test_expected_length_is_the_papers():
    assert list(expected_length(np.array([0, 1, 2]))) == [0, 0, 1]
    assert expected_length(np.array([256]))[0] == pytest.approx(10.2448, abs=1e-3)


def test_trees_separate_what_they_saw():
    """Grown on all of eight distinct rows without a limit in sight, every row ends alone in its leaf."""
    x = np.arange(8.0)[:, None]
    forest = grow(x, trees=1, max_samples=8)
    node = np.zeros(8, dtype=int)
    for _ in range(forest.levels):
        inner = forest.feature[0, node] >= 0
        right = x[:, 0] > forest.threshold[0, node]
        node = np.where(inner, 2 * node + 1 + right, node)
    leaves, counts = np.unique(node, return_counts=True)
    rest = forest.length[0, leaves] - np.floor(np.log2(leaves + 1))
    np.testing.assert_allclose(rest, expected_length(counts), atol=1e-12)


def test_a_tree_uses_its_share_of_the_features_only():
    x = np.random.default_rng(0).standard_normal((100, 10))
    forest = grow(x, trees=20, max_features=0.2)
    assert all(len(set(tree[tree >= 0])) <= 2 for tree in forest.feature)


def test_mostly_constant_features_do_not_stop_the_trees():
    x = np.zeros((300, 20))
    x[:, 7] = np.random.default_rng(0).standard_normal(300)
    x[5, 7] = 9.0
    assert np.argmax(grow(x).score(x)) == 5
