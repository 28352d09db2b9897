"""A night told to an address: what is sent, what is tried again, and what is not."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from faceline.nightly.notification import check_address, send


class Listener:
    """A server on loopback that answers as it is told."""

    def __init__(self) -> None:
        self.answers: list[int | str] = []
        self.got: list[Any] = []
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                listener.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                answer = listener.answers.pop(0) if listener.answers else 204
                if answer == "garbage":
                    self.wfile.write(b"no HTTP at all\r\n\r\n")
                    return
                self.send_response(int(answer))
                if answer == 302:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()

            do_GET = do_POST

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook?key=secret"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_a_night_arrives(listener: Listener) -> None:
    assert send(listener.url, {"state": "done", "text": "Größe"}) == ""
    assert listener.got == [{"state": "done", "text": "Größe"}]


@pytest.mark.parametrize(
    ("answers", "why", "tries"),
    [
        ([503, 429, 200], "", 3),
        (["garbage", 204], "", 2),
        ([500, 500, 500, 200], "it answered 500", 3),
        ([404, 200], "it answered 404", 1),
        ([302, 200], "it answered 302", 1),
    ],
)
def test_what_is_tried_again(listener: Listener, answers: list[int | str], why: str, tries: int) -> None:
    listener.answers = answers
    pauses: list[float] = []
    assert send(listener.url, {"a": 1}, sleep=pauses.append) == why
    assert len(listener.got) == tries
    assert pauses == [2.0, 8.0][: tries - 1]


def test_nobody_there_is_no_error() -> None:
    pauses: list[float] = []
    assert "did not answer" in send("http://127.0.0.1:9/", {}, sleep=pauses.append, timeout_s=2)
    assert len(pauses) == 2
    assert "JSON" in send("http://127.0.0.1:9/", {"a": float("nan")})


def test_who_answers_drop_by_drop_is_waited_for_as_long_as_who_is_silent() -> None:
    over = threading.Event()

    def drip() -> None:
        client, _ = server.accept()
        with client:
            # Each byte is in time for a limit on each.
            while not over.wait(0.02):
                try:
                    client.sendall(b"H")
                except OSError:
                    return

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip)
        thread.start()
        began_s = time.monotonic()
        why = send(f"http://127.0.0.1:{server.getsockname()[1]}/", {}, timeout_s=0.2, pauses_s=())
        took_s = time.monotonic() - began_s
        over.set()
        thread.join()
    assert why == "it did not answer (it took more than 0.2 s)"
    assert took_s < 5


@pytest.mark.parametrize(
    "text", ["", "ftp://a/b", "//a", "http://", "http://a b/", "http://a:x/", "file:///etc/passwd"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="http"):
        check_address(text)
    assert send(text, {}) != ""
