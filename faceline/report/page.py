"""``report.html``: one file that opens from disk, asks nothing of any network, and says in words what it found."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import numpy as np
import pyarrow.compute as pc

from faceline.report import leaderboard, words
from faceline.report.charts import HEIGHT, WIDTH, PersonCharts, TimeAxis, presence_bars
from faceline.report.findings import NO_FACE, Findings, face_keys, floats
from faceline.report.measures import label_of
from faceline.report.pictures import data_uri, person_folder
from faceline.report.reasons import left_out
from faceline.timeline import timecode

PICTURE_PX = 132
SMALL_PX = 72
UNKNOWN_SHOWN = 12
_LISTED_EVENTS = 100
_CARD_DRIVERS, _ROW_DRIVERS = 4, 3
_LINE_POINTS = 24_000
"""Points of all drawn lines together, of which the file's size follows."""

_ROLES = {"detector": "finds faces", "landmarks": "478 landmarks", "emotion": "emotions", "identity": "who is who"}


def usual_faces(findings: Findings) -> dict[int, int]:
    """Per person, the key of the face that shows the usual expression best: lowest score among the good pictures."""
    usual = {}
    for person in findings.persons:
        faces = findings.faces_of(person)
        score, quality = floats(faces, "score"), floats(faces, "quality")
        known = np.isfinite(score) & np.isfinite(quality)
        if known.any():
            good = known & (quality >= np.median(quality[known]))
            usual[person] = int(face_keys(faces)[np.argmin(np.where(good, score, np.inf))])
    return usual


def unknown_faces(findings: Findings) -> list[int]:
    """Keys of at most `UNKNOWN_SHOWN` faces that fit nobody, spread over the footage."""
    keys = face_keys(findings.faces_of(None))
    if len(keys) == 0:
        return []
    return [int(keys[i]) for i in np.unique(np.linspace(0, len(keys) - 1, UNKNOWN_SHOWN).astype(np.int64))]


def wanted_pictures(findings: Findings) -> np.ndarray:
    """Keys (int64) of all faces whose picture the page can show."""
    keys = [*face_keys(findings.events), *face_keys(findings.people)]
    return np.unique(np.array([*keys, *usual_faces(findings).values(), *unknown_faces(findings)], dtype=np.int64))


def render(
    findings: Findings,
    facts: Mapping[str, Any],
    span: tuple[float, float],
    crops: Mapping[int, bytes],
    thumbnails: Sequence[str | None],
    plots: Sequence[str],
    undrawn: Mapping[int, Sequence[str]],
    drawn: Sequence[int],
    top_events: int,
) -> bytes:
    """The page as UTF-8.

    Args:
        findings: the joined tables.
        facts: provenance: ``footage``, ``models``, ``params``, ``faceline``.
        span: (start_s, end_s) of the footage.
        crops: pictures (JPEG) by key.
        thumbnails: path of each event's picture in the results folder.
        plots: file names in ``plots/``.
        undrawn: per person, the kinds of plots that were left out since there is nothing to draw.
        drawn: the persons whose charts are drawn.
        top_events: how many events get a card.
    """
    context = _Context(findings, facts, span, crops, thumbnails, plots, undrawn, drawn, top_events)
    template = _environment().get_template("report.html.j2")
    script = _resource("report.js")
    style = _resource("base.css") + _resource("report.css")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    html = template.render(**context.whole(), style=style, script=script, script_sha256=digest)
    # A line of blanks is what a template's tags leave behind.
    return re.sub(r"\n\s*\n+", "\n", html).encode("utf-8", "replace")


