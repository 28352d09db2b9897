"""The stage as a whole: which files it makes, that they agree with each other, and its parameters."""

from __future__ import annotations

import csv
import io

import pytest
from pydantic import ValidationError

from faceline.report.stage import REPORT, ReportParams
from faceline.stage import Runtime, collect
from tests.faceline.report import factory

SCRIPT = factory.Script(
    length_s=20, persons=(((0, 20),), ((5, 15),)), events=((2, 8, 9), (1, 10, 11)), segment_s=6, no_crop_every=13
)


def test_the_files_of_a_footage() -> None:
    seen: list[tuple[int, int]] = []
    runtime = Runtime(progress=lambda done, total: seen.append((done, total)))
    files = collect(REPORT.compute(ReportParams(dpi=50), factory.make(SCRIPT), runtime))["files"]
    kinds = ("score", "emotions", "components", "expression", "trials")
    assert set(files) == {
        "report.html",
        "events.csv",
        "columns.md",
        "anomaly_detection_results_person_1.csv",
        "anomaly_detection_results_person_2.csv",
        "plots/overview.png",
        *(f"plots/person_{n}_{kind}.png" for n in (1, 2) for kind in kinds),
    }
    assert seen[-1][0] == seen[-1][1] == len(files)
    html = files["report.html"].decode()
    for name in files:
        if name != "report.html":
            assert f'href="{name}"' in html, name


def test_without_plots_and_faces_the_page_and_the_table_remain() -> None:
    files = collect(REPORT.compute(ReportParams(plots=False), factory.empty(), Runtime()))["files"]
    assert set(files) == {"report.html", "events.csv", "columns.md"}


def test_thumbnails_are_named_by_person_frame_and_time() -> None:
    files = collect(REPORT.compute(ReportParams(plots=False), factory.make(SCRIPT), Runtime()))["files"]
    rows = list(csv.DictReader(io.StringIO(files["events.csv"].decode())))
    assert [row["rank"] for row in rows] == ["1", "2"]
    for row in rows:
        clock = row["peak_timecode"].replace(":", "-")
        assert row["thumbnail"].startswith(
            f"organized_faces/person_{row['person']}/f{int(row['frame']):08d}_{clock}_track"
        )


def test_a_peak_without_a_picture_has_no_thumbnail() -> None:
    inputs = factory.make(SCRIPT)
    payloads = dict(inputs.payloads)
    crops = inputs.table("align", "crops")
    payloads["align", "crops"] = crops.slice(0, 0)
    files = collect(REPORT.compute(ReportParams(plots=False), type(inputs)(payloads, facts=inputs.facts), Runtime()))
    rows = list(csv.DictReader(io.StringIO(files["files"]["events.csv"].decode())))
    assert [row["thumbnail"] for row in rows] == ["", ""]
    assert b"no picture" in files["files"]["report.html"]


@pytest.mark.parametrize("bad", [{"top_events": 0}, {"dpi": 5}, {"colour": "red"}, {"persons_drawn": 0}])
def test_parameters_have_bounds(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ReportParams(**bad)  # type: ignore[arg-type]


def test_every_parameter_is_described() -> None:
    assert all(field.description for field in ReportParams.model_fields.values())
