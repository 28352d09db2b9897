"""One conformance suite over every model: whoever adds one gets its tests."""

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError
from scipy.stats import spearmanr

from faceline.anomaly.models import MODELS, AnyModelParams, LofParams, OcsvmParams, evenly

ADAPTER = TypeAdapter(AnyModelParams)


@pytest.fixture(params=sorted(MODELS))
def params(request):
    return MODELS[request.param]()


def usual(n=400, d=6, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


def scored(params, x, seed=0):
    return params.build(seed).fit(x).score(x)


def test_the_brief_models_are_registered():
    assert {"iforest", "ocsvm", "lof"} <= set(MODELS)


def test_is_chosen_by_name(params):
    assert ADAPTER.validate_python({"name": params.name}) == params


def test_refuses_fields_of_another_model(params):
    with pytest.raises(ValidationError):
        ADAPTER.validate_python({"name": params.name, "contamination": 0.1})


def test_planted_outliers_are_highest(params):
    x = usual()
    x[[7, 191, 350]] += 6.0
    assert set(np.argsort(-scored(params, x))[:3]) == {7, 191, 350}


def test_scores_have_the_shape_and_are_finite(params):
    x = usual(50)
    score = params.build(0).fit(x).score(x[:7])
    assert score.shape == (7,) and score.dtype == np.float64 and np.isfinite(score).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_refuses_missing_values_and_says_how_many(params, bad):
    x = usual(50)
    x[[3, 4], 1] = bad
    with pytest.raises(ValueError, match="2 of 50 rows"):
        params.build(0).fit(x)
    with pytest.raises(ValueError, match="2 of 50 rows"):
        params.build(0).fit(usual(50)).score(x)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (3,)])
def test_refuses_what_is_no_table(params, shape):
    with pytest.raises(ValueError, match="at least one row"):
        params.build(0).fit(np.zeros(shape))


def test_is_deterministic(params):
    x = usual()
    np.testing.assert_array_equal(scored(params, x, 3), scored(params, x, 3))


def test_does_not_change_its_input(params):
    x = usual()
    before = x.copy()
    scored(params, x)
    np.testing.assert_array_equal(x, before)


def test_one_row(params):
    assert np.isfinite(scored(params, np.ones((1, 3)))).all()


def test_two_rows(params):
    assert np.isfinite(scored(params, np.array([[0.0, 1.0], [2.0, 3.0]]))).all()


def test_all_rows_equal(params):
    score = scored(params, np.full((60, 4), 2.5))
    assert np.isfinite(score).all() and np.ptp(score) < 1e-9


def test_a_constant_column_changes_no_order(params):
    x = usual()
    x[11] += 6.0
    score = scored(params, np.column_stack([x, np.full(len(x), 7.0)]))
    assert np.argmax(score) == 11


def test_duplicates_are_usual_and_do_not_blow_up(params):
    x = usual(200)
    x[:120] = x[0]
    x[150] += 8.0
    score = scored(params, x)
    assert np.isfinite(score).all()
    assert np.argmax(score) == 150
    assert np.median(score[:120]) <= np.median(score[120:])


def test_order_of_scored_rows_does_not_matter(params):
    x = usual()
    order = np.random.default_rng(1).permutation(len(x))
    model = params.build(0).fit(x)
    np.testing.assert_allclose(model.score(x)[order], model.score(x[order]), atol=1e-9)


def test_scores_of_a_row_do_not_depend_on_its_company(params):
    x = usual(3000, 5)
    model = params.build(0).fit(x)
    np.testing.assert_allclose(model.score(x)[:5], model.score(x[:5]), atol=1e-7)


def test_farther_is_more_unusual(params):
    model = params.build(0).fit(usual(500, 3))
    score = model.score(np.outer([0.0, 2.0, 4.0], np.ones(3)))
    assert score[0] < score[1] < score[2]


def test_ten_thousand_rows_are_bounded_in_memory(params):
    import tracemalloc

    x = usual(10_000, 12)
    tracemalloc.start()
    score = scored(params, x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.isfinite(score).all()
    assert peak < 300e6  # a 10⁴ × 10⁴ table of distances alone takes 800 MB


def test_lof_equals_scikit_learn():
    from sklearn.neighbors import LocalOutlierFactor

    x = usual(300, 4, seed=2)
    theirs = -LocalOutlierFactor(n_neighbors=25).fit(x).negative_outlier_factor_
    np.testing.assert_allclose(scored(LofParams(n_neighbors=25), x), np.log(theirs), atol=1e-8)


def test_ocsvm_orders_as_scikit_learn():
    from sklearn.svm import OneClassSVM

    x = usual(300, 4, seed=3)
    theirs = -OneClassSVM(nu=0.5, gamma=0.2 / (4 * x.var())).fit(x).decision_function(x)
    assert spearmanr(scored(OcsvmParams(), x), theirs)[0] > 1 - 1e-9


def test_ocsvm_tells_far_from_farther():
    model = OcsvmParams().build(0).fit(usual(300, 2))
    near, far = model.score(np.array([[30.0, 0.0], [60.0, 0.0]]))
    assert np.isfinite([near, far]).all() and near < far


def test_evenly_keeps_both_ends():
    assert list(evenly(5, 10)) == [0, 1, 2, 3, 4]
    assert list(evenly(11, 3)) == [0, 5, 10]
