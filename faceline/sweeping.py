"""Drafts whose process is gone: they go when the next one of their stage is begun.

What else is left over, such as uploads that broke off, goes with `faceline gc` (`faceline.leftovers`).
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING

from faceline.drafts import parse_draft_name
from faceline.folders import LocalFolder

if TYPE_CHECKING:
    from faceline.store import Store

log = logging.getLogger(__name__)

FOREIGN_AGE_S = 7 * 24 * 3600.0
"""After so long goes what another machine left: nobody here can tell whether its process lives."""


def sweep_stage(store: Store, stage: str, held_key: str = "") -> int:
    """Remove drafts of dead processes; returns how many.

    Args:
        store: whose drafts; of a remote store, those of this machine.
        stage: of which stage.
        held_key: a key that the caller holds the lock of.
    """
    swept = 0
    drafts = LocalFolder(store.drafts(stage))
    for name in drafts.names():
        parsed = parse_draft_name(name)
        if parsed is None:
            continue
        key, owner = parsed
        if owner.is_here() and owner.is_alive():
            continue
        with contextlib.suppress(FileNotFoundError):
            if not owner.is_here() and time.time() - drafts.local_path(name).stat().st_mtime < FOREIGN_AGE_S:
                continue
            if key == held_key or not _is_locked(store, stage, key):
                log.info("removing what a dead process left of %s %s", stage, key[:12])
                try:
                    drafts.remove(name)
                    swept += 1
                except OSError as error:  # No reason for the next one not to begin.
                    log.warning("%s/%s cannot be removed: %s", drafts.url, name, error)
    return swept


def _is_locked(store: Store, stage: str, key: str) -> bool:
    import filelock

    path = store.lock_path(stage, key)
    if not path.exists():
        return False
    try:
        with filelock.FileLock(path, timeout=0, mode=0o600):
            path.unlink(missing_ok=True)
            return False
    except filelock.Timeout:
        return True
