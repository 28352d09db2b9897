"""One conformance suite over every model: whoever adds one gets its tests."""

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError
from scipy.stats import spearmanr

from faceline.anomaly.baseline import Baseline
from faceline.anomaly.models import (
    MODELS,
    AnyModelParams,
    EcodParams,
    KnnParams,
    LofParams,
    OcsvmParams,
    PcaParams,
    RowTimes,
    SequenceModel,
    evenly,
)

ADAPTER = TypeAdapter(AnyModelParams)
SEEDED = {"iforest", "kmeansad", "lstm_ae"}
SINGLE_PRECISION = {"lstm_ae"}


@pytest.fixture(params=sorted(MODELS))
def params(request):
    return MODELS[request.param]()


def usual(n=400, d=6, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


def scored(params, x, seed=0):
    return params.build(seed).fit(x).score(x)


def scored_apart(model, x):
    """Scores of rows that have nothing to do with each other, whether the model looks at courses or not."""
    return model.score(x, RowTimes.apart(len(x))) if isinstance(model, SequenceModel) else model.score(x)


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


def test_a_seed_concerns_what_is_random_and_nothing_else(params):
    x = usual(200)
    same = np.array_equal(scored(params, x, 0), scored(params, x, 1))
    assert same == (not params.seeded) == (params.name not in SEEDED)


def test_the_random_numbers_of_the_process_are_left_alone(params):
    import torch

    numpy_before, torch_before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    scored(params, usual(100))
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_before)


def test_fitting_again_forgets(params):
    x = usual(100)
    model = params.build(0).fit(usual(60, 4, seed=9) * 3.0).fit(x)
    np.testing.assert_array_equal(model.score(x), scored(params, x))


def test_does_not_change_its_input(params):
    x = usual()
    before = x.copy()
    scored(params, x)
    np.testing.assert_array_equal(x, before)


def test_one_row(params):
    assert np.isfinite(scored(params, np.ones((1, 3)))).all()


def test_one_row_against_others_is_finite(params):
    model = params.build(0).fit(np.ones((1, 3)))
    assert np.isfinite(model.score(np.array([[1.0, 1.0, 1.0], [1e6, -1e6, 0.0]]))).all()


@pytest.mark.parametrize("n", [2, 3, 5, 9])
def test_fewer_rows_than_features(params, n):
    score = params.build(0).fit(usual(n, 40)).score(usual(30, 40, seed=1))
    assert np.isfinite(score).all()


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
    tolerance = 1e-5 if params.name in SINGLE_PRECISION else 1e-9
    np.testing.assert_allclose(scored_apart(model, x)[order], scored_apart(model, x[order]), atol=tolerance)


def test_scores_of_a_row_do_not_depend_on_its_company(params):
    x = usual(3000, 5)
    model = params.build(0).fit(x)
    tolerance = 1e-5 if params.name in SINGLE_PRECISION else 1e-7
    np.testing.assert_allclose(scored_apart(model, x)[:5], scored_apart(model, x[:5]), atol=tolerance)


def test_farther_is_more_unusual(params):
    model = params.build(0).fit(usual(500, 3))
    score = scored_apart(model, np.outer([0.0, 2.0, 4.0], np.ones(3)))
    assert score[0] < score[1] < score[2]


