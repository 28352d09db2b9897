"""The persons of the spliced footage are different persons, so that what is tuned on some is reported on others."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from benchmarks.anomalies.meshes import NetworkMesh
from benchmarks.anomalies.recordings import side_of
from benchmarks.anomalies.sources import SOURCES, Section, Source
from benchmarks.anomalies.splice import _decoded

pytestmark = [pytest.mark.real, pytest.mark.models]


def test_no_two_persons_are_one(testdata: Path) -> None:
    folder = testdata / "clips"
    from faceline.adapters.vggface2 import VGGFace2
    from faceline.cropping import matrix_from_mesh, warp
    from faceline.weights import resolve

    # Not the bundled embedder: on the over-exposed webcam it mistakes men for each other.
    embedder, find = VGGFace2(resolve("identity", "vggface2", folder.parent / "models").path), NetworkMesh()

    def embedded(source: Source, section: Section) -> np.ndarray:
        for _, rgb in _decoded(folder / section.clip, section, source):
            mesh = find(rgb)
            if mesh is not None:
                matrix = matrix_from_mesh(mesh[:, :2])
                low, high = mesh[:, :2].min(axis=0), mesh[:, :2].max(axis=0)
                return embedder.embed(
                    embedder.prepare(warp(rgb, matrix), matrix, np.array([*low, *(high - low)]))[None]
                )[0]
        raise AssertionError(f"no face of {source.person}")

    faces = {source.person: embedded(source, source.usual[-1]) for source in SOURCES}
    for one, two in itertools.combinations(SOURCES, 2):
        apart = float(np.linalg.norm(faces[one.person] - faces[two.person]))
        if one.unit == two.unit:
            assert side_of(one) == side_of(two)
        else:
            assert apart > embedder.same_person_threshold, f"{one.person} and {two.person} lie {apart:.2f} apart"
    for source in SOURCES:  # and each person is one throughout: the actor's two clips, too
        for section in source.expressions[:1]:
            apart = float(np.linalg.norm(faces[source.person] - embedded(source, section)))
            assert apart < embedder.same_person_threshold, f"{source.person} lies {apart:.2f} from themself"
