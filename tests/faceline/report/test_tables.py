"""The CSV files: literal bytes, the contract's columns, missing values, and text that must not harm."""

from __future__ import annotations

import csv
import io

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceline.report import tables
from faceline.report.findings import face_keys, load
from faceline.timeline import timecode
from tests.faceline.report import factory

PERSON_HEAD = (
    "frame,time_s,timecode,track,x_px,y_px,w_px,h_px,quality,yaw_deg,pitch_deg,roll_deg,"
    "angry,disgust,fear,happy,sad,surprise,neutral,comp_1,comp_2,comp_3,"
    "mouth_opening,smile,brow_raise_left,brow_raise_right,eye_closure_left,eye_closure_right,"
    "score_iforest,score_ocsvm,score_lof,score,is_anomaly,event,expected_false,flags,explained,reason"
)
EVENTS_HEAD = (
    "person,rank,start_s,peak_s,end_s,start_timecode,peak_timecode,end_timecode,score,p_value,quality,"
    "top_features,frame,thumbnail,expected_false,survival,flags,explained"
)


def _read(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode("utf-8"), newline="")))


def test_cells_have_a_fixed_form() -> None:
    table = pa.table(
        {
            "frame": pa.array([7, None], pa.int64()),
            "time_s": pa.array([83.4000001, -0.0]),
            "x_px": pa.array([12.345678, float("nan")], pa.float32()),
            "quality": pa.array([0.123456, float("inf")]),
            "p_value": pa.array([1.23456789e-7, 0.002]),
            "is_anomaly": pa.array([True, None]),
            "top_features": pa.array(['say "cheese", now', None]),
        }
    )
    assert tables.to_csv(table) == (
        b"frame,time_s,x_px,quality,p_value,is_anomaly,top_features\n"
        b'7,83.4,12.35,0.1235,1.23457e-7,true,"say ""cheese"", now"\n'
        b",0,,,0.002,,\n"
    )


def test_events_csv_to_the_byte() -> None:
    inputs = factory.make(factory.Script(events=(), pictures=False))
    findings = load(inputs)
    event = {
        **{"event": 0, "person": 1, "rank": 1, "start_s": 82.5, "peak_s": 83.4, "end_s": 3684.25, "score": 6.78912},
        **{"p_value": 0.002, "quality": 0.81, "top_features": "mouth opening +5.2, fear +3.1", "frame": 2502},
        **{"segment": 0, "face": 0, "faces": 3, "flags": "", "expected_false": 0.0000123456789, "survival": 0.75},
        "explained": False,
    }
    other = {**event, "rank": 2, "flags": "head turned, light changed", "survival": None, "explained": True}
    findings = type(findings)(**{**findings.__dict__, "events": pa.Table.from_pylist([event, other], factory.EVENTS)})
    assert tables.events_csv(findings, ["organized_faces/person_1/a.jpg", None]).decode() == (
        EVENTS_HEAD + "\n"
        '1,1,82.5,83.4,3684.25,00:01:22.500,00:01:23.400,01:01:24.250,6.7891,0.002,0.81,"mouth opening +5.2, fear +3.1"'
        ",2502,organized_faces/person_1/a.jpg,0.0000123457,0.75,,false\n"
        '1,2,82.5,83.4,3684.25,00:01:22.500,00:01:23.400,01:01:24.250,6.7891,0.002,0.81,"mouth opening +5.2, fear +3.1"'
        ',2502,,0.0000123457,,"head turned, light changed",true\n'
    )


def test_person_csv_holds_each_face_of_the_person_once_in_time_order() -> None:
    script = factory.Script(
        length_s=30,
        persons=(((0, 30),), ((5, 25),)),
        events=((1, 10, 11),),
        segment_s=7,
        unknown_every=11,
        no_face_every=13,
        no_crop_every=5,
        pictures=False,
    )
    inputs = factory.make(script)
    persons = inputs.table("cluster", "persons")
    state = inputs.table("align", "faces")["state"].to_pylist()
    findings = load(inputs)
    for person in (1, 2):
        data = tables.person_csv(findings, person)
        assert data.decode().split("\n", 1)[0] == PERSON_HEAD
        rows = _read(data)
        expected = [
            (row["frame"], row["track"])
            for row, s in zip(persons.to_pylist(), state, strict=True)
            if row["person"] == person and s != "no_face"
        ]
        assert sorted((int(row["frame"]), int(row["track"])) for row in rows) == sorted(expected)
        times = [float(row["time_s"]) for row in rows]
        assert times == sorted(times)
        assert all(row["timecode"] == timecode(float(row["time_s"])) for row in rows)


