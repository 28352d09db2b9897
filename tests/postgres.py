"""A PostgreSQL cluster of a test's own, on loopback, gone with the test."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PASSWORD = "a-password-that-no-file-may-hold"


def binaries() -> Path | None:
    """The folder of ``initdb`` and ``postgres``: on the path, or Debian's newest.

    Prefect's tables need the extension ``pg_trgm``, which distributions bring along and packages from PyPI do not.
    """
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return places[-1].parent if places else None


def _user() -> dict[str, Any]:
    """PostgreSQL refuses to run as root: then it runs as somebody else."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise OSError("there is no user but root to run PostgreSQL as")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def cluster() -> Iterator[str]:
    """A running cluster; yields the URL of a database for Prefect, password included."""
    place = binaries()
    assert place is not None
    user = _user()
    # Not below pytest's folder, which only its own user may enter.
    folder = Path(tempfile.mkdtemp(prefix="faceline-postgres-"))
    server: subprocess.Popen[bytes] | None = None
    try:
        (folder / "password").write_text(PASSWORD)
        if user:
            for path in (folder, folder / "password"):
                os.chown(path, user["user"], user["group"])
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": str(folder), "TZ": "UTC"}
        how: dict[str, Any] = {"cwd": folder, "env": environment, **user}
        data, port = folder / "data", free_port()
        subprocess.run(
            [
                place / "initdb",
                "-D",
                data,
                "-U",
                "faceline",
                "-A",
                "scram-sha-256",
                "--pwfile",
                folder / "password",
                "-N",
            ],
            check=True,
            capture_output=True,
            **how,
        )
        settings = {"listen_addresses": "127.0.0.1", "port": port, "fsync": "off", "unix_socket_directories": folder}
        options = [f"-c{name}={value}" for name, value in settings.items()]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen([place / "postgres", "-D", data, *options], stdout=log, stderr=log, **how)
        for _ in range(600):
            if b"ready to accept connections" in (folder / "log").read_bytes():
                break
            assert server.poll() is None, (folder / "log").read_text()
            time.sleep(0.1)
        yield f"postgresql+asyncpg://faceline:{PASSWORD}@127.0.0.1:{port}/postgres"
    finally:
        if server is not None:
            server.terminate()
            server.wait(60)
        shutil.rmtree(folder, ignore_errors=True)
