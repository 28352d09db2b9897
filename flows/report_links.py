"""Where a file of the results folder can be read, for as long as `serve` offers it (`flows.reports`)."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

ADDRESS = "FACELINE_REPORTS_URL"
FOLDER = "FACELINE_REPORTS_FOLDER"
"""Environment variables by which the runs of `serve` know what is offered where."""


def address_of(path: Path) -> str:
    """The address of a file of the folder that is offered; empty where it is not."""
    base, folder = os.environ.get(ADDRESS, ""), os.environ.get(FOLDER, "")
    if not base or not folder:
        return ""
    inside = os.path.relpath(path.absolute(), folder)
    return "" if Path(inside).parts[:1] == (os.pardir,) else f"{base}/{quote(os.fsencode(inside))}"
