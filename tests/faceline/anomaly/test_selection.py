import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceline.anomaly.ranks import spearman
from faceline.anomaly.selection import agreement, choose, combine, objective

MODELS = ["iforest", "iforest", "lof", "lof", "ocsvm", "ocsvm"]


def test_agreement_is_the_mean_over_models_of_mean_spearman():
    scores = np.random.default_rng(0).standard_normal((6, 50))
    expected = []
    for i in range(6):
        means = []
        for model in ("iforest", "lof", "ocsvm"):
            others = [spearman(scores[i], scores[j]) for j in range(6) if j != i and MODELS[j] == model]
            means.append(np.mean(others))
        expected.append(np.mean(means))
    np.testing.assert_allclose(agreement(scores, MODELS), expected, atol=1e-9)


def test_agreement_uses_the_rows_that_both_have():
    rng = np.random.default_rng(1)
    one = rng.standard_normal(400)
    two = one + 0.01 * rng.standard_normal(400)
    one[:100], two[250:] = np.nan, np.nan
    assert agreement(np.stack([one, two]), ["iforest", "lof"])[0] > 0.98


def test_a_trial_without_scores_agrees_with_nobody():
    scores = np.stack([np.arange(9.0), np.arange(9.0), np.full(9, np.nan)])
    result = agreement(scores, ["iforest", "lof", "ocsvm"])
    assert np.isnan(result[2]) and result[0] == pytest.approx(1.0)


def test_an_outsider_agrees_least():
    rng = np.random.default_rng(2)
    common = rng.standard_normal(300)
    scores = np.stack([common + 0.3 * rng.standard_normal(300) for _ in range(5)] + [rng.standard_normal(300)])
    assert np.argmin(agreement(scores, MODELS)) == 5


def test_objective_is_one_for_the_best_in_everything_and_zero_for_the_worst():
    parts = np.array([[0.9, 0.8, 0.7], [0.5, 0.5, 0.5], [0.1, 0.2, 0.3]])
    np.testing.assert_allclose(objective(parts, np.ones(3, dtype=bool)), [1.0, 0.5, 0.0])


def test_what_cannot_be_measured_ranks_in_the_middle():
    parts = np.array([[0.9, np.nan], [0.1, np.nan], [np.nan, np.nan]])
    np.testing.assert_allclose(objective(parts, np.ones(3, dtype=bool)), [0.75, 0.25, 0.5])


def test_trials_without_scores_have_no_objective():
    value = objective(np.ones((2, 3)), np.array([True, False]))
    assert np.isfinite(value[0]) and np.isnan(value[1])


@settings(max_examples=50)
@given(st.permutations(range(6)), st.sampled_from(["best", "ensemble", "models", "all"]))
def test_the_order_of_trials_does_not_matter(order, select):
    value = np.array([0.5, 0.9, 0.5, 0.1, np.nan, 0.5])
    names = list("abcdef")
    here = choose(value, MODELS, names, select, 0.5)
    there = choose(value[order], [MODELS[i] for i in order], [names[i] for i in order], select, 0.5)
    assert [names[i] for i in here.order] == [names[order[i]] for i in there.order]
    assert {names[i] for i in here.chosen} == {names[order[i]] for i in there.chosen}


@pytest.mark.parametrize(
    ("select", "chosen"), [("best", (1,)), ("ensemble", (1, 0)), ("models", (1, 2, 5)), ("all", (1, 0, 2, 5, 3))]
)
def test_choices(select, chosen):
    value = np.array([0.6, 0.9, 0.5, 0.1, np.nan, 0.4])
    assert choose(value, MODELS, list("abcdef"), select, 0.34).chosen == chosen


def test_nothing_scored_nothing_chosen():
    assert choose(np.full(6, np.nan), MODELS, list("abcdef"), "ensemble", 0.3).chosen == ()


def test_combination_is_a_robust_z_and_keeps_missing_missing():
    rng = np.random.default_rng(3)
    scores = rng.standard_normal((4, 200))
    scores[:, 7], scores[:3, 8], scores[:2, 9] = np.nan, np.nan, np.nan
    z = combine(scores)
    assert np.isnan(z[7]) and np.isnan(z[8]) and np.isfinite(z[9])
    assert np.nanmedian(z) == pytest.approx(0, abs=1e-9)


def test_one_trial_cannot_decide_alone():
    scores = np.random.default_rng(4).standard_normal((5, 300))
    scores[0, 10] = 1e6
    scores[:, 20] = 15.0
    assert np.argmax(combine(scores)) == 20
