"""The store: committed whole or not at all, trusted only when it can be; every fault here is made on purpose."""

from __future__ import annotations

import errno
import json
import logging
import os
import pickle
import re
import shutil
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from faceline.artifacts import MANIFEST, ArtifactRef, Manifest
from faceline.drafts import Owner, draft_name, parse_draft_name
from faceline.errors import ArtifactError
from faceline.keys import KeyParts, canonical_json, digest_of
from faceline.latest import Place, pointers, recall, remember
from faceline.stage import Payload
from faceline.store import Store
from faceline.sweeping import sweep_stage
from tests.s3 import BUCKET

OUTPUTS = (Payload("faces", "parquet"), Payload("points", "npy"), Payload("pages", "files"))
RUNTIME = {"device": "cpu", "batch_size": 8, "threads": 1}


def _parts(fps: float = 5.0, stage: str = "detect") -> KeyParts:
    return KeyParts(stage, 1, {"fps": fps}, {}, "ab" * 32, {}, {}, {}, {"faceline.detection": "cd" * 32})


def _chunk(seed: int = 0) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    return {
        "faces": pa.table({"face": np.arange(100), "score": random.random(100)}),
        "points": random.random((100, 4)).astype(np.float32),
        "pages": {"report.html": b"<p>", "plots/a.png": bytes(range(256))},
    }


def _commit(store: Store, parts: KeyParts | None = None, seed: int = 0) -> ArtifactRef:
    parts = parts or _parts()
    with store.lock(parts.stage, parts.key), store.draft(parts.stage, parts.key, OUTPUTS) as draft:
        draft.append(_chunk(seed))
        store.commit(draft, parts, runtime=RUNTIME, timings={"compute_s": 1.5})
    return store.ref(store.inspect(parts.stage, parts.key))


