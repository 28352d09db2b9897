"""The results folder on disk: report files, pictures of the faces, and ``run.json``, put in place in one step."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from faceline import custody as chain
from faceline.errors import UsageError
from faceline.folders import DIR_MODE, FILE_MODE
from faceline.keys import digest_of
from faceline.report.counts import compute_counts
from faceline.report.findings import NO_FACE, face_keys, positions
from faceline.report.pictures import ALIGNED, ORGANIZED, UNKNOWN, face_names, person_folder
from faceline.report.swap import recover, replacing
from faceline.stage import Inputs
from faceline.writable import write_errors

__all__ = ["check_replaceable", "compute_counts", "face_pictures", "is_ours", "run_bytes", "write_results"]

RUN = "run.json"
SIGNATURE = "run.json.sig"

_log = logging.getLogger(__name__)
_CROPS_AT_ONCE = 256


def check_replaceable(folder: Path) -> None:
    """Refuse a place that holds something else than results, before any work is done.

    Raises:
        UsageError: ``folder`` is a file, a mount point, or a folder with content but without a faceline ``run.json``.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UsageError("is a file, not a folder", where=str(folder), cure="choose another place with output=DIR")
    if folder.is_mount():
        raise UsageError(
            "is a mount point, which cannot be replaced in one step",
            where=str(folder),
            cure="name a folder inside it with output=DIR",
        )
    if any(folder.iterdir()) and not _is_results(folder):
        raise UsageError(
            "holds other files, and is not replaced by results",
            where=str(folder),
            cure="choose an empty or new folder with output=DIR",
        )


def write_results(
    folder: Path,
    report_files: Mapping[str, bytes],
    inputs: Inputs,
    run: Mapping[str, Any],
    *,
    custody: bytes | None = None,
    sign: Callable[[bytes], bytes] | None = None,
) -> dict[str, Any]:
    """Make the results folder anew, in one step: whoever looks sees the old one whole or the new one whole.

    Files that somebody added at the top of an old results folder (notes, say) are carried over; whatever bears a name
    of ours is made anew. Only the owner may read the results, since they hold faces.

    Args:
        folder: where; a symbolic link to a folder is followed.
        report_files: relative path → content, from the stage ``report``.
        inputs: sample, align, cluster and gridsearch.
        run: ``faceline, footage{path, sha256, duration_s, start_s}, config, models, stages`` and whatever else
            ``run.json`` shall hold; ``counts``, ``outputs`` and the footage's ``frames_decoded`` and ``damaged_at_s``
            are filled in.
        custody: content of ``custody.json``, see `faceline.custody`.
        sign: gives the content of ``run.json.sig`` for that of ``run.json``; None signs nothing.

    Returns:
        The content of ``run.json``.

    Raises:
        UsageError: `check_replaceable` refuses the folder.
        FacelineError: the folder cannot be written.
    """
    folder = Path(os.path.realpath(folder))
    with _write_errors(folder):
        recover(folder)
        check_replaceable(folder)
        with replacing(folder) as building:
            writer = _Writer(building)
            for path, content in sorted(report_files.items()):
                writer.write(_checked(path), content)
            _write_faces(writer, inputs)
            if custody is not None:
                writer.write(chain.FILE, custody)
            whole = {**run, "footage": _footage(inputs, run), "counts": compute_counts(inputs)}
            whole["outputs"] = dict(sorted(writer.digests.items()))
            content = run_bytes(whole)
            writer.write(RUN, content)
            if sign is not None:
                writer.write(SIGNATURE, sign(content))
            _carry_over(folder, building)
    # The log is another witness of what the folder held when it was made.
    _log.info("results in %s; run.json has SHA-256 %s", folder, writer.digests[RUN])
    return json.loads(content)


