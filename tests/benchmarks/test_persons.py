"""The persons of the spliced footage are different persons, so that what is tuned on some is reported on others."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from benchmarks.anomalies.meshes import NetworkMesh
from benchmarks.anomalies.sources import SOURCES, Section, Source, clips_folder
from benchmarks.anomalies.splice import _decoded

pytestmark = [pytest.mark.real, pytest.mark.models]


def test_no_two_persons_are_one() -> None:
    folder = clips_folder()
    if folder is None:
        pytest.skip("the real clips are not here (FACELINE_TESTDATA or ../shared/data)")
    from faceline.adapters.dlib_resnet import DlibResnet
    from faceline.cropping import matrix_from_mesh, warp
    from faceline.weights import resolve

    embedder, find = DlibResnet(resolve("identity", "dlib").path), NetworkMesh()

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
    find_distance = {
        pair: float(np.linalg.norm(faces[pair[0]] - faces[pair[1]])) for pair in itertools.combinations(faces, 2)
    }
    nearest = min(find_distance, key=find_distance.__getitem__)
    assert find_distance[nearest] > embedder.same_person_threshold, f"{nearest} lie {find_distance[nearest]:.2f} apart"
    for source in SOURCES:  # and each person is one throughout: the actor's two clips, too
        for section in source.expressions[:1]:
            apart = float(np.linalg.norm(faces[source.person] - embedded(source, section)))
            assert apart < embedder.same_person_threshold, f"{source.person} lies {apart:.2f} from themself"
