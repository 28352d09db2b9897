"""Footage that reads differently from one time to the next: its drive's fault, and not damage of the file.

FFmpeg says the same (an input/output error, a short packet, an end) of a file that is torn and of a drive that stumbles
while it is read. What it says of a torn file it says again.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from faceline.errors import FootageChangedError, FootageUnreadableError

UNSTEADY_CURE = "wait until nothing writes to it, then run again"

_CURE = "check the drive or the network, then run again"


def check_readable(path: Path, sha256: str) -> None:
    """Read all bytes of a file, without any library that might make something else of an error.

    Args:
        path: the file.
        sha256: hex digest of its bytes when it was opened.

    Raises:
        FootageUnreadableError: the system cannot read it.
        FootageChangedError: it holds other bytes now.
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _passing(f"the file cannot be read ({error.strerror})", path) from error
    if digest != sha256:
        raise FootageChangedError("the footage changed while it was read", where=str(path), cure=UNSTEADY_CURE)


def unsteady(path: Path, reason: str) -> FootageUnreadableError:
    """The error for a file that was read twice, and not to the same end; ``reason`` is what was met once."""
    return _passing(f"the file did not read the same twice (once {reason})", path)


def _passing(what: str, path: Path) -> FootageUnreadableError:
    error = FootageUnreadableError(what, where=str(path), cure=_CURE)
    error.can_pass = True
    return error
