"""Reports behind an address: the results folder for reading, on loopback, for as long as `serve` runs. Off by default.

Browsers refuse links from a page of a server to a file, so that without this the Prefect UI can only name paths.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from faceline.errors import FacelineError
from flows.report_links import ADDRESS, FOLDER

SUFFIXES = frozenset({".html", ".json", ".csv", ".md", ".png", ".jpg", ".jpeg", ".webp"})
"""What is offered: what results folders consist of, and nothing that somebody has put beside it."""


@contextlib.contextmanager
def reports_server(folder: Path, port: int) -> Iterator[str]:
    """Offer a folder's files at 127.0.0.1, to be read and nothing else; its address.

    Raises:
        FacelineError: the port is in use, or not ours to take.
    """

    class Handler(_Handler):
        root = folder

    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except OSError as error:
        raise FacelineError(
            f"reports cannot be offered at port {port}: {error.strerror}", cure="name another: schedule.reports_port=0"
        ) from error
    server.daemon_threads = True
    address = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, name="reports", daemon=True).start()
    os.environ.update({ADDRESS: address, FOLDER: str(folder.absolute())})
    try:
        yield address
    finally:
        for name in (ADDRESS, FOLDER):
            os.environ.pop(name, None)
        server.shutdown()
        server.server_close()


class _Handler(SimpleHTTPRequestHandler):
    """GET and HEAD of files below a root; no lists of folders, no links that lead out of it."""

    root: Path

    def send_head(self) -> Any:
        # A page of another site whose name was pointed at this machine would ask under that name.
        host = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
        path = self._file() if host in ("127.0.0.1", "localhost") else None
        if path is None:
            self.send_error(404)
            return None
        return super().send_head()

    def translate_path(self, path: str) -> str:
        return str(self._file() or os.devnull)

    def _file(self) -> Path | None:
        try:
            name = os.fsdecode(unquote_to_bytes(urlsplit(self.path).path)).lstrip("/")
            path = (self.root / name).resolve()
            inside = path.is_relative_to(self.root.resolve())
            return path if inside and path.is_file() and path.suffix.lower() in SUFFIXES else None
        except (OSError, ValueError):
            return None

    def end_headers(self) -> None:
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Who reads what is nobody's business."""