class _Context:
    """What the template is told, in its own words."""

    def __init__(
        self,
        findings: Findings,
        facts: Mapping[str, Any],
        span: tuple[float, float],
        crops: Mapping[int, bytes],
        thumbnails: Sequence[str | None],
        plots: Sequence[str],
        undrawn: Mapping[int, Sequence[str]],
        drawn: Sequence[int],
        top_events: int,
    ) -> None:
        self.findings = findings
        self.facts = facts
        self.axis = TimeAxis(*span)
        self.crops = crops
        self.plots = plots
        self.undrawn = undrawn
        self.drawn = drawn
        self.usual = usual_faces(findings)
        keys = face_keys(findings.events)
        self.events = [
            {**event, "key": int(key), "file": file}
            for event, key, file in zip(findings.events.to_pylist(), keys, thumbnails, strict=True)
        ]
        self.found = [event for event in self.events if not event["explained"]]
        self.aside = [event for event in self.events if event["explained"]]
        self.top = self.found[:top_events]
        self.markers = self.axis.markers(self.events)
        self.person_of = {event["rank"]: event["person"] for event in self.events}
        self.verdicts = {row["person"]: row for row in findings.verdicts.to_pylist()}
        # An hour's lines for twelve persons must not make the file slow to open.
        self.bins = max(150, min(700, _LINE_POINTS // (2 * 14 * max(len(drawn), 1))))

    def whole(self) -> dict[str, Any]:
        findings = self.findings
        unknown = findings.faces_of(None)
        faces = findings.faces
        unjudged = [person for person, row in self.verdicts.items() if row["state"] == words.INSUFFICIENT]
        return {
            "footage": {"name": "", "sha256": "", **(self.facts.get("footage") or {})},
            "version": self.facts.get("faceline", ""),
            "models": self._models(),
            "params": self._params(),
            "axis": self.axis,
            "width": int(WIDTH),
            "height": int(HEIGHT),
            "sampled": findings.frames.num_rows,
            "frames_decoded": pc.sum(findings.facts["frames_decoded"]).as_py() or 0,
            "step_s": findings.mean_step_s,
            "faces": faces.num_rows,
            "frames_with_face": pc.count_distinct(faces["frame"]).as_py(),
            "unknown": unknown.num_rows,
            "unknown_pictures": [self._picture(key, SMALL_PX) for key in unknown_faces(findings)],
            "unknown_folder": person_folder(None),
            "damage": [row for row in findings.facts.to_pylist() if row["damaged_at_s"] is not None or row["damage"]],
            "torn": [
                round(WIDTH * self.axis.fraction(t), 2) for t in findings.facts["damaged_at_s"].drop_null().to_pylist()
            ],
            # With nobody judged, "no moment" is no finding but a lack of footage.
            "judged": len(unjudged) < len(self.verdicts),
            "unjudged": unjudged,
            "found": self.found,
            "aside": [self._row(event, anchor=True) for event in self.aside[:_LISTED_EVENTS]],
            "aside_count": len(self.aside),
            "top": [self._card(event) for event in self.top],
            "lanes": self._lanes(),
            "markers": self.markers,
            "persons": [self._person(row) for row in findings.people.to_pylist()],
            "missing": self._missing(),
            "plots": self.plots,
        }

    def _card(self, event: dict[str, Any]) -> dict[str, Any]:
        person = event["person"]
        rows = self._charts(person)
        axis, chart = rows.around(event)
        return {
            **event,
            "flags": event["flags"] or "",
            "picture": self._picture(event["key"], PICTURE_PX),
            "usual": self._picture(self.usual.get(person), PICTURE_PX),
            "drivers": self._drivers(event, _CARD_DRIVERS),
            "axis": axis,
            "chart": chart,
            "bands": axis.bands([event]),
        }

    def _row(self, event: dict[str, Any], *, anchor: bool) -> dict[str, Any]:
        """An event as a line of a table; with ``anchor``, links to the event lead there."""
        return {
            **event,
            "flags": event["flags"] or "",
            "picture": self._picture(event["key"], SMALL_PX),
            "drivers": self._drivers(event, _ROW_DRIVERS),
            "anchor": anchor,
        }

    def _drivers(self, event: dict[str, Any], most: int) -> list[dict[str, str]]:
        return words.driver_parts(self.findings.drivers_of.get(event["event"], ()), event["top_features"], most)

    def _charts(self, person: int) -> PersonCharts:
        findings = self.findings
        events = [event for event in self.events if event["person"] == person]
        return PersonCharts(findings, findings.faces_of(person), events, self.axis, self.bins)

    def _person(self, row: dict[str, Any]) -> dict[str, Any]:
        number = row["person"]
        charts = self._charts(number)
        key = (row["segment"] << 40) | row["face"] if row["face"] is not None else None
        shown = {event["rank"] for event in (*self.top, *self.aside[:_LISTED_EVENTS])}
        details: dict[str, Any] = {}
        if number in self.drawn:
            details = {"score": charts.score(), "emotions": charts.emotions(), "measures": charts.measures()}
        verdict = self.verdicts[number]
        return {
            **row,
            "portrait": self._picture(key, PICTURE_PX),
            "presence": presence_bars(self.findings, number, self.axis),
            "charts": details,
            "bands": self.axis.bands(charts.events),
            "markers": self.axis.markers(charts.events),
            "events": [self._row(e, anchor=e["rank"] not in shown) for e in charts.events[:_LISTED_EVENTS]],
            "event_count": len(charts.events),
            "verdict": {
                **verdict,
                "words": words.verdict_words(verdict),
                "besides": " ".join(
                    filter(
                        None,
                        (
                            words.unsupported_words(verdict["unsupported"]),
                            words.unstable_words(verdict["unstable"]),
                            words.dropped_words(verdict["dropped"]),
                        ),
                    )
                ),
            },
            "faces": charts.faces.num_rows,
            "scored": int(np.isfinite(floats(charts.faces, "score")).sum()),
            "left_out": left_out(charts.faces),
            "csv": f"anomaly_detection_results_person_{number}.csv",
            "folder": person_folder(number),
            "plots": [name for name in self.plots if name.startswith(f"person_{number}_")],
            "undrawn": self.undrawn.get(number, ()),
            "trials": self._trials(number),
        }

    def _trials(self, person: int) -> dict[str, Any]:
        board = leaderboard.leaderboard_of(self.findings.trials, self.findings.comparison, person)
        return {
            "board": board,
            "first": board.rows[: leaderboard.SHOWN],
            "rest": board.rows[leaderboard.SHOWN :],
            "charts": leaderboard.charts_of(board) if board.measured else [],
            "bands": leaderboard.bands_of(board),
            "ticks": leaderboard.ticks_of(board) if board.measured else (),
        }

    def _lanes(self) -> list[dict[str, Any]]:
        people: list[int | None] = [*self.findings.persons]
        if self.findings.faces_of(None).num_rows:
            people.append(None)
        row_of = {person: row for row, person in enumerate(people)}
        # From its number above all lanes, a line leads to the lane that a moment lies in.
        stems = [(10 * marker.at_percent, row_of[self.person_of[marker.rank]], marker.aside) for marker in self.markers]
        return [
            {
                "person": person,
                "bars": presence_bars(self.findings, person, self.axis),
                "bands": self.axis.bands([event for event in self.events if event["person"] == person]),
                "stems": [
                    (round(x, 2), 0 if last == row else int(HEIGHT) + 8, aside)
                    for x, last, aside in stems
                    if last >= row
                ],
            }
            for row, person in enumerate(people)
        ]

    def _missing(self) -> list[dict[str, Any]]:
        """Why faces lack something: (what, reason, count), for every reason but the good ones."""
        rows = []
        good = {"state": {"ok", NO_FACE}, "embed_state": {"embedded", "between"}}
        for column, what in (
            ("state", "landmarks and head pose"),
            ("embed_state", "identity"),
            ("emotion_state", "emotions"),
            ("measures_state", "expression measures"),
        ):
            for entry in pc.value_counts(self.findings.faces[column]).to_pylist():
                reason = entry["values"]
                if reason not in good.get(column, {"ok"}):
                    why = "not stated" if reason is None else label_of(reason)
                    rows.append({"what": what, "reason": why, "count": entry["counts"]})
        return sorted(rows, key=lambda row: (row["what"], -row["count"], row["reason"]))

    def _models(self) -> list[dict[str, Any]]:
        models = self.facts.get("models") or {}
        unstated = {"name": "not stated", "sha256": "", "source": ""}
        return [
            {"role": role, "use": _ROLES.get(role, ""), **unstated, **dict(model)}
            for role, model in sorted(models.items())
        ]

    def _params(self) -> list[dict[str, str]]:
        params = self.facts.get("params") or {}
        return [
            {"stage": stage, "json": json.dumps(values, indent=1, sort_keys=True, ensure_ascii=False, default=str)}
            for stage, values in params.items()
        ]

    def _picture(self, key: int | None, side_px: int) -> str | None:
        jpeg = self.crops.get(key) if key is not None else None
        return data_uri(jpeg, side_px) if jpeg else None


def _resource(name: str) -> str:
    return (files("faceline.report") / "templates" / name).read_text("utf-8")


# The next report of this process need not compile the templates again.
@functools.cache
def _environment() -> Any:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(_resource),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        timecode=timecode,
        number=words.number_words,
        seconds=words.seconds_words,
        p_words=words.p_words,
        expected=words.expected_words,
        survival=words.survival_words,
    )
    return environment
