import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import gumbel_r, laplace, norm
from scipy.stats import t as student

from faceline.anomaly.baseline import robust_z
from faceline.anomaly.events import EventParams, accepted, cut_events
from faceline.anomaly.tail import block_maxima, fit_tail, memory_s


def autoregressive(rng, n, tau_s, fps=10.0):
    phi = np.exp(-1 / (fps * tau_s))
    noise = rng.standard_normal(n + 500) * np.sqrt(1 - phi**2)
    return lfilter([1.0], [1.0, -phi], noise)[500:]


@pytest.mark.parametrize("blocks", [12, 40, 120])
def test_p_values_of_gumbel_maxima_are_uniform(blocks):
    """The largest of n maxima has a p-value below α in a share α of cases: exact for Gumbel maxima, any n."""
    rng = np.random.default_rng(blocks)
    p = []
    for _ in range(250):
        maxima = gumbel_r.rvs(3.0, 0.7, size=blocks, random_state=rng)
        tail = fit_tail(maxima, keep=0.5, number=1e-9)  # no step-down: the first look alone
        p.append(tail.p_value(maxima.max())[0])
    for alpha in (0.05, 0.2, 0.5):
        assert np.mean(np.array(p) <= alpha) == pytest.approx(alpha, abs=4 * np.sqrt(alpha * (1 - alpha) / 250))


@pytest.mark.parametrize("blocks", [12, 40, 120])
def test_as_many_gumbel_maxima_reach_a_level_as_are_expected_to(blocks):
    """Neither more nor fewer: exact for Gumbel maxima, any number of blocks."""
    rng = np.random.default_rng([blocks, 1])
    numbers, reached = (0.1, 0.5, 2.0), []
    for _ in range(200):
        maxima = gumbel_r.rvs(3.0, 0.7, size=blocks, random_state=rng)
        tail = fit_tail(maxima, keep=0.5, number=1e-9)  # no step-down: the first look alone
        reached.append([np.sum(tail.expected(maxima) <= number) for number in numbers])
    for number, counts in zip(numbers, np.transpose(reached), strict=True):
        error = max(np.std(counts), np.sqrt(number)) / np.sqrt(len(counts))
        assert np.mean(counts) == pytest.approx(number, abs=3.5 * error)


@pytest.mark.parametrize("tau_s", [0.2, 1.0, 3.0])
@pytest.mark.parametrize(
    ("duration_s", "runs", "params"),
    [
        (30, 60, {"false_per_person": 0.1}),
        (97, 60, {"false_per_person": 0.1}),
        (97, 60, {"false_per_person": 0.5}),
        (97, 60, {"false_per_person": 2.0}),
        (600, 20, {"false_per_hour": 3.0}),
        (1800, 8, {"false_per_hour": 6.0}),
    ],
)
def test_autocorrelated_noise_gives_no_more_false_events_than_promised(tau_s, duration_s, runs, params):
    n = duration_s * 10
    # The threshold has to hold by itself, not by the least score or scale.
    events = EventParams(min_score=0.0, least_scale=0.0, **params)
    promised = accepted(float(duration_s), events)
    false = 0
    for seed in range(runs):
        rng = np.random.default_rng([seed, 7])
        # The root mean square of some correlated channels: the kind of score that the models give.
        channels = [autoregressive(rng, n, tau_s) for _ in range(6)]
        score = robust_z(np.sqrt(np.mean(np.square(channels), axis=0)))
        cutting = cut_events(score, np.arange(n) / 10, np.zeros(n, dtype=np.int64), 0.1, events)
        assert cutting.expected == pytest.approx(promised, rel=1e-3)
        false += len(cutting.events)
    assert false / runs <= promised + 2.5 * np.sqrt(promised / runs)


def test_anomalies_do_not_set_their_own_standard():
    rng = np.random.default_rng(0)
    usual = gumbel_r.rvs(2.0, 0.5, size=60, random_state=rng)
    clean = fit_tail(usual, keep=0.5, number=0.05).level(0.05)
    spoilt = np.concatenate([usual, np.full(12, 15.0)])
    assert fit_tail(spoilt, keep=0.5, number=0.05).level(0.05) == pytest.approx(clean, rel=0.25)
    naive = gumbel_r.ppf(0.95 ** (1 / 72), *gumbel_r.fit(spoilt))
    assert naive > 1.8 * clean


def test_p_value_and_expected_number_fall_with_the_score_and_level_inverts():
    tail = fit_tail(gumbel_r.rvs(size=50, random_state=np.random.default_rng(1)), keep=0.5, number=0.05)
    p = tail.p_value(np.linspace(-5, 60, 200))
    assert (np.diff(p) <= 1e-12).all() and p[0] == 1 and 0 < p[-1] < 1e-4
    expected = tail.expected(np.linspace(-5, 60, 200))
    assert (np.diff(expected) <= 1e-12).all() and 0 < expected[-1] < 1e-4
    assert expected[0] == pytest.approx(tail.blocks - tail.kept)
    for number in (0.01, 0.1, 0.5, 3.0):
        assert tail.expected(tail.level(number))[0] == pytest.approx(number, rel=1e-3)


