"""What a run asks, and for how long, before it gives up on its store or its server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from faceline.errors import FootageUnreadableError, StoreError
from flows import outage as module
from flows.outage import may_be_an_outage, outage
from flows.server import server_answers


def passing(*, can_pass: bool = True) -> StoreError:
    error = StoreError("the object store does not answer as it should (x)", where="s3://b/p")
    error.can_pass = can_pass
    return error


class Folder:
    """Stands in for a remote store that answers, refuses, or is silent."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def names(self) -> list[str]:
        if isinstance(self.answer, threading.Event):
            self.answer.wait(60)
        if isinstance(self.answer, Exception):
            raise self.answer
        return []


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "named_api_url", lambda: None)


@pytest.mark.parametrize(
    ("answer", "is_out"),
    [(None, False), (passing(), True), (passing(can_pass=False), False), (threading.Event(), True)],
    ids=["answers", "in trouble", "refuses", "silent"],
)
def test_a_store_is_asked_once_and_not_for_long(monkeypatch: pytest.MonkeyPatch, answer: Any, is_out: bool) -> None:
    monkeypatch.setattr(module, "folder_at", lambda root: Folder(answer))
    monkeypatch.setattr(module, "ANSWER_S", 0.05)
    found = outage("s3://b/p")
    if isinstance(answer, threading.Event):
        answer.set()
    assert (found is not None) == is_out
    assert not is_out or (found is not None and found[:2] == ("the store does not answer", "s3://b/p"))
    assert outage("artifacts") is None, "a folder is not asked"


def test_only_what_the_next_footage_would_meet_as_well_is_looked_into() -> None:
    assert may_be_an_outage(passing())
    assert may_be_an_outage(ConnectionError("reset"))
    assert not may_be_an_outage(passing(can_pass=False))
    assert not may_be_an_outage(FootageUnreadableError("no such file"))


@pytest.fixture
def proxy() -> Iterator[tuple[str, list[int]]]:
    answers: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answers.pop())
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/api", answers
    server.shutdown()
    server.server_close()


def test_a_refusal_is_an_answer_and_a_proxy_without_its_server_is_none(proxy: tuple[str, list[int]]) -> None:
    url, answers = proxy
    found = {}
    for code in (200, 401, 502):
        answers.append(code)
        found[code] = server_answers(url)
    assert found == {200: True, 401: True, 502: False}
