"""Small files beside the results: written whole or not at all, with names that any server and reader can take."""

from __future__ import annotations

import os
from pathlib import Path

from faceline.folders import create_private, make_private_dirs
from faceline.textfiles import csv_text, valid_text

__all__ = ["csv_text", "replace_bytes", "replace_text", "valid_text"]


def replace_text(path: Path, text: str) -> None:
    """Put ``text`` at ``path`` in one step, readable by its owner only; folders above are made."""
    replace_bytes(path, text.encode("utf-8"))


def replace_bytes(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path`` in one step, readable by its owner only; folders above are made."""
    make_private_dirs(path.parent)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    try:
        with create_private(beside) as file:
            file.write(data)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
