"""The temporary Prefect server, as a process of its own: ``python -m flows.server_process``.

Prefect can start a temporary server by itself, but on the first port it finds, with the database that every other
temporary server uses, and one that outlives a killed parent. This one

- listens on a port that the system gives, so two runs that start together never take the same one;
- works in a *slot*: the first folder whose lock is free, so that runs one after another share one history and a
  migrated database (8 s to start instead of 20 s), and runs at the same time never write the same SQLite file;
- ends when its standard input ends, hence also when the parent was killed.

It prints one line, the API's address, as soon as it listens; it answers only once it is ready.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import IO

MAX_SLOTS = 64
"""Servers at the same time on one machine; far more than its memory allows (about 250 MB each)."""


def main() -> int:
    """Take a slot, listen, and serve until standard input ends or a signal comes."""
    root = Path(sys.argv[1])
    lock, slot = _take_slot(root)
    # Read by Prefect when it is imported, hence set before.
    os.environ["PREFECT_HOME"] = str(slot)
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/api", flush=True)  # noqa: T201 (read by the parent)
    threading.Thread(target=_stop_with_parent, daemon=True).start()

    import uvicorn

    config = uvicorn.Config(
        "prefect.server.api.server:create_app", factory=True, log_level="error", lifespan="on", access_log=False
    )
    uvicorn.Server(config).run(sockets=[listener])
    lock.close()
    return 0


def _take_slot(root: Path) -> tuple[IO[str], Path]:
    import fcntl

    for index in range(MAX_SLOTS):
        folder = root / f"slot-{index}"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (folder / "lock").open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        return lock, folder
    raise SystemExit(f"all {MAX_SLOTS} slots below {root} are in use")


def _stop_with_parent() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    raise SystemExit(main())
