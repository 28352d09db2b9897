"""Whether a place can be written, asked before work begins, and what to do where it cannot.

A run of hours is not to find out at its end that its results have no place.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from faceline.errors import FacelineError

_PROBE = ".faceline-"


def check_writable(folder: Path, option: str, *, beside: bool = False) -> None:
    """Find out whether ``folder`` can be made (where it is missing) and written. Leaves nothing behind.

    What is missing is not made, since somebody else may be about to use it: something else is made, and removed, in
    the folder that would hold it.

    Args:
        folder: the place; symbolic links are followed.
        option: what chooses another place, such as ``output=DIR``; part of the cure.
        beside: whether nothing is written into it, but another folder beside it, which takes its place.

    Raises:
        FacelineError: it cannot; in one line, with the cure.
    """
    place = Path(os.path.realpath(folder))
    with write_errors(folder, option, "cannot be written"):
        while not _is_there(place):
            place, beside = place.parent, False
        if beside:
            place = place.parent
        if not place.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{place} is a file, not a folder")
        Path(tempfile.mkdtemp(prefix=_PROBE, dir=place)).rmdir()


def _is_there(path: Path) -> bool:
    """Whether something lies there; raises `OSError` where that cannot be told."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        # Something above it is a file; that is what is to be named.
        return False
    return True


@contextlib.contextmanager
def write_errors(place: Path, option: str, what: str) -> Iterator[None]:
    """Have an `OSError` in the block end in one line about ``place``, with a cure that fits it.

    Raises:
        FacelineError: instead of the `OSError`.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise FacelineError(f"{what} ({reason})", where=str(place), cure=write_cure(error, option)) from error


def write_cure(error: OSError, option: str) -> str:
    """What to do about an error of writing; ``option`` chooses another place."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"free some space, or choose another place with {option}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"see who may write there, or choose another place with {option}"
    if error.errno == errno.ENAMETOOLONG:
        return f"choose a shorter name with {option}"
    return f"choose another place with {option}"
