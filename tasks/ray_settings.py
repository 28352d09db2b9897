"""What Ray reads from the environment when it is imported; to be called before. Imports nothing of Ray."""

from __future__ import annotations

import os
import secrets
import sys


def set_ray_up(*, own_cluster: bool) -> None:
    """Keep Ray off the network, and its GPUs visible; make a token for a cluster of one's own.

    Without a token, anybody on this machine could have the workers of such a cluster run what they like. A cluster that
    is there already has the authentication that its operator chose (RAY_AUTH_MODE).
    """
    # Ray reports its use over the network unless told not to.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Tasks that ask for no GPU by number would otherwise see none.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DISABLE_IMPORT_WARNING", "1")
    if own_cluster and "ray" not in sys.modules:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
