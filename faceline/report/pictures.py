"""Pictures of faces: their file names, and reading the wanted ones from the aligned crops."""

from __future__ import annotations

import base64
import io

import numpy as np
import pyarrow as pa

from faceline.report.findings import face_keys
from faceline.stage import Inputs
from faceline.timeline import timecode

ALIGNED = "aligned_faces"
ORGANIZED = "organized_faces"
UNKNOWN = "unknown"


def face_names(faces: pa.Table) -> list[str]:
    """File names of faces, unique within the footage: ``f00002502_00-01-23.400_track0003.jpg``.

    They begin with the frame's index in the footage, so that they sort by time, also before time zero.

    Args:
        faces: `Findings.faces` or rows of it: ``frame, time_s, track`` (footage-wide), ``face``.
    """
    names = []
    seen: set[str] = set()
    columns = (faces[name].to_pylist() for name in ("segment", "face", "frame", "time_s", "track"))
    for segment, face, frame, time_s, track in zip(*columns, strict=True):
        clock = timecode(time_s).replace(":", "-")
        name = f"f{frame:08d}_{clock}_{'track' if track is not None else 'face'}{face if track is None else track:04d}"
        if name in seen:
            # A track has one face per frame; should that ever fail, no picture may overwrite another.
            name = f"{name}_{segment}-{face}"
        seen.add(name)
        names.append(f"{name}.jpg")
    return names


def person_folder(person: int | None) -> str:
    """Folder of a person's pictures within the results folder; of nobody known for ``None``."""
    return f"{ORGANIZED}/{UNKNOWN if person is None else f'person_{person}'}"


def read_crops(inputs: Inputs, wanted: np.ndarray) -> dict[int, bytes]:
    """The aligned crops (JPEG bytes) of the wanted faces that have one, by key (see `findings.face_keys`).

    Args:
        inputs: gives ``align/crops``, read batch by batch.
        wanted: int64 keys; the caller bounds their number, since all of them are held in memory.
    """
    found: dict[int, bytes] = {}
    if len(wanted) == 0:
        return found
    for batch in inputs.batches("align", "crops", ("segment", "face", "crop")):
        keys = face_keys(batch)
        for row in np.flatnonzero(np.isin(keys, wanted)):
            crop = batch.column("crop")[int(row)].as_py()
            if crop is not None:
                found[int(keys[row])] = crop
    return found


def data_uri(jpeg: bytes, side_px: int) -> str:
    """A JPEG picture as a data URI, reduced to at most ``side_px`` on its longer side."""
    from PIL import Image

    with Image.open(io.BytesIO(jpeg)) as picture:
        if max(picture.size) > side_px:
            small = picture.convert("RGB")
            small.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
            out = io.BytesIO()
            small.save(out, "JPEG", quality=88, optimize=True)
            jpeg = out.getvalue()
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
