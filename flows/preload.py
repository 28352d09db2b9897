"""Importing what stages will need while a server is waited for: seconds with nothing else to do."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from tasks.worker_process import import_ahead

_LIBRARIES = {
    "sample": ("av", "cv2"),
    "detect": ("torch",),
    "align": ("faceline.adapters.mediapipe_graphs",),
    "embed": ("torch",),
    "emote": ("torch", "h5py"),
    "trial": ("scipy.stats", "scipy.special", "sklearn.neighbors", "sklearn.svm"),
    "report": ("matplotlib.figure", "matplotlib.backends.backend_agg", "jinja2"),
}
"""Stage → the heavy ones among the modules that its adapters import when they run, in that order."""


def libraries(stages: Iterable[str]) -> list[str]:
    """Names of the modules that these stages will import, in the order in which they will."""
    return list(dict.fromkeys(module for stage in stages for module in _LIBRARIES.get(stage, ())))


def preload(stages: Iterable[str]) -> threading.Thread:
    """Begin to import these stages' libraries in a thread that nobody has to wait for.

    A stage that comes to its own import meanwhile waits for this one's.
    """
    thread = threading.Thread(target=import_ahead, args=(libraries(stages),), name="preload", daemon=True)
    thread.start()
    return thread
