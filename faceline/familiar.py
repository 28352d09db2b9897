"""Which contents were met before, told by the size of a file and by its two ends: enough to say that footage is new
without reading it whole, and never enough to say what it is.

What is met is noted as an empty file whose name says everything, so that one listing of the folder tells all.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from faceline.folders import Folder

FOLDER = "_met"
ENDS_BYTES = 1 << 16
"""What is read of either end. Containers state there what they hold, and most differ there in times or in size."""


@dataclass(frozen=True)
class Ends:
    """What tells contents apart, but never two with the same one together.

    Attributes:
        size_bytes: of the file.
        digest: of its first and its last `ENDS_BYTES` bytes, 16 hexadecimal digits.
    """

    size_bytes: int
    digest: str

    @classmethod
    def of(cls, file: Path) -> Ends:
        """Of a file; `OSError` if it cannot be read."""
        with file.open("rb") as stream:
            size_bytes = os.fstat(stream.fileno()).st_size
            digest = hashlib.sha256(stream.read(ENDS_BYTES))
            stream.seek(max(0, size_bytes - ENDS_BYTES))
            digest.update(stream.read(ENDS_BYTES))
        return cls(size_bytes, digest.hexdigest()[:16])


def note(folder: Folder, file: Path, sha256: str) -> None:
    """Note that the content of a file was met; nothing is written where that is known.

    Raises:
        OSError: the file cannot be read, or the note not be written.
    """
    ends = Ends.of(file)
    name = f"{FOLDER}/{ends.size_bytes}-{ends.digest}-{sha256}"
    if folder.size(name) is None:
        folder.put(name, b"")


def met(folder: Folder) -> Collection[Ends]:
    """Of everything that was noted in a folder."""
    found = set()
    for name in folder.names(FOLDER):
        size, _, rest = name.partition("-")
        digest, _, sha256 = rest.partition("-")
        if size.isdecimal() and digest and sha256:
            found.add(Ends(int(size), digest))
    return found
