import json

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from faceline.anomaly.judge import Planting
from faceline.anomaly.models import MODELS
from faceline.anomaly.trial import PLANTED_SCHEMA, SCORES_SCHEMA, SUMMARY_SCHEMA, TRIAL, TrialParams, trial_id
from faceline.stage import MemoryInputs, Runtime, collect


def run(inputs, **params):
    return collect(TRIAL.compute(TrialParams(**params), inputs, Runtime()))


def one(table):
    assert table.num_rows == 1
    return table.to_pylist()[0]


@pytest.fixture(params=sorted(MODELS))
def model(request):
    return {"name": request.param}


def test_scores_bursts_highest_and_keeps_to_the_schema(make_scene, model):
    scene = make_scene()
    out = run(scene.inputs, model=model)
    assert out["scores"].schema == SCORES_SCHEMA and out["summary"].schema == SUMMARY_SCHEMA
    score, time_s = (out["scores"][c].to_numpy() for c in ("score", "time_s"))
    far = np.ones(len(time_s), dtype=bool)
    for a, b in scene.bursts[1]:
        far &= (time_s < a - 0.5) | (time_s > b + 0.5)
    for a, b in scene.bursts[1]:
        assert score[(time_s >= a) & (time_s <= b)].max() > np.quantile(score[far], 0.97)
    assert np.median(score) == pytest.approx(0, abs=1e-6)
    assert 1.4826 * np.median(np.abs(score)) == pytest.approx(1, rel=1e-5)
    row = one(out["summary"])
    assert row["state"] == "ok" and row["rows"] == row["scored"] == 600
    assert 0 < row["injection"] <= 1 and -1 <= row["stability"] <= 1
    assert row["blocks"] == "emotions+measures"


@pytest.mark.parametrize("features", ["components", "embeddings", "all"])
def test_every_feature_set_gives_scores(make_scene, features):
    out = run(make_scene().inputs, features=features, model={"name": "deviation"})
    assert one(out["summary"])["state"] == "ok" and out["scores"]["score"].null_count == 0


def test_people_are_judged_by_their_own_usual(make_scene):
    quiet, lively = (12.0,), ()
    out = run(make_scene(bursts=(quiet, lively)).inputs, model={"name": "deviation"})
    frame = out["scores"].to_pandas()
    assert list(out["summary"]["person"].to_pylist()) == [1, 2]
    for person in (1, 2):
        mine = frame[frame.person == person].score
        assert len(mine) == 600 and np.median(mine) == pytest.approx(0, abs=1e-6)


def test_masked_faces_have_no_score_and_are_counted(make_scene):
    out = run(make_scene(hidden_s=[(20.0, 21.95)]).inputs, model={"name": "deviation"})
    frame = out["scores"].to_pandas()
    hidden = frame.time_s.between(20.0 - 1e-6, 21.96)
    assert frame.score[hidden].isna().all() and frame.score[frame.time_s < 19].notna().all()
    assert one(out["summary"])["masked_no_face"] == 20


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"duration_s": 2.0, "bursts": ((),)}, "too few usable faces"),
        ({"duration_s": 30.0, "bursts": ((),), "hidden_s": [(0.0, 28.0)]}, "too few usable faces"),
    ],
)
def test_too_little_of_a_person_says_so(make_scene, changes, state):
    out = run(make_scene(**changes).inputs)
    assert one(out["summary"])["state"] == state
    assert out["scores"]["score"].null_count == out["scores"].num_rows
    assert one(out["summary"])["injection"] is None and out["planted"].num_rows == 0
    assert out["scores"]["score_reseeded"].null_count == out["scores"]["score_halved"].null_count == len(out["scores"])


def test_a_window_longer_than_the_footage_says_so(make_scene):
    out = run(make_scene(duration_s=20, bursts=((),)).inputs, window_s=120.0)
    assert one(out["summary"])["state"] == "too few covered windows"


def test_nobody_gives_empty_tables(make_scene):
    scene = make_scene(duration_s=5)
    payloads = dict(scene.inputs.payloads)
    persons = payloads["cluster", "persons"]
    nobody = pa.nulls(persons.num_rows, pa.int32())
    payloads["cluster", "persons"] = persons.set_column(persons.column_names.index("person"), "person", nobody)
    out = run(MemoryInputs(payloads))
    assert out["scores"].schema == SCORES_SCHEMA and out["scores"].num_rows == 0
    assert out["summary"].schema == SUMMARY_SCHEMA and out["summary"].num_rows == 0
    assert out["planted"].schema == PLANTED_SCHEMA and out["planted"].num_rows == 0


