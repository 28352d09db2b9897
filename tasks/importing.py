"""Importing much at once, without the garbage collector going through all of it again and again."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def without_collecting() -> Iterator[None]:
    """Collect no cyclic garbage within the block, and look at nothing again that is there at its end.

    Classes, functions and schemas stay until the process ends; each full collection goes through all of them.
    Importing Prefect's client and server takes 15 % less time without.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
