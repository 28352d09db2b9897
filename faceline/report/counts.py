"""How much was found, for ``run.json``, the console and the UI."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from faceline.report.findings import NO_FACE, face_keys, positions
from faceline.stage import Inputs


def compute_counts(inputs: Inputs) -> dict[str, int]:
    """Counts of what a run found.

    A box in which no face was found (interpolated between two detections) is no face and counts nowhere.

    Returns:
        ``sampled`` frames, ``frames_with_face``, ``faces``, ``tracks`` (with at least one face), ``persons``,
        ``unknown_faces`` (faces of no person), ``events`` (moments that count), ``explained`` (further moments, which
        something beside expression explains).
    """
    aligned = inputs.table("align", "faces", ("segment", "face", "frame", "state"))
    faces = aligned.filter(pc.fill_null(pc.not_equal(aligned["state"], NO_FACE), True))
    persons = inputs.table("cluster", "persons", ("segment", "face", "track", "person"))
    persons = persons.take(positions(face_keys(faces), face_keys(persons)))
    explained = pc.sum(inputs.table("gridsearch", "events", ("explained",))["explained"]).as_py() or 0
    return {
        "sampled": inputs.table("sample", "frames", ("frame",)).num_rows,
        "frames_with_face": _distinct(faces["frame"]),
        "faces": faces.num_rows,
        "tracks": _distinct(persons["track"]),
        "persons": inputs.table("cluster", "people", ("person",)).num_rows,
        "unknown_faces": persons["person"].null_count,
        "events": inputs.table("gridsearch", "events", ("event",)).num_rows - explained,
        "explained": explained,
    }


def _distinct(column: pa.ChunkedArray) -> int:
    return len(np.unique(column.drop_null().to_numpy()))
