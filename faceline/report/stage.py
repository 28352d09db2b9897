"""The stage ``report``: what was found, as tables, plots and one HTML page. Made of artifacts alone, so that the same
artifacts give the same bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field

from faceline.report import dictionary, page, plots, tables
from faceline.report.findings import Findings, face_keys, floats, load, positions
from faceline.report.pictures import face_names, person_folder, read_crops
from faceline.stage import Chunk, Inputs, Payload, Runtime, Stage, StageParams


class ReportParams(StageParams):
    """What the report shows."""

    top_events: int = Field(
        10, ge=1, le=1000, description="how many of the most unusual moments get a card of their own"
    )
    plots: bool = Field(True, description="whether to draw the PNG plots; the page has its own charts in any case")
    dpi: int = Field(110, ge=50, le=400, description="dots per inch of the PNG plots, which are 11 inches wide")
    persons_drawn: int = Field(
        12, ge=1, le=1000, description="charts and plots are drawn for so many persons, those seen most first"
    )


def compute(params: ReportParams, inputs: Inputs, runtime: Runtime) -> Iterator[Chunk]:
    """Yield the report's files: CSV tables first, then plots one by one, then the page."""
    findings = load(inputs)
    span = footage_span(findings, inputs.facts)
    drawn = findings.persons[: params.persons_drawn]
    name = str((inputs.facts.get("footage") or {}).get("name") or "footage")
    kinds = {person: plots.drawable(findings, person) for person in drawn} if params.plots else {}
    total = len(findings.persons) + (1 + sum(map(len, kinds.values())) if params.plots else 0) + 3
    done = 0

    def step(files: Mapping[str, bytes]) -> Chunk:
        nonlocal done
        done += 1
        runtime.progress(done, total)
        return {"files": files}

    crops = read_crops(inputs, page.wanted_pictures(findings))
    thumbnails = thumbnail_paths(findings, crops)
    yield step({"events.csv": tables.events_csv(findings, thumbnails)})
    for person in findings.persons:
        yield step({person_table(person): tables.person_csv(findings, person)})
    yield step({"columns.md": dictionary.columns_markdown(findings)})
    drawings: list[str] = []
    if params.plots:
        for file, png in plots.draw(findings, span, name, params.dpi, drawn):
            drawings.append(file)
            yield step({f"plots/{file}": png})
    undrawn = {person: [kind for kind in plots.KINDS if kind not in there] for person, there in kinds.items()}
    html = page.render(findings, inputs.facts, span, crops, thumbnails, drawings, undrawn, drawn, params.top_events)
    yield step({"report.html": html})


def person_table(person: int) -> str:
    """File name of a person's table."""
    return f"anomaly_detection_results_person_{person}.csv"


def footage_span(findings: Findings, facts: Mapping[str, Any]) -> tuple[float, float]:
    """(start_s, end_s) of the footage: as stated, and in any case over all sampled frames."""
    footage = facts.get("footage") or {}
    time_s = floats(findings.frames, "time_s")
    start_s = footage.get("start_s")
    if start_s is None:
        start_s = float(time_s[0]) if len(time_s) else 0.0
    end_s = float(start_s) + float(footage.get("duration_s") or 0.0)
    if len(time_s):
        start_s, end_s = min(float(start_s), float(time_s[0])), max(end_s, float(time_s[-1]))
    return float(start_s), end_s


def thumbnail_paths(findings: Findings, crops: Mapping[int, bytes]) -> list[str | None]:
    """Path of each event's peak face within the results folder; None where the face has no picture."""
    keys = face_keys(findings.events)
    at = positions(keys, face_keys(findings.faces)).to_pylist()
    names = face_names(findings.faces)
    persons = findings.events["person"].to_pylist()
    return [
        f"{person_folder(person)}/{names[row]}" if row is not None and int(key) in crops else None
        for person, row, key in zip(persons, at, keys, strict=True)
    ]


REPORT = Stage(
    name="report",
    version=1,
    scope="footage",
    params=ReportParams,
    inputs=("sample", "align", "embed", "emote", "cluster", "gridsearch"),
    outputs=(
        Payload(
            "files",
            "files",
            "report.html, events.csv, anomaly_detection_results_person_<n>.csv, columns.md, plots/*.png; paths relative"
            " to the results folder",
        ),
    ),
    compute=compute,
)
