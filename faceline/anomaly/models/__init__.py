"""Anomaly models behind one protocol: fit on a person's own windows, score the same or others, higher = more unusual.

Scikit-learn's scores fall with abnormality; the sign is turned in the model, once, and a test holds it for every one.
A further model is a parameter class in a module of this package, named in `AnyModelParams`; nothing else knows them by
name. It says whether its model draws anything at random (`seeded`). Models see complete rows only: a NaN is refused,
never filled in.

Most models take each row by itself. A `SequenceModel` looks at runs of rows, and `fit` and `score` take the rows'
times and breaks beside them; who fits models asks whether one is such a model (`faceline.anomaly.judge`).

For 10⁵ rows of 12 features, fitted and scored with the defaults, each model takes less than 10 s of processor time
(measured: 0.1 to 6 s) and less than 300 MB beside the table. References and courses to learn from are thinned to
`max_rows`, and rows are scored in batches, so that time grows linearly and memory by a few numbers per cell.
"""

from __future__ import annotations

from typing import Annotated, get_args

from pydantic import Field

from faceline.anomaly.models.autoencoder import LstmAeParams
from faceline.anomaly.models.columns import DeviationParams, EcodParams
from faceline.anomaly.models.isolation import IForestParams
from faceline.anomaly.models.kmeans import KMeansADParams
from faceline.anomaly.models.neighbours import KnnParams, LofParams
from faceline.anomaly.models.protocol import AnomalyModel, checked, evenly
from faceline.anomaly.models.sequences import RowTimes, SequenceModel
from faceline.anomaly.models.subspace import PcaParams
from faceline.anomaly.models.svm import OcsvmParams
from faceline.stage import StageParams

__all__ = [
    "MODELS",
    "AnomalyModel",
    "AnyModelParams",
    "DeviationParams",
    "EcodParams",
    "IForestParams",
    "KMeansADParams",
    "KnnParams",
    "LofParams",
    "LstmAeParams",
    "OcsvmParams",
    "PcaParams",
    "RowTimes",
    "SequenceModel",
    "checked",
    "evenly",
]

AnyModelParams = Annotated[
    IForestParams
    | OcsvmParams
    | LofParams
    | KnnParams
    | PcaParams
    | EcodParams
    | KMeansADParams
    | LstmAeParams
    | DeviationParams,
    Field(discriminator="name"),
]
"""Parameters of any model, told apart by their `name`."""

MODELS: dict[str, type[StageParams]] = {
    p.model_fields["name"].default: p for p in get_args(get_args(AnyModelParams)[0])
}
"""Parameter class of each model, by name."""
