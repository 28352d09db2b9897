"""The closing lines on the console, to the letter."""

from __future__ import annotations

import pyarrow as pa
import pytest

from faceline.report.summary import console_summary, event_rows
from faceline.stage import MemoryInputs
from tests.faceline.report import factory


def _inputs(events: list[dict[str, object]], persons: int = 1, **script: object) -> MemoryInputs:
    stretches = tuple(((0.0, 5.0),) for _ in range(persons))
    inputs = factory.make(factory.Script(length_s=5, persons=stretches, events=(), pictures=False, **script))  # type: ignore[arg-type]
    base = {
        **{"event": 0, "person": 1, "rank": 1, "start_s": 1.0, "peak_s": 83.4, "end_s": 2.0, "score": 5.0},
        **{"p_value": 0.002, "quality": 0.8, "top_features": "mouth opening +5.2, fear +3.1"},
        **{"frame": 3, "segment": 0, "face": 1, "faces": 3, "flags": "", "explained": False, "expected_false": 0.02},
    }
    table = pa.Table.from_pylist([{**base, **event} for event in events], factory.EVENTS)
    return MemoryInputs({**inputs.payloads, ("gridsearch", "events"): table})


def test_ten_of_twelve() -> None:
    events = [{"event": i, "rank": 12 - i, "peak_s": 83.4 + i} for i in range(12)]
    assert console_summary(_inputs(events)) == "\n".join(
        [
            "Time of top 10 anomalies:",
            *(f"- 00:01:{34 - i}.400  person 1  p=0.002  mouth opening, fear" for i in range(10)),
            "… and 2 more in 'events.csv'",
            "Only 5.0 s were judged: in so little footage hardly any moment can be told from chance.",
            "Details saved to 'anomaly_detection_results_person_1.csv'",
        ]
    )


def test_footage_too_short_to_judge_is_not_called_usual() -> None:
    inputs = _inputs([])
    verdicts = inputs.table("gridsearch", "verdicts").to_pylist()
    verdicts[0] |= {"state": "insufficient data", "reason": "too few usable faces", "threshold": None}
    table = pa.Table.from_pylist(verdicts, factory.VERDICTS)
    summary = console_summary(MemoryInputs({**inputs.payloads, ("gridsearch", "verdicts"): table}))
    assert "Too little usable footage of 1 person" in summary
    assert "usual for this person" not in summary


def test_fewer_and_several_persons() -> None:
    events = [{}, {"event": 1, "rank": 2, "person": 2, "p_value": 0.0001, "top_features": "smile -3.0"}]
    assert console_summary(_inputs(events, persons=2)) == (
        "Time of top 2 anomalies:\n"
        "- 00:01:23.400  person 1  p=0.002  mouth opening, fear\n"
        "- 00:01:23.400  person 2  p<0.001  smile\n"
        "Person 1: only 5.0 s were judged: in so little footage hardly any moment can be told from chance.\n"
        "Person 2: only 5.0 s were judged: in so little footage hardly any moment can be told from chance.\n"
        "Details saved to 'anomaly_detection_results_person_1.csv', 'anomaly_detection_results_person_2.csv'"
    )


def test_one() -> None:
    assert console_summary(_inputs([{}])).startswith("Time of top 1 anomaly:\n- 00:01:23.400")


def test_many_persons_are_not_all_named() -> None:
    last = console_summary(_inputs([{}], persons=5)).splitlines()[-1]
    assert last == (
        "Details saved to 'anomaly_detection_results_person_1.csv' … 'anomaly_detection_results_person_5.csv'"
    )


def test_none() -> None:
    assert console_summary(_inputs([])) == (
        "No anomalies: no moment stands out from what is usual for this person in this footage.\n"
        "Only 5.0 s were judged: in so little footage hardly any moment can be told from chance.\n"
        "Details saved to 'anomaly_detection_results_person_1.csv'"
    )


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (factory.empty(), "No faces found in 30 sampled frames: nothing to compare."),
        (factory.empty(frames=1), "No faces found in 1 sampled frame: nothing to compare."),
        (factory.empty(frames=0), "Nothing to compare: not one frame could be read."),
        (
            factory.make(factory.Script(length_s=2, events=(), unknown_every=1, pictures=False)),
            "No person found among 20 faces: nothing to compare.",
        ),
    ],
    ids=["no faces", "one frame", "no frames", "no persons"],
)
def test_nothing(inputs: MemoryInputs, words: str) -> None:
    assert console_summary(inputs) == words


def test_damage_comes_first() -> None:
    assert console_summary(_inputs([{}], damaged_at_s=4.25)).splitlines()[0] == (
        "Warning: the footage is damaged at 00:00:04.250 (Invalid data found when processing input);"
        " what could not be decoded was not looked at."
    )


def test_unknown_p_and_control_characters() -> None:
    text = console_summary(_inputs([{"p_value": None, "top_features": "a\x1b[31m\nb +1.0"}]))
    assert text.splitlines()[1] == "- 00:01:23.400  person 1  p unknown  a [31m b"


def test_flags_stand_beside_the_moments_that_have_them() -> None:
    lines = console_summary(_inputs([{"flags": "head turned,\x07light changed"}])).splitlines()
    assert lines[1] == "- 00:01:23.400  person 1  p=0.002  mouth opening, fear  (also: head turned, light changed)"


def test_explained_moments_are_counted_apart_and_never_listed() -> None:
    events = [
        {"event": 0, "rank": 1, "explained": True, "flags": "light changed"},
        {"event": 1, "rank": 2},
        {"event": 2, "rank": 3, "explained": True, "flags": "head turned, light changed"},
    ]
    assert console_summary(_inputs(events)).splitlines()[:4] == [
        "Time of top 1 anomaly:",
        "- 00:01:23.400  person 1  p=0.002  mouth opening, fear",
        "Only 5.0 s were judged: in so little footage hardly any moment can be told from chance.",
        "2 moments are explained (head turned, light changed) and not counted; see 'events.csv'",
    ]
    alone = console_summary(_inputs(events[:1])).splitlines()
    assert alone[0].startswith("No anomalies")
    assert alone[2] == "1 moment is explained (light changed) and not counted; see 'events.csv'"


def test_events_for_others_carry_their_drivers_and_stand_in_order() -> None:
    inputs = factory.make(factory.Script(length_s=12, events=((1, 3, 4), (1, 8, 9)), explained=1, pictures=False))
    rows = event_rows(inputs)
    assert [row["explained"] for row in rows] == [False, True]
    assert rows[0]["drivers"] == "mouth opening +5.2 (without it −62 %), fear +3.1, smile −2.0 (without it +2 %)"
