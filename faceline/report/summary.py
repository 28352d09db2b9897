"""The end of a run in words: when the most unusual moments are, and where the details lie."""

from __future__ import annotations

import math
from typing import Any

import pyarrow.compute as pc

from faceline.report.counts import compute_counts
from faceline.report.findings import ranked
from faceline.report.stage import person_table
from faceline.report.words import INSUFFICIENT, departures, driver_parts, driver_text, little_words
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
    every = ranked(inputs.table("gridsearch", "events"))
    events = every.filter(pc.invert(every["explained"]))
    judged = is_judged(inputs)
    if not counts["sampled"]:
        lines.append("Nothing to compare: not one frame could be read.")
    elif not counts["faces"]:
        lines.append(f"No faces found in {_count(counts['sampled'], 'sampled frame')}: nothing to compare.")
    elif not persons:
        lines.append(f"No person found among {_count(counts['faces'], 'face')}: nothing to compare.")
    elif not any(judged.values()):
        lines.append(
            f"Too little usable footage of {_count(len(persons), 'person')} to tell what is usual: nothing was judged."
        )
    elif not events.num_rows:
        whose = "this person" if len(persons) == 1 else "each person" if all(judged.values()) else "who was judged"
        lines.append(f"No anomalies: no moment stands out from what is usual for {whose} in this footage.")
    else:
        shown = min(top, events.num_rows)
        lines.append(f"Time of top {shown} {'anomaly' if shown == 1 else 'anomalies'}:")
        lines += [_event_line(event) for event in events.slice(0, shown).to_pylist()]
        if events.num_rows > shown:
            lines.append(f"… and {events.num_rows - shown} more in 'events.csv'")
    lines += _little_lines(inputs, len(persons))
    if every.num_rows > events.num_rows:
        lines.append(_explained_line(every.filter(every["explained"])["flags"].to_pylist()))
    unjudged = [person for person, enough in judged.items() if not enough]
    if unjudged and len(unjudged) < len(persons):
        who = f"person{'' if len(unjudged) == 1 else 's'} {', '.join(map(str, sorted(unjudged)))}"
        lines.append(f"Not judged, for too little usable footage: {who}.")
    if persons:
        lines.append(f"Details saved to {_files(persons)}")
    return "\n".join(lines)


def event_rows(inputs: Inputs) -> list[dict[str, Any]]:
    """The events as rows of gridsearch, those that something beside expression explains last.

    Each has ``drivers`` besides: what departed and how much of the score hangs on it, in words.
    """
    drivers: dict[int, list[dict[str, Any]]] = {}
    for row in inputs.table("gridsearch", "drivers").to_pylist():
        drivers.setdefault(row["event"], []).append(row)
    return [
        {**event, "drivers": driver_text(driver_parts(drivers.get(event["event"], ()), event["top_features"], 3))}
        for event in ranked(inputs.table("gridsearch", "events")).to_pylist()
    ]


def is_judged(inputs: Inputs) -> dict[int, bool]:
    """Per person, whether there was footage enough to tell what is usual; where not, no event is no finding."""
    table = inputs.table("gridsearch", "verdicts", ("person", "state"))
    return {row["person"]: row["state"] != INSUFFICIENT for row in table.to_pylist()}


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
    line = f"- {timecode(event['peak_s'])}  person {event['person']}  {_p(event['p_value'])}  {what}".rstrip()
    return f"{line}  (also: {_one_line(event['flags'])})" if event["flags"] else line


def _little_lines(inputs: Inputs, persons: int) -> list[str]:
    """One caution for each person who was judged on little footage, whatever was found."""
    table = inputs.table("gridsearch", "verdicts", ("person", "state", "judged_s")).sort_by("person")
    said = [
        (row["person"], words)
        for row in table.to_pylist()
        if row["state"] != INSUFFICIENT and (words := little_words(row["judged_s"]))
    ]
    return [words if persons == 1 else f"Person {person}: {words[0].lower()}{words[1:]}" for person, words in said]


def _explained_line(flags: list[str | None]) -> str:
    """One line for all moments that are not listed since something beside expression explains them."""
    causes = sorted({cause.strip() for text in flags for cause in _one_line(text or "").split(",")} - {""})
    by = f" ({', '.join(causes)})" if causes else ""
    what = "moment is" if len(flags) == 1 else "moments are"
    return f"{len(flags)} {what} explained{by} and not counted; see 'events.csv'"


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