@pytest.fixture(params=["local", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Each test that takes it runs on a local folder, in memory, and on an S3 server over HTTP."""
    if request.param == "local":
        yield Store(tmp_path / "store")
        return
    if request.param == "s3":
        request.getfixturevalue("s3")
        yield Store(f"s3://{BUCKET}/{tmp_path.name}")
        return
    import fsspec

    yield Store(f"memory://{tmp_path.name}")
    fsspec.filesystem("memory").store.clear()


@pytest.fixture
def local(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def _folder(store: Store, ref: ArtifactRef) -> Path:
    path = store.folder.local_path(ref.folder)
    assert path is not None
    return path


# A sound artifact.


def test_what_is_committed_is_read_back(store: Store) -> None:
    ref = _commit(store)
    artifact = store.read(ref)
    assert artifact.table("faces").equals(_chunk()["faces"])
    assert artifact.table("faces", ["score"]).column_names == ["score"]
    assert sum(batch.num_rows for batch in artifact.batches("faces", batch_size=30)) == 100
    np.testing.assert_array_equal(artifact.array("points"), _chunk()["points"])
    assert [name for name, _ in artifact.files("pages")] == ["plots/a.png", "report.html"]
    assert dict(artifact.files("pages")) == _chunk()["pages"]
    assert ref.rows == {"faces": 100, "points": 100, "pages": 2}
    assert [finding.state for finding in store.verify()] == ["ok"]
    assert list(store.artifacts()) == [("detect", _parts().key)]


def test_an_absent_artifact_is_absent(store: Store) -> None:
    finding = store.inspect("detect", "ab" * 32)
    assert (finding.state, finding.problems, finding.manifest) == ("absent", (), None)
    with pytest.raises(ValueError, match="is absent"):
        store.ref(finding)
    with pytest.raises(ArtifactError, match=r"manifest\.json is missing; run the same command again"):
        store.read(ArtifactRef("detect", "ab" * 32, "cd" * 32, store.root))
    assert list(store.verify()) == []


def test_the_manifest_tells_where_it_comes_from(store: Store) -> None:
    ref = _commit(store)
    manifest = store.read(ref).manifest
    assert manifest.parts == _parts()
    assert manifest.runtime == RUNTIME
    assert manifest.timings["compute_s"] == 1.5
    assert {"python", "numpy", "pyarrow", "torch"} <= set(manifest.libraries)
    assert all(
        not Path(file).is_absolute() for payload in manifest.payloads.values() for file in payload.stored_files()
    )
    assert Manifest.from_bytes(manifest.to_bytes(), ref.key) == manifest


def test_content_alone_makes_the_digest(store: Store) -> None:
    one, other, changed = _commit(store), _commit(store, _parts(6.0)), _commit(store, _parts(7.0), seed=1)
    assert one.key != other.key
    assert one.digest == other.digest != changed.digest


def test_a_reference_is_small_and_travels(local: Store) -> None:
    ref = _commit(local)
    data = pickle.dumps(ref)
    assert pickle.loads(data) == ref  # noqa: S301 (our own bytes)
    assert len(data) < 1000
    assert {ref: 1}[ref] == 1


def test_the_wrong_kind_or_name_is_refused(store: Store) -> None:
    artifact = store.read(_commit(store))
    with pytest.raises(KeyError, match="no payload 'nothing'"):
        artifact.table("nothing")
    with pytest.raises(TypeError, match="of kind npy, not parquet"):
        artifact.table("points")
    with pytest.raises(KeyError, match="no column"):
        artifact.table("faces", ["nothing"])
    assert store.inspect("detect", _parts().key).state == "ok"  # a wrong question is no damage


def test_everything_is_private_whatever_the_umask(local: Store) -> None:
    before = os.umask(0)
    try:
        ref = _commit(local)
        remember(local.folder, Place("detect"), _parts(), 0.0)
        local.set_aside("detect", ref.key, "test")
    finally:
        os.umask(before)
    modes = {(p.is_dir(), stat.S_IMODE(p.stat().st_mode)) for p in Path(local.root).rglob("*")}
    assert modes == {(True, 0o700), (False, 0o600)}
    assert stat.S_IMODE(Path(local.root).stat().st_mode) == 0o700


def test_a_file_url_is_a_local_folder(tmp_path: Path) -> None:
    assert Store(f"file://{tmp_path}/a").root == Store(tmp_path / "a").root == str(tmp_path / "a")


def test_other_files_in_the_root_do_not_matter(local: Store) -> None:
    _commit(local)
    (Path(local.root) / "README.md").write_text("What lies here")
    (Path(local.root) / "detect" / "notes.txt").write_text("mine")
    assert [finding.state for finding in local.verify(repair=True)] == ["ok"]


# Committing again.


def test_the_same_content_again_leaves_what_is_there(store: Store) -> None:
    first = _commit(store)
    created = store.read(first).manifest
    assert _commit(store) == first
    assert store.read(first).manifest == created


def test_other_content_replaces_and_old_references_say_so(store: Store) -> None:
    first = _commit(store, seed=0)
    second = _commit(store, seed=1)
    assert store.read(second).table("faces").equals(_chunk(1)["faces"])
    with pytest.raises(ArtifactError, match="was replaced by one with other content"):
        store.read(first)
    assert [finding.state for finding in store.verify()] == ["ok"]
    assert store.folder.names("detect") == [second.key]


def test_removing_leaves_nothing(store: Store) -> None:
    ref = _commit(store)
    store.remove("detect", ref.key)
    store.remove("detect", ref.key)
    assert store.inspect("detect", ref.key).state == "absent"
    assert list(store.artifacts()) == []


# Faults in a draft.


def _draft_with(store: Store, *chunks: Any) -> None:
    parts = _parts()
    with store.draft("detect", parts.key, OUTPUTS) as draft:
        for chunk in chunks:
            draft.append(chunk)
        store.commit(draft, parts, runtime=RUNTIME, timings={})


@pytest.mark.parametrize(
    ("chunks", "error", "message"),
    [
        ([{"faces": pa.table({"a": [1]})}], ValueError, "never yielded its payload points, pages"),
        ([{"other": pa.table({"a": [1]})}], ValueError, "'other', declared are faces, points, pages"),
        ([{"faces": np.zeros(3)}], TypeError, "takes pyarrow tables"),
        ([_chunk(), {"points": np.zeros((3, 5), np.float32)}], ValueError, "a chunk is float32"),
        ([_chunk(), {"pages": {"../x": b""}}], ValueError, "no safe relative"),
        (["text"], TypeError, "not a mapping"),
    ],
)
def test_a_draft_that_breaks_its_declaration_leaves_nothing(
    store: Store, chunks: list[Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        _draft_with(store, *chunks)
    assert store.folder.names("detect") == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_exception_in_the_middle_leaves_nothing(store: Store, error: type[BaseException]) -> None:
    with pytest.raises(error), store.draft("detect", _parts().key, OUTPUTS) as draft:
        draft.append(_chunk())
        raise error
    assert store.folder.names("detect") == []


@pytest.mark.parametrize("step", ["finish", "write_manifest"])
def test_a_full_disk_in_the_last_steps_leaves_nothing(local: Store, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"faceline.drafts.Draft.{step}", full)
    with pytest.raises(OSError, match="No space"):
        _commit(local)
    assert local.folder.names("detect") == []
    monkeypatch.undo()
    _commit(local)


def test_an_upload_that_fails_is_no_artifact(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    store = Store(f"memory://{tmp_path.name}")
    put = type(store.folder).put

    def failing(folder: Any, name: str, data: bytes) -> None:
        if name.endswith(MANIFEST):
            raise OSError("connection lost")
        put(folder, name, data)

    monkeypatch.setattr(type(store.folder), "put", failing)
    with pytest.raises(OSError, match="connection lost"):
        _commit(store)
    assert store.inspect("detect", _parts().key).state == "absent"


def test_payloads_reach_the_disk_before_the_manifest_and_the_manifest_before_the_name(
    local: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def watched_fsync(descriptor: int) -> None:
        events.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        fsync(descriptor)

    def watched_rename(path: Path, target: Path) -> Path:
        events.append("rename")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(Path, "rename", watched_rename)
    _commit(local)
    manifest, renamed = events.index(f"sync {MANIFEST}"), events.index("rename")
    assert all(f"sync {name}" in events[:manifest] for name in ("faces.parquet", "points.npy", "report.html", "a.png"))
    assert any(event.endswith(".tmp") for event in events[manifest:renamed])  # the names in the folder
    assert events[renamed + 1] == "sync detect"


# Damage.

Fault = Callable[[Path], None]


def _flip(path: Path, position: int = -20) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0x40
    path.write_bytes(bytes(data))


def _cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def _edit_manifest(**changes: Any) -> Fault:
    def edit(folder: Path) -> None:
        body = json.loads((folder / MANIFEST).read_text())
        (folder / MANIFEST).write_text(json.dumps({**body, **changes}))

    return edit


SHALLOW_FAULTS: dict[str, tuple[Fault, str]] = {
    "truncated table": (lambda f: _cut_short(f / "faces.parquet"), r"faces\.parquet has \d+ bytes, expected \d+"),
    "grown array": (lambda f: (f / "points.npy").open("ab").write(b"x") and None, r"points\.npy has"),
    "missing array": (lambda f: (f / "points.npy").unlink(), r"points\.npy is missing"),
    "missing file": (lambda f: (f / "pages" / "plots" / "a.png").unlink(), r"pages/plots/a\.png is missing"),
    "missing folder": (lambda f: shutil.rmtree(f / "pages"), r"pages/.* is missing"),
    "missing manifest": (lambda f: (f / MANIFEST).unlink(), r"manifest\.json is missing"),
    "torn manifest": (lambda f: _cut_short(f / MANIFEST), r"manifest\.json is torn"),
    "empty manifest": (lambda f: (f / MANIFEST).write_bytes(b""), r"manifest\.json is torn"),
    "manifest of zeros": (lambda f: (f / MANIFEST).write_bytes(bytes(500)), r"manifest\.json is torn"),
    "manifest of another type": (lambda f: (f / MANIFEST).write_bytes(b"[]"), r"manifest\.json is torn"),
    "edited manifest": (_edit_manifest(host="elsewhere"), r"manifest\.json was altered"),
    "emptied manifest": (_edit_manifest(payloads={}), r"manifest\.json was altered"),
}
DEEP_FAULTS: dict[str, tuple[Fault, str]] = {
    "flipped bit in a table": (
        lambda f: _flip(f / "faces.parquet", 40),
        r"faces\.parquet has SHA-256 .*…, expected .*…",
    ),
    "flipped bit in an array": (lambda f: _flip(f / "points.npy"), r"points\.npy has SHA-256"),
    "flipped bit in a file": (lambda f: _flip(f / "pages" / "plots" / "a.png"), r"a\.png has SHA-256"),
}


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda body: body.pop("key"), "not whole: 'key'"),
        (lambda body: body.pop("digest"), "not whole: 'digest'"),
        (lambda body: body["payloads"]["faces"].update(sha256={"a": 1}), "a digest is no text"),
        (lambda body: body["payloads"]["faces"].update(size=-1), "a size no number"),
        (lambda body: body["payloads"]["faces"].update(size=True), "a size no number"),
        (lambda body: body["payloads"]["faces"].update(rows="many"), "a number of rows no number"),
        (lambda body: body["payloads"]["pages"]["files"]["report.html"].update(size="1"), "a size no number"),
        (lambda body: body["payloads"]["faces"].update(path="../../x"), "no safe relative file name"),
    ],
)
def test_a_forged_manifest_whose_check_fits_is_damaged(local: Store, spoil: Callable[[Any], Any], said: str) -> None:
    ref = _commit(local)
    path = _folder(local, ref) / MANIFEST
    body = json.loads(path.read_text())
    del body["check"]
    spoil(body)
    path.write_text(json.dumps({**body, "check": digest_of(body)}))
    for deep in (False, True):
        finding = local.inspect("detect", ref.key, deep=deep)
        assert finding.state == "damaged"
        assert said in finding.problems[0]


@pytest.mark.parametrize("fault", SHALLOW_FAULTS)
def test_damage_that_shows_is_never_a_hit(local: Store, fault: str) -> None:
    ref = _commit(local)
    damage, message = SHALLOW_FAULTS[fault]
    damage(_folder(local, ref))
    finding = local.inspect("detect", ref.key)
    assert finding.state == "damaged"
    assert re.search(message, "; ".join(finding.problems))


@pytest.mark.parametrize("fault", [*SHALLOW_FAULTS, *DEEP_FAULTS])
def test_verify_finds_and_repairs(local: Store, fault: str, caplog: pytest.LogCaptureFixture) -> None:
    ref, sound = _commit(local), _commit(local, _parts(6.0))
    damage, _ = {**SHALLOW_FAULTS, **DEEP_FAULTS}[fault]
    damage(_folder(local, ref))
    by_key = {finding.key: finding for finding in local.verify()}
    assert by_key[sound.key].state == "ok"
    assert by_key[ref.key].state == "damaged"
    with caplog.at_level(logging.WARNING):
        assert sorted(finding.state for finding in local.verify(repair=True)) == ["damaged", "ok"]
    assert "was set aside in _damaged/detect-" in caplog.text
    assert local.inspect("detect", ref.key).state == "absent"
    note = local.damage("detect", ref.key)
    assert note is not None
    assert note.reason == "; ".join(by_key[ref.key].problems)
    _commit(local)
    assert [finding.state for finding in local.verify()] == ["ok", "ok"]


@pytest.mark.parametrize("fault", DEEP_FAULTS)
def test_a_flipped_bit_is_met_at_the_latest_when_it_is_read(local: Store, fault: str) -> None:
    ref = _commit(local)
    damage, message = DEEP_FAULTS[fault]
    damage(_folder(local, ref))
    assert local.inspect("detect", ref.key).state == "ok"  # sizes do not show it
    artifact = local.read(ref)
    with pytest.raises(ArtifactError, match=rf"{message}.*; run the same command again"):
        _ = artifact.table("faces"), artifact.array("points"), list(artifact.files("pages"))
    assert local.inspect("detect", ref.key).state == "absent"  # so that the next run computes it anew


def test_damage_that_only_hashing_shows_is_found_and_set_aside(store: Store) -> None:
    ref = _commit(store)
    path = f"{ref.folder}/{store.read(ref).manifest.payloads['points'].path}"
    with store.folder.open(path) as file:
        data = file.read()
    store.folder.put(path, data[:-1] + b"\x00")
    assert [finding.state for finding in store.verify(deep=False)] == ["ok"]
    assert [finding.state for finding in store.verify(repair=True)] == ["damaged"]
    assert store.inspect("detect", ref.key).state == "absent"
    assert store.damage("detect", ref.key) is not None
    _commit(store)
    assert [finding.state for finding in store.verify()] == ["ok"]


def test_every_set_aside_keeps_its_place(local: Store) -> None:
    for number in (1, 2, 3):
        ref = _commit(local)
        local.set_aside("detect", ref.key, f"reason {number}")
    assert len(local.folder.names("_damaged")) == 3
    damage = local.damage("detect", _parts().key)
    assert damage is not None
    assert damage.reason == "reason 3"


def test_setting_aside_what_is_gone_does_nothing(store: Store) -> None:
    store.set_aside("detect", "ab" * 32, "nothing there")
    assert store.folder.names("_damaged") in ([], [f"detect-{'ab' * 32}-1"])


def test_a_manifest_of_another_key_is_refused(local: Store) -> None:
    ref = _commit(local)
    other = Path(local.root) / "detect" / ("ef" * 32)
    shutil.copytree(_folder(local, ref), other)
    assert local.inspect("detect", "ef" * 32).problems == ("manifest.json belongs to another key",)


def test_a_manifest_with_unsafe_paths_is_refused(local: Store) -> None:
    from faceline.keys import digest_of

    ref = _commit(local)
    path = _folder(local, ref) / MANIFEST
    body = json.loads(path.read_text())
    body["payloads"]["faces"]["path"] = "../../other/faces.parquet"
    del body["check"]
    body["check"] = digest_of(body)
    path.write_text(json.dumps(body))
    assert "no safe relative file name" in local.inspect("detect", ref.key).problems[0]


# Processes that die, and processes that meet.

WORKER = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    import pyarrow as pa
    from faceline.keys import KeyParts
    from faceline.stage import Payload
    from faceline.store import Store

    root, pause_at, marks = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    parts = KeyParts("detect", 1, {}, {}, None, {}, {}, {}, {})
    store = Store(root)
    def pause(name):
        if name == pause_at:
            (marks / "paused").touch()
            time.sleep(600)
    with store.lock("detect", parts.key):
        if store.inspect("detect", parts.key).state == "ok":
            print("hit")
            sys.exit()
        with store.draft("detect", parts.key, [Payload("a", "parquet")]) as draft:
            (marks / f"computed-{time.monotonic_ns()}").touch()
            draft.append({"a": pa.table({"x": list(range(5000))})})
            pause("computing")
            time.sleep(0.3)
            write = draft.write_manifest
            def slow(name, data):
                pause("before the manifest")
                write(name, data)
                pause("before the rename")
            draft.write_manifest = slow
            store.commit(draft, parts, runtime={}, timings={})
    print("run")
    """
)


WORKER_PARTS = KeyParts("detect", 1, {}, {}, None, {}, {}, {}, {})


def _worker(root: Path, marks: Path, pause_at: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(root), pause_at, str(marks)], stdout=subprocess.PIPE, text=True
    )


