"""Keeping MediaPipe's routine messages off the terminal, and nothing else."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)

_NOISE = (
    "Created TensorFlow Lite XNNPACK delegate",
    "inference_feedback_manager.cc",
    "A local ModelResources object is created",
    "All log messages before absl::InitializeLog()",
    "The model is not a valid Flatbuffer buffer",
)
"""What MediaPipe's C++ side writes to the standard error stream on every start, whatever its log level; the last one
beside an exception that says the same."""

_stderr_lock = threading.Lock()


@contextmanager
def without_noise() -> Iterator[None]:
    """Keep MediaPipe's routine C++ messages off the terminal; every other line is passed on afterwards."""
    with _stderr_lock:
        try:
            sys.stderr.flush()
            saved = os.dup(2)
        except (OSError, ValueError):  # no standard error stream to protect
            yield
            return
        with tempfile.TemporaryFile() as caught:
            os.dup2(caught.fileno(), 2)
            try:
                yield
            finally:
                os.dup2(saved, 2)
                caught.seek(0)
                for line in caught.read().splitlines(keepends=True):
                    text = line.decode(errors="replace")
                    if any(known in text for known in _NOISE):
                        logger.debug("mediapipe: %s", text.strip())
                    else:
                        os.write(saved, line)
                os.close(saved)
