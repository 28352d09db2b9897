"""A store on an S3 server over HTTP: what goes wrong there, on purpose, and what it costs in requests."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import logging
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from faceline import backends, copies, remote
from faceline import store as store_module
from faceline.artifacts import MANIFEST
from faceline.copies import Copies, cache_bytes, copies_here
from faceline.errors import ArtifactError, StoreError, UsageError
from faceline.latest import Place, recall, remember
from faceline.payloads import hash_file
from faceline.remote import forget_folders
from faceline.store import Store
from tests.faceline.planted import forked
from tests.faceline.test_store import OUTPUTS, RUNTIME, _chunk, _commit, _parts
from tests.s3 import BUCKET, KEY_ID, SECRET, S3Server, every

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def store(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store on the server, with copies of its own on this machine."""
    monkeypatch.setenv("FACELINE_CACHE", str(tmp_path / "cache"))
    return Store(f"s3://{BUCKET}/{tmp_path.name}")


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request is tried once; named before ``store``."""
    monkeypatch.setattr(backends, "_S3_CONFIG", {"retries": {"total_max_attempts": 1}})
    monkeypatch.setattr(backends, "_S3_ROUNDS", 1)
    monkeypatch.setattr(remote, "PATIENCE_S", 0.0)


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_PAUSES_S", (0.0,))


def _elsewhere(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """As on another machine: no copies, and nothing seen of late."""
    monkeypatch.setenv("FACELINE_CACHE", str(folder))
    store_module._sound.clear()
    forget_folders()


def _paths(s3: S3Server, kind: str) -> list[str]:
    return [path for asked, path in s3.asked if asked == kind]


# What a commit promises.


def test_the_manifest_is_the_last_object_and_names_what_was_uploaded(store: Store, s3: S3Server) -> None:
    ref = _commit(store)
    # Signs of use lie elsewhere, and may come at any time.
    puts = [path for path in _paths(s3, "PUT") if f"/{ref.key}/" in path]
    assert len(puts) == 5
    assert puts[-1].endswith(f"{ref.key}/{MANIFEST}?")
    folder = {path.partition(f"{ref.key}/")[2].partition("/")[0] for path in puts[:-1]}
    assert len(folder) == 1


@pytest.mark.parametrize(("fault", "n"), [("500", 3), ("503", 2), ("drop", 2)])
def test_trouble_now_and_then_changes_nothing(
    store: Store, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_pauses: None, fault: str, n: int
) -> None:
    s3.fault = every(n, fault)
    ref = _commit(store)
    _elsewhere(monkeypatch, tmp_path / "elsewhere")
    artifact = Store(store.root).read(ref)
    assert artifact.table("faces").equals(_chunk()["faces"])
    assert dict(artifact.files("pages")) == _chunk()["pages"]
    assert s3.total > 12
    s3.forget()
    assert [finding.state for finding in Store(store.root).verify()] == ["ok"]


@pytest.mark.parametrize("fault", ["503", "half", "403"])
def test_an_upload_that_ends_in_its_middle_is_no_artifact(hasty: None, store: Store, s3: S3Server, fault: str) -> None:
    store.folder.names()
    s3.fault = lambda environ, number: (
        fault if environ["REQUEST_METHOD"] == "PUT" and "npy" in environ["PATH_INFO"] else ""
    )
    with pytest.raises(StoreError) as caught:
        _commit(store)
    assert caught.value.can_pass is (fault != "403")
    s3.forget()
    assert store.inspect("detect", _parts().key).state == "absent"
    assert list(store.verify()) == []
    assert store.folder.names("detect") == [], "what was uploaded before is gone again"
    assert _commit(store).rows["points"] == 100


def test_what_was_computed_outlasts_a_store_that_does_not_answer_when_it_is_to_be_stored(
    hasty: None, no_pauses: None, store: Store, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "PATIENCE_S", 60.0)
    parts = _parts()
    with store.lock(parts.stage, parts.key), store.draft(parts.stage, parts.key, OUTPUTS) as draft:
        draft.append(_chunk())
        store.folder.names()
        s3.forget()
        s3.fault = lambda environ, number: "503" if number <= 8 else ""
        store.commit(draft, parts, runtime=RUNTIME, timings={"compute_s": 1.5})
    assert s3.requests["GET"] + s3.requests["LIST"] > 0, "the store was looked at first"
    s3.forget()
    store_module._sound.clear()
    assert store.inspect(parts.stage, parts.key, deep=True).state == "ok"


def test_a_process_that_dies_before_the_manifest_leaves_no_artifact(store: Store) -> None:
    key = _parts().key
    sound = _commit(store)
    store.folder.put(f"detect/{key}/0123456789ab/points.npy", b"half")
    store.folder.put(f"detect/{'ef' * 32}/0123456789ab/points.npy", b"half")
    assert [finding.state for finding in store.verify()] == ["ok"], "what no manifest names is not looked at"
    assert store.inspect("detect", "ef" * 32).state == "absent"
    assert store.read(sound).table("faces").num_rows == 100


def test_two_machines_that_compute_one_key_leave_a_sound_one(
    store: Store, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both look before either has committed; one's payloads are left over, and nobody reads half of each."""
    parts = _parts()
    inspect = Store.inspect
    both = threading.Barrier(2, timeout=60)
    made: list[Any] = []

    def look_then_wait(self: Store, *arguments: Any, **how: Any) -> Any:
        found = inspect(self, *arguments, **how)
        both.wait()
        return found

    def work() -> None:
        with store.draft("detect", parts.key, OUTPUTS) as draft:
            draft.append(_chunk())
            made.append(store.commit(draft, parts, runtime=RUNTIME, timings={}))

    with monkeypatch.context() as patched:
        patched.setattr(Store, "inspect", look_then_wait)
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [manifest.digest for manifest in made] == [made[0].digest] * 2
    attempts = [name for name in store.folder.names(f"detect/{parts.key}") if name != MANIFEST]
    assert len(attempts) == 2
    _elsewhere(monkeypatch, tmp_path / "elsewhere")
    assert [finding.state for finding in store.verify()] == ["ok"]
    assert store.read(store.ref(store.inspect("detect", parts.key))).array("points").shape == (100, 4)


