"""The end of a run in words: when the most unusual moments are, and where the details lie."""

from __future__ import annotations

import math
from typing import Any

from faceline.report.counts import compute_counts
from faceline.report.page import departures
from faceline.report.stage import person_table
from faceline.stage import Inputs
from faceline.timeline import timecode


def console_summary(inputs: Inputs, top: int = 10) -> str:
    """The closing lines for the console, without a line feed at the end.

    Args:
        inputs: sample, align, cluster and gridsearch.
        top: how many moments to name at most.
    """
    counts = compute_counts(inputs)
    lines = damage_lines(inputs)
    persons = sorted(inputs.table("cluster", "people", ("person",))["person"].to_pylist())
    events = inputs.table("gridsearch", "events").sort_by([("rank", "ascending"), ("event", "ascending")])
    if not counts["sampled"]:
        lines.append("Nothing to compare: not one frame could be read.")
    elif not counts["faces"]:
        lines.append(f"No faces found in {_count(counts['sampled'], 'sampled frame')}: nothing to compare.")
    elif not persons:
        lines.append(f"No person found among {_count(counts['faces'], 'face')}: nothing to compare.")
    elif not any(is_judged(inputs).values()):
        lines.append(
            f"Too little usable footage of {_count(len(persons), 'person')} to tell what is usual: nothing was judged."
        )
    elif not events.num_rows:
        judged = sum(is_judged(inputs).values())
        whose = "this person" if len(persons) == 1 else "each person" if judged == len(persons) else "who was judged"
        lines.append(f"No anomalies: every moment is within what is usual for {whose} in this footage.")
    else:
        shown = min(top, events.num_rows)
        lines.append(f"Time of top {shown} {'anomaly' if shown == 1 else 'anomalies'}:")
        lines += [_event_line(event) for event in events.slice(0, shown).to_pylist()]
        if events.num_rows > shown:
            lines.append(f"… and {events.num_rows - shown} more in 'events.csv'")
    unjudged = [person for person, judged in is_judged(inputs).items() if not judged]
    if unjudged and len(unjudged) < len(persons):
        who = f"person{'' if len(unjudged) == 1 else 's'} {', '.join(map(str, sorted(unjudged)))}"
        lines.append(f"Not judged, for too little usable footage: {who}.")
    if persons:
        lines.append(f"Details saved to {_files(persons)}")
    return "\n".join(lines)


def is_judged(inputs: Inputs) -> dict[int, bool]:
    """Per person, whether there was footage enough for a threshold; without one, no event is no finding."""
    judged: dict[int, bool] = {}
    table = inputs.table("gridsearch", "scores", ("person", "threshold"))
    for person, threshold in zip(table["person"].to_pylist(), table["threshold"].to_pylist(), strict=True):
        if person is not None:
            judged[person] = judged.get(person, False) or (threshold is not None and threshold == threshold)
    return judged


def damage_lines(inputs: Inputs) -> list[str]:
    """One warning per damaged segment."""
    lines = []
    for row in inputs.table("sample", "facts", ("segment", "damaged_at_s", "damage")).sort_by("segment").to_pylist():
        if row["damaged_at_s"] is None and not row["damage"]:
            continue
        where = "" if row["damaged_at_s"] is None else f" at {timecode(row['damaged_at_s'])}"
        why = f" ({_one_line(row['damage'])})" if row["damage"] else ""
        lines.append(f"Warning: the footage is damaged{where}{why}; what could not be decoded was not looked at.")
    return lines


def _event_line(event: dict[str, Any]) -> str:
    what = ", ".join(_one_line(part["what"]) for part in departures(event["top_features"]) if part["what"])
    return f"- {timecode(event['peak_s'])}  person {event['person']}  {_p(event['p_value'])}  {what}".rstrip()


def _p(p_value: float | None) -> str:
    if p_value is None or not math.isfinite(p_value):
        return "p unknown"
    return "p<0.001" if p_value < 0.0005 else f"p={p_value:.3f}"


def _files(persons: list[int]) -> str:
    if len(persons) <= 3:
        return ", ".join(f"'{person_table(person)}'" for person in persons)
    return f"'{person_table(persons[0])}' … '{person_table(persons[-1])}'"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _one_line(text: str) -> str:
    """Text from files and footage, safe for a terminal: no line feeds, no control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
