"""One pool of threads at a time: libraries that thread on their own are kept from it.

Work is spread by whole faces, trials and segments. A BLAS that also spreads its small products spins on the other
cores for some 25 ms after each of them (OpenBLAS' THREAD_TIMEOUT), while faces wait there: aligning a face took twice
the processor time.
"""

from __future__ import annotations

import os
import sys

_ALONE = {
    # Read by the libraries when they are loaded, which for SciPy's own BLAS and for OpenCV is often later than here.
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENCV_FOR_THREADS_NUM": "1",
}


def share_cores(threads: int) -> None:
    """Keep BLAS and OpenCV of this process to one thread each, and torch, if it is loaded, to ``threads``.

    Environment variables that the user has set stay.
    """
    from threadpoolctl import threadpool_limits

    own = {name for name in _ALONE if name not in os.environ or os.environ[name] == _ALONE[name]}
    for name in own:
        os.environ[name] = _ALONE[name]
    if own & {"OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"}:
        threadpool_limits(1, user_api="blas")
    if "cv2" in sys.modules and "OPENCV_FOR_THREADS_NUM" in own:
        import cv2

        cv2.setNumThreads(1)
    if "torch" in sys.modules:
        import torch

        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
