"""How well the choice among trials did, beside what needs no choice: a trial at random, and all of them together.

Every way is asked about the same planted anomalies, others than those that the choice was made by, at other moments.
They are made by us: the figures compare ways to choose on this person's footage, and promise nothing about real events.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from faceline.anomaly.judge import Planting
from faceline.anomaly.selection import Choice, combine


def compare(planted: Sequence[Planting | None], choice: Choice) -> dict[str, float]:
    """Average precision on planted anomalies by way of choosing; NaN where it could not be measured.

    Args:
        planted: what each trial scored; `None` for trials without.
        choice: the trials from best to worst, and the chosen ones.

    Returns:
        "chosen" (what was taken), "best" (the first trial alone), "random" (the mean of single trials) and "ensemble"
        (all trials together).
    """
    known = [i for i in choice.order if planted[i] is not None]
    taken = [i for i in choice.chosen if planted[i] is not None]
    single = [_together([planted[i]]) for i in known]
    return {
        "chosen": _together([planted[i] for i in taken]),
        "best": single[0] if single else float("nan"),
        "random": float(np.mean(single)) if single else float("nan"),
        "ensemble": _together([planted[i] for i in known]),
    }


def _together(planted: Sequence[Planting | None]) -> float:
    """Average precision of several trials' combined scores, on the rows that any of them has."""
    there = [p for p in planted if p is not None]
    if not there:
        return float("nan")
    rows = np.unique(np.concatenate([p.row for p in there]))
    scores = np.full((len(there), len(rows)), np.nan)
    truth = np.zeros(len(rows), dtype=bool)
    for i, p in enumerate(there):
        at = np.searchsorted(rows, p.row)
        scores[i, at] = p.score
        truth[at] |= p.truth
    score = combine(scores)
    known = np.isfinite(score)
    if not truth[known].any() or truth[known].all():
        return float("nan")
    return Planting(rows[known], truth[known], score[known]).average_precision()
