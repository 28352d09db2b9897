"""Sharing cores: libraries loaded before and after keep to one thread, unless the user says otherwise."""

from __future__ import annotations

import json
import os
import subprocess
import sys

CODE = """
import json, sys
import numpy
if sys.argv[1] == "before":
    import cv2, torch
from faceline.threads import share_cores
share_cores()
import cv2, torch, scipy.linalg
share_cores()
from threadpoolctl import threadpool_info
own = [pool for pool in threadpool_info() if "numpy.libs" in pool["filepath"] or "scipy.libs" in pool["filepath"]]
assert len(own) == 2, own
blas = sorted({pool["num_threads"] for pool in own})
print(json.dumps({"blas": blas, "cv2": cv2.getNumThreads(), "torch": torch.get_num_threads()}))
"""


def shared(when, **environment):
    kept = {name: value for name, value in os.environ.items() if not name.endswith(("NUM_THREADS", "THREADS_NUM"))}
    out = subprocess.run(
        [sys.executable, "-c", CODE, when], env={**kept, **environment}, check=True, capture_output=True, timeout=120
    )
    return json.loads(out.stdout)


def test_libraries_loaded_before_and_after_keep_to_one_thread():
    for when in ("before", "after"):
        assert shared(when) == {"blas": [1], "cv2": 1, "torch": 1}


def test_what_the_user_has_set_stays_but_for_torch():
    cores = min(2, os.cpu_count() or 1)
    found = shared("before", OPENBLAS_NUM_THREADS=str(cores), OPENCV_FOR_THREADS_NUM=str(cores))
    assert found == {"blas": [cores], "cv2": cores, "torch": 1}
