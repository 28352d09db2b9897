"""Numbers and findings in words, the same on the page, on the console and in the tables of the UI."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from faceline.anomaly.baseline import LIMIT

EVENTS, NO_ANOMALY, INSUFFICIENT = "events", "no anomaly", "insufficient data"
"""States of a verdict (gridsearch's payload ``verdicts``)."""

_MINUS = "−"


def departures(top_features: str | None) -> list[dict[str, str]]:
    """``"mouth opening +5.2, fear +3.1"`` as a list of ``what`` and ``by`` (empty where no number follows).

    What is limited comes as ``≥ +12`` or ``≤ −12``.
    """
    found = []
    for part in (top_features or "").split(","):
        match = re.fullmatch(r"(.*?)\s*((?:[≥≤] )?[+−-]\d+(?:\.\d+)?)?", part.strip(), re.DOTALL)
        what, by = (match[1], match[2] or "") if match else (part.strip(), "")
        if what or by:
            found.append({"what": what, "by": by.replace("-", _MINUS)})
    return found


def driver_parts(drivers: Sequence[Mapping[str, Any]], top_features: str | None, most: int) -> list[dict[str, str]]:
    """What departed in an event, as a list of ``what``, ``by`` and ``without`` (empty where it is not known).

    Args:
        drivers: rows of gridsearch's payload ``drivers`` of one event.
        top_features: the event's own words, taken where it has no drivers.
        most: how many to give at most.
    """
    rows = sorted(drivers, key=lambda row: row["order"])[:most]
    if not rows:
        return [{**part, "without": ""} for part in departures(top_features)][:most]
    return [
        {
            "what": row["words"] or str(row["column"]).replace("_", " "),
            "by": departure_words(row["departure"]),
            "without": score_lost_words(row["score_lost"]),
        }
        for row in rows
    ]


def driver_text(parts: Sequence[Mapping[str, str]]) -> str:
    """``"mouth opening +5.2 (without it −62 %), fear +3.1"``."""
    return ", ".join(
        " ".join(word for word in (p["what"], p["by"], f"({p['without']})" if p["without"] else "") if word)
        for p in parts
    )


def departure_words(departure: float | None) -> str:
    """A departure in baseline units with its sign; what features are limited to says that it may be more."""
    if departure is None or not math.isfinite(departure):
        return ""
    if abs(departure) < LIMIT - 0.05:
        return f"{departure:+.1f}".replace("-", _MINUS)
    return f"{'≥' if departure > 0 else '≤'} {departure:+.0f}".replace("-", _MINUS)


def score_lost_words(share: float | None) -> str:
    """``without it −62 %``: how the event's score changes when one measure is put back to usual."""
    if share is None or not math.isfinite(share):
        return ""
    percent = round(-100 * share)
    sign = _MINUS if percent < 0 else "+" if percent > 0 else "±"
    return f"without it {sign}{abs(percent)} %"


def p_words(p_value: float | None) -> str:
    """A p-value for people: ``p = 0.002``; ``p < 0.001`` below that; what is not known is said."""
    if p_value is None or not math.isfinite(p_value):
        return "p not known"
    return "p < 0.001" if p_value < 0.0005 else f"p = {p_value:.3f}"


def expected_words(count: float | None) -> str:
    """An expected number of moments, two digits that count: ``0.02``; ``< 0.001`` below that."""
    if count is None or not math.isfinite(count):
        return "not known"
    if count < 0.0005:
        return "< 0.001"
    return f"{count:.3f}" if count < 0.01 else f"{count:.2f}" if count < 1 else f"{count:.1f}"


def survival_words(share: float | None) -> str:
    """In which share of the variations an event is found again."""
    return "not measured" if share is None or not math.isfinite(share) else f"{100 * share:.0f} %"


def number_words(value: float | None, digits: int = 2) -> str:
    """A number with a true minus; an en dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.{digits}f}".replace("-", _MINUS)


def seconds_words(value: float | None) -> str:
    """A length of time, to the millisecond where it matters."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.3f}".rstrip("0").rstrip(".") + " s"


def count_words(number: int, one: str, many: str = "") -> str:
    """``1 moment``, ``2 moments``, ``1,234 faces``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


LITTLE_S = 30.0
"""What is usual cannot be told from less footage of a person: what is found there, or not found, says little."""


def little_words(judged_s: float | None) -> str:
    """That little can be told from so little footage; empty where there is enough."""
    if judged_s is None or judged_s >= LITTLE_S:
        return ""
    return f"Only {judged_s:.1f} s were judged: in so little footage hardly any moment can be told from chance."


def verdict_words(verdict: Mapping[str, Any]) -> str:
    """What was found for one person, in a sentence or two.

    Args:
        verdict: a row of gridsearch's payload ``verdicts``.
    """
    reason = f": {verdict['reason']}" if verdict["reason"] else ""
    if verdict["state"] == INSUFFICIENT:
        return f"Insufficient data{reason}. Nothing was judged: that no moment is listed says nothing."
    explained, reported = verdict["explained"] or 0, verdict["reported"] or 0
    aside = (
        f" {count_words(explained, 'further moment is', 'further moments are')} explained by something beside"
        " expression, and not counted."
        if explained
        else ""
    )
    if reported:
        stands = "stands" if reported == 1 else "stand"
        found = f"{count_words(reported, 'moment')} {stands} out from what is usual for this person{reason}.{aside}"
    else:
        found = f"No anomaly{reason}. No moment stands out from what is usual for this person in this footage.{aside}"
    return f"{found} {little_words(verdict['judged_s'])}".rstrip()


def unsupported_words(count: int | None) -> str:
    """How many peaks were over the threshold and are not reported; empty for none."""
    if not count:
        return ""
    was = "was" if count == 1 else "were"
    return (
        f"{count_words(count, 'further peak')} of the score {was} over the threshold, but no emotion or measure departs"
        f" enough there: not reported."
    )


def unstable_words(count: int | None) -> str:
    """How many peaks were not found again often enough; empty for none."""
    if not count:
        return ""
    was = "was" if count == 1 else "were"
    return (
        f"{count_words(count, 'further peak')} {was} hardly found again with another seed, half of the faces or other"
        " models: not reported."
    )


def dropped_words(count: int | None) -> str:
    """How many moments are beyond those that are listed; empty for none."""
    if not count:
        return ""
    return (
        f"{count_words(count, 'less unusual moment is', 'less unusual moments are')} left out, beyond"
        " gridsearch.events.max_events."
    )
