"""The places that a run writes to, looked at before it works: what would stop its end is to stop its beginning."""

from __future__ import annotations

from pathlib import Path

from faceline.errors import FacelineError
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


def check_store(root: str) -> None:
    """Refuse a store that is a file, also where nothing is to be written.

    Raises:
        FacelineError: it is one.
    """
    path = Path(root).expanduser()
    if "://" not in root and path.exists() and not path.is_dir():
        raise FacelineError("is a file, not a store", where=root, cure=f"choose another place with {_STORE}")
