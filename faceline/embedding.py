"""Stage embed: an identity embedding for a well-chosen part of the faces.

Who somebody is does not change from frame to frame, so that of each tracklet only the best face per interval is
embedded: at 10 sampled frames per second and the default interval, one face in ten.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
from pydantic import Field

from faceline.cropping import decode_jpeg
from faceline.devices import Precision
from faceline.errors import ArtifactError
from faceline.stage import Chunk, Inputs, Payload, Runtime, Stage, StageParams
from faceline.weights import ResolvedModel

EMBEDDED, BETWEEN, NO_CROP, LOW_QUALITY = "embedded", "between", "no_crop", "low_quality"

EMBEDDED_SCHEMA = pa.schema([("segment", pa.int32()), ("face", pa.int64()), ("state", pa.string())])

# Crops read at once: some 20 MB of JPEG. The last network call for them is filled up, so that fewer would waste more.
_ROWS_AT_ONCE = 2048
_DAMAGED = "run 'faceline verify' and analyse the footage again"


class EmbedParams(StageParams):
    """Which faces are embedded."""

    interval_s: float = Field(
        default=1.0, ge=0, description="At most one face per tracklet and this many seconds; 0 embeds every face."
    )
    min_faces: int = Field(
        default=8, ge=1, description="Tracklets get at least this many embeddings (short ones: as many as they can)."
    )
    min_quality: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Worse faces are embedded only where their tracklet has fewer than min_faces better ones.",
    )
    precision: Precision = Field(
        default="fp32",
        description="Arithmetic of the network: fp32 anywhere, bf16 on CPUs that multiply it themselves, fp16 on GPUs.",
    )


class Embedder(Protocol):
    """A network that maps a face to a vector whose Euclidean distances tell persons apart.

    Attributes:
        name: its name among the models of role ``identity``.
        dimension: length of the vector.
        input_px: edge of its square input.
        same_person_threshold: distance below which two faces of fair quality count as one person.
        same_person_tracklets: the same for the mean embeddings of two tracklets.
        faces_per_call: faces that one call of the network takes; fewer are filled up.
    """

    name: str
    dimension: int
    input_px: int
    same_person_threshold: float
    same_person_tracklets: float
    faces_per_call: int

    def prepare(self, crop_rgb: np.ndarray, crop_matrix: np.ndarray, box_px: np.ndarray) -> np.ndarray:
        """Network input, uint8 [input_px, input_px, 3] RGB, from the aligned 160×160 crop (uint8 RGB), the affine
        [2, 3] from frame to crop pixels, and the detector's box (x, y, width, height in frame pixels)."""
        ...

    def embed(self, batch: np.ndarray) -> np.ndarray:
        """float32 [n, dimension] for uint8 [n, input_px, input_px, 3]; a row depends on its own face alone."""
        ...


def open_embedder(
    model: ResolvedModel, device: str = "cpu", threads: int = 1, precision: Precision = "fp32"
) -> Embedder:
    """Load the embedder that a resolved model of role ``identity`` stands for; `ModelError` when it cannot be, or
    when the device cannot do this precision."""
    if model.name == "vggface2":
        from faceline.adapters.vggface2 import VGGFace2

        return VGGFace2(model.path, device, threads, precision)
    if model.name == "dlib":
        from faceline.adapters.dlib_resnet import DlibResnet

        return DlibResnet(model.path, device, threads, precision)
    raise ValueError(f"no embedder named {model.name!r}")


@dataclass(frozen=True)
class EmbedderFacts:
    """What can be said of an embedder without loading its network; see `Embedder`."""

    dimension: int
    same_person_threshold: float
    same_person_tracklets: float


def embedder_facts(model_name: str) -> EmbedderFacts:
    """Facts of the embedder of that name."""
    from faceline.adapters import dlib_resnet, vggface2

    adapter = {"vggface2": vggface2, "dlib": dlib_resnet}[model_name]
    return EmbedderFacts(adapter.DIMENSION, adapter.SAME_PERSON_THRESHOLD, adapter.SAME_PERSON_TRACKLETS)


def choose_faces(
    track: np.ndarray, time_s: np.ndarray, quality: np.ndarray, has_crop: np.ndarray, params: EmbedParams
) -> np.ndarray:
    """Choose the faces to embed; depends on nothing but these columns and the parameters.

    In each tracklet, the best face of every interval (the earlier one of equals), as far as its quality suffices;
    where those are fewer than ``min_faces``, the best of the others join them, whatever their quality.

    Args:
        track: int64 [n], tracklet of each face.
        time_s: float64 [n], presentation time.
        quality: float [n] in 0..1; NaN counts as 0.
        has_crop: bool [n], whether there is a crop to embed.
        params: the interval, the least number, the least quality.

    Returns:
        State of each face, [n] of ``embedded``, ``between``, ``no_crop`` or ``low_quality``.
    """
    quality = np.nan_to_num(np.asarray(quality, np.float64), nan=0.0)
    # Best first within each tracklet; lexsort's last key counts most.
    rows = np.flatnonzero(has_crop)
    rows = rows[np.lexsort((rows, time_s[rows], -quality[rows], track[rows]))]
    good = quality[rows] >= params.min_quality
    chosen = good.copy()
    if params.interval_s > 0:
        interval = np.floor(time_s[rows] / params.interval_s).astype(np.int64)
        keys = np.stack([track[rows], interval], axis=1)
        best = np.zeros(len(rows), bool)
        best[np.unique(keys, axis=0, return_index=True)[1]] = True
        chosen &= best
    for here in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(track[rows])) + 1):
        missing = params.min_faces - int(chosen[here].sum())
        if missing > 0:
            chosen[here[~chosen[here]][:missing]] = True
    state = np.full(len(track), NO_CROP, dtype=object)
    state[rows] = np.where(chosen, EMBEDDED, np.where(good, BETWEEN, LOW_QUALITY))
    return state


