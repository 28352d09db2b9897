"""One pool of threads at a time: libraries that thread on their own are kept from it.

Work is spread by whole faces, network calls, trials and segments. A BLAS that also spreads its small products spins on
the other cores for a while after each of them (OpenBLAS' THREAD_TIMEOUT) while faces wait there, and a sum that is
split over threads has other last bits for another number of threads.
"""

from __future__ import annotations

import os
import sys

_ALONE = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
"""Read by the libraries when they are loaded, which for SciPy's own BLAS and for OpenCV is often later than here."""


def share_cores() -> None:
    """Keep BLAS, OpenCV and torch of this process, and of processes that it starts, to one thread each.

    A number of threads that the user has set in the environment stays, except torch's, which decides about bytes.
    """
    from threadpoolctl import ThreadpoolController

    ours = {name for name in _ALONE if os.environ.setdefault(name, "1") == "1"}
    pools = ThreadpoolController()
    for api, name in (("openblas", "OPENBLAS_NUM_THREADS"), ("mkl", "MKL_NUM_THREADS")):
        if name in ours:
            pools.select(internal_api=api).limit(limits=1)
    if "cv2" in sys.modules and "OPENCV_FOR_THREADS_NUM" in ours:
        import cv2

        cv2.setNumThreads(1)
    if "torch" in sys.modules:
        one_torch_thread()


def one_torch_thread() -> None:
    """The same for torch, by whoever loads a network."""
    import torch

    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)
