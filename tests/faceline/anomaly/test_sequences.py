"""Models of courses: which rows make one, and what each model says of it."""

import numpy as np
import pytest

from faceline.anomaly.baseline import Baseline
from faceline.anomaly.models import MODELS, KMeansADParams, LstmAeParams, RowTimes, SequenceModel
from faceline.anomaly.models.sequences import BATCH, subsequences

SEQUENCES = sorted(name for name, params in MODELS.items() if isinstance(params().build(0), SequenceModel))


@pytest.fixture(params=SEQUENCES)
def params(request):
    return MODELS[request.param]()


def times(time_s, stretch=None):
    time_s = np.asarray(time_s, dtype=float)
    return RowTimes(time_s, np.zeros(len(time_s), dtype=int) if stretch is None else np.asarray(stretch))


def rhythm(n=600, seed=0):
    """A rhythm of six rows in two features, and a little noise."""
    phase = 2 * np.pi * np.arange(n) / 6
    noise = 0.1 * np.random.default_rng(seed).standard_normal((n, 2))
    return np.column_stack([np.sin(phase), np.cos(phase)]) + noise


def test_there_are_two_of_them():
    assert SEQUENCES == ["kmeansad", "lstm_ae"]


# ------------------------------------------------------------------------------------------- which rows make a course


def test_a_course_begins_at_its_row_or_as_early_as_it_must():
    index = subsequences(RowTimes.evenly(6), 3, 1.0)
    assert index.tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5], [3, 4, 5], [3, 4, 5]]


def test_a_course_stays_in_its_stretch():
    index = subsequences(times([0, 1, 2, 3, 4, 5], [0, 0, 0, 1, 1, 1]), 2, 1.0)
    assert index.tolist() == [[0, 1], [1, 2], [1, 2], [3, 4], [4, 5], [4, 5]]


def test_a_silence_ends_a_course():
    assert subsequences(times([0, 1, 2, 4.6, 5.6]), 2, 1.0).tolist() == [[0, 1], [1, 2], [1, 2], [3, 4], [3, 4]]


def test_a_short_stretch_holds_its_first_row():
    assert subsequences(times([0, 1, 2], [0, 0, 1]), 3, 1.0).tolist() == [[0, 0, 1], [0, 0, 1], [2, 2, 2]]


def test_steps_are_of_time_not_of_rows():
    fine = np.arange(0, 4.01, 0.25)
    index = subsequences(times(fine), 3, 1.0)
    assert index[2].tolist() == [2, 6, 10]
    assert index[-1].tolist() == [8, 12, 16]


def test_uneven_rows_give_the_nearest_ones():
    assert subsequences(times([0, 0.9, 2.1, 2.4, 3.0]), 4, 1.0)[0].tolist() == [0, 1, 2, 4]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("length", [1, 2, 7])
def test_every_course_holds_its_row_in_order_within_its_stretch(seed, length):
    rng = np.random.default_rng(seed)
    n = 80
    moments = np.cumsum(rng.choice([0.0, 0.1, 0.2, 3.0], n, p=[0.1, 0.6, 0.25, 0.05]))
    stretch = np.cumsum(rng.random(n) < 0.05)
    index = subsequences(RowTimes(moments, stretch), length, 0.2)
    assert ((index == np.arange(n)[:, None]).any(axis=1)).all()
    assert (np.diff(moments[index], axis=1) >= 0).all()
    assert (np.diff(moments[index], axis=1) <= 0.2 * 2.5 + 1e-6).all()
    assert (stretch[index] == stretch[:, None]).all()


@pytest.mark.parametrize(
    ("time_s", "stretch"),
    [([0, 1], [0, 0]), ([0, 2, 1], [0, 0, 0]), ([0, 1, 2], [1, 0, 0]), ([0, np.nan, 2], [0, 0, 0])],
)
def test_times_that_are_not_those_of_the_rows_are_refused(params, time_s, stretch):
    with pytest.raises(ValueError, match=r"3 rows, but|in order of time"):
        params.build(0).fit(np.ones((3, 2)), times(time_s, stretch))


def test_the_step_is_the_usual_distance_within_stretches():
    assert times([0, 0.5, 1.0, 9.0, 9.4], [0, 0, 0, 1, 1]).step_s() == 0.5
    assert RowTimes.apart(5).step_s() == 1.0


# --------------------------------------------------------------------------------------------------- all such models


def test_a_broken_rhythm_of_usual_rows_is_found(params):
    """Every row by itself is as usual as any: only their order is not."""
    x = rhythm()
    x[300:306] = x[300:306][::-1]
    score = params.build(0).fit(x).score(x)
    assert 297 <= np.argmax(score) <= 308
    single = MODELS["knn"]().build(0).fit(x).score(x)
    assert single[300:306].max() < np.quantile(single, 0.999)


def test_what_lies_behind_a_cut_does_not_matter(params):
    x = rhythm()
    model = params.build(0).fit(x)
    stretch = (np.arange(600) >= 300).astype(int)
    other = x.copy()
    other[300:] = 7.0
    there = [model.score(rows, times(np.arange(600), stretch))[:300] for rows in (x, other)]
    np.testing.assert_allclose(there[0], there[1], atol=1e-5)


def test_rows_that_lie_closer_are_scored_alike(params):
    """Fitted on one row a second, scored on four of them: the same seconds get nearly the same scores."""
    fine = np.arange(0, 240, 0.25)
    x = np.column_stack([np.sin(fine), np.cos(2 * fine)])
    x[480:500] += 2.0
    model = params.build(0).fit(x[::4], times(fine[::4]))
    coarse, dense = model.score(x[::4], times(fine[::4])), model.score(x, times(fine))[::4]
    assert np.corrcoef(coarse, dense)[0, 1] > 0.97
    assert 115 <= np.argmax(dense) <= 130