def run_bytes(run: Mapping[str, Any]) -> bytes:
    """``run.json``: the one form of its content, which ends with a digest of it, so that every changed byte shows.

    Args:
        run: JSON values; a ``check`` that it already has is made anew.
    """
    body = {name: value for name, value in run.items() if name != "check"}
    body["check"] = digest_of(json.loads(json.dumps(body, allow_nan=False)), RUN)
    return (json.dumps(body, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


class _Writer:
    """Writes private files below a folder and notes their digests. Plain strings: there are tens of thousands."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.digests: dict[str, str] = {}
        self._folders: set[str] = set()
        self._links = True

    def write(self, path: str, content: bytes) -> None:
        self.folder(path.rpartition("/")[0])
        descriptor = os.open(f"{self.root}/{path}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        self.digests[path] = hashlib.sha256(content).hexdigest()

    def link(self, path: str, other: str) -> None:
        """The file ``other`` also under the name ``path``: a hard link, or a copy where there are none."""
        self.folder(path.rpartition("/")[0])
        source, target = f"{self.root}/{other}", f"{self.root}/{path}"
        if self._links:
            try:
                os.link(source, target)
            except OSError:
                self._links = False
        if not self._links:
            shutil.copyfile(source, target)
            Path(target).chmod(FILE_MODE)
        self.digests[path] = self.digests[other]

    def folder(self, path: str) -> None:
        """Make a private folder, and those above it."""
        if path in self._folders or not path:
            return
        self.folder(path.rpartition("/")[0])
        Path(f"{self.root}/{path}").mkdir(DIR_MODE)
        self._folders.add(path)


def _checked(path: str) -> str:
    """``path`` if it is a plain relative path with ``/``."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or not pure.parts or ".." in pure.parts or str(pure) != path:
        raise ValueError(f"no path within the results folder: {path!r}")
    return path


def _write_faces(writer: _Writer, inputs: Inputs) -> None:
    """All faces that have a picture: once in time order, once by person."""
    for path in (ALIGNED, f"{ORGANIZED}/{UNKNOWN}"):
        writer.folder(path)
    for person in inputs.table("cluster", "people", ("person",))["person"].to_pylist():
        writer.folder(person_folder(person))
    for name, person, crop in face_pictures(inputs):
        path = f"{ALIGNED}/{name}"
        writer.write(path, crop)
        writer.link(f"{person_folder(person)}/{name}", path)


def face_pictures(inputs: Inputs) -> Iterator[tuple[str, int | None, bytes]]:
    """(file name, person or None, JPEG bytes) of every face that has a picture; inputs: align and cluster."""
    faces = inputs.table("align", "faces", ("segment", "face", "frame", "time_s", "state"))
    faces = faces.filter(pc.fill_null(pc.not_equal(faces["state"], NO_FACE), True))
    persons = inputs.table("cluster", "persons", ("segment", "face", "track", "person"))
    persons = persons.take(positions(face_keys(faces), face_keys(persons)))
    faces = faces.append_column("track", persons["track"]).append_column("person", persons["person"])
    # The order of `Findings.faces`, in which the names are given.
    faces = faces.sort_by([(name, "ascending") for name in ("time_s", "frame", "track", "segment", "face")])
    keys, names, people = face_keys(faces), face_names(faces), faces["person"].to_pylist()
    for batch in inputs.batches("align", "crops", ("segment", "face", "crop"), _CROPS_AT_ONCE):
        for row, crop in _rows(batch, keys):
            yield names[row], people[row], crop


def _rows(batch: pa.RecordBatch, keys: np.ndarray) -> Iterator[tuple[int, bytes]]:
    """(row among ``keys``, picture) of the batch's faces that are faces and have a picture."""
    for row, crop in zip(positions(face_keys(batch), keys).to_pylist(), batch.column("crop"), strict=True):
        content = crop.as_py()
        if row is not None and content is not None:
            yield row, content


def _footage(inputs: Inputs, run: Mapping[str, Any]) -> dict[str, Any]:
    facts = inputs.table("sample", "facts", ("frames_decoded", "damaged_at_s"))
    return {
        **run.get("footage", {}),
        "frames_decoded": pc.sum(facts["frames_decoded"]).as_py() or 0,
        "damaged_at_s": pc.min(facts["damaged_at_s"]).as_py(),
    }


def _is_results(folder: Path) -> bool:
    try:
        run = json.loads((folder / RUN).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(run, dict) and "faceline" in run and "outputs" in run


def is_ours(name: str) -> bool:
    """Whether a file or folder of that name at the top of a results folder belongs to the results."""
    files = {"report.html", "events.csv", "columns.md", chain.FILE, RUN, SIGNATURE}
    return name in {ALIGNED, ORGANIZED, "plots", *files} or (
        name.startswith("anomaly_detection_results_person_") and name.endswith(".csv")
    )


def _carry_over(old: Path, new: Path) -> None:
    """Copy what somebody else put into the old folder."""
    if not old.is_dir():
        return
    for entry in sorted(old.iterdir()):
        if is_ours(entry.name) or (new / entry.name).exists():
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.copytree(entry, new / entry.name, symlinks=True)
        else:
            shutil.copy2(entry, new / entry.name, follow_symlinks=False)
        _log.info("kept %s, which is not part of the results", entry)


@contextlib.contextmanager
def _write_errors(folder: Path) -> Iterator[None]:
    with write_errors(folder, "output=DIR", "the results cannot be written"):
        yield