def test_at_least_one_is_no_likelier_than_the_expected_number_and_nearly_as_likely_when_rare():
    tail = fit_tail(gumbel_r.rvs(size=50, random_state=np.random.default_rng(1)), keep=0.5, number=0.05)
    scores = np.linspace(-5, 60, 200)
    p, expected = tail.p_value(scores), tail.expected(scores)
    assert (p <= expected + 1e-12).all()
    rare = expected < 1e-3
    assert rare.any() and (p[rare] > 0.9 * expected[rare]).all()


def test_the_scale_is_no_smaller_than_asked_for_and_says_nothing_where_it_is_larger():
    maxima = gumbel_r.rvs(size=80, random_state=np.random.default_rng(3))
    free, held, wide = (fit_tail(maxima, keep=0.6, number=1e-9, least_scale=s) for s in (0.0, 0.1, 3.0))
    assert 0.7 < free.scale < 1.4 and held.level(0.1) == free.level(0.1)
    assert wide.scale == 3.0 and wide.location == free.location
    assert wide.level(0.1) - wide.location == pytest.approx(3.0 / free.scale * (free.level(0.1) - free.location))


@pytest.mark.parametrize("tails", ["laplace", "student"])
def test_heavy_tails_give_no_more_false_events_than_promised(tails):
    events, false, promised = EventParams(), 0, 0.0
    for seed in range(20):
        noise = autoregressive(np.random.default_rng([seed, 11]), 6000, 0.5)
        likely = norm.sf(noise / noise.std())
        score = robust_z(laplace.isf(likely) if tails == "laplace" else student.isf(likely, 5))
        false += len(cut_events(score, np.arange(6000) / 10, np.zeros(6000, dtype=np.int64), 0.1, events).events)
        promised += accepted(600.0, events)
    assert false <= promised + 2.5 * np.sqrt(promised)


def test_scale_and_shift_of_the_score_do_not_matter():
    maxima = gumbel_r.rvs(size=40, random_state=np.random.default_rng(2))
    one, two = (fit_tail(m, keep=0.5, number=0.05) for m in (maxima, 7 * maxima + 100))
    np.testing.assert_allclose(one.p_value(maxima), two.p_value(7 * maxima + 100), rtol=1e-6)
    np.testing.assert_allclose(one.expected(maxima), two.expected(7 * maxima + 100), rtol=1e-6)


def test_more_footage_asks_for_more():
    rng = np.random.default_rng(3)
    short, long = (fit_tail(gumbel_r.rvs(size=n, random_state=rng), keep=0.5, number=1e-9) for n in (200, 5000))
    assert long.level(0.05) > short.level(0.05)


def test_one_anomaly_more_does_not_bring_all_of_them_back():
    usual = gumbel_r.rvs(size=60, random_state=np.random.default_rng(5))
    levels = []
    for anomalies in range(0, 31, 2):
        maxima = np.concatenate([usual, 25.0 + 0.1 * np.arange(anomalies)])
        levels.append(fit_tail(maxima, keep=0.6, number=0.05).level(0.05))
    # What cannot be removed any more raises the level bit by bit, never at once.
    assert max(np.diff(levels)) < 0.25 * (levels[-1] - levels[0]) + 0.5
    assert levels[6] < 1.5 * levels[0]


def test_a_stretch_sampled_more_densely_does_not_outvote_the_rest():
    time_s = np.concatenate([np.arange(0, 60, 1 / 15), 60 + np.arange(0, 6, 1 / 60)])
    stretch = (time_s >= 60).astype(np.int64)
    assert len(block_maxima(np.arange(len(time_s)), time_s, stretch, 1.5)) == 44


def test_too_few_blocks_give_no_answer():
    assert fit_tail(np.arange(7.0), keep=0.5, number=0.05) is None


def test_block_maxima_are_taken_per_stretch_and_need_rows():
    time_s = np.concatenate([np.arange(20), 100 + np.arange(13)]) / 10
    score = np.arange(33.0)
    score[5:9] = np.nan
    stretch = np.repeat([0, 1], [20, 13])
    # 0–1 s lacks four rows, 1–2 s is whole; 10.0–11.0 s is whole, 11.0–11.3 s is too short.
    assert list(block_maxima(score, time_s, stretch, 1.0)) == [9, 19, 29]


def test_memory_grows_with_the_correlation_time():
    rng = np.random.default_rng(4)
    short, long = (memory_s(autoregressive(rng, 3000, tau), np.arange(3000) / 10, 0.1) for tau in (0.2, 3.0))
    assert short == pytest.approx(0.2 * np.log(5), abs=0.25)
    assert long == pytest.approx(3.0 * np.log(5), rel=0.5)


def test_memory_is_measured_in_time_not_in_rows():
    rng = np.random.default_rng(5)
    series = autoregressive(rng, 3000, 1.0)
    whole = memory_s(series, np.arange(3000) / 10, 0.1)
    kept = rng.random(3000) > 0.4
    assert memory_s(series[kept], np.arange(3000)[kept] / 10, 0.1) == pytest.approx(whole, rel=0.3)
