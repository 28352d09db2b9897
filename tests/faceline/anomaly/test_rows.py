import numpy as np
import pyarrow as pa
import pytest

from faceline.anomaly.rows import (
    MASK_REASONS,
    MaskParams,
    Shots,
    mask_reasons,
    people_rows,
    sampling_interval_s,
    stretches,
)


def test_faces_of_nobody_belong_to_nobody(make_scene):
    scene = make_scene(bursts=((), ()), duration_s=5, unknown=7)
    people = people_rows(scene.inputs, MaskParams())
    assert [p.person for p in people] == [1, 2]
    assert sum(map(len, people)) == 100
    assert not set(people[0].index) & set(people[1].index)


def test_rows_are_in_order_of_time_and_keep_their_place(make_scene):
    scene = make_scene(bursts=((), ()), duration_s=5)
    faces = scene.inputs.table("align", "faces")
    order = np.random.default_rng(0).permutation(faces.num_rows)
    payloads = dict(scene.inputs.payloads)
    for key in (("align", "faces"), ("cluster", "persons")):
        payloads[key] = payloads[key].take(pa.array(order))
    shuffled = people_rows(type(scene.inputs)(payloads), MaskParams())
    for rows in shuffled:
        assert (np.diff(rows.time_s) > 0).all()
        times = payloads["align", "faces"]["time_s"].to_numpy()
        np.testing.assert_array_equal(times[rows.index], rows.time_s)


def test_tables_that_do_not_line_up_are_refused(make_scene):
    scene = make_scene(duration_s=5)
    payloads = dict(scene.inputs.payloads)
    payloads["cluster", "persons"] = payloads["cluster", "persons"].slice(1)
    with pytest.raises(ValueError, match="line up"):
        people_rows(type(scene.inputs)(payloads), MaskParams())


def test_each_masked_row_counts_once_with_its_first_reason():
    state = np.array(["ok", "no_face", "ok", "ok", "no_mesh", "too_small"], dtype=object)
    quality = np.array([0.9, np.nan, 0.01, 0.9, 0.9, 0.9])
    pose = np.array([[0, 0, 0], [0, 0, 0], [80, 0, 0], [80, 0, 0], [np.nan] * 3, [0, 0, 0]], dtype=float)
    reason = mask_reasons(state, quality, pose, MaskParams())
    names = [MASK_REASONS[i] if i >= 0 else "" for i in reason]
    assert names == ["", "no_face", "quality", "turned", "", "no_face"]


def test_masked_rows_are_counted_and_kept(make_scene):
    (rows,) = people_rows(make_scene(duration_s=20, hidden_s=[(5.0, 6.95)]).inputs, MaskParams())
    assert len(rows) == 200 and (~rows.usable).sum() == 20
    assert rows.masked == {"no_face": 20, "quality": 0, "turned": 0}


@pytest.mark.parametrize(("gap_s", "count"), [(0.5, 1), (1.5, 2)])
def test_a_gap_starts_a_new_stretch(make_scene, gap_s, count):
    scene = make_scene(duration_s=20, away_s=[(5.0, 5.0 + gap_s - 0.15)])
    (rows,) = people_rows(scene.inputs, MaskParams())
    assert len(np.unique(rows.stretch)) == count


def test_a_cut_starts_a_new_stretch_for_everybody(make_scene):
    for rows in people_rows(make_scene(duration_s=20, bursts=((), ()), cuts_s=[12.0]).inputs, MaskParams()):
        np.testing.assert_array_equal(rows.stretch, (rows.time_s >= 12.0 - 1e-9).astype(int))


def test_a_cut_while_the_person_is_away_counts():
    frames = pa.table({"frame": np.arange(10), "time_s": np.arange(10) / 10, "cut": np.arange(10) == 4})
    seen = np.array([1, 2, 6, 7])
    assert list(Shots.of(frames).of_frame(seen)) == [0, 0, 1, 1]
    assert list(stretches(seen / 10, Shots.of(frames).of_frame(seen), 1.0)) == [0, 0, 1, 1]


def test_slow_sampling_is_no_gap(make_scene):
    (rows,) = people_rows(make_scene(duration_s=200, fps=0.5, bursts=((),)).inputs, MaskParams())
    assert rows.interval_s == pytest.approx(2.0)
    assert set(rows.stretch) == {0}


def test_no_faces_at_all(make_scene):
    scene = make_scene(duration_s=5)
    payloads = {key: value[:0] for key, value in scene.inputs.payloads.items() if isinstance(value, np.ndarray)}
    payloads |= {key: value.slice(0, 0) for key, value in scene.inputs.payloads.items() if isinstance(value, pa.Table)}
    assert people_rows(type(scene.inputs)(payloads), MaskParams()) == []


@pytest.mark.parametrize(("source_fps", "fps"), [(25, 10), (30, 10), (15, 10), (29.97, 4)])
def test_the_sampling_interval_is_what_a_face_stands_for(source_fps, fps):
    ticks = np.arange(0, 60, 1 / fps)
    time_s = np.unique(np.round(ticks * source_fps) / source_fps)
    time_s = np.concatenate([time_s[time_s < 20], time_s[time_s >= 20] + 15.0])  # nothing could be read for a while
    interval_s = sampling_interval_s(pa.table({"time_s": time_s}))
    assert interval_s == pytest.approx(1 / fps, rel=0.01)
    assert len(time_s) * interval_s == pytest.approx(60.0, rel=0.01)


def test_one_frame_has_an_interval():
    assert sampling_interval_s(pa.table({"time_s": [3.0]})) == 0.1
