import itertools
from dataclasses import replace

import numpy as np
import pytest

from faceline.anomaly.features import build_blocks
from faceline.anomaly.injection import CLEAR_S, SHARE, clear_rows, plan_anomalies, plant, planted_rows
from faceline.anomaly.judge import Judge, Planting, thinned
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
    assert judge(scene, window_s=8.0).injection() < judge(scene).injection() - 0.1


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


def test_windows_of_the_same_footage_are_those_of_the_judge(make_scene):
    scene = make_scene(hidden_s=[(20.0, 26.0)])
    trial = judge(scene)
    rows = rows_of(scene)
    blocks = build_blocks(scene.inputs, rows, "expressions")
    np.testing.assert_array_equal(trial.windows(blocks, rows), trial.x)
    # Other footage is measured with the same yardstick, not with its own.
    doubled = [replace(b, x=2 * b.x) for b in blocks]
    assert np.nanmean(np.abs(trial.windows(doubled, rows))) > 1.5 * np.nanmean(np.abs(trial.x))


def test_another_seed_plants_elsewhere_and_the_same_one_where_it_did(make_scene):
    trial = judge(make_scene(bursts=((),), duration_s=120))
    one, again, other = trial.planted(), trial.planted(), trial.planted(other_seed=1)
    np.testing.assert_array_equal(one.score, again.score)
    assert set(one.row[one.truth]) != set(other.row[other.truth])
    assert trial.injection() == one.average_precision()
    for planted in (one, other):
        assert np.isfinite(planted.score).all() and len(set(planted.row)) == len(planted.row)
        assert 0 < planted.truth.sum() < 0.5 * len(planted.truth)
        assert planted.average_precision() > 0.5


def test_untouched_windows_do_not_reach_into_planted_moments(make_scene):
    scene = make_scene(bursts=((),), duration_s=120)
    planted, rows = judge(scene, window_s=2.0).planted(), rows_of(scene)
    there, untouched = rows.time_s[planted.row[planted.truth]], rows.time_s[planted.row[~planted.truth]]
    assert np.abs(untouched[:, None] - there).min() > 1.0


def test_the_highest_untouched_scores_count_for_nothing():
    """They may be real anomalies; but no more than a few may be passed over."""
    truth = np.arange(120) < 20
    score = np.where(truth, 5.0, 0.0)
    score[115:] = 9.0  # 5 of 100
    assert Planting(np.arange(120), truth, score).average_precision() == 1.0
    score[110:] = 9.0
    assert Planting(np.arange(120), truth, score).average_precision() < 0.95


def test_another_seed_changes_what_is_random_and_nothing_else(make_scene):
    scene = make_scene(hidden_s=[(20.0, 26.0)])
    trees = judge(scene, IForestParams(n_estimators=30))
    known = np.isfinite(trees.x).all(axis=1)
    here, there = trees.score(trees.fit(trees.x, known), trees.x, np.flatnonzero(known)), trees.reseeded()
    np.testing.assert_array_equal(np.isfinite(there), known)
    assert not np.array_equal(here, there[known]) and np.corrcoef(here, there[known])[0, 1] > 0.8
    plain = judge(scene)
    expected = plain.score(plain.fit(plain.x, known), plain.x, np.flatnonzero(known))
    np.testing.assert_array_equal(plain.reseeded()[known], expected)


def test_half_of_the_faces_give_nearly_the_same_scores(make_scene):
    scene = make_scene(hidden_s=[(20.0, 26.0)])
    trial = judge(scene, window_s=2.0)
    known = np.isfinite(trial.x).all(axis=1)
    whole = np.full(len(known), np.nan)
    whole[known] = trial.score(trial.fit(trial.x, known), trial.x, np.flatnonzero(known))
    halved = trial.halved()
    assert np.isnan(halved[1::2]).all() and np.isnan(halved[~rows_of(scene).usable]).all()
    there = np.isfinite(halved)
    assert there[::2].mean() > 0.85 and np.corrcoef(whole[there], halved[there])[0, 1] > 0.8
    # They are other scores, of fewer faces.
    assert not np.allclose(whole[there], halved[there])


def test_half_of_too_few_faces_says_nothing(make_scene):
    assert np.isnan(judge(make_scene(bursts=((),), duration_s=3.5)).halved()).all()


def test_clear_rows_are_usable_and_away_from_what_is_planted(make_scene):
    rows = rows_of(make_scene(duration_s=120, hidden_s=[(50.0, 52.0)]))
    planted = plan_anomalies(rows, 0)
    clear = clear_rows(rows, planted)
    away = [np.abs(rows.time_s - p.centre_s) - p.length_s / 2 for p in planted]
    np.testing.assert_array_equal(clear, rows.usable & (np.min(away, axis=0) > CLEAR_S))
    assert clear.sum() > 0.4 * len(rows)


def test_every_window_length_is_asked_about_the_same_rows(make_scene):
    scene = make_scene(bursts=((),), duration_s=600)
    asked = [judge(scene, window_s=w).planted() for w in (0.25, 1.0, 4.0)]
    usual = [set(p.row[~p.truth]) for p in asked]
    # At the ends of the footage a long window is not covered.
    assert all(len(usual[0] ^ other) < 0.01 * len(usual[0]) for other in usual[1:])
