import itertools

import numpy as np
import pytest

from faceline.anomaly.features import build_blocks
from faceline.anomaly.injection import SHARE, plan_anomalies, plant, planted_rows
from faceline.anomaly.judge import Judge, thinned
from faceline.anomaly.models import MODELS, DeviationParams, IForestParams, KMeansADParams, SequenceModel
from faceline.anomaly.rows import MaskParams, people_rows


def judge(scene, model=None, features="expressions", window_s=1.0, **changes):
    rows = people_rows(scene.inputs, MaskParams())[0]
    blocks = build_blocks(scene.inputs, rows, features)
    options = {"window_s": window_s, "min_coverage": 0.4, "fit_per_window": 4, "seed": 0} | changes
    return Judge(model or DeviationParams(), blocks, rows, **options)


def rows_of(scene):
    return people_rows(scene.inputs, MaskParams())[0]


def test_plans_are_the_same_for_every_trial_and_differ_by_seed(make_scene):
    rows = rows_of(make_scene(duration_s=120))
    assert plan_anomalies(rows, 0) == plan_anomalies(rows, 0) != plan_anomalies(rows, 1)


def test_plans_keep_apart_on_usable_rows_within_the_budget(make_scene):
    rows = rows_of(make_scene(duration_s=300, hidden_s=[(50.0, 90.0)]))
    planted = plan_anomalies(rows, 0)
    assert len(planted) >= 8 and {p.kind for p in planted} == {"burst", "amplify"}
    assert all(rows.usable[p.row] for p in planted)
    assert sum(p.length_s for p in planted) <= SHARE * rows.usable.sum() * rows.interval_s
    for one, two in itertools.pairwise(planted):
        assert two.centre_s - two.length_s / 2 > one.centre_s + one.length_s / 2


def test_planting_touches_its_moments_only_and_fills_nothing_in(make_scene):
    scene = make_scene(duration_s=120, hidden_s=[(50.0, 52.0)])
    rows = rows_of(scene)
    blocks = build_blocks(scene.inputs, rows, "all")
    planted = plan_anomalies(rows, 0)
    near = np.zeros(len(rows), dtype=bool)
    for p in planted:
        near |= np.abs(rows.time_s - p.centre_s) <= p.length_s / 2
    for before, after in zip(blocks, plant(blocks, rows, planted, 0), strict=True):
        np.testing.assert_array_equal(after.x[~near], before.x[~near])
        np.testing.assert_array_equal(np.isnan(after.x), np.isnan(before.x))
        assert not np.array_equal(after.x[near], before.x[near], equal_nan=True)
    assert planted_rows(rows, planted).sum() >= len(planted)


def test_planted_anomalies_are_found_by_a_sane_trial_only(make_scene):
    scene = make_scene(bursts=((),), duration_s=180)

    class Blind(DeviationParams):
        """Scores at random."""

        def build(self, seed):
            del seed

            class Model:
                def fit(self, x):
                    return self

                def score(self, x):
                    return np.random.default_rng(0).random(len(x))

            return Model()

    assert judge(scene).injection() > 0.6
    assert judge(scene, Blind()).injection() < 0.4
    # A window far longer than the anomalies drowns them.
    assert judge(scene, window_s=60.0).injection() < judge(scene).injection() - 0.1


def test_a_stable_trial_is_called_stable(make_scene):
    scene = make_scene(bursts=((),), duration_s=180)
    few = judge(scene, IForestParams(n_estimators=10, max_samples=8)).stability()
    many = judge(scene, IForestParams(n_estimators=300)).stability()
    assert -1 <= few < many <= 1


@pytest.mark.parametrize("name", sorted(MODELS))
def test_scores_of_some_rows_are_those_of_all_rows(make_scene, name):
    trial = judge(make_scene(hidden_s=[(20.0, 26.0)], cuts_s=[40.0]), MODELS[name]())
    known = np.isfinite(trial.x).all(axis=1)
    model = trial.fit(trial.x, known)
    whole = trial.score(model, trial.x, np.flatnonzero(known))
    some = np.flatnonzero(known)[[401, 7, 8, 250]]
    np.testing.assert_allclose(trial.score(model, trial.x, some), whole[[401, 7, 8, 250]], atol=1e-7)


def test_a_model_of_courses_is_told_of_times_and_cuts(make_scene, monkeypatch):
    told = []
    score = SequenceModel.score

    def watched(self, x, times=None):
        told.append(times)
        return score(self, x, times)

    monkeypatch.setattr(SequenceModel, "score", watched)
    scene = make_scene(hidden_s=[(20.0, 26.0)], cuts_s=[40.0])
    trial = judge(scene, KMeansADParams())
    known = np.isfinite(trial.x).all(axis=1)
    trial.score(trial.fit(trial.x, known), trial.x, np.flatnonzero(known)[:3])
    rows = rows_of(scene)
    np.testing.assert_array_equal(told[0].time_s, rows.time_s[known])
    np.testing.assert_array_equal(told[0].stretch, rows.stretch[known])
    assert len(set(told[0].stretch)) == 2


def test_footage_too_short_to_judge_gives_nan(make_scene):
    scene = make_scene(bursts=((),), duration_s=4)
    assert np.isnan(judge(scene, window_s=2.0).stability())


def test_thinning_keeps_one_row_per_step():
    time_s = 5.0 + np.arange(100) / 10
    np.testing.assert_allclose(np.diff(time_s[thinned(time_s, 0.5)]), 0.5)
    assert list(thinned(time_s, 0.01)) == list(range(100))
    assert len(thinned(np.zeros(0), 0.5)) == 0
