"""``python -m tests.flows.fake_run FOLDER``: the verb ``analyze`` with fake stages, in a process of its own.

It reports to the Prefect server that the environment names.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.flows.conftest import fake_flows, fake_line


def main() -> int:
    """Exit code of the verb."""
    from flows.analyze import analyze

    with pytest.MonkeyPatch.context() as patch:
        line = fake_line(Path(sys.argv[1]), patch)
        fake_flows(patch)
        return analyze(line.arguments("sample.segment_s=10"))


if __name__ == "__main__":
    sys.exit(main())
