"""Importing much at once, without the garbage collector going through all of it again and again; and importing less."""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
from collections.abc import Iterator
from importlib.abc import MetaPathFinder


@contextlib.contextmanager
def without_collecting(*, freeze: bool = True) -> Iterator[None]:
    """Collect no cyclic garbage within the block, and, with ``freeze``, look at nothing again that is there at its end.

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
        if freeze:
            gc.freeze()
        gc.enable()


@contextlib.contextmanager
def without_pandas() -> Iterator[None]:
    """Import no pandas within the block, in this thread: libraries that only look whether it is there go on without.

    scikit-learn and PyArrow do, so that they can tell its objects from others; nobody here gives them any. That takes
    0.3 CPU-s and 40 MB. Whoever wants pandas can still import it afterwards. Does nothing where it is imported already.
    """
    if "pandas" in sys.modules:
        yield
        return
    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


def spare_pandas() -> None:
    """Keep PyArrow from importing pandas, which it looks for once, with the first value that it converts.

    Does nothing where PyArrow is not imported, or pandas is.
    """
    if "pandas" in sys.modules or "pyarrow" not in sys.modules:
        return
    import pyarrow as pa

    with without_pandas():
        pa.array([0.0])


class _NoPandas(MetaPathFinder):
    def __init__(self) -> None:
        self._thread = threading.get_ident()

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        if fullname == "pandas" and threading.get_ident() == self._thread:
            raise ImportError("pandas is not looked for")
