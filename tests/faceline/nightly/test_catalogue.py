"""The catalogue: what is hashed again and what is trusted, files that change meanwhile, odd names, torn files."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from faceline.folders import LocalFolder
from faceline.nightly import catalogue as module
from faceline.nightly.catalogue import UNSURE_S, Catalogue, Unsteady


class Hashing:
    """Counts how often a file is read to be hashed, and may do something at that moment."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.meanwhile = lambda: None
        self._digest = hashlib.file_digest
        monkeypatch.setattr(module.hashlib, "file_digest", self._hash)

    def _hash(self, stream: object, name: str) -> object:
        self.count += 1
        found = self._digest(stream, name)  # type: ignore[arg-type]
        self.meanwhile()
        return found


@pytest.fixture
def hashing(monkeypatch: pytest.MonkeyPatch) -> Hashing:
    return Hashing(monkeypatch)


def at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let so much time go by that files written now are long at rest."""
    later = time.time() + 100
    monkeypatch.setattr(module.time, "time", lambda: later)


def clip(folder: Path, name: str = "a.mp4", data: bytes = b"abc") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def test_a_file_at_rest_is_hashed_once(tmp_path: Path, hashing: Hashing, monkeypatch: pytest.MonkeyPatch) -> None:
    at_rest(monkeypatch)
    file, store = clip(tmp_path), LocalFolder(tmp_path / "store")
    first = Catalogue(store)
    assert first.identify("a.mp4", file) == hashlib.sha256(b"abc").hexdigest()
    first.save()
    again = Catalogue(store)
    assert again.identify("a.mp4", file) == first.files["a.mp4"] == again.known("a.mp4", file.stat())
    assert hashing.count == 1


@pytest.mark.parametrize("what", ["size", "mtime", "inode", "content"])
def test_any_change_of_its_state_is_seen(
    what: str, tmp_path: Path, hashing: Hashing, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_rest(monkeypatch)
    file, known = clip(tmp_path), Catalogue(LocalFolder(tmp_path / "store"))
    known.identify("a.mp4", file)
    state = file.stat()
    if what == "inode":
        clip(tmp_path, "other").replace(file)
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    elif what == "mtime":
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    else:
        # The same length and time of writing: only the time of change tells.
        file.write_bytes(b"xyz" if what == "content" else b"xyzz")
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert known.identify("a.mp4", file) == hashlib.sha256(file.read_bytes()).hexdigest()
    assert hashing.count == 2


@pytest.mark.parametrize("age_s", [0.0, UNSURE_S / 2, -UNSURE_S / 2])
def test_a_file_just_written_is_hashed_again(
    age_s: float, tmp_path: Path, hashing: Hashing, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, known = clip(tmp_path), Catalogue(LocalFolder(tmp_path / "store"))
    now = file.stat().st_mtime + age_s
    monkeypatch.setattr(module.time, "time", lambda: now)
    known.identify("a.mp4", file)
    assert known.known("a.mp4", file.stat()) is None
    known.save()
    known.identify("a.mp4", file)
    assert hashing.count == 2


def test_a_time_of_writing_set_back_hides_nothing(tmp_path: Path, hashing: Hashing) -> None:
    # As tools do that copy: written now, said to be old. Whether it is still being written cannot be told yet.
    file, known = clip(tmp_path), Catalogue(LocalFolder(tmp_path / "store"))
    os.utime(file, (1e9, 1e9))
    known.identify("a.mp4", file)
    assert known.known("a.mp4", file.stat()) is None


def test_a_camera_whose_clock_is_ahead_costs_no_hashing_each_night(
    tmp_path: Path, hashing: Hashing, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_rest(monkeypatch)
    file, known = clip(tmp_path), Catalogue(LocalFolder(tmp_path / "store"))
    os.utime(file, (4e9, 4e9))
    known.identify("a.mp4", file)
    known.identify("a.mp4", file)
    assert hashing.count == 1


def test_a_server_whose_clock_is_ahead_is_not_trusted() -> None:
    state = SimpleNamespace(st_ctime=1000.0, st_mtime=1000.0)
    assert module._settled(state, 1000.0 + UNSURE_S)  # type: ignore[arg-type]
    assert not module._settled(state, 400.0)  # type: ignore[arg-type]


def test_a_file_that_changes_while_it_is_hashed_has_no_digest(
    tmp_path: Path, hashing: Hashing, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_rest(monkeypatch)
    file, known = clip(tmp_path), Catalogue(LocalFolder(tmp_path / "store"))
    hashing.meanwhile = lambda: file.write_bytes(b"abcdef") and None
    with pytest.raises(Unsteady):
        known.identify("a.mp4", file)
    assert known.files == {}
    with pytest.raises(FileNotFoundError):
        known.identify("none.mp4", tmp_path / "none.mp4")


def test_names_that_are_no_text_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_rest(monkeypatch)
    names = [os.fsdecode(b"a \xff\xfe.mp4"), "new\nline", "é", "\U0001f600"]
    store = LocalFolder(tmp_path / "store")
    known = Catalogue(store)
    for name in names:
        known.identify(name, clip(tmp_path, name, name.encode("utf-8", "surrogateescape")))
    known.save()
    assert set(Catalogue(store).files) == set(names)


def test_what_is_gone_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_rest(monkeypatch)
    store = LocalFolder(tmp_path / "store")
    known = Catalogue(store)
    for name in ("a", "b"):
        known.identify(name, clip(tmp_path, name))
    known.save()
    assert known.forget_all_but({"b", "c"}) == {"a": hashlib.sha256(b"abc").hexdigest()}
    known.save()
    assert set(Catalogue(store).files) == {"b"}


def test_torn_files_count_as_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_rest(monkeypatch)
    store = LocalFolder(tmp_path / "store")
    known = Catalogue(store)
    known.identify("a", clip(tmp_path, "a"))
    known.save()
    whole = (tmp_path / "store" / "catalogue.json").read_bytes()
    for end in range(len(whole)):
        store.put("catalogue.json", whole[:end])
        assert Catalogue(store).files == {}
    others = (b"[]", b"5", b'{"version":2,"files":{}}', b'{"version":1,"files":{"a":[1]}}', b'{"version":1,"files":5}')
    for other in (*others, b'{"version":1,"files":{"a":[1e999,0,0,0,"x"]}}', b"\xff\xfe"):
        store.put("catalogue.json", other)
        assert Catalogue(store).files == {}


def test_nothing_is_written_where_nothing_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_rest(monkeypatch)
    store = LocalFolder(tmp_path / "store")
    known = Catalogue(store)
    known.identify("a", clip(tmp_path, "a"))
    known.save()
    place = tmp_path / "store" / "catalogue.json"
    assert place.stat().st_mode & 0o777 == 0o600
    inode = place.stat().st_ino
    again = Catalogue(store)
    again.identify("a", tmp_path / "a")
    again.save()
    assert place.stat().st_ino == inode
