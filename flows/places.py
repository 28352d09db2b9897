"""The places that a run writes to, looked at before it works: what would stop its end is to stop its beginning."""

from __future__ import annotations

import os
import re
from pathlib import Path

from faceline.errors import FacelineError, UsageError
from faceline.writable import check_writable
from flows.config import Config
from flows.server import state_folder

_OUTPUT, _STORE, _STATE = "output=DIR", "store.root=DIR", "FACELINE_STATE=DIR"


def check_places(config: Config, output: Path | None, *, replaced: bool = False) -> None:
    """Find out whether store and output can be written; leaves nothing behind.

    Args:
        config: names the store; one on an object store tells by itself, when the run registers there.
        output: where results go, or None where there will be none.
        replaced: whether output is replaced as a whole by a folder made beside it.

    Raises:
        FacelineError: one cannot be made or written; in one line, with the cure.
    """
    if "://" not in config.store.root:
        check_writable(Path(config.store.root).expanduser(), _STORE)
    if output is not None:
        check_writable(output, _OUTPUT, beside=replaced)


def check_state() -> None:
    """Find out whether the state folder can be written, where the locks of archives lie.

    Raises:
        FacelineError: it cannot; in one line, with the cure.
    """
    check_writable(state_folder().parent, _STATE)


def check_footage_place(footage: str) -> None:
    """Refuse an address where footage is named; to open one would be to trust whoever answers there.

    Args:
        footage: as it was given: as a path, ``https://`` would lose a slash.

    Raises:
        UsageError: it is one, and no file of that name is there.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", footage) and not Path(footage).exists():
        raise UsageError(
            "footage is a file or a folder, and addresses are not opened",
            where=footage,
            cure="download it first, and name the file",
        )


def check_apart(footage: Path, output: Path) -> None:
    """Refuse an archive whose results would lie among its footage.

    A folder of results below the footage is not entered in search of footage, and one above it does no harm; but in the
    very same folder, results of ``a.mp4`` would have to take the place of a folder ``a`` that holds footage.

    Raises:
        UsageError: both are the same folder.
    """
    if os.path.realpath(footage) == os.path.realpath(output):
        raise UsageError(
            "results cannot go into the folder of the footage itself",
            where=f"output={output}",
            cure=f"choose another folder, such as output={output / 'results'}",
        )


def check_store(root: str) -> None:
    """Refuse a store that is a file, also where nothing is to be written.

    Raises:
        FacelineError: it is one.
    """
    path = Path(root).expanduser()
    if "://" not in root and path.exists() and not path.is_dir():
        raise FacelineError("is a file, not a store", where=root, cure=f"choose another place with {_STORE}")
