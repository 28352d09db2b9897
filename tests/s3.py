"""An S3 server on loopback (moto's, over HTTP) that counts what it is asked, and fails when it is told to."""

from __future__ import annotations

import itertools
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

BUCKET = "faceline-tests"
SECRET = "a-secret-that-no-file-may-hold"
KEY_ID = "an-id-that-no-file-may-hold"

Fault = Callable[[dict[str, Any], int], str]
"""From a request and its number, what goes wrong: "", ``500``, ``503``, ``403``, ``drop``, ``half``, ``silent``."""


class S3Server:
    """The server, in a thread of this process."""

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Quiet(WSGIRequestHandler):
            protocol_version = "HTTP/1.1"

            def log(self, type: str, message: str, *args: Any) -> None:
                pass

        self._app = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self.requests: Counter[str] = Counter()
        self.asked: list[tuple[str, str]] = []
        self.fault: Fault | None = None
        self.pause_s = 0.0
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=Quiet)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, name="s3-server", daemon=True).start()
        self._prepare()

    def _prepare(self) -> None:
        import urllib.request

        request = urllib.request.Request(f"{self.url}/{BUCKET}", method="PUT")
        urllib.request.urlopen(request, timeout=30).close()
        self.forget()

    def forget(self) -> None:
        """Count anew, and fail no more."""
        with self._lock:
            self.requests, self.asked, self.fault, self.pause_s = Counter(), [], None, 0.0
            self._numbers = itertools.count(1)

    @property
    def total(self) -> int:
        """Requests since `forget`."""
        return sum(self.requests.values())

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        with self._lock:
            number = next(self._numbers)
            kind = "LIST" if "list-type" in environ["QUERY_STRING"] else environ["REQUEST_METHOD"]
            self.requests[kind] += 1
            self.asked.append((kind, environ["PATH_INFO"] + "?" + environ["QUERY_STRING"]))
            fault = self.fault(environ, number) if self.fault is not None else ""
        time.sleep(self.pause_s)
        if fault in ("drop", "half", "silent"):
            connection: socket.socket = environ["werkzeug.socket"]
            if fault == "silent":
                time.sleep(60)
            elif fault == "half":
                # Half of a payload has come when the line goes dead.
                environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0) // 2)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
            connection.shutdown(socket.SHUT_RDWR)
            connection.close()
            raise ConnectionError("on purpose")
        if fault:
            # What was sent has to be read, or the next request of the connection would begin in its middle.
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            code = {"500": "InternalError", "503": "SlowDown", "403": "AccessDenied"}[fault]
            body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>on purpose</Message></Error>".encode()
            start_response(f"{fault} {code}", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
            return [body]
        answer: Iterable[bytes] = self._app(environ, start_response)
        return answer


def every(n: int, fault: str) -> Fault:
    """Each n-th request goes wrong."""
    return lambda environ, number: fault if number % n == 0 else ""


@contextmanager
def s3_environment(url: str) -> Iterator[dict[str, str]]:
    """The variables with which a user names an S3 server and proves who they are; no file of theirs is read."""
    named = {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in named.items():
            patch.setenv(name, value)
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
            patch.delenv(name, raising=False)
        yield named