def _wait_for(path: Path) -> None:
    for _ in range(1200):
        if path.exists():
            return
        time.sleep(0.05)
    pytest.fail(f"{path.name} never appeared")


@pytest.mark.parametrize("moment", ["computing", "before the rename"])
def test_a_killed_process_leaves_no_artifact_and_no_lock(tmp_path: Path, moment: str) -> None:
    process = _worker(tmp_path / "store", tmp_path, moment)
    _wait_for(tmp_path / "paused")
    store = Store(tmp_path / "store")
    (leftover,) = store.folder.names("detect")
    parsed = parse_draft_name(leftover)
    assert parsed is not None
    assert (parsed[0], parsed[1].pid) == (WORKER_PARTS.key, process.pid)
    assert sweep_stage(store, "detect") == 0  # its process still lives
    process.kill()
    process.wait()
    assert list(store.artifacts()) == list(store.verify()) == []
    ref = _commit(store, WORKER_PARTS)  # waits for no lock, and sweeps on the way
    assert store.folder.names("detect") == [ref.key]
    assert [finding.state for finding in store.verify()] == ["ok"]


def test_two_processes_do_the_work_once(tmp_path: Path) -> None:
    workers = [_worker(tmp_path / "store", tmp_path) for _ in range(2)]
    said = sorted(worker.communicate(timeout=120)[0].strip() for worker in workers)
    assert said == ["hit", "run"]
    assert len(list(tmp_path.glob("computed-*"))) == 1
    assert [finding.state for finding in Store(tmp_path / "store").verify()] == ["ok"]


