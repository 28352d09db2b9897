"""Inputs of a stage, read from the store: artifacts of several segments or trials appear as one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa

from faceline.artifacts import Artifact, ArtifactRef
from faceline.stage import Stage
from faceline.store import Store


class StoredInputs:
    """`Inputs` over references. Only what the stage declares can be read, so that its key cannot miss anything.

    Args:
        stage: the declaration.
        refs: input stage → references, in segment (or trial) order.
        footage: the footage, if the stage reads it.
        segment: the segment, for stages of scope ``segment``.
        facts: further JSON values.
        models: role → resolved model.

    Every read may raise `ArtifactError` (missing, damaged or replaced; damage is set aside), and `LookupError` for
    what was not declared.
    """

    def __init__(
        self,
        stage: Stage,
        refs: Mapping[str, Sequence[ArtifactRef]],
        *,
        footage: Any = None,
        segment: Any = None,
        facts: Mapping[str, Any] | None = None,
        models: Mapping[str, Any] | None = None,
    ) -> None:
        self._stage = stage
        self._refs = {name: tuple(refs) for name, refs in refs.items()}
        self._footage = footage
        self._segment = segment
        self._facts = MappingProxyType(dict(facts or {}))
        self._models = MappingProxyType(dict(models or {}))
        # An artifact is opened and checked once, however often it is read.
        self._artifacts: dict[tuple[str, int], Artifact] = {}

    @property
    def footage(self) -> Any:
        if not self._stage.reads_footage or self._footage is None:
            raise LookupError(f"stage {self._stage.name} does not declare that it reads the footage")
        return self._footage

    @property
    def segment(self) -> Any:
        if self._segment is None:
            raise LookupError(f"stage {self._stage.name} is of scope {self._stage.scope} and has no segment")
        return self._segment

    @property
    def models(self) -> Mapping[str, Any]:
        return self._models

    @property
    def facts(self) -> Mapping[str, Any]:
        return self._facts

    def table(self, stage: str, payload: str, columns: Sequence[str] | None = None) -> pa.Table:
        return pa.concat_tables([artifact.table(payload, columns) for artifact in self.artifacts(stage)])

    def batches(
        self, stage: str, payload: str, columns: Sequence[str] | None = None, batch_size: int = 256
    ) -> Iterator[pa.RecordBatch]:
        for artifact in self.artifacts(stage):
            yield from artifact.batches(payload, columns, batch_size)

    def array(self, stage: str, payload: str) -> np.ndarray:
        arrays = [artifact.array(payload) for artifact in self.artifacts(stage)]
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=0)

    def artifacts(self, stage: str) -> list[Artifact]:
        """The readers of an input stage's artifacts, in order; `LookupError` if it is none or has none."""
        if stage not in self._stage.inputs:
            declared = ", ".join(self._stage.inputs) or "none"
            raise LookupError(f"stage {self._stage.name} does not declare the input {stage!r}; declared: {declared}")
        refs = self._refs.get(stage, ())
        if not refs:
            raise LookupError(f"stage {self._stage.name} was given no artifact of {stage}")
        for position, ref in enumerate(refs):
            if (stage, position) not in self._artifacts:
                self._artifacts[stage, position] = Store(ref.root).read(ref)
        return [self._artifacts[stage, position] for position in range(len(refs))]
