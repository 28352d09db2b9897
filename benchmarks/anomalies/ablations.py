"""What each part is worth: named settings that leave it out, compared with the run's own."""

from __future__ import annotations

ABLATIONS: dict[str, tuple[str, ...]] = {
    "best trial alone": ("gridsearch.select=best",),
    "all trials": ("gridsearch.select=all",),
    "half of the trials": ("gridsearch.share=0.5",),
    "best trial of each model": ("gridsearch.select=models",),
    "no audit": ("gridsearch.audit=false",),
    "no least departure": ("gridsearch.min_departure=0",),
    "no least survival": ("gridsearch.min_survival=0",),
    "no least scale": ("gridsearch.events.least_scale=0",),
    "pose and light left in": ("anomaly.confound_free=false",),
    "short windows": ("anomaly.window_s=0.25",),
    "long windows": ("anomaly.window_s=1,2,4",),
    "movements alone": ("anomaly.features=dynamics",),
    "embeddings alone": ("anomaly.features=embeddings",),
    "all features": ("anomaly.features=all",),
    "three models": ("anomaly=iforest,ocsvm,lof",),
    "small space": ("gridsearch=small",),
}
"""Name → overrides, laid over those of the command line. An entry here is all that a new ablation needs; artifacts of
stages that it does not touch are shared, so that most cost the trials and the grid search alone, and the first eight
the grid search. The default space looks at expressions alone and has five models."""
