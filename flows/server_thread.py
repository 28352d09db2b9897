"""A Prefect server of faceline's own, in a thread of this process: a temporary one, or that of `serve`.

Prefect can start a temporary server by itself, but as a process of its own, which imports everything once more, on the
first port it finds, with the database that every other temporary server uses, and one that outlives a killed parent.
This one

- shares what Prefect's client and server import, 1.4 CPU-s less than in two processes, and ends with its process,
  however that ends;
- listens on a port that the system gives, so two runs that start together never take the same one;
- works in a *slot*: the first folder whose lock is free, so that runs one after another share one history and a
  migrated database, and runs at the same time never write the same SQLite file.

Prefect reads its settings once, when it is imported, so there is one such server in the life of a process.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from faceline.folders import make_private_dirs, open_private

log = logging.getLogger(__name__)

MAX_SLOTS = 64
"""Servers at the same time on one machine; far more than its memory allows."""

UNUSED = (
    *("deployments", "saved_searches", "block_types", "block_documents", "block_schemas", "block_capabilities"),
    *("workers", "task_workers", "work_queues", "collections", "automations", "templates"),
)
UNUSED_UI = ("flows", "flow_runs", "schemas", "task_runs")
"""Parts of the API that no run asks for. The first request has FastAPI prepare every route that comes before the one
that it is for: without these, 17 % of what the server does in a run of 23 stages (by Python calls) is gone."""

STOP_S = 10.0
"""How long the server is given to write down what it has."""


class ServerThread:
    """A server in a slot below a folder; listens at once, answers once it is `wait`\\ ed for.

    Args:
        root: where the slots are.
        settings: environment that Prefect shall read when it is imported; what is set already stays.
        port: where to listen, on loopback; 0 for one that the system gives.
        whole: with all routes, services and the UI, and without them only what a run needs.

    Attributes:
        url: address of the API.
        slot: the folder of its database.

    Raises:
        OSError: the slot cannot be made, all are in use, or the port is.
    """

    def __init__(self, root: Path, settings: Mapping[str, str], *, port: int = 0, whole: bool = False) -> None:
        self._whole = whole
        self._slot_lock, slot = take_slot(root)
        self.slot = slot
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            if port:
                # As every server does: a port whose last connections are still being closed is free.
                self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind(("127.0.0.1", port))
            self._listener.listen(128)
        except OSError:
            self._listener.close()
            self._slot_lock.close()
            raise
        bound = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{bound}/api"
        # Prefect lets pages of every site read and start runs; this server's own are all that have to.
        settings = {
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://127.0.0.1:{bound},http://localhost:{bound}",
            **settings,
        }
        self._settings = {
            **{name: os.environ.get(name, value) for name, value in settings.items()},
            "PREFECT_HOME": str(slot),
            "PREFECT_API_URL": self.url,
            # A proxy must not be asked for this machine itself.
            **{name: ",".join(filter(None, (os.environ.get(name), "127.0.0.1"))) for name in ("NO_PROXY", "no_proxy")},
        }
        self._before: dict[str, str | None] = {}
        self._changed = threading.Condition()
        self._stopping = False
        self._server: Any = None
        self._ready = False
        self._error: Exception | None = None
        # Not waited for at the end of the process: it may be in the middle of an import.
        self._thread = threading.Thread(target=self._run, name="prefect-server", daemon=True)

    def start(self) -> None:
        """Set the environment and begin; this process imports Prefect in the thread, so not elsewhere until `wait`."""
        # An address, a key or a profile of another server is none of this one's business.
        strange = [name for name in os.environ if name.startswith(("PREFECT_API_", "PREFECT_PROFILE"))]
        self._before = {name: os.environ.get(name) for name in (*strange, *self._settings)}
        for name in strange:
            del os.environ[name]
        os.environ.update(self._settings)
        self._thread.start()

    def wait(self, timeout_s: float) -> bool:
        """Wait until the server answers; whether it does.

        Raises:
            Exception: what the server ended with.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._ready or not self._thread.is_alive() or self._error, timeout_s)
            if self._error is not None:
                raise self._error
            return self._ready

    @property
    def alive(self) -> bool:
        """Whether it runs, or is about to."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """End the server, and put the environment back; one that is still importing is left behind."""
        with self._changed:
            self._stopping = True
            if self._server is not None:
                self._server.should_exit = True
        try:
            if self._server is not None:
                self._thread.join(STOP_S)
        finally:
            for name, value in self._before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
            self._listener.close()
            # Nobody else may write to the slot before nobody here does, at the latest when this process ends.
            if self._server is None or not self._thread.is_alive():
                self._slot_lock.close()

    def _run(self) -> None:
        try:
            self._serve()
            if not self._stopping:
                raise RuntimeError("it ended by itself")
        except BaseException as error:
            with self._changed:
                self._error = error if isinstance(error, Exception) else RuntimeError("see the log")
        finally:
            with self._changed:
                self._changed.notify_all()

    def _hosts(self) -> list[str]:
        """Names by which it answers: loopback's, and those of pages that it is told to answer."""
        pages = self._settings["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"].split(",")
        named = ["*" if page.strip() == "*" else urlsplit(page.strip()).hostname for page in pages]
        return sorted({"127.0.0.1", "localhost", *filter(None, named)})

    def _serve(self) -> None:
        import uvicorn
        from prefect.server.api import server
        from starlette.middleware.trustedhost import TrustedHostMiddleware

        # All that the main thread needs of Prefect, before it may: two threads in one web of modules that import
        # each other can meet half of a module.
        import flows.flow_many  # noqa: F401

        if self._stopping:
            return

        thread = self

        class Server(uvicorn.Server):
            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                with thread._changed:
                    thread._ready = self.started
                    thread._changed.notify_all()

        if not self._whole:
            server.API_ROUTERS = _used(server.API_ROUTERS)
        config = uvicorn.Config(
            # By a name that it lets point here, a page of another site would be of this one to a browser.
            TrustedHostMiddleware(server.create_app(ephemeral=not self._whole), allowed_hosts=self._hosts()),
            log_config=None,
            log_level="error",
            lifespan="on",
            access_log=False,
            # A stage is silent for minutes. Prefect's client takes a connection that was closed meanwhile for a fault
            # and waits two seconds before it asks again.
            timeout_keep_alive=3600,
        )
        with self._changed:
            if self._stopping:
                return
            self._server = Server(config)
        # Only now: making the application sets up logging, without handlers that are there already.
        with _complaints_to_log():
            self._server.run(sockets=[self._listener])


