"""``report.html``: one file that opens from disk, asks nothing of any network, and says in words what it found."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from faceline.report.charts import HEIGHT, WIDTH, PersonCharts, TimeAxis, presence_bars
from faceline.report.findings import NO_FACE, Findings, face_keys, floats
from faceline.report.measures import label_of
from faceline.report.pictures import data_uri, person_folder
from faceline.timeline import timecode

PICTURE_PX = 132
SMALL_PX = 72
UNKNOWN_SHOWN = 12
_LISTED_EVENTS = 100
_LISTED_TRIALS = 12
_LINE_POINTS = 24_000
"""Points of all drawn lines together, of which the file's size follows."""

_TRIAL_COLUMNS = {
    *("trial", "model", "features", "window_s", "params", "person", "rows", "scored", "state"),
    *("objective", "rank", "chosen"),
}
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
        drawn: the persons whose charts are drawn.
        top_events: how many events get a card.
    """
    context = _Context(findings, facts, span, crops, thumbnails, plots, drawn, top_events)
    template = _environment().get_template("report.html.j2")
    script = _resource("report.js")
    style = _resource("report.css")
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
        drawn: Sequence[int],
        top_events: int,
    ) -> None:
        self.findings = findings
        self.facts = facts
        self.axis = TimeAxis(*span)
        self.crops = crops
        self.plots = plots
        self.drawn = drawn
        self.usual = usual_faces(findings)
        keys = face_keys(findings.events)
        self.events = [
            {**event, "key": int(key), "file": file}
            for event, key, file in zip(findings.events.to_pylist(), keys, thumbnails, strict=True)
        ]
        self.top = self.events[:top_events]
        # An hour's lines for twelve persons must not make the file slow to open.
        self.bins = max(150, min(700, _LINE_POINTS // (2 * 14 * max(len(drawn), 1))))

    def whole(self) -> dict[str, Any]:
        findings = self.findings
        unknown = findings.faces_of(None)
        faces = findings.faces
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
            # Without a threshold for anybody, "no moment" is no finding but a lack of footage.
            "judged": bool(pc.any(pc.is_finite(faces["threshold"].drop_null())).as_py()),
            "events": self.events,
            "top": [self._card(event) for event in self.top],
            "lanes": self._lanes(),
            "markers": self.axis.markers(self.events),
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
            "flags": event.get("flags") or "",
            "picture": self._picture(event["key"], PICTURE_PX),
            "usual": self._picture(self.usual.get(person), PICTURE_PX),
            "departures": departures(event["top_features"]),
            "axis": axis,
            "chart": chart,
            "bands": axis.bands([event]),
        }

    def _charts(self, person: int) -> PersonCharts:
        findings = self.findings
        events = [event for event in self.events if event["person"] == person]
        return PersonCharts(findings, findings.faces_of(person), events, self.axis, self.bins)

    def _person(self, row: dict[str, Any]) -> dict[str, Any]:
        number = row["person"]
        charts = self._charts(number)
        key = (row["segment"] << 40) | row["face"] if row["face"] is not None else None
        shown = {event["rank"] for event in self.top}
        details: dict[str, Any] = {}
        if number in self.drawn:
            details = {"score": charts.score(), "emotions": charts.emotions(), "measures": charts.measures()}
        scored = np.isfinite(floats(charts.faces, "score"))
        return {
            **row,
            "portrait": self._picture(key, PICTURE_PX),
            "presence": presence_bars(self.findings, number, self.axis),
            "charts": details,
            "bands": self.axis.bands(charts.events),
            "markers": self.axis.markers(charts.events),
            "events": [
                {
                    **event,
                    "flags": event.get("flags") or "",
                    "picture": self._picture(event["key"], SMALL_PX),
                    "departures": departures(event["top_features"]),
                    "anchor": event["rank"] not in shown,
                }
                for event in charts.events[:_LISTED_EVENTS]
            ],
            "event_count": len(charts.events),
            "scored": int(scored.sum()),
            "csv": f"anomaly_detection_results_person_{number}.csv",
            "folder": person_folder(number),
            "plots": [name for name in self.plots if name.startswith(f"person_{number}_")],
            "trials": self._trials(number),
        }

    def _trials(self, person: int) -> dict[str, Any]:
        trials = self.findings.trials
        trials = trials.filter(pc.equal(trials["person"], person)).sort_by(
            [("chosen", "descending"), ("rank", "ascending"), ("trial", "ascending")]
        )
        parts = [
            name
            for name in trials.column_names
            if name not in _TRIAL_COLUMNS and pa.types.is_floating(trials.schema.field(name).type)
        ]
        rows = trials.to_pylist()
        masked = [
            (label_of(name.removeprefix("masked_")), rows[0][name])
            for name in trials.column_names
            if name.startswith("masked_") and rows and rows[0][name]
        ]
        return {
            "parts": parts,
            "rows": rows[:_LISTED_TRIALS],
            "count": len(rows),
            "chosen": sum(bool(row["chosen"]) for row in rows),
            "masked": masked,
        }

    def _lanes(self) -> list[dict[str, Any]]:
        people: list[int | None] = [*self.findings.persons]
        if self.findings.faces_of(None).num_rows:
            people.append(None)
        return [
            {
                "person": person,
                "bars": presence_bars(self.findings, person, self.axis),
                "bands": self.axis.bands([event for event in self.events if event["person"] == person]),
            }
            for person in people
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
                    words = "not stated" if reason is None else label_of(reason)
                    rows.append({"what": what, "reason": words, "count": entry["counts"]})
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


def departures(top_features: str | None) -> list[dict[str, str]]:
    """``"mouth opening +5.2, fear +3.1"`` as a list of ``what`` and ``by`` (empty where no number follows).

    What is limited comes as ``≥ +12`` or ``≤ −12``.
    """
    found = []
    for part in (top_features or "").split(","):
        match = re.fullmatch(r"(.*?)\s*((?:[≥≤] )?[+−-]\d+(?:\.\d+)?)?", part.strip(), re.DOTALL)
        what, by = (match[1], match[2] or "") if match else (part.strip(), "")
        if what or by:
            found.append({"what": what, "by": by.replace("-", "−")})
    return found


def p_words(p_value: float | None) -> str:
    """A p-value for people: ``p = 0.002``; ``p < 0.001`` below that; what is not known is said."""
    if p_value is None or not math.isfinite(p_value):
        return "p not known"
    return "p < 0.001" if p_value < 0.0005 else f"p = {p_value:.3f}"


def _number(value: float | None, digits: int = 2) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.{digits}f}".replace("-", "−")


def _seconds(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.3f}".rstrip("0").rstrip(".") + " s"


def _resource(name: str) -> str:
    return (files("faceline.report") / "templates" / name).read_text("utf-8")


def _environment() -> Any:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(_resource),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(timecode=timecode, number=_number, seconds=_seconds, p_words=p_words, words=label_of)
    return environment
