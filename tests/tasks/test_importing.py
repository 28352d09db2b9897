"""Importing without collecting garbage, and without what is not needed."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.importing import without_collecting

ROOT = Path(__file__).resolve().parents[2]


def test_garbage_is_collected_again_afterwards() -> None:
    frozen = gc.get_freeze_count()
    try:
        with pytest.raises(ImportError), without_collecting():
            assert not gc.isenabled()
            with without_collecting():
                assert not gc.isenabled()
            assert not gc.isenabled(), "the inner block ends nothing that it did not begin"
            raise ImportError
        assert gc.isenabled() and gc.get_freeze_count() > frozen
    finally:
        gc.unfreeze()


def test_arrow_works_without_pandas_and_others_can_still_import_it() -> None:
    script = """
import sys
from tasks.importing import spare_pandas
spare_pandas()
assert "pyarrow" not in sys.modules, "nothing is imported for it"
import pyarrow as pa
spare_pandas()
table = pa.table({"a": [1.0, None], "b": ["x", "y"]})
assert table.filter(pa.compute.equal(table["b"], "y"))["a"].to_pylist() == [None]
assert "pandas" not in sys.modules
import pandas
"""
    script = script.replace("import pyarrow as pa\n", "import pyarrow as pa, pyarrow.compute\n")
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
