"""Reports on loopback: what is offered, and above all what is not."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from faceline.errors import FacelineError
from flows.report_links import address_of
from flows.reports import reports_server


@pytest.fixture
def offered(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    folder = tmp_path / "results"
    (folder / "clip ü#1").mkdir(parents=True)
    (folder / "clip ü#1" / "report.html").write_text("<p>report")
    (folder / "archive.html").write_text("<p>archive")
    (folder / "key.pem").write_text("secret")
    (tmp_path / "outside.html").write_text("secret")
    (folder / "link.html").symlink_to(tmp_path / "outside.html")
    with reports_server(folder, 0) as address:
        yield folder, address


def ask(address: str, path: str, method: str = "GET", host: str | None = None) -> tuple[int, bytes]:
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    connection.putrequest(method, path, skip_host=host is not None)
    if host is not None:
        connection.putheader("Host", host)
    connection.endheaders()
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_reports_are_there_and_named(offered: tuple[Path, str]) -> None:
    folder, address = offered
    assert address.startswith("http://127.0.0.1:")
    assert ask(address, "/archive.html") == (200, b"<p>archive")
    page = address_of(folder / "clip ü#1" / "report.html")
    assert ask(address, page.removeprefix(address)) == (200, b"<p>report")
    assert ask(address, "/archive.html", "HEAD") == (200, b"")
    assert address_of(folder.parent / "outside.html") == ""


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/clip%20%C3%BC%231/",
        "/key.pem",
        "/../outside.html",
        "/%2e%2e/outside.html",
        "/link.html",
        "//etc/passwd",
        "/%00",
    ],
)
def test_nothing_else_is(offered: tuple[Path, str], path: str) -> None:
    assert ask(offered[1], path)[0] == 404


def test_it_can_only_be_read_and_under_its_own_name(offered: tuple[Path, str]) -> None:
    _, address = offered
    assert ask(address, "/archive.html", "PUT")[0] == 501
    assert ask(address, "/archive.html", "DELETE")[0] == 501
    assert ask(address, "/archive.html", host="evil.example:80")[0] == 404


def test_without_it_there_is_no_address_and_a_used_port_is_one_line(offered: tuple[Path, str], tmp_path: Path) -> None:
    port = urlsplit(offered[1]).port
    with pytest.raises(FacelineError, match=f"cannot be offered at port {port}"), reports_server(tmp_path, port or 0):
        pass


def test_nothing_is_offered_unless_it_is_asked_for(tmp_path: Path) -> None:
    assert address_of(tmp_path / "archive.html") == ""
