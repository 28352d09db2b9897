"""A cleaner on S3, by its own protocol: what folders are there, what listings show, which times are known."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from faceline import pins
from faceline.collecting import Rules, collect, plan_collection
from faceline.latest import Place, remember
from faceline.runs import live_runs, running
from faceline.store import Store
from tests.faceline.planted import DAY_S, plant

pytest.importorskip("s3fs")
server = pytest.importorskip("moto.server")


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    import s3fs

    s3 = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    s3.start()
    host, port = s3.get_host_and_port()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir("cleaned")
    yield Store("s3://cleaned/store")
    s3.stop()
    s3fs.S3FileSystem.clear_instance_cache()


def test_on_s3_the_needed_stays_and_the_rest_goes_without_a_trace(store: Store) -> None:
    long_ago_s = time.time() - 100 * DAY_S
    first, lonely, used, pinned = (
        plant(store, "detect", {"n": n}, content=b"%d" % n, used_s=long_ago_s) for n in range(4)
    )
    last = plant(store, "align", {}, inputs={"detect": [first.digest]}, used_s=long_ago_s)
    remember(store.folder, Place("align", "ab" * 32), last.parts, long_ago_s)
    store.folder.put(f"detect/{'cd' * 32}/never/out/a", b"12345")
    store.use(*used.place)
    with running(store.root, "pin"):
        run = {"footage": {"path": "a", "sha256": "ab" * 32}, "stages": [{"stage": "detect", "key": pinned.key}]}
        pins.pin(store, Path("results"), "mine", run)
    plan = plan_collection(store, Rules())
    assert [entry.key for entry in plan.removable] == [lonely.key]
    assert sorted(plan.reasons) == ["current", "current", "pinned", "removable", "young"]
    with running(store.root, "analyze"):
        assert collect(store, plan).is_stopped
        assert len(list(store.artifacts())) == 6  # With the upload that nobody finished.
    assert (collect(store, plan).artifacts, live_runs(store.folder)) == (1, [])
    assert store.folder.bytes_below(f"detect/{lonely.key}") == 0
    assert [finding.state for finding in store.verify()] == ["ok"] * 4

    pins.unpin(store.folder, "mine")
    later_s = time.time() + 3 * DAY_S
    collect(store, plan_collection(store, Rules(forget=("ab" * 32,)), later_s))
    assert store.folder.bytes_below("") == 0
    assert store.folder.names() == []