def test_setting_aside_leaves_alone_what_another_machine_uploads(store: Store) -> None:
    ref = _commit(store)
    store.folder.put(f"{ref.folder}/0123456789ab/points.npy", b"under way")
    store.set_aside("detect", ref.key, "test")
    assert store.folder.names(ref.folder) == ["0123456789ab"]
    aside = store.folder.names(f"_damaged/detect-{ref.key}-1")
    assert len(aside) == 3
    assert {"damage.json", MANIFEST} < set(aside)


# Damage.


def test_a_payload_that_is_gone_or_altered_is_never_read(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoilt = (
        (lambda data: data[:-1] + b"\x00", "has SHA-256"),
        (lambda data: data[:-1], "bytes, expected"),
        (None, "is missing"),
    )
    for number, (spoil, said) in enumerate(spoilt):
        ref = _commit(store)
        _elsewhere(monkeypatch, tmp_path / f"elsewhere-{number}")
        artifact = store.read(ref)
        path = f"{ref.folder}/{artifact.manifest.payloads['points'].path}"
        if spoil is None:
            store.folder.remove(path)
        else:
            store.folder.put(path, spoil(store.folder.read(path)))
        with pytest.raises(ArtifactError, match=said):
            artifact.array("points")
        store_module._sound.clear()
        assert store.inspect("detect", ref.key).state == "absent", "set aside, so that the next run computes it anew"


def test_trouble_of_the_store_is_no_damage(
    hasty: None, store: Store, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = _commit(store)
    _elsewhere(monkeypatch, tmp_path / "elsewhere")
    artifact = store.read(ref)
    for fault in ("500", "403"):
        s3.fault = every(1, fault)
        with pytest.raises(StoreError):
            artifact.table("faces")
        s3.forget()
    assert store.folder.names("_damaged") == []
    assert artifact.table("faces").num_rows == 100


def test_a_copy_that_went_bad_is_fetched_anew(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    ref = _commit(store)
    points = store.read(ref).manifest.payloads["points"]
    here = copies_here()
    copy = here.folder.local_path(here.name_of(points.sha256))
    copy.write_bytes(copy.read_bytes()[:-1] + b"\x01")
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(store.read(ref).array("points"), _chunk()["points"])
    assert "is damaged and is fetched anew" in caplog.text
    assert store.inspect("detect", ref.key).state == "ok"


# Reading.


def test_a_copy_in_a_sector_that_cannot_be_read_is_fetched_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, digest = Copies(tmp_path, 2**30), "ab" * 32
    path = here.folder.local_path(here.name_of(digest))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"face")

    def unreadable(path: Path) -> str:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(copies, "_sha256", unreadable)
    assert not here.has(digest, 4, check=True)
    assert not path.exists()


def test_what_this_machine_wrote_is_not_downloaded_again(store: Store, s3: S3Server) -> None:
    ref = _commit(store)
    s3.forget()
    artifact = store.read(ref)
    _ = artifact.table("faces"), artifact.array("points"), list(artifact.files("pages"))
    assert s3.total == 0


def test_a_payload_is_downloaded_once_and_arrays_are_mapped(
    store: Store, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = _commit(store)
    _elsewhere(monkeypatch, tmp_path / "elsewhere")
    s3.forget()
    for _ in range(2):
        array = store.read(ref).array("points")
        assert isinstance(array, np.memmap)
        assert not array.flags.writeable
        np.testing.assert_array_equal(array, _chunk()["points"])
    assert len([path for path in _paths(s3, "GET") if "points.npy" in path]) == 1


def test_verify_reads_the_store_and_not_the_copies(store: Store) -> None:
    ref = _commit(store)
    path = f"{ref.folder}/{store.read(ref).manifest.payloads['points'].path}"
    store.folder.put(path, store.folder.read(path)[:-1] + b"\x00")
    assert [finding.state for finding in store.verify()] == ["damaged"]


def test_a_large_object_goes_in_parts_and_is_read_in_ranges(
    store: Store, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = np.random.default_rng(0).bytes(17 << 20)
    (tmp_path / "large").write_bytes(data)
    s3.fault = lambda environ, number: "503" if environ["REQUEST_METHOD"] == "PUT" and number % 3 == 0 else ""
    store.folder.upload({"detect/large": tmp_path / "large"})
    assert s3.requests["POST"] == 2
    s3.forget()
    with store.folder.open("detect/large") as file:
        stored = hash_file(file)
        file.seek(-5, os.SEEK_END)
        assert file.read() == data[-5:]
    assert stored.size == len(data)
    assert s3.requests["GET"] <= 6
    s3.fault = lambda environ, number: "drop" if number % 3 == 0 else ""
    folder, name = store.folder.near("detect/large", stored.sha256, stored.size, check=True)
    assert folder.read(name) == data


def test_copies_are_private_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    here = Copies(tmp_path, 3000)
    contents = [bytes([i]) * 1000 for i in range(6)]
    for age, content in enumerate(contents):
        sha256 = hashlib.sha256(content).hexdigest()
        assert here.add(sha256, 1000, lambda path, content=content: path.write_bytes(content) and None) == ""
        os.utime(here.folder.local_path(here.name_of(sha256)), (time.time() - 5000 + age, time.time() - 5000 + age))
    left = [path for path in (tmp_path / "copies").rglob("*") if path.is_file()]
    assert {path.read_bytes()[0] for path in left} == {3, 4, 5}
    assert {path.stat().st_mode & 0o777 for path in left} == {0o600}
    assert (tmp_path / "copies").stat().st_mode & 0o777 == 0o700
    here.tidy(0)
    assert not [path for path in (tmp_path / "copies").rglob("*") if path.is_file()]
    assert "bytes, expected" in here.add("ab" * 32, 7, lambda path: path.write_bytes(b"1") and None)
    assert "has SHA-256" in here.add("ab" * 32, 1, lambda path: path.write_bytes(b"1") and None)
    assert not here.has("ab" * 32, 1, check=False)
    with pytest.raises(ValueError, match="no SHA-256"):
        here.name_of("../../etc/passwd")
    monkeypatch.setenv("FACELINE_CACHE_GIB", "much")
    with pytest.raises(StoreError, match="FACELINE_CACHE_GIB='much' is no size"):
        cache_bytes()


def test_what_is_in_use_stays_however_little_room_there_is(tmp_path: Path) -> None:
    import hashlib

    here = Copies(tmp_path, 0)
    for content in (b"a", b"b"):
        here.add(
            hashlib.sha256(content).hexdigest(), 1, lambda path, content=content: path.write_bytes(content) and None
        )
    assert all(here.has(hashlib.sha256(content).hexdigest(), 1, check=True) for content in (b"a", b"b"))


def test_a_copy_that_is_being_fetched_slowly_is_not_taken_away(tmp_path: Path) -> None:
    here, content = Copies(tmp_path, 0), b"slowly"
    digest = hashlib.sha256(content).hexdigest()

    def fill(path: Path) -> None:
        path.write_bytes(content)
        long_ago_s = time.time() - 10 * copies.IN_USE_S
        os.utime(path, (long_ago_s, long_ago_s))
        Copies(tmp_path, 0).tidy(0)

    assert here.add(digest, len(content), fill) == ""
    assert here.has(digest, len(content), check=True)
    left = here.folder.local_path(f"{digest[:2]}/.left.tmp")
    left.write_bytes(b"by a process that died")
    os.utime(left, (0, 0))
    here.tidy(0)
    assert not left.exists()


def test_no_room_for_a_copy_is_one_line(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = _commit(store)
    _elsewhere(monkeypatch, tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "copies").write_text("in the way")
    with pytest.raises(StoreError, match=r"no copy of a payload can be kept on this machine: .*FACELINE_CACHE"):
        store.read(ref).table("faces")
    assert store.inspect("detect", ref.key).state == "ok"


# Requests.


def test_a_plan_asks_together_and_only_once(
    store: Store, s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    places = []
    for index in range(5):
        parts = _parts(float(index + 1))
        _commit(store, parts)
        places.append(Place("detect", "ab" * 32, "/clips/a.mp4", segment=index))
        remember(store.folder, places[-1], parts, 1.0)
    _elsewhere(monkeypatch, tmp_path / "elsewhere")
    other = Store(store.root)
    s3.forget()
    other.foresee(*[pointer.rpartition("/")[0] for pointer in places[0].pointers()])
    asked = s3.total
    # A greeting, three listings (an empty one is asked for twice), then for each pointer, manifest, list of payloads.
    assert asked <= 1 + 4 + 5 * 3
    for index, place in enumerate(places):
        assert recall(other.folder, place) is not None
        assert other.inspect("detect", _parts(float(index + 1)).key, recent=True).state == "ok"
    assert recall(other.folder, Place("align", "ab" * 32, "/clips/a.mp4")) is None, "known not to be there"
    assert s3.total == asked
    assert other.inspect("detect", _parts(1.0).key).state == "ok"
    assert s3.total == asked + 2, "without `recent` the store is asked"


def test_listings_of_more_than_a_thousand_objects_are_whole(store: Store, s3: S3Server) -> None:
    from moto.core import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends

    prefix = store.root.removeprefix(f"s3://{BUCKET}/")
    backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    for number in range(1050):
        backend.put_object(BUCKET, f"{prefix}/detect/{number:064x}/manifest.json", b"{}")
    assert len(list(store.artifacts())) == 1050
    assert len(store.folder.written("detect")) == 1050  # type: ignore[attr-defined]
    store.folder.remove("detect")
    assert list(store.artifacts()) == []


def test_a_full_disk_here_is_not_blamed_on_the_store(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = _commit(store)
    _elsewhere(monkeypatch, tmp_path / "elsewhere")
    there = Store(store.root)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(there.folder._fs, "get_file", full)  # type: ignore[attr-defined]
    with pytest.raises(StoreError, match=r"no copy .* can be kept on this machine: No space left on device"):
        there.read(ref).table("faces")
    assert there.inspect("detect", ref.key).state == "ok"


# No way to the store.


def _told(arguments: dict[str, str], root: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, float]:
    for name, value in arguments.items():
        monkeypatch.setenv(name, value)
    forget_folders()
    began_s = time.monotonic()
    with pytest.raises(StoreError) as caught:
        list(Store(root).artifacts())
    return str(caught.value), time.monotonic() - began_s


def test_a_missing_bucket_is_one_line(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    said, _ = _told({}, "s3://no-such-bucket/a", monkeypatch)
    assert said == "s3://no-such-bucket/a: there is no bucket no-such-bucket; create it, or correct store.root"
    assert s3.requests["PUT"] == 0, "and it is not made by the way"


def test_an_address_where_nobody_answers_is_one_line_soon(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    said, seconds = _told({"AWS_ENDPOINT_URL": "http://user:word@127.0.0.1:1"}, f"s3://{BUCKET}/a", monkeypatch)
    assert "does not answer" in said
    assert "AWS_ENDPOINT_URL" in said
    assert "word" not in said
    assert "\n" not in said
    assert seconds < 30


def test_a_server_that_says_nothing_is_given_up_in_time(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "CONTACT_S", 2.0)
    s3.fault = every(1, "silent")
    said, seconds = _told({}, f"s3://{BUCKET}/a", monkeypatch)
    assert "does not answer" in said
    assert seconds < 10
    began_s = time.monotonic()
    with pytest.raises(StoreError, match="does not answer"):
        Store(f"s3://{BUCKET}/a").folder.names()
    assert time.monotonic() - began_s < 1, "not waited for again by everything that asks"


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch, s3: S3Server) -> Iterator[Store]:
    """A store whose server has been met, and now takes connections and no more."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        forget_folders()
        store = Store(f"s3://{BUCKET}/a")
        monkeypatch.setattr(store.folder, "_met", True)
        yield store
    forget_folders()


def test_a_server_that_falls_silent_is_given_up_in_time_whatever_it_is_asked(
    deaf: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(backends, "ANSWER_S", 0.2)
    monkeypatch.setattr(backends, "STILL_S", 0.2)
    monkeypatch.setattr(remote, "PATIENCE_S", 0.0)
    monkeypatch.setenv("FACELINE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "large").write_bytes(bytes(17 << 20))
    folder = deaf.folder
    asked: list[Callable[[], object]] = [
        lambda: folder.names("detect"),
        lambda: folder.read("detect/a"),
        lambda: folder.size("detect/a"),
        lambda: folder.open("detect/a", 10).read(),
        lambda: folder.near("detect/a", "ab" * 32, 10, check=True),
        lambda: folder.put("detect/a", b"small"),
        lambda: folder.put("detect/a", bytes(1 << 20)),
        lambda: folder.upload({"detect/a": tmp_path / "large"}),
        lambda: folder.remove("detect/a"),
    ]
    for ask in asked:
        began_s = time.monotonic()
        with pytest.raises(StoreError, match="does not answer") as caught:
            ask()
        assert caught.value.can_pass
        assert time.monotonic() - began_s < 3


def test_an_upload_over_a_slow_line_is_not_given_up_while_it_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "STILL_S", 0.3)

    async def send(method: str, **options: Any) -> str:
        while method == "upload_part" and options["Body"].read(100):
            await asyncio.sleep(0.05)
        if method != "upload_part":
            # It has to wait for a connection, behind the others.
            await asyncio.sleep(0.5)
        return method

    async def both(sender: Any) -> Any:
        return await asyncio.gather(sender("upload_part", Body=bytes(1200)), sender("put_object", Body=b""))

    assert asyncio.run(both(backends._Sender(send))) == ["upload_part", "put_object"]
    with pytest.raises(ConnectionError, match="nothing moves"):
        asyncio.run(backends._Sender(send)("put_object", Body=b""))


def test_little_of_what_is_sent_waits_in_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.config import conf

    url = f"s3://{BUCKET}/a"
    factory = backends.open_filesystem("s3", url, sending=True).config_kwargs["connector_args"]["socket_factory"]
    with factory((socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", 1))) as made:
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 128 << 10
    # What a user sets goes before.
    monkeypatch.setitem(conf, "s3", {"config_kwargs": {"connector_args": {"force_close": True}, "read_timeout": 77}})
    asked = backends.open_filesystem("s3", url, sending=True).config_kwargs
    assert (asked["connector_args"], asked["read_timeout"]) == ({"force_close": True}, 77)


def test_no_more_is_sent_when_one_of_many_files_is_refused(hasty: None, store: Store, s3: S3Server) -> None:
    store.folder.names()
    source = Path(str(copies.cache_folder())) / "small"
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_bytes(b"1")
    s3.fault = lambda environ, number: "403" if environ["REQUEST_METHOD"] == "PUT" else ""
    with pytest.raises(StoreError, match="refuses access"):
        store.folder.upload({f"detect/{number}": source for number in range(200)})
    assert s3.requests["PUT"] < 150


def test_an_interrupt_ends_an_upload_to_a_silent_server_at_once(deaf: Store, tmp_path: Path) -> None:
    (tmp_path / "some").write_bytes(bytes(100_000))
    # Were it ignored or held back here, this would wait for minutes and then blame the upload.
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    me = threading.get_ident()
    timer = threading.Timer(0.3, lambda: signal.pthread_kill(me, signal.SIGINT))
    began_s = time.monotonic()
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        deaf.folder.upload({f"detect/{number}": tmp_path / "some" for number in range(40)})
    assert time.monotonic() - began_s < 5


def test_refused_access_is_one_line(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.fault = every(1, "403")
    said, _ = _told({}, f"s3://{BUCKET}/a", monkeypatch)
    assert "refuses access (AccessDenied: on purpose); the credentials must allow to list" in said


def test_no_credentials_are_one_line(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    said, seconds = _told({}, f"s3://{BUCKET}/a", monkeypatch)
    assert "no credentials" in said
    assert "AWS_PROFILE" in said
    assert seconds < 30


@pytest.mark.parametrize(
    ("root", "said"),
    [
        (f"s3://key:word@{BUCKET}/a", "holds credentials or options"),
        (f"s3://{BUCKET}/a?key=word", "holds credentials or options"),
        ("s3://", "names no bucket"),
        (f"s3://{BUCKET}/a[1]", "take for patterns"),
        ("s4://bucket/a", "Protocol not known: s4"),
    ],
)
def test_a_root_that_cannot_be_meant_is_refused(root: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        Store(root)
    assert "word" not in str(caught.value)


# Processes and threads.


def _in_a_fork(store: Store, ref: Any, answers: Any) -> None:
    answers.put(store.read(ref).table("faces").num_rows)
    answers.put(Store(store.root).read(ref).table("faces").num_rows)


def test_threads_share_one_connection_and_a_forked_process_makes_its_own(store: Store, s3: S3Server) -> None:
    ref = _commit(store)
    folders: list[Any] = []
    threads = [threading.Thread(target=lambda: folders.append(Store(store.root).folder)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {id(folder) for folder in folders} == {id(store.folder)}
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    process = context.Process(target=forked, args=(_in_a_fork, store, ref, answers))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert [answers.get(), answers.get()] == [100, 100]


def test_a_process_of_its_own_finds_what_another_stored(store: Store, s3: S3Server) -> None:
    """It is told the address the other way."""
    ref = _commit(store)
    environment = {name: value for name, value in os.environ.items() if name != "AWS_ENDPOINT_URL"}
    script = (
        "import sys, pickle; from faceline.store import Store; from faceline.artifacts import ArtifactRef\n"
        "store = Store(sys.argv[1]); ref = store.ref(store.inspect('detect', sys.argv[2]))\n"
        "print(store.read(ref).array('points').sum().item(), len(pickle.dumps(ref)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, store.root, ref.key],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        env={**environment, "FSSPEC_S3_ENDPOINT_URL": s3.url},
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[0]) == pytest.approx(_chunk()["points"].sum().item())


def test_threads_of_one_machine_do_the_work_of_a_key_once(store: Store) -> None:
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        with store.lock("detect", "ab" * 32):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.02)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 4


# Secrets.


def test_credentials_are_written_nowhere(
    store: Store, s3: S3Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="faceline"):
        ref = _commit(store)
        store.set_aside("detect", ref.key, "test")
        ref = _commit(store)
    everything = caplog.text + repr(ref) + repr(store) + json.dumps(store.read(ref).manifest.to_bytes().decode())
    for name in store.folder.written(""):
        everything += name + store.folder.read(name).decode("latin-1")
    for path in (tmp_path / "cache").rglob("*"):
        everything += str(path) + (path.read_bytes().decode("latin-1") if path.is_file() else "")
    assert SECRET not in everything
    assert KEY_ID not in everything
    assert copies.CACHE_VARIABLE == "FACELINE_CACHE"