def _compute(params: EmbedParams, inputs: Inputs, runtime: Runtime) -> Iterator[Chunk]:
    model = inputs.models["identity"]
    columns = ["segment", "face", "track", "time_s", "quality", "crop_matrix", "x_px", "y_px", "w_px", "h_px"]
    faces = inputs.table("align", "faces", columns)
    boxes_px = np.stack([column(faces, name) for name in ("x_px", "y_px", "w_px", "h_px")], axis=1)
    matrices, has_crop = _matrices(faces)
    state = choose_faces(
        faces["track"].to_numpy(), faces["time_s"].to_numpy(), column(faces, "quality"), has_crop, params
    )
    chosen = state == EMBEDDED

    how = (runtime.device, runtime.threads, params.precision)
    with ExitStack() as lent:
        # A segment without a face to embed does not load a network.
        embedder, at_once = None, runtime.batch_size
        if chosen.any():
            key = ("identity", model.name, model.sha256, *how)
            embedder = lent.enter_context(runtime.residents.lend(key, lambda: open_embedder(model, *how)))
            # Whole calls of the network: a call that is filled up costs as much as a full one.
            at_once = -(-at_once // embedder.faces_per_call) * embedder.faces_per_call
        dimension = embedder.dimension if embedder is not None else embedder_facts(model.name).dimension
        yield {"embedded": EMBEDDED_SCHEMA.empty_table(), "embeddings": np.empty((0, dimension), np.float32)}

        start, done, total = 0, 0, int(chosen.sum())
        for crops in inputs.batches("align", "crops", ["crop"], _ROWS_AT_ONCE):
            rows = slice(start, start + crops.num_rows)
            start = rows.stop
            embeddings = np.full((crops.num_rows, dimension), np.nan, np.float32)
            wanted = np.flatnonzero(chosen[rows])
            for first in range(0, len(wanted), at_once):
                here = wanted[first : first + at_once]
                assert embedder is not None
                batch = [
                    embedder.prepare(
                        _picture(crops["crop"][int(i)]), matrices[rows.start + i], boxes_px[rows.start + i]
                    )
                    for i in here
                ]
                embeddings[here] = embedder.embed(np.stack(batch))
                done += len(here)
                runtime.progress(done, total)
            part = faces.slice(rows.start, crops.num_rows)
            states = pa.array(state[rows], pa.string())
            yield {
                "embedded": pa.table([part["segment"], part["face"], states], schema=EMBEDDED_SCHEMA),
                "embeddings": embeddings,
            }
        if start != faces.num_rows:
            raise ArtifactError(f"{start} crops belong to {faces.num_rows} faces", where="align")


def _picture(crop: pa.BinaryScalar) -> np.ndarray:
    data = crop.as_py()
    if data is None:
        raise ArtifactError("a crop is missing", where="align", cure=_DAMAGED)
    try:
        return decode_jpeg(data)
    except ValueError as error:
        raise ArtifactError("a crop is unreadable", where="align", cure=_DAMAGED) from error


def column(table: pa.Table, name: str) -> np.ndarray:
    """A float column with null as NaN, float64 [n]."""
    return table[name].cast(pa.float64()).to_numpy(zero_copy_only=False)


def _matrices(faces: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """float64 [n, 2, 3] (zeros where null) and bool [n], whether there is one."""
    matrices = faces["crop_matrix"].combine_chunks()
    if isinstance(matrices, pa.ChunkedArray):
        matrices = pa.concat_arrays(matrices.chunks) if matrices.num_chunks else pa.array([], matrices.type)
    has_crop = np.asarray(matrices.is_valid())
    values = np.zeros((len(matrices), 2, 3))
    values[has_crop] = matrices.drop_null().flatten().to_numpy(zero_copy_only=False).reshape(-1, 2, 3)
    return values, has_crop


EMBED = Stage(
    name="embed",
    version=1,
    scope="segment",
    params=EmbedParams,
    inputs=("align",),
    outputs=(
        Payload(
            "embedded",
            "parquet",
            "One row per face of align: segment, face, state (embedded; between = another face of the tracklet stands "
            "for this interval; no_crop; low_quality).",
        ),
        Payload(
            "embeddings",
            "npy",
            "float32 [faces, dimension], rows as in `embedded`; NaN unless embedded. Unit length for vggface2, as the "
            "network delivers it for dlib. Compare by Euclidean distance.",
        ),
    ),
    compute=_compute,
    roles=lambda params: ("identity",),
)
