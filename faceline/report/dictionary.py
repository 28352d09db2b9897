"""``columns.md``: what each column of the results folder's CSV files is, in which unit, and where it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from faceline.report.findings import EMOTIONS, Findings
from faceline.report.tables import EVENT_COLUMNS, person_columns


@dataclass(frozen=True)
class Column:
    """One column: its name, unit (empty where it has none), meaning and source."""

    name: str
    unit: str
    meaning: str
    source: str


_SHARED = (
    Column("frame", "index", "frame of the footage, counted from 0", "sample"),
    Column("quality", "0 to 1", "how far the picture can be relied on: sharpness, light, size, turn", "align"),
    Column("expected_false", "moments", "expected number, at most, of usual moments at least this unusual in this"
           " person's footage", "gridsearch"),
    Column("flags", "", "what else changed during the event: head (turned, tilted, raised or lowered), light, contrast,"
           " sharpness, face size, face partly covered, cut nearby, face comes or goes; empty for nothing",
           "gridsearch"),
    Column("explained", "true/false", "the flags can be the whole cause: the event is ranked behind all others and"
           " does not count", "gridsearch"),
)  # fmt: skip

_EVENTS = (
    Column("person", "number", "person of this footage; 1 is seen most", "cluster"),
    Column("rank", "number", "1 = most unusual, over all persons", "gridsearch"),
    Column("start_s", "s", "onset, in the container's time", "gridsearch"),
    Column("peak_s", "s", "apex: where the score is highest", "gridsearch"),
    Column("end_s", "s", "offset", "gridsearch"),
    Column("start_timecode", "hh:mm:ss.mmm", "start_s as a timecode", "report"),
    Column("peak_timecode", "hh:mm:ss.mmm", "peak_s as a timecode", "report"),
    Column("end_timecode", "hh:mm:ss.mmm", "end_s as a timecode", "report"),
    Column("score", "MADs", "score at the peak: robust standard deviations above this person's own median",
           "gridsearch"),
    Column("p_value", "0 to 1", "chance that footage of this length, the person as usual, holds any departure as"
           " large", "gridsearch"),
    Column("top_features", "MADs", "what departed most near the peak, each with its departure from this person's"
           " usual", "gridsearch"),
    Column("thumbnail", "path", "picture of the face at the peak, within the results folder; empty where there is"
           " none", "report"),
    Column("survival", "0 to 1", "share of variations (other seeds, half of the rows, other models) in which the event"
           " is found again; empty = not measured", "gridsearch"),
)  # fmt: skip

_PERSON = (
    Column("time_s", "s", "presentation time of the frame, in the container's time", "sample"),
    Column("timecode", "hh:mm:ss.mmm", "time_s as a timecode", "report"),
    Column("track", "number", "an unbroken sequence of this face", "cluster"),
    Column("x_px", "px", "left edge of the face's box in the upright frame", "detect"),
    Column("y_px", "px", "upper edge of the box", "detect"),
    Column("w_px", "px", "width of the box", "detect"),
    Column("h_px", "px", "height of the box", "detect"),
    Column("yaw_deg", "°", "turn of the head to a side; positive: the nose points to the picture's right edge",
           "align"),
    Column("pitch_deg", "°", "raising or lowering of the head", "align"),
    Column("roll_deg", "°", "tilt of the head", "align"),
    Column("score", "MADs", "final score: robust standard deviations above this person's own median; empty = not"
           " judged, see reason", "gridsearch"),
    Column("is_anomaly", "true/false", "the face lies within an event; empty = not judged", "gridsearch"),
    Column("event", "number", "the event that the face lies within; empty = none", "gridsearch"),
    Column("reason", "", "why the face has no score; empty = it has one", "report"),
)  # fmt: skip


def columns_of_events() -> list[Column]:
    """The columns of ``events.csv``, in order."""
    known = {column.name: column for column in (*_SHARED, *_EVENTS)}
    return [known[name] for name in EVENT_COLUMNS]


def columns_of_person(findings: Findings) -> list[Column]:
    """The columns of a person's table, in order."""
    known = {column.name: column for column in (*_SHARED, *_PERSON)}
    known |= {name: _emotion(name) for name in EMOTIONS}
    known |= {name: _component(name) for name in findings.components}
    known |= {name: _measure(name) for name in findings.measures}
    known |= {name: _model_score(name) for name in findings.scores}
    return [known[name] for name in person_columns(findings)]


def columns_markdown(findings: Findings) -> bytes:
    """``columns.md`` as UTF-8."""
    lines = [
        "# What the columns are",
        "",
        "CSV files are UTF-8 with one header line; what is missing is empty, never zero. Text that a spreadsheet would"
        " run as a formula has an apostrophe before it. MADs are robust standard deviations (1.4826 times the median"
        " absolute deviation). An event is atypical for this person in this footage: a lead for a human, and no more.",
        "",
        "## events.csv",
        "",
        "One row per event: those that count, the most unusual first, then those that something beside expression"
        " explains.",
        "",
        *_table(columns_of_events()),
        "",
        "## anomaly_detection_results_person_<n>.csv",
        "",
        "One row per sampled face of the person, in order of time. The last columns but one repeat what is known of the"
        " event that the face lies within.",
        "",
        *_table(columns_of_person(findings)),
    ]
    return ("\n".join(lines) + "\n").encode()


def _emotion(name: str) -> Column:
    return Column(name, "0 to 1", f"score of the emotion network for “{name}”; the seven add up to 1", "emote, FER")


def _component(name: str) -> Column:
    return Column(
        name, "none", "UMAP component of the face embedded for identity; for looking, not measuring", "cluster"
    )


def _measure(name: str) -> Column:
    from faceline.measures import MEASURES

    for measure in MEASURES:
        if measure.name == name:
            meaning = f"{measure.words}: {measure.definition}; {measure.action_unit}"
            return Column(name, measure.unit, meaning, f"emote, {measure.source}")
    return Column(name, "", f"expression measure: {name.replace('_', ' ')}", "emote")


def _model_score(name: str) -> Column:
    model = name.removeprefix("score_")
    return Column(name, "MADs", f"score of the best trial with the model {model}, as score", "trial, gridsearch")


def _table(columns: Sequence[Column]) -> list[str]:
    rows = [f"| `{c.name}` | {_cell(c.unit) or '–'} | {_cell(c.meaning)} | {_cell(c.source)} |" for c in columns]
    return ["| column | unit | what it is | from |", "|---|---|---|---|", *rows]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
