"""How many persons are found in real clips, with the stages' default parameters and either embedder."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from faceline.alignment import ALIGN
from faceline.clustering import CLUSTER, ClusterParams
from faceline.detection import DETECT
from faceline.embedding import EMBED
from faceline.sampling import SAMPLE, SampleParams
from faceline.stage import MemoryInputs, Runtime, collect
from faceline.video import open_footage
from faceline.weights import ResolvedModel, resolve

pytestmark = [pytest.mark.real, pytest.mark.models]

Aligned = Callable[[str, float], dict[tuple[str, str], Any]]


@pytest.fixture(scope="module")
def aligned(testdata: Path) -> Aligned:
    """Payloads of the stages up to align, for a clip and a sampling rate; computed once for both embedders."""

    @cache
    def payloads(clip: str, fps: float) -> dict[tuple[str, str], Any]:
        footage = open_footage(testdata / "clips" / clip)
        (segment,) = footage.segments(Fraction(300))
        models = {role: resolve(role) for role in ("detector", "landmarks")}
        result: dict[tuple[str, str], Any] = {}
        for stage, params in ((SAMPLE, SampleParams(fps=fps)), (DETECT, DETECT.params()), (ALIGN, ALIGN.params())):
            inputs = MemoryInputs(result, footage=footage, segment=segment, models=models)
            for name, payload in collect(stage.compute(params, inputs, Runtime())).items():
                result[stage.name, name] = payload
        return result

    return payloads


def _cluster(payloads: dict[tuple[str, str], Any], model: ResolvedModel) -> dict[str, Any]:
    payloads, models = dict(payloads), {"identity": model}
    embedded = collect(EMBED.compute(EMBED.params(), MemoryInputs(payloads, models=models), Runtime()))
    payloads.update({("embed", name): payload for name, payload in embedded.items()})
    # Components are tested on their own and say nothing about who is who.
    params = ClusterParams(components_min_faces=100_000)
    return collect(CLUSTER.compute(params, MemoryInputs(payloads, models=models), Runtime()))


@pytest.mark.parametrize("name", ["vggface2", "dlib"])
@pytest.mark.parametrize(
    ("clip", "fps", "persons"),
    [
        ("pyfeat_no_face.mp4", 5.0, 0),
        ("lp_d5.mp4", 5.0, 1),
        ("clm_0244_03_004_anderson_cooper.avi", 5.0, 2),
        ("den250400_interview.mp4", 5.0, 2),
        ("clm_multi_face.avi", 5.0, 3),
        ("intel_yes.mkv", 5.0, 1),  # and a skull on the shirt
    ],
)
def test_number_of_persons(
    clip: str, fps: float, persons: int, name: str, aligned: Aligned, vggface2_folder: Path
) -> None:
    payloads = aligned(clip, fps)
    result = _cluster(payloads, resolve("identity", name, vggface2_folder))
    assert result["people"].num_rows == persons
    # Two faces of one frame are never the same person.
    known = [
        (frame, person)
        for frame, person in zip(
            result["persons"]["frame"].to_pylist(), result["persons"]["person"].to_pylist(), strict=True
        )
        if person is not None
    ]
    assert len(set(known)) == len(known)


@pytest.mark.parametrize("name", ["vggface2", "dlib"])
def test_a_long_interview_is_one_person_who_has_nearly_all_the_faces(
    name: str, aligned: Aligned, vggface2_folder: Path
) -> None:
    payloads = aligned("jiho_foreigner_interview.mp4", 1.0)
    result = _cluster(payloads, resolve("identity", name, vggface2_folder))
    seen = np.array([state != "no_face" for state in payloads["align", "faces"]["state"].to_pylist()])
    person = np.array([number or 0 for number in result["persons"]["person"].to_pylist()])
    assert result["people"].num_rows == 1
    assert np.mean(person[seen] == 1) >= 0.95