def test_is_reproducible(make_scene):
    inputs = make_scene().inputs
    assert run(inputs)["scores"].equals(run(inputs)["scores"])
    assert not run(inputs)["scores"].equals(run(inputs, seed=1)["scores"])


def test_when_the_footage_starts_does_not_matter(make_scene):
    here = run(make_scene(duration_s=30, bursts=((12.0,),)).inputs, model={"name": "deviation"})["scores"]
    later = run(make_scene(duration_s=30, bursts=((12.0,),), start_s=1234.5).inputs, model={"name": "deviation"})
    np.testing.assert_allclose(here["score"].to_numpy(), later["scores"]["score"].to_numpy(), atol=1e-4)


def test_order_of_rows_in_the_tables_does_not_matter(make_scene):
    scene = make_scene(duration_s=30, bursts=((12.0,),))
    order = np.random.default_rng(0).permutation(scene.inputs.table("align", "faces").num_rows)
    payloads = {
        key: value
        if key[0] == "sample"
        else value.take(pa.array(order))
        if isinstance(value, pa.Table)
        else value[order]
        for key, value in scene.inputs.payloads.items()
    }
    here, there = (run(i, model={"name": "deviation"})["scores"] for i in (scene.inputs, MemoryInputs(payloads)))
    np.testing.assert_allclose(here["score"].to_numpy(), there["score"].to_numpy(), atol=1e-5)


def test_trial_ids_are_readable_and_tell_parameters_apart():
    base = TrialParams()
    assert trial_id(base).startswith("iforest-expressions-1s-")
    others = [
        TrialParams(seed=1),
        TrialParams(window_s=2),
        TrialParams(model={"name": "iforest", "n_estimators": 50}),
        TrialParams(model={"name": "lof"}),
    ]
    assert len({trial_id(p) for p in [base, *others]}) == 5
    assert trial_id(TrialParams(window_s=0.5)).split("-")[2] == "0.5s"


def test_params_are_told_in_the_summary(make_scene):
    row = one(run(make_scene(duration_s=10, bursts=((),)).inputs, model={"name": "lof"})["summary"])
    assert TrialParams.model_validate(json.loads(row["params"])) == TrialParams(model={"name": "lof"})


@pytest.mark.parametrize(
    "bad",
    [
        {"model": {"name": "lof", "nu": 0.1}},
        {"model": {"name": "nope"}},
        {"window_s": 0},
        {"features": "faces"},
        {"x": 1},
    ],
)
def test_wrong_parameters_are_refused(bad):
    with pytest.raises(ValidationError):
        TrialParams.model_validate(bad)


def test_faces_left_out_of_the_halved_footage_have_no_score_there(make_scene):
    frame = run(make_scene().inputs, model={"name": "deviation"})["scores"].to_pandas()
    assert frame.score_halved[1::2].isna().all() and frame.score_halved[::2].notna().all()
    for name in ("score", "score_reseeded", "score_halved"):
        score = frame[name].dropna()
        assert np.median(score) == pytest.approx(0, abs=1e-6)
        assert 1.4826 * np.median(np.abs(score)) == pytest.approx(1, rel=1e-5)
    # Nothing is random in this model; another seed of the forest grows other trees.
    np.testing.assert_array_equal(frame.score, frame.score_reseeded)
    forest = run(make_scene().inputs, model={"name": "iforest", "n_estimators": 200})["scores"].to_pandas()
    assert (forest.score != forest.score_reseeded).mean() > 0.9
    assert forest.score.corr(forest.score_reseeded, method="spearman") > 0.8


def test_planted_moments_are_told_and_are_not_those_of_the_objective(make_scene):
    inputs = make_scene(bursts=((), ()), duration_s=90).inputs
    out = run(inputs, model={"name": "deviation"})
    planted = out["planted"].to_pandas()
    assert out["planted"].schema == PLANTED_SCHEMA and set(planted.person) == {1, 2}
    for row in out["summary"].to_pylist():
        mine = planted[planted.person == row["person"]]
        assert mine.row.between(0, row["rows"] - 1).all() and mine.row.is_unique and mine.score.notna().all()
        assert set(mine.planted) == {False, True} and (mine.trial == row["trial"]).all()
        found = Planting(*(mine[name].to_numpy() for name in ("row", "planted", "score"))).average_precision()
        assert found > 0.5 and found != pytest.approx(row["injection"], abs=1e-6)