def take_slot(root: Path) -> tuple[IO[str], Path]:
    """The first slot whose lock is free: the lock, held until it is closed, and the folder.

    Raises:
        OSError: it cannot be made, or all are in use.
    """
    import fcntl

    for index in range(MAX_SLOTS):
        folder = root / f"slot-{index}"
        make_private_dirs(folder)
        lock = open(folder / "lock", "a", opener=open_private)  # noqa: SIM115 (held by the caller)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        # It names people's footage. SQLite's journals take the mode of the database, and that the mode it had.
        os.close(open_private(str(folder / "prefect.db"), os.O_WRONLY | os.O_CREAT))
        return lock, folder
    raise OSError(f"all {MAX_SLOTS} slots below {root} are in use")


def _used(routers: tuple[Any, ...]) -> tuple[Any, ...]:
    from prefect.server import api

    unused = [getattr(api, name).router for name in UNUSED] + [getattr(api.ui, name).router for name in UNUSED_UI]
    return tuple(router for router in routers if not any(router is one for one in unused))


class _Complaints(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        log.info("%s", record.getMessage())


@contextlib.contextmanager
def _complaints_to_log() -> Iterator[None]:
    """What the web server complains of, such as why the application cannot start, goes to the run's log."""
    handler, logger = _Complaints(logging.ERROR), logging.getLogger("uvicorn.error")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
