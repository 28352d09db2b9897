"""What a stage is: a name, a version, parameters, inputs, outputs, the weights it uses, and a pure compute function.

Every stage of the pipeline is one `Stage` value at the foot of the module that does its work; whoever has read one
has read all. The module knows nothing of keys, stores or Prefect: it gets `Inputs`, and yields tables and arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from faceline.residents import Residents

if TYPE_CHECKING:
    from faceline.timeline import Segment
    from faceline.video import Footage
    from faceline.weights import ResolvedModel


class StageParams(BaseModel):
    """Base of all stage parameters: immutable, closed, and part of the artifact's key, defaults included."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _no_progress(done: int, total: int) -> None:
    del done, total


@dataclass(frozen=True)
class Runtime:
    """How a stage is executed. Nothing in here may change a result, so nothing in here enters a key.

    Attributes:
        device: ``"cpu"`` or ``"cuda"``.
        batch_size: faces or frames per network call.
        threads: threads that one stage may use for arithmetic.
        progress: called with (done, total) in units of the stage's own choice; cheap. Stages pass on what it raises:
            that is how an interrupted run ends them.
        residents: where stages borrow their loaded models.
        until_s: when whoever waits for the stage gives up on it, by `time.monotonic`; None for never.
    """

    device: str = "cpu"
    batch_size: int = 32
    threads: int = 2
    progress: Callable[[int, int], None] = field(default=_no_progress, compare=False)
    residents: Residents = field(default_factory=Residents, compare=False)
    until_s: float | None = field(default=None, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        # Whoever reports progress and keeps models does so in one process.
        return {"device": self.device, "batch_size": self.batch_size, "threads": self.threads}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, progress=_no_progress, residents=Residents(), until_s=None)


@dataclass(frozen=True)
class Payload:
    """One file of an artifact.

    Attributes:
        name: name without extension; with ``kind`` it gives the file name (``faces`` → ``faces.parquet``).
        kind: ``parquet`` (a table, appended chunk by chunk), ``npy`` (an array, appended along axis 0) or
            ``files`` (a folder of the same name holding whole files: a mapping of relative path → bytes).
        doc: what a row is, with columns, units and the meaning of missing values.
    """

    name: str
    kind: Literal["parquet", "npy", "files"]
    doc: str = ""

    @property
    def file_name(self) -> str:
        """Name of the file (or folder, for ``files``) inside the artifact."""
        return self.name if self.kind == "files" else f"{self.name}.{self.kind}"


Chunk = Mapping[str, "pa.Table | np.ndarray | Mapping[str, bytes]"]


class Inputs(Protocol):
    """What a compute function may read. Artifacts of several segments are read as one, in segment order."""

    @property
    def footage(self) -> Footage:
        """The footage (only for stages that declare ``reads_footage``)."""
        ...

    @property
    def segment(self) -> Segment:
        """The segment to work on (only for stages of scope ``segment``)."""
        ...

    @property
    def models(self) -> Mapping[str, ResolvedModel]:
        """The resolved models the stage declared, by role."""
        ...

    @property
    def facts(self) -> Mapping[str, Any]:
        """Further JSON values that the result depends on; part of the key."""
        ...

    def table(self, stage: str, payload: str, columns: Sequence[str] | None = None) -> pa.Table:
        """A whole Parquet payload of an input stage, segments concatenated."""
        ...

    def batches(
        self, stage: str, payload: str, columns: Sequence[str] | None = None, batch_size: int = 256
    ) -> Iterator[pa.RecordBatch]:
        """The same in batches of at most ``batch_size`` rows, so that large payloads never lie in memory whole."""
        ...

    def array(self, stage: str, payload: str) -> np.ndarray:
        """A whole NPY payload, segments concatenated along axis 0; memory-mapped when it is a single file."""
        ...


@dataclass(frozen=True)
class Stage:
    """Declaration of a stage.

    Attributes:
        name: name in keys, folders, configuration and the UI.
        version: raised by hand when the meaning of an output changes in a way that the code does not show.
        scope: what one run of it covers: a ``segment``, the whole ``footage``, or one ``trial`` of the grid search.
        params: its parameter class.
        inputs: names of the stages whose artifacts it reads.
        outputs: its payloads, in the order in which they are written.
        compute: the pure function; a generator of chunks, each a mapping payload name → table, array or files.
            Every payload must occur in at least one chunk (an empty table or array where there is nothing).
        reads_footage: whether it opens the footage itself.
        roles: which model roles it uses, given its parameters (their digests enter the key).
    """

    name: str
    version: int
    scope: Literal["segment", "footage", "trial"]
    params: type[StageParams]
    inputs: tuple[str, ...]
    outputs: tuple[Payload, ...]
    compute: Callable[[Any, Inputs, Runtime], Iterator[Chunk]]
    reads_footage: bool = False
    roles: Callable[[Any], tuple[str, ...]] = lambda params: ()

    def payload(self, name: str) -> Payload:
        """The declared payload of that name; `KeyError` if there is none."""
        for payload in self.outputs:
            if payload.name == name:
                return payload
        raise KeyError(f"stage {self.name} has no payload {name!r}")


@dataclass(frozen=True)
class MemoryInputs:
    """`Inputs` from memory, for tests and notebooks: payloads by ``(stage, payload)``."""

    payloads: Mapping[tuple[str, str], pa.Table | np.ndarray] = field(default_factory=dict)
    footage: Any = None
    segment: Any = None
    models: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def table(self, stage: str, payload: str, columns: Sequence[str] | None = None) -> pa.Table:
        table = self.payloads[stage, payload]
        if not isinstance(table, pa.Table):
            raise TypeError(f"{stage}/{payload} is no table")
        return table if columns is None else table.select(list(columns))

    def batches(
        self, stage: str, payload: str, columns: Sequence[str] | None = None, batch_size: int = 256
    ) -> Iterator[pa.RecordBatch]:
        yield from self.table(stage, payload, columns).to_batches(max_chunksize=batch_size)

    def array(self, stage: str, payload: str) -> np.ndarray:
        array = self.payloads[stage, payload]
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{stage}/{payload} is no array")
        return array


def collect(chunks: Iterator[Chunk]) -> dict[str, Any]:
    """Run a compute function to its end and concatenate what it yields, payload by payload, in memory."""
    parts: dict[str, list[Any]] = {}
    for chunk in chunks:
        for name, value in chunk.items():
            parts.setdefault(name, []).append(value)
    whole: dict[str, Any] = {}
    for name, values in parts.items():
        if isinstance(values[0], pa.Table):
            whole[name] = pa.concat_tables(values)
        elif isinstance(values[0], np.ndarray):
            whole[name] = np.concatenate(values, axis=0)
        else:
            whole[name] = {path: data for value in values for path, data in value.items()}
    return whole
