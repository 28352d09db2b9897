import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from faceline.anomaly.gridsearch import EVENTS_SCHEMA, GRIDSEARCH, TRIALS_SCHEMA, GridsearchParams, scores_schema
from faceline.anomaly.trial import TRIAL, TrialParams
from faceline.stage import MemoryInputs, Runtime, collect

GRID = [
    TrialParams(model={"name": "iforest", "n_estimators": 60}),
    TrialParams(model={"name": "iforest", "n_estimators": 60}, features="all"),
    TrialParams(model={"name": "ocsvm"}),
    TrialParams(model={"name": "ocsvm"}, features="embeddings"),
    TrialParams(model={"name": "lof"}, window_s=2),
    TrialParams(model={"name": "deviation"}, window_s=0.5),
]


def with_trials(inputs, grid=GRID):
    outs = [collect(TRIAL.compute(params, inputs, Runtime())) for params in grid]
    trials = {("trial", name): pa.concat_tables([out[name] for out in outs]) for name in ("scores", "summary", "planted")}
    return MemoryInputs({**inputs.payloads, **trials})


@pytest.fixture(scope="module")
def two(make_scene):
    """Two people with bursts, and three faces of nobody, all trials run."""
    scene = make_scene(bursts=((12.0, 30.0, 47.0), (20.0, 40.0)), unknown=3)
    return type(scene)(with_trials(scene.inputs), scene.bursts)


def search(inputs, **params):
    return collect(GRIDSEARCH.compute(GridsearchParams(**params), inputs, Runtime()))


def frames(out):
    return {name: table.to_pandas() for name, table in out.items()}


def test_finds_the_bursts_of_everybody_and_little_else(two):
    out = search(two.inputs)
    assert out["trials"].schema == TRIALS_SCHEMA and out["events"].schema == EVENTS_SCHEMA
    assert out["scores"].schema == scores_schema(["iforest", "ocsvm", "lof", "deviation"])
    events = frames(out)["events"]
    hits = 0
    for person, bursts in two.bursts.items():
        peaks = events[events.person == person].peak_s
        hits += sum(((peaks >= a - 0.5) & (peaks <= b + 0.5)).any() for a, b in bursts)
    assert hits >= 3 and len(events) <= hits + 1
    assert events["top_features"].str.contains("mouth opening \\+").all()
    assert (events["flags"] == "").all()