def test_batches_leave_no_seam(params):
    x = rhythm(BATCH + 40)
    model = params.build(0).fit(x)
    np.testing.assert_allclose(model.score(x)[-30:], model.score(x[BATCH - 20 :])[-30:], atol=1e-5)


# ----------------------------------------------------------------------------------------------- each by its definition


def test_kmeansad_is_the_mean_distance_of_the_courses_that_hold_a_row():
    """One centre, by hand: the mean of all courses."""
    x = np.random.default_rng(0).standard_normal((20, 3))
    starts = [min(i, 16) for i in range(20)]
    courses = [x[s : s + 4] for s in starts]
    centre = sum(courses) / 20
    distance = [np.linalg.norm(course - centre) for course in courses]
    expected = [np.mean([d for d, s in zip(distance, starts, strict=True) if s <= row < s + 4]) for row in range(20)]
    score = KMeansADParams(n_clusters=1, length=4).build(0).fit(x).score(x)
    np.testing.assert_allclose(score, expected, atol=1e-9)


def test_kmeansad_finds_the_centres_of_clusters_that_are_plain_to_see():
    x = np.repeat([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]], 100, axis=0)
    x += 0.01 * np.random.default_rng(0).standard_normal(x.shape)
    model = KMeansADParams(n_clusters=3, length=1).build(0).fit(x, RowTimes.apart(300))
    new = np.array([[0.0, 3.0], [10.0, 1.0], [-2.0, 10.0]])
    np.testing.assert_allclose(model.score(new, RowTimes.apart(3)), [3.0, 1.0, 2.0], atol=0.01)


def test_kmeansad_does_not_call_a_rare_course_usual():
    x = np.zeros((300, 2)) + 0.1 * np.random.default_rng(0).standard_normal((300, 2))
    x[140:150] += 8.0  # long enough to be a cluster of its own
    score = {share: KMeansADParams(min_share=share).build(0).fit(x).score(x) for share in (0.0, 0.1)}
    assert score[0.1][142:148].min() > 10 * np.median(score[0.1])
    assert score[0.0][142:148].max() < 5 * np.median(score[0.0])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(weights, x):
    """The textbook's recurrence, gates in torch's order (input, forget, cell, output); states of all steps."""
    w, u, b, c = (weights[name] for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"))
    hidden = u.shape[1]
    h = state = np.zeros((len(x), hidden))
    told = []
    for t in range(x.shape[1]):
        i, f, g, o = np.split(x[:, t] @ w.T + b + h @ u.T + c, 4, axis=1)
        state = sigmoid(f) * state + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(state)
        told.append(h)
    return np.stack(told, axis=1)


def test_lstm_ae_is_the_error_of_retelling_written_out_in_numpy():
    x = rhythm(60)
    model = LstmAeParams(length=5, hidden=3, epochs=3).build(0).fit(x)
    network = model._network
    encoder, decoder, out = (
        {name: weight.detach().numpy().astype(np.float64) for name, weight in part.named_parameters()}
        for part in (network._encoder, network._decoder, network._out)
    )
    starts = [min(i, 55) for i in range(60)]
    z = Baseline.of(x).standardise(x)
    courses = np.stack([z[s : s + 5] for s in starts])
    remembered = lstm(encoder, courses)[:, -1]
    told = lstm(decoder, np.repeat(remembered[:, None], 5, axis=1)) @ out["weight"].T + out["bias"]
    error = ((courses - told[:, ::-1]) ** 2).mean(axis=2)
    expected = [
        np.sqrt(np.mean([error[k, row - s] for k, s in enumerate(starts) if s <= row < s + 5])) for row in range(60)
    ]
    np.testing.assert_allclose(model.score(x), expected, atol=1e-4)


def test_lstm_ae_learns():
    x = rhythm()
    little = LstmAeParams(epochs=1, max_rows=50).build(0).fit(x).score(x).mean()
    much = LstmAeParams(epochs=60, hidden=8).build(0).fit(x).score(x).mean()
    assert much < 0.4 * little


def test_lstm_ae_does_not_depend_on_the_number_of_threads():
    import torch

    x = np.random.default_rng(0).standard_normal((300, 40))
    before = torch.get_num_threads()
    scores = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            scores.append(LstmAeParams(epochs=2, hidden=32).build(0).fit(x).score(x))
            assert torch.get_num_threads() == 1  # set by whoever loads a network
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(*scores)


def test_lstm_ae_learns_the_same_in_two_threads_at_once():
    from concurrent.futures import ThreadPoolExecutor

    x = rhythm(200)
    alone = LstmAeParams(epochs=2).build(0).fit(x).score(x)
    with ThreadPoolExecutor(3) as pool:
        for score in pool.map(lambda seed: LstmAeParams(epochs=2).build(seed).fit(x).score(x), [0, 0, 0]):
            np.testing.assert_array_equal(score, alone)


def test_lstm_ae_takes_so_many_steps_whatever_the_footage(monkeypatch):
    from faceline.anomaly.lstm import Autoencoder

    seen = []
    run = Autoencoder._run
    monkeypatch.setattr(Autoencoder, "_run", lambda self, x: seen.append(len(x)) or run(self, x))
    LstmAeParams(epochs=2, max_rows=100).build(0).fit(np.random.default_rng(0).standard_normal((5000, 3)))
    assert seen == [64, 36, 64, 36]
