"""Why a face has no score: one reason per face, so that the counts of a person add up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from faceline.anomaly.rows import MASK_REASONS, MaskParams, mask_reasons

NOBODY = "of nobody known"
POOR = "too poor a picture"
TURNED = "turned too far"
NOT_JUDGED = "person not judged"
ALONE = "a blink, or too little usable around it"
"""The model looks at a window around each face, and too few faces of that window can be relied on: those of blinks
are left out."""

_OF_STATE = {"too_small": "too small", "outside": "outside the frame", "no_face": "no face"}


def masks_of(facts: Mapping[str, Any]) -> MaskParams:
    """Which faces the grid search left out, from the run's provenance; the defaults where it is not stated."""
    params = facts.get("params")
    search = params.get("gridsearch") if isinstance(params, Mapping) else None
    masks = search.get("masks") if isinstance(search, Mapping) else None
    return MaskParams.model_validate(masks) if isinstance(masks, Mapping) else MaskParams()


def score_reasons(faces: pa.Table, masks: MaskParams) -> pa.Array:
    """Per face, why it has no score: text, null where it has one.

    The reasons are tried in a fixed order and the first counts: nobody's face; not aligned; quality; turned; then the
    person as a whole; what remains lacks neighbours.

    Args:
        faces: ``person, state, quality, yaw_deg, pitch_deg, score``.
        masks: the grid search's limits.
    """
    columns = {
        name: np.asarray(faces[name].cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
        for name in ("person", "quality", "yaw_deg", "pitch_deg", "score")
    }
    state = np.asarray(faces["state"].to_pylist(), dtype=object)
    pose = np.column_stack([columns["yaw_deg"], columns["pitch_deg"]])
    mask = mask_reasons(state, columns["quality"], pose, masks)
    judged = np.unique(columns["person"][np.isfinite(columns["score"])])
    reasons = np.full(faces.num_rows, ALONE, dtype=object)
    reasons[~np.isin(columns["person"], judged)] = NOT_JUDGED
    reasons[mask == MASK_REASONS.index("turned")] = TURNED
    reasons[mask == MASK_REASONS.index("quality")] = POOR
    unaligned = mask == MASK_REASONS.index("no_face")
    reasons[unaligned] = [_OF_STATE.get(s, str(s).replace("_", " ")) for s in state[unaligned]]
    reasons[~np.isfinite(columns["person"])] = NOBODY
    reasons[np.isfinite(columns["score"])] = None
    return pa.array(reasons.tolist(), pa.string())


def left_out(faces: pa.Table) -> list[tuple[str, int]]:
    """The reasons among ``faces`` (column ``reason``) with their counts, the most frequent first.

    Together with the faces that have a score they make all faces.
    """
    counts = pc.value_counts(faces["reason"].drop_null()).to_pylist()
    return sorted(((c["values"], c["counts"]) for c in counts), key=lambda item: (-item[1], item[0]))
