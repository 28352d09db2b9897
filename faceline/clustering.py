"""Stage cluster: persons over the whole footage, and the components of each person's embeddings."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from faceline.components import ComponentParams, components_of
from faceline.embedding import EMBEDDED, column, embedder_facts
from faceline.persons import PersonParams, Persons, find_persons
from faceline.stage import Chunk, Inputs, Payload, Runtime, Stage
from faceline.tracklets import Faces

PERSONS_SCHEMA = pa.schema(
    [
        ("segment", pa.int32()),
        ("face", pa.int64()),
        ("frame", pa.int64()),
        ("time_s", pa.float64()),
        ("track", pa.int64()),
        ("person", pa.int32()),
        ("distance", pa.float32()),
    ]
)

PEOPLE_SCHEMA = pa.schema(
    [
        ("person", pa.int32()),
        ("faces", pa.int64()),
        ("tracks", pa.int64()),
        ("first_s", pa.float64()),
        ("last_s", pa.float64()),
        ("segment", pa.int32()),
        ("face", pa.int64()),
    ]
)

# align's state of an interpolated box in which there is no face; in all other states one was seen.
_NO_FACE = "no_face"

# align's state of a face with a mesh.
_MESHED = "ok"


class ClusterParams(PersonParams, ComponentParams):
    """What makes a person, and how the components are made."""


def footage_wide_tracks(segment: np.ndarray, track: np.ndarray) -> np.ndarray:
    """Number the tracklets of all segments through: int64 [n], dense, in order of (segment, track)."""
    if len(segment) == 0:
        return np.empty(0, np.int64)
    return np.unique(np.stack([segment, track], axis=1), axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _compute(params: ClusterParams, inputs: Inputs, runtime: Runtime) -> Iterator[Chunk]:
    columns = ["segment", "face", "frame", "time_s", "track", "x_px", "y_px", "w_px", "h_px", "quality", "state"]
    table = inputs.table("align", "faces", columns)
    state = inputs.table("embed", "embedded", ["state"])["state"]
    embedded = np.flatnonzero(_equal(state, EMBEDDED))
    vector = np.full(len(state), -1, np.int64)
    vector[embedded] = np.arange(len(embedded))
    faces = Faces(
        track=footage_wide_tracks(table["segment"].to_numpy(), table["track"].to_numpy()),
        frame=table["frame"].to_numpy(),
        time_s=table["time_s"].to_numpy(),
        box_px=np.stack([column(table, name) for name in ("x_px", "y_px", "w_px", "h_px")], axis=1),
        # What no mesh fits may be a profile, or the knot of a tie: it can go with a person, but proves none.
        quality=np.where(_equal(table["state"], _MESHED), column(table, "quality"), np.nan),
        visible=pc.fill_null(pc.not_equal(table["state"], _NO_FACE), True).to_numpy(),
        vector=vector,
        # Only the embedded rows are kept: a fraction of the array, which may lie in a file.
        vectors=np.asarray(inputs.array("embed", "embeddings")[embedded], np.float32),
    )
    persons = find_persons(faces, embedder_facts(inputs.models["identity"].name).same_person_tracklets, params)
    unknown = persons.person == 0
    yield {
        "persons": pa.table(
            [
                *(table[name] for name in ("segment", "face", "frame", "time_s")),
                pa.array(faces.track, pa.int64()),
                pa.array(persons.person, pa.int32(), mask=unknown),
                pa.array(persons.distance, pa.float32(), mask=np.isnan(persons.distance)),
            ],
            schema=PERSONS_SCHEMA,
        ),
        "people": _people(table, faces, persons),
    }

    components = np.full((len(faces), params.components), np.nan, np.float32)
    for number in range(1, persons.count + 1):
        rows = np.flatnonzero((persons.person == number) & (faces.vector >= 0))
        rows = rows[np.argsort(faces.time_s[rows], kind="stable")]
        components[rows] = components_of(faces.vectors[faces.vector[rows]], params)
        runtime.progress(number, persons.count)
    yield {"components": components}


def _equal(texts: pa.ChunkedArray, text: str) -> np.ndarray:
    """bool [n]; a null equals nothing. Compared by Arrow: text in a NumPy array would import pandas."""
    return np.asarray(pc.fill_null(pc.equal(texts, text), False))


def _people(table: pa.Table, faces: Faces, persons: Persons) -> pa.Table:
    """One row per person; the portrait is the best face that is typical of the person."""
    rows = []
    segment, face = table["segment"].to_numpy(), table["face"].to_numpy()
    quality = np.nan_to_num(faces.quality, nan=0.0)
    for number in range(1, persons.count + 1):
        seen = np.flatnonzero((persons.person == number) & faces.visible)
        near = seen[persons.distance[seen] <= np.nanmedian(persons.distance[seen])]
        portrait = near[np.lexsort((persons.distance[near], -quality[near]))[0]]
        rows.append(
            {
                "person": number,
                "faces": len(seen),
                "tracks": len(np.unique(faces.track[seen])),
                "first_s": faces.time_s[seen].min(),
                "last_s": faces.time_s[seen].max(),
                "segment": segment[portrait],
                "face": face[portrait],
            }
        )
    return pa.Table.from_pylist(rows, schema=PEOPLE_SCHEMA)


CLUSTER = Stage(
    name="cluster",
    version=1,
    scope="footage",
    params=ClusterParams,
    inputs=("align", "embed"),
    outputs=(
        Payload(
            "persons",
            "parquet",
            "One row per face of align: segment, face, frame, time_s, track (0-based, footage-wide), person (1-based "
            "by number of faces, descending; null = unknown), distance (of the face's embedding to the person's mean; "
            "null where not embedded or unknown).",
        ),
        Payload(
            "people",
            "parquet",
            "One row per person: person, faces (really seen), tracks, first_s, last_s, segment and face of a portrait.",
        ),
        Payload(
            "components",
            "npy",
            "float32 [faces, components], rows as in `persons`: UMAP coordinates among the same person's embedded "
            "faces; NaN where not embedded, unknown, or where the person has too few embedded faces.",
        ),
    ),
    compute=_compute,
    roles=lambda params: ("identity",),
)