def test_threads_of_one_process_hold_a_key_one_at_a_time(local: Store) -> None:
    inside: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        with local.lock("detect", "ab" * 32):
            inside.append(number)
            most.append(len(inside))
            time.sleep(0.01)
            inside.remove(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 6
    assert local.folder.names("_locks") == []


def test_who_waits_for_a_key_is_asked_whether_to_go_on(local: Store) -> None:
    class EnoughError(Exception):
        pass

    asked: list[int] = []

    def waiting() -> None:
        asked.append(1)
        if len(asked) == 2:
            raise EnoughError

    def wait() -> None:
        with pytest.raises(EnoughError), local.lock("detect", "ab" * 32, waiting):
            pytest.fail("the key was held by somebody else")

    with local.lock("detect", "ab" * 32):
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join(timeout=30)
        assert not thread.is_alive()
    assert len(asked) == 2
    with local.lock("detect", "ab" * 32, waiting):  # free again, and nobody is asked
        assert len(asked) == 2


def test_other_keys_are_not_held_up(local: Store) -> None:
    with local.lock("detect", "ab" * 32), local.lock("detect", "cd" * 32):
        assert len(local.folder.names("_locks")) == 2


def test_without_a_lock_the_second_commit_of_the_same_content_is_harmless(store: Store) -> None:
    """As on object stores, or on file systems whose locks do not work."""
    parts = _parts()
    with store.draft("detect", parts.key, OUTPUTS) as one, store.draft("detect", parts.key, OUTPUTS) as other:
        one.append(_chunk())
        other.append(_chunk())
        first = store.commit(one, parts, runtime=RUNTIME, timings={})
        second = store.commit(other, parts, runtime=RUNTIME, timings={})
    assert first == second
    assert [finding.state for finding in store.verify()] == ["ok"]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ESTALE])
