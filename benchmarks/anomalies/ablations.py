"""What each part is worth: named settings that leave it out, compared with the run's own."""

from __future__ import annotations

ABLATIONS: dict[str, tuple[str, ...]] = {
    "best trial alone": ("gridsearch.select=best",),
    "all trials": ("gridsearch.select=all",),
    "small space": ("gridsearch=small",),
    "pose and light left in": ("anomaly.confound_free=false",),
    "no least departure": ("gridsearch.min_departure=0",),
}
"""Name → overrides, laid over those of the command line. An entry here is all that a new ablation needs; artifacts of
stages that it does not touch are shared."""
