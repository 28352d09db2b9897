"""All stages of the pipeline, in an order in which each comes after what it reads."""

from __future__ import annotations

from faceline.alignment import ALIGN
from faceline.anomaly.gridsearch import GRIDSEARCH
from faceline.anomaly.trial import TRIAL
from faceline.clustering import CLUSTER
from faceline.detection import DETECT
from faceline.embedding import EMBED
from faceline.emotion import EMOTE
from faceline.report.stage import REPORT
from faceline.sampling import SAMPLE
from faceline.stage import Stage

STAGES: tuple[Stage, ...] = (SAMPLE, DETECT, ALIGN, EMBED, EMOTE, CLUSTER, TRIAL, GRIDSEARCH, REPORT)
"""The stages. A new one is declared in its own module, listed here, and given a task and a section in ``conf/``."""