def test_joins_go_by_key_whatever_the_order_of_rows() -> None:
    inputs = factory.make(factory.Script(length_s=12, segment_s=5, pictures=False, events=((1, 3, 4),)))
    before = tables.person_csv(load(inputs), 1)
    shuffled = dict(inputs.payloads)
    rng = np.random.default_rng(3)
    for name in (("emote", "expressions"), ("embed", "embedded"), ("gridsearch", "scores"), ("align", "faces")):
        table = shuffled[name]
        assert isinstance(table, pa.Table)
        shuffled[name] = table.take(rng.permutation(table.num_rows))
    assert tables.person_csv(load(type(inputs)(shuffled, facts=inputs.facts)), 1) == before


def test_values_reach_their_own_row() -> None:
    inputs = factory.make(factory.Script(length_s=12, segment_s=5, pictures=False, events=((1, 3, 4),)))
    by_frame = {row["frame"]: row for row in inputs.table("emote", "expressions").to_pylist()}
    scores = {row["frame"]: row for row in inputs.table("gridsearch", "scores").to_pylist()}
    for row in _read(tables.person_csv(load(inputs), 1)):
        frame = int(row["frame"])
        assert float(row["mouth_opening"]) == pytest.approx(by_frame[frame]["mouth_opening"], abs=1e-5)
        assert float(row["score_lof"]) == pytest.approx(scores[frame]["score_lof"], abs=1e-4)
        assert row["event"] == ("" if scores[frame]["event"] is None else str(scores[frame]["event"]))


def test_missing_stays_empty() -> None:
    inputs = factory.make(factory.Script(length_s=5, no_crop_every=4, events=(), pictures=False))
    rows = _read(tables.person_csv(load(inputs), 1))
    empty = [row for row in rows if not row["mouth_opening"]]
    assert len(empty) == 12
    for row in empty:
        assert {row[name] for name in ("yaw_deg", "fear", "neutral", "score", "score_lof", "is_anomaly", "event")} == {
            ""
        }
        assert row["x_px"] and row["quality"]


def test_a_face_that_was_not_scored_has_empty_scores() -> None:
    inputs = factory.make(factory.Script(length_s=5, events=(), pictures=False))
    payloads = dict(inputs.payloads)
    scores = inputs.table("gridsearch", "scores")
    payloads["gridsearch", "scores"] = scores.slice(0, 10)
    rows = _read(tables.person_csv(load(type(inputs)(payloads, facts={})), 1))
    assert [bool(row["score"]) for row in rows] == [True] * 10 + [False] * 40


def test_a_face_of_an_event_repeats_what_is_known_of_it() -> None:
    script = factory.Script(length_s=12, pictures=False, events=((1, 3, 4), (1, 8, 9)), explained=1)
    rows = _read(tables.person_csv(load(factory.make(script)), 1))
    seen = {row["event"]: (row["expected_false"], row["flags"], row["explained"]) for row in rows}
    assert seen == {
        "": ("", "", ""),
        "0": ("0.02", "", "false"),
        "1": ("0.04", "head turned, light changed", "true"),
    }


def test_explained_events_come_last_whatever_their_rank() -> None:
    inputs = factory.make(factory.Script(length_s=12, pictures=False, events=((1, 3, 4), (1, 8, 9))))
    events = inputs.table("gridsearch", "events").to_pylist()
    events[0]["explained"] = True
    payloads = {**inputs.payloads, ("gridsearch", "events"): pa.Table.from_pylist(events, factory.EVENTS)}
    rows = _read(tables.events_csv(load(type(inputs)(payloads, facts=inputs.facts)), [None, None]))
    assert [(row["rank"], row["explained"]) for row in rows] == [("2", "false"), ("1", "true")]


def test_no_faces_gives_no_rows_but_all_columns() -> None:
    findings = load(factory.empty())
    assert tables.events_csv(findings, []).decode() == EVENTS_HEAD + "\n"
    assert tables.person_csv(findings, 1).decode() == PERSON_HEAD + "\n"


def test_positions_beyond_the_first_segment_do_not_collide() -> None:
    table = pa.table({"segment": pa.array([0, 1, 1], pa.int32()), "face": pa.array([1, 0, 1], pa.int64())})
    assert len(set(face_keys(table).tolist())) == 3


@settings(deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=12), min_size=1, max_size=8))
def test_any_text_comes_back_and_is_never_a_formula(texts: list[str]) -> None:
    table = pa.table({"person": pa.array(range(len(texts)), pa.int64()), "top_features": pa.array(texts, pa.string())})
    rows = _read(tables.to_csv(table))
    assert len(rows) == len(texts)
    for row, text in zip(rows, texts, strict=True):
        cell = row["top_features"]
        assert cell in (text, "'" + text)
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", '=HYPERLINK("http://x")'])
def test_formulas_are_disarmed(text: str) -> None:
    table = pa.table({"top_features": [text], "score": [-1.5]})
    row = _read(tables.to_csv(table))[0]
    assert row["top_features"] == "'" + text
    assert row["score"] == "-1.5"


def test_an_hour_is_written_whole() -> None:
    inputs = factory.make(factory.Script(length_s=900, persons=(((0, 900),),), events=(), pictures=False))
    assert tables.person_csv(load(inputs), 1).count(b"\n") == 9001
