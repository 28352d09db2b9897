"""What a store remembers of footage: its times and what its picture is, read from the pointers of its stages.

Enough to plan with as exactly as with the footage itself, without opening it.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from faceline.folders import Folder
from faceline.keys import FRACTION_TAG
from faceline.latest import Place, recall
from faceline.timeline import cut_into_segments

_BEYOND_S = cut_into_segments(Fraction(0), Fraction(0), Fraction(1))[-1].end_s
"""By how much the last segment reaches beyond the last frame."""

_SEGMENT = re.compile(r"sample\.segment-(\d{1,9})\.json")


@dataclass(frozen=True)
class Remembered:
    """What is remembered of a content.

    Attributes:
        span: start and end in seconds; None where not all of it was looked at, or nobody can say whether.
        facts: as the report states them (``native_fps``, ``codec`` …); empty where there was no report.
    """

    span: tuple[Fraction, Fraction] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def remembered(folder: Folder, sha256: str) -> Remembered | None:
    """What a store remembers of a content; None where it never met it.

    Args:
        folder: of the store.
        sha256: of the content.
    """
    names = folder.names(f"_latest/{sha256}")
    if not names:
        return None
    facts: Mapping[str, Any] = {}
    report = recall(folder, Place("report", sha256))
    if report is not None and isinstance(report.parts.facts.get("footage"), Mapping):
        facts = report.parts.facts["footage"]
    ends: list[Fraction] = []
    for name in names:
        if match := _SEGMENT.fullmatch(name):
            sample = recall(folder, Place("sample", sha256, segment=int(match[1])))
            # Whatever another version wrote there is no span.
            with contextlib.suppress(KeyError, TypeError, ValueError, ZeroDivisionError):
                scope = {} if sample is None else sample.parts.scope
                ends += [Fraction(scope[end][FRACTION_TAG]) for end in ("start_s", "end_s")]
    span = (min(ends), max(ends) - _BEYOND_S) if ends else None
    # Segments of a run that was interrupted, or was cut otherwise, do not say where the footage ends; a report does.
    whole = span is not None and facts.get("duration_s") == float(span[1] - span[0])
    return Remembered(span if whole else None, facts)