def test_trouble_of_the_machine_is_no_damage(local: Store, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    ref = _commit(local)
    artifact = local.read(ref)
    with monkeypatch.context() as patched:
        patched.setattr("faceline.artifacts.read_table", _raise(OSError(number, os.strerror(number))))
        with pytest.raises(OSError, match=os.strerror(number)) as caught:
            artifact.table("faces")
    assert caught.value.errno == number
    assert local.inspect("detect", ref.key).state == "ok"  # nothing was set aside
    assert artifact.table("faces").num_rows == 100


def test_a_sector_that_cannot_be_read_is_damage(local: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = _commit(local)
    with monkeypatch.context() as patched:
        patched.setattr("faceline.artifacts.hash_file", _raise(OSError(errno.EIO, "Input/output error")))
        with pytest.raises(ArtifactError, match=r"faces\.parquet cannot be read: Input/output error"):
            local.read(ref).table("faces")
    assert local.inspect("detect", ref.key).state == "absent"  # set aside, so that the next run computes it anew


def test_a_manifest_in_a_sector_that_cannot_be_read_is_damage(local: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = _commit(local)
    with monkeypatch.context() as patched:
        patched.setattr(local.folder, "read", _raise(OSError(errno.EIO, "Input/output error")))
        (finding,) = local.verify(repair=True)
        assert finding.problems == ("manifest.json cannot be read: Input/output error",)
    assert local.inspect("detect", ref.key).state == "absent"
    with monkeypatch.context() as patched:
        patched.setattr(local.folder, "read", _raise(OSError(errno.ESTALE, "Stale file handle")))
        with pytest.raises(OSError, match="Stale"):
            local.inspect("detect", ref.key)


def test_torn_content_that_arrow_calls_an_os_error_is_damage(local: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = local.read(_commit(local))
    monkeypatch.setattr("faceline.artifacts.read_table", _raise(OSError("Corrupt snappy compressed data.")))
    with pytest.raises(ArtifactError, match="Corrupt snappy"):
        artifact.table("faces")


def _raise(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any) -> None:
        raise error

    return fail


# Leftovers.


def _leftover(store: Store, owner: Owner, age_s: float = 0.0) -> Path:
    path = Path(store.root) / "detect" / draft_name("ab" * 32, owner)
    path.mkdir(parents=True)
    (path / "faces.parquet").write_bytes(b"half")
    os.utime(path, (time.time() - age_s, time.time() - age_s))
    return path


def _dead() -> Owner:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return Owner(Owner.this_process().host, process.pid, int(time.time()))


def test_a_leftover_is_no_artifact(local: Store) -> None:
    _leftover(local, _dead())
    assert list(local.artifacts()) == []


def test_leftovers_go_only_when_their_process_is_gone(local: Store) -> None:
    mine = Owner.this_process()
    kept = [
        _leftover(local, mine),
        _leftover(local, Owner("0123456789ab", 1, 1)),  # another machine, just now
    ]
    swept = [
        _leftover(local, _dead()),
        _leftover(local, Owner(mine.host, mine.pid, mine.started - 1000)),  # the same id, another process
        _leftover(local, Owner("0123456789ab", 1, 1), age_s=8 * 86400),
    ]
    assert sweep_stage(local, "detect") == len(swept)
    assert [path.exists() for path in kept] == [True, True]
    assert [path.exists() for path in swept] == [False] * 3


def test_a_leftover_whose_key_is_held_stays(local: Store) -> None:
    path = _leftover(local, _dead())
    with local.lock("detect", "ab" * 32):
        assert sweep_stage(local, "detect") == 0
    assert path.exists()
    assert sweep_stage(local, "detect") == 1


def test_a_leftover_that_cannot_be_removed_keeps_nobody_from_working(
    local: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = _leftover(local, _dead())

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        assert sweep_stage(local, "detect") == 0
    assert path.exists()
    assert "cannot be removed" in caplog.text
    _commit(local)
    assert not path.exists()


def test_the_next_draft_of_the_stage_sweeps(local: Store) -> None:
    path = _leftover(local, _dead())
    _commit(local)
    assert not path.exists()


def test_draft_names_are_read_back() -> None:
    owner = Owner("0123456789ab", 42, 1_700_000_000)
    assert parse_draft_name(draft_name("ab" * 32, owner)) == ("ab" * 32, owner)
    for name in ("ab" * 32, ".hidden", ".a.b.c.d.e.tmp", "x.a.b.1.2.e.tmp", ".faces.json.0123.tmp"):
        assert parse_draft_name(name) is None


# Pointers.


def test_the_latest_key_of_a_place_is_remembered(store: Store) -> None:
    place = Place("detect", "ab" * 32, "/clips/a.mp4", segment=3)
    assert recall(store.folder, place) is None
    remember(store.folder, place, _parts(), 12.0)
    latest = recall(store.folder, place)
    assert latest is not None
    assert (latest.parts, latest.at_s) == (_parts(), 12.0)
    remember(store.folder, place, _parts(6.0), 13.0)
    latest = recall(store.folder, place)
    assert latest is not None
    assert latest.parts == _parts(6.0)
    assert {(pointer.stage, pointer.key) for pointer in pointers(store.folder)} == {("detect", _parts(6.0).key)}


def test_places_are_kept_apart(store: Store) -> None:
    base = {"stage": "detect", "footage": "ab" * 32, "path": "/a.mp4", "segment": 3, "trial": None}
    remember(store.folder, Place(**base), _parts(), 0.0)
    for change in ({"stage": "align"}, {"segment": 4}, {"segment": None}, {"segment": None, "trial": "a/b"}):
        assert recall(store.folder, Place(**{**base, **change})) is None
    other_clip = {**base, "footage": "cd" * 32, "path": "/b.mp4"}
    assert recall(store.folder, Place(**other_clip)) is None


def test_edited_footage_is_found_again_by_its_path_and_moved_footage_by_its_content(store: Store) -> None:
    remember(store.folder, Place("detect", "ab" * 32, "/a.mp4"), _parts(), 0.0)
    assert recall(store.folder, Place("detect", "cd" * 32, "/a.mp4")) is not None
    assert recall(store.folder, Place("detect", "ab" * 32, "/moved.mp4")) is not None


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"{", canonical_json({"parts": {}, "at_s": 1, "check": "x"}).encode()]
)
def test_a_torn_pointer_points_nowhere(store: Store, data: bytes) -> None:
    place = Place("detect", "ab" * 32)
    remember(store.folder, place, _parts(), 0.0)
    store.folder.put(place.pointers()[0], data)
    assert recall(store.folder, place) is None
    assert [pointer.is_torn for pointer in pointers(store.folder)] == [True]
