"""A results folder checked against its store: artifacts rehashed, pictures compared with the crops among them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from faceline.artifacts import ArtifactRef
from faceline.custody import Entry, Link, Run
from faceline.errors import ArtifactError
from faceline.inputs import StoredInputs
from faceline.report.pictures import ALIGNED, person_folder
from faceline.report.results import face_pictures
from faceline.report.stage import REPORT
from faceline.store import Store


def check_store(root: str, run: Run, entries: Sequence[Entry]) -> list[Link]:
    """Look for the chain's artifacts in a store; nothing is set aside.

    Args:
        root: path or URL of the store.
        run: what ``run.json`` says.
        entries: the artifacts of ``custody.json``.

    Returns:
        Whether those that are there are the ones of the chain, and whether the pictures are align's crops. What is no
        longer there is said, and no failure: stores are swept.
    """
    store = Store(root)
    refs: dict[str, list[ArtifactRef]] = {}
    problems, gone = [], []
    for entry in entries:
        finding = store.inspect(entry.stage, entry.key, deep=True)
        where = f"{store.root}/{entry.stage}/{entry.key}"
        if finding.state == "absent":
            gone.append(entry)
        elif finding.manifest is None or finding.state == "damaged":
            problems.append(f"{where}: {'; '.join(finding.problems)}")
        elif finding.manifest.digest != entry.digest:
            problems.append(f"{where}: has other content than the artifact of {entry.name}")
        else:
            refs.setdefault(entry.stage, []).append(store.ref(finding, segment=entry.segment, trial=entry.trial))
    there = len(entries) - len(gone)
    left = f"; {len(gone)} are no longer there" if gone else ""
    text = f"{there} of {len(entries)} artifacts lie in {store.root}, rehashed{left}"
    links = [Link("store", text, tuple(problems), open=there == 0)]
    needed = [entry for entry in entries if entry.stage in REPORT.inputs]
    if {entry.stage for entry in needed} != set(REPORT.inputs) or sum(
        len(refs.get(name, ())) for name in REPORT.inputs
    ) != len(needed):
        return [
            *links,
            Link("crops", "pictures can be compared only while the store holds what they came from", open=True),
        ]
    return [*links, _crops(run, StoredInputs(REPORT, {name: refs[name] for name in REPORT.inputs}))]


def _crops(run: Run, inputs: StoredInputs) -> Link:
    problems = []
    expected: dict[str, str] = {}
    try:
        for name, person, crop in face_pictures(inputs):
            sha256 = hashlib.sha256(crop).hexdigest()
            expected[f"{ALIGNED}/{name}"] = expected[f"{person_folder(person)}/{name}"] = sha256
    except ArtifactError as error:
        return Link("crops", "", (str(error),))
    for path, sha256 in expected.items():
        if run.outputs.get(path) != sha256:
            problems.append(f"{path}: is not the crop that align made")
    listed = {name for name in run.outputs if name.endswith(".jpg")}
    problems.extend(f"{path}: align made no such crop" for path in sorted(listed - set(expected)))
    return Link("crops", f"{len(listed) // 2} pictures are the crops that align made", tuple(problems))
