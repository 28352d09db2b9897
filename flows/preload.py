"""Importing what stages will need while a server is waited for: seconds with nothing else to do."""

from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Iterable

log = logging.getLogger(__name__)

_LIBRARIES = {
    "sample": ("av", "cv2"),
    "detect": ("torch", "facenet_pytorch", "torchvision.ops"),
    "align": ("mediapipe.python",),
    "embed": ("torch",),
    "emote": ("torch", "h5py"),
    "trial": ("scipy.stats", "scipy.special", "sklearn.neighbors", "sklearn.svm"),
    "report": ("matplotlib.figure", "matplotlib.backends.backend_agg", "jinja2"),
}
"""Stage → the heavy ones among the modules that its adapters import when they run, in that order."""


def preload(stages: Iterable[str]) -> threading.Thread:
    """Begin to import these stages' libraries in a thread that nobody has to wait for.

    A stage that comes to its own import meanwhile waits for this one's. What cannot be imported is left for the stage
    to complain about.
    """
    modules = list(dict.fromkeys(module for stage in stages for module in _LIBRARIES.get(stage, ())))
    thread = threading.Thread(target=_import, args=(modules,), name="preload", daemon=True)
    thread.start()
    return thread


def _import(modules: list[str]) -> None:
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:
            log.debug("%s cannot be imported ahead: %s", module, error)
