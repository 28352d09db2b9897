import numpy as np
import pytest

from faceline.anomaly.comparison import compare
from faceline.anomaly.judge import Planting
from faceline.anomaly.selection import Choice

ROWS = np.arange(200)
TRUTH = ROWS % 10 == 0


def planting(signal, seed=0, rows=ROWS):
    """Noise, in which the planted rows are raised by `signal`."""
    noise = np.random.default_rng(seed).standard_normal(len(ROWS))
    return Planting(rows, TRUTH[rows], (noise + signal * TRUTH)[rows])


GOOD, FAIR, POOR = planting(20.0, 1), planting(2.0, 2), planting(0.0, 3)


def test_each_way_is_asked_about_the_same_planted_moments():
    found = compare([POOR, GOOD, FAIR], Choice((1, 2, 0), (1, 2)))
    single = [p.average_precision() for p in (POOR, GOOD, FAIR)]
    assert single[0] < 0.5 < single[2] < single[1] == 1.0
    assert list(found) == ["chosen", "best", "random", "ensemble"]
    assert found["best"] == 1.0
    assert found["random"] == pytest.approx(np.mean(single), abs=1e-6)
    assert single[0] < found["ensemble"] <= found["chosen"] == 1.0


def test_the_first_trial_is_the_best_by_the_choice_and_not_by_the_truth():
    found = compare([POOR, GOOD], Choice((0, 1), (0,)))
    assert found["best"] == found["chosen"] == pytest.approx(POOR.average_precision())


def test_trials_that_were_not_in_the_running_do_not_count():
    """A trial without scores has no place in the order."""
    assert compare([GOOD, POOR], Choice((0,), (0,)))["random"] == 1.0


def test_noise_averaged_over_trials_gives_way():
    trials = [planting(2.0, seed) for seed in range(8)]
    found = compare(trials, Choice(tuple(range(8)), (0,)))
    assert found["ensemble"] > found["random"] + 0.1


def test_trials_that_judged_other_rows_are_put_together_by_row():
    half = planting(20.0, 4, rows=ROWS[:120])
    assert compare([half, GOOD], Choice((0, 1), (0, 1)))["chosen"] == 1.0


def test_a_trial_without_planted_moments_is_passed_over():
    found = compare([None, FAIR], Choice((0, 1), (0, 1)))
    assert list(found.values()) == pytest.approx([FAIR.average_precision()] * 4)


@pytest.mark.parametrize("planted", [[], [None, None]])
def test_nothing_planted_nothing_known(planted):
    choice = Choice(tuple(range(len(planted))), tuple(range(len(planted))))
    assert np.isnan(list(compare(planted, choice).values())).all()
