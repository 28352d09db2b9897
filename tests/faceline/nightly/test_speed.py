"""The speed that a night states."""

from __future__ import annotations

import pytest

from faceline.nightly.nights import Entry, Night
from faceline.nightly.summary import summarize


@pytest.mark.parametrize(
    ("run", "cached", "speed"),
    [(5, 0, 2.0), (0, 5, 1.0), (2, 3, None)],
    ids=["computed as a whole", "stored before", "computed in part"],
)
def test_only_footage_that_was_computed_as_a_whole_counts(run: int, cached: int, speed: float | None) -> None:
    entries = {
        "a": Entry("a", "done", sha256="a", stages_run=5, duration_s=10.0),
        "b": Entry("b", "done", sha256="b", stages_run=run, stages_cached=cached, duration_s=10.0),
    }
    summary = summarize(Night("n", {}, entries, end={"state": "done", "seconds": 10.0}))
    assert summary.work.footage_s == 20.0
    assert summary.work.speed == speed
