"""MediaPipe's graphs and calculators, without what else its package imports.

``import mediapipe`` imports its ready-made solutions, and pyplot for drawing them: half a second of a core and some 460
modules in every process, for nothing that is used here.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from typing import Any

_loading = threading.RLock()


def lay_out() -> None:
    """Make ``mediapipe``'s submodules importable without running its ``__init__``.

    That runs when something is first asked of ``mediapipe`` itself (``mediapipe.solutions``, say), so others in this
    process find the package as ever. Does nothing where it has been imported. Whoever uses a graph without it imports
    the messages of its options and outputs by name: MediaPipe drops options that it does not know.

    Raises:
        ImportError: MediaPipe is not installed.
    """
    with _loading:
        if "mediapipe" in sys.modules:
            return
        spec = importlib.util.find_spec("mediapipe")
        if spec is None or spec.loader is None:
            raise ImportError("mediapipe is not installed", name="mediapipe")
        package, loader = importlib.util.module_from_spec(spec), spec.loader

        def ask(name: str) -> Any:
            # What is asked of every module (by inspect, or by import itself) is not meant for this one.
            if name.startswith("__"):
                raise AttributeError(name)
            with _loading:
                if vars(package).pop("__getattr__", None) is not None:
                    try:
                        loader.exec_module(package)
                    except BaseException:
                        # Whoever asks next is to meet the same cause.
                        vars(package)["__getattr__"] = ask
                        raise
            return getattr(package, name)

        vars(package)["__getattr__"] = ask
        sys.modules["mediapipe"] = package