def test_tables_agree_with_each_other(two):
    inputs = two.inputs
    tables = frames(search(inputs))
    scores, events, trials = tables["scores"], tables["events"], tables["trials"]
    faces = inputs.table("align", "faces").to_pandas()
    assert (scores[["segment", "face", "frame", "time_s"]] == faces[["segment", "face", "frame", "time_s"]]).all().all()
    assert list(events["rank"]) == list(events["event"]) == list(range(1, len(events) + 1))
    assert list(events["p_value"]) == sorted(events["p_value"])
    for event in events.itertuples():
        mine = scores[scores.event == event.event]
        assert (mine.person == event.person).all() and mine.is_anomaly.all() and mine.score.notna().all()
        assert len(mine) == event.faces
        assert mine.time_s.min() == event.start_s and mine.time_s.max() == event.end_s
        peak = mine.loc[mine.score.idxmax()]
        assert (peak.time_s, peak.frame, peak.segment, peak.face) == (
            event.peak_s,
            event.frame,
            event.segment,
            event.face,
        )
        assert peak.score >= peak.threshold
    assert scores.is_anomaly.sum() == scores.event.notna().sum()
    unknown = scores[scores.person.isna()]
    assert len(unknown) == 3 and unknown.score.isna().all() and not unknown.is_anomaly.any()
    for _, mine in trials.groupby("person"):
        assert sorted(mine["rank"]) == list(range(1, len(GRID) + 1))
        assert set(mine[mine.chosen]["rank"]) == set(range(1, 1 + len(GRID) // 2))
        assert mine.sort_values("rank").objective.is_monotonic_decreasing


def test_model_columns_are_those_of_each_models_best_trial(two):
    tables = frames(search(two.inputs))
    every = two.inputs.table("trial", "scores").to_pandas()
    for (person, model), mine in tables["trials"].groupby(["person", "model"]):
        best = mine.sort_values("rank").trial.iloc[0]
        expected = every[(every.trial == best) & (every.person == person)].score
        np.testing.assert_allclose(tables["scores"][tables["scores"].person == person][f"score_{model}"], expected)


def test_best_takes_the_first_trial_alone(two):
    tables = frames(search(two.inputs, select="best"))
    trials, scores = tables["trials"], tables["scores"]
    every = two.inputs.table("trial", "scores").to_pandas()
    for person in (1, 2):
        best = trials[trials.person == person].sort_values("rank").trial.iloc[0]
        expected = every[(every.trial == best) & (every.person == person)].score
        np.testing.assert_allclose(scores[scores.person == person].score, np.clip(expected, None, 30), atol=1e-4)


def test_the_order_of_trials_does_not_matter(two):
    turned = {
        ("trial", name): pa.concat_tables(
            [table.filter(pc.equal(table["trial"], t)) for t in table["trial"].unique().to_pylist()[::-1]]
        )
        for name, table in ((name, two.inputs.table("trial", name)) for name in ("scores", "summary", "planted"))
    }
    here, there = (search(i) for i in (two.inputs, MemoryInputs({**two.inputs.payloads, **turned})))
    assert here["events"].equals(there["events"]) and here["scores"].equals(there["scores"])


def test_no_event_reaches_over_a_cut_or_rests_on_masked_faces(make_scene):
    scene = make_scene(bursts=((12.0, 30.0, 47.0),), cuts_s=[30.0], hidden_s=[(46.0, 48.0)], duration_s=90)
    tables = frames(search(with_trials(scene.inputs)))
    for event in tables["events"].itertuples():
        assert not event.start_s < 30.0 - 1e-6 < event.end_s
        assert not 46.0 <= event.peak_s <= 48.0
    masked = tables["scores"].time_s.between(46.0, 48.0)
    assert not tables["scores"].is_anomaly[masked].any()


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_unusual_gives_nothing(make_scene, seed):
    out = search(with_trials(make_scene(bursts=((),), seed=seed, duration_s=90).inputs), events={"false_per_footage": 0.05})
    assert out["events"].num_rows <= 1


def test_too_little_footage_gives_no_events_and_no_threshold(make_scene):
    tables = frames(search(with_trials(make_scene(bursts=((),), duration_s=2).inputs)))
    assert len(tables["events"]) == 0 and tables["scores"].threshold.isna().all()
    assert tables["trials"]["rank"].isna().all() and not tables["trials"].chosen.any()


def test_nobody_gives_empty_tables_with_their_schema(make_scene):
    inputs = make_scene(duration_s=5).inputs
    payloads = {key: value[:0] for key, value in inputs.payloads.items() if isinstance(value, np.ndarray)}
    payloads |= {key: value.slice(0, 0) for key, value in inputs.payloads.items() if isinstance(value, pa.Table)}
    payloads["sample", "frames"] = inputs.table("sample", "frames")
    out = search(with_trials(MemoryInputs(payloads)))
    assert out["events"].schema == EVENTS_SCHEMA and out["trials"].schema == TRIALS_SCHEMA
    assert [out[name].num_rows for name in ("trials", "scores", "events")] == [0, 0, 0]


def test_max_events_limits_each_person(two):
    events = frames(search(two.inputs, events={"max_events": 1}))["events"]
    assert events.groupby("person").size().max() == 1


def test_light_that_changes_with_an_event_is_flagged(two):
    inputs = two.inputs
    faces = inputs.table("align", "faces")
    time_s = faces["time_s"].to_numpy()
    luma = np.where(np.abs(time_s - 30.0) < 1.0, 200.0, 120.0) + np.sin(time_s)
    column = faces.column_names.index("luma_mean")
    payloads = {**inputs.payloads, ("align", "faces"): faces.set_column(column, "luma_mean", pa.array(luma))}
    events = frames(search(MemoryInputs(payloads)))["events"]
    at_thirty = (events.peak_s - 30.0).abs() < 1.0
    assert (events[at_thirty]["flags"] == "light changed").all() and at_thirty.any()
    assert (events[~at_thirty]["flags"] == "").all()
