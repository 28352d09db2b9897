"""``columns.md`` names every column of every CSV file, in order, and nothing else."""

from __future__ import annotations

import re

from faceline.measures import MEASURES
from faceline.report import dictionary, tables
from faceline.report.findings import load
from tests.faceline.report import factory


def _listed(text: str) -> list[list[str]]:
    """Column names of each table of the file."""
    return [re.findall(r"^\| `([^`]+)` \|", part, re.M) for part in text.split("\n## ")[1:]]


def test_every_column_is_described_in_order() -> None:
    findings = load(factory.make(factory.Script(length_s=3, pictures=False)))
    events, person = _listed(dictionary.columns_markdown(findings).decode())
    assert events == tables.events_csv(findings, [None] * findings.events.num_rows).decode().split("\n")[0].split(",")
    assert person == tables.person_csv(findings, 1).decode().split("\n")[0].split(",")


def test_no_description_is_empty_or_breaks_its_line() -> None:
    findings = load(factory.empty())
    columns = [*dictionary.columns_of_events(), *dictionary.columns_of_person(findings)]
    assert all(column.meaning and column.source for column in columns)
    for line in dictionary.columns_markdown(findings).decode().splitlines():
        if line.startswith("| `"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 5, line


def test_measures_are_described_by_their_definition() -> None:
    findings = load(factory.empty())
    findings = type(findings)(**{**findings.__dict__, "measures": tuple(m.name for m in MEASURES)})
    text = dictionary.columns_markdown(findings).decode()
    for measure in MEASURES:
        assert f"| `{measure.name}` | {measure.unit} | {measure.words}: {measure.definition}" in text