def test_a_hundred_thousand_rows_are_bounded_in_memory_and_time(params):
    import time
    import tracemalloc

    x = usual(100_000, 12)
    begun_s = time.process_time()
    tracemalloc.start()
    score = scored(params, x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.isfinite(score).all()
    assert peak < 300e6  # references are thinned: distances to 10⁵ rows in batches of 8192 alone take 6.5 GB
    # 0.1 to 6 s of processor time, measured; time that grows with the square of the rows would take hours.
    assert time.process_time() - begun_s < 120


# ---------------------------------------------------------------------------------------------- each against an oracle


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


def test_deviation_is_the_root_mean_square_distance_from_the_medians_and_scales_nothing():
    # The weights of blocks are in the columns' sizes: scaled to their own spread, columns would all weigh the same.
    x = np.array([[0.0, 10.0], [1.0, 20.0], [2.0, 30.0], [3.0, 40.0], [4.0, 50.0]])
    expected = np.sqrt(((x - [2.0, 30.0]) ** 2).mean(axis=1))
    np.testing.assert_allclose(scored(MODELS["deviation"](), x), expected, atol=1e-12)


@pytest.mark.parametrize("distance", ["mean", "largest"])
@pytest.mark.parametrize("d", [3, 12])
def test_knn_is_the_distance_to_the_nearest_others(distance, d):
    x, new = usual(120, d, seed=4) + 50.0, usual(20, d, seed=5) + 50.0
    model = KnnParams(n_neighbors=7, distance=distance).build(0).fit(x)

    def by_hand(rows, own):
        table = np.sqrt(((rows[:, None] - x[None]) ** 2).sum(axis=2))
        if own:
            np.fill_diagonal(table, np.inf)
        nearest = np.sort(table, axis=1)[:, :7]
        return nearest.mean(axis=1) if distance == "mean" else nearest[:, -1]

    np.testing.assert_allclose(model.score(x), by_hand(x, own=True), atol=1e-9)
    np.testing.assert_allclose(model.score(new), by_hand(new, own=False), atol=1e-9)


@pytest.mark.parametrize("name", ["knn", "lof"])
def test_references_are_thinned_evenly(name):
    x = usual(500, 4)
    thin = MODELS[name](max_rows=50)
    np.testing.assert_array_equal(thin.build(0).fit(x).score(x), thin.build(0).fit(x[evenly(500, 50)]).score(x))


def test_ecod_equals_hand_counts_and_pyod():
    """Tails by counting; PyOD 3.6.7 gives the same when asked about one row at a time (ECOD().fit(x), then
    decision_function(new[i : i + 1]))."""
    x = np.array([[1.0, 9.0], [2.0, 7.0], [2.0, 8.0], [4.0, 1.0], [9.0, 5.0]])
    new = np.array([[1.0, 9.0], [2.0, 8.0], [3.0, 6.0], [10.0, 0.0], [0.0, 10.0]])
    score = EcodParams().build(0).fit(x).score(new)
    # (2, 8): of x and itself, 4 of 6 are at most 2 and 5 of 6 at least; 5 of 6 are at most 8 and 3 of 6 at least.
    assert score[1] == pytest.approx(-np.log(4 / 6) - np.log(3 / 6))
    assert score[3] == score[4] == pytest.approx(2 * np.log(6))
    pyod = [2.197224577336219, 1.0986122886681098, 1.3862943611198906, 3.58351893845611, 3.58351893845611]
    np.testing.assert_allclose(score, pyod, atol=1e-12)


def test_ecod_counts_ties_and_extremes_as_a_loop_does():
    x = np.random.default_rng(0).integers(0, 6, (60, 3)).astype(float)
    new = np.random.default_rng(1).integers(-2, 9, (40, 3)).astype(float)
    expected = [
        sum(-np.log((min((x[:, j] <= v).sum(), (x[:, j] >= v).sum()) + 1) / 61) for j, v in enumerate(row))
        for row in new
    ]
    np.testing.assert_allclose(EcodParams().build(0).fit(x).score(new), expected, atol=1e-12)


def plane(n=500, seed=0):
    """Ten features that move in a plane, but for a little noise."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 2)) @ np.random.default_rng(99).standard_normal(
        (2, 10)
    ) + 0.05 * rng.standard_normal((n, 10))


def test_pca_error_is_what_its_directions_cannot_rebuild():
    """Against a singular value decomposition and a reconstruction written out."""
    x, new = plane(), plane(30, seed=1) + usual(30, 10, seed=2)
    robust = Baseline.of(x)
    z, z_new = robust.standardise(x), robust.standardise(new)
    length = np.linalg.norm(z, axis=1)
    short = z / np.maximum(1.0, length / np.median(length))[:, None]
    _, singular, directions = np.linalg.svd(short, full_matrices=False)
    share = np.cumsum(singular**2) / (singular**2).sum()
    kept = directions[: np.argmax(share >= 0.95) + 1]
    assert len(kept) == 2
    middle = np.median(z @ directions.T, axis=0) @ directions
    rebuilt = (z_new - middle) @ kept.T @ kept + middle
    expected = np.sqrt(((z_new - rebuilt) ** 2).sum(axis=1) / 8)
    model = PcaParams(explained=0.95, measure="error").build(0).fit(x)
    np.testing.assert_allclose(model.score(new), expected, atol=1e-9)


def test_pca_notices_what_leaves_the_plane_and_what_goes_far_along_it():
    x = plane()
    out = x[:2].copy()
    out[0, 3] += 2.0
    out[1] *= 6.0
    usual_score = {m: scored(PcaParams(explained=0.9, measure=m), x) for m in ("both", "error")}
    new = {m: PcaParams(explained=0.9, measure=m).build(0).fit(x).score(out) for m in ("both", "error")}
    assert (new["both"] > usual_score["both"].max()).all()
    assert new["error"][0] > usual_score["error"].max()
    assert MODELS["deviation"]().build(0).fit(x).score(out)[0] < scored(MODELS["deviation"](), x).max()


def test_pca_is_not_turned_by_outliers():
    clean, dirty = plane(), plane()
    dirty[:40, 3] += 30.0
    model = PcaParams(explained=0.9).build(0)
    assert model.fit(dirty).score(dirty)[:40].min() > 3 * np.median(model.fit(clean).score(clean))


def test_evenly_keeps_both_ends():
    assert list(evenly(5, 10)) == [0, 1, 2, 3, 4]
    assert list(evenly(11, 3)) == [0, 5, 10]
