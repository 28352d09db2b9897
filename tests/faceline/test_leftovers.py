"""What lies in a store besides artifacts: what of it goes, and what only looks like it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from faceline.collecting import Rules, collect, plan_collection
from faceline.drafts import Owner, draft_name
from faceline.latest import Place, remember
from faceline.leftovers import Ages
from faceline.runs import cleaning, running
from faceline.store import Store
from tests.faceline.planted import DAY_S, plant

KEY = "ab" * 32


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "store")
    kept = plant(made, "detect", {})
    remember(made.folder, Place("detect", KEY), kept.parts, time.time())
    return made


def root(store: Store) -> Path:
    return Path(store.root)


def clean(store: Store, ages: Ages | None = None) -> Counter[str]:
    """Clean; what else has gone. Artifacts are left as they were, and everything is as it was said."""
    before = set(store.artifacts())
    plan = plan_collection(store, Rules(ages=ages or Ages()))
    said = Counter(left.kind for left in plan.leftovers)
    done = collect(store, plan)
    assert set(store.artifacts()) == before
    assert done.leftovers == said
    assert done.leftover_bytes == sum(left.size_bytes for left in plan.leftovers)
    assert plan_collection(store, Rules(ages=ages or Ages())).leftovers == []
    return done.leftovers


def write(path: Path, age_s: float = 0.0, data: bytes = b"12345") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def dead_owner() -> Owner:
    me = Owner.this_process()
    return Owner(me.host, me.pid, me.started - 1000)


def test_nothing_is_left_over_in_a_store_in_use(store: Store) -> None:
    with running(store.root, "analyze"), store.lock("detect", KEY), store.draft("detect", KEY, []):
        assert clean(store) == Counter()


def test_drafts_go_with_their_process(store: Store) -> None:
    detect, foreign = root(store) / "detect", Owner("c" * 12, 1, 1)
    dead = detect / draft_name(KEY, dead_owner())
    live = detect / draft_name(KEY, Owner.this_process())
    elsewhere, old = detect / draft_name(KEY, foreign), detect / draft_name(KEY, foreign)
    for draft in (dead, live, elsewhere, old):
        write(draft / "out.parquet")
    os.utime(old, (time.time() - 8 * DAY_S,) * 2)
    assert clean(store) == {"drafts of dead processes": 2}
    assert not dead.exists() and not old.exists()
    assert live.exists() and elsewhere.exists()


def test_a_draft_whose_key_is_held_stays(store: Store) -> None:
    """Process ids of containers say nothing to their host; locks do."""
    draft = root(store) / "detect" / draft_name(KEY, dead_owner())
    write(draft / "out.parquet")
    with store.lock("detect", KEY):
        assert clean(store) == Counter()
    assert clean(store) == {"drafts of dead processes": 1}


def test_locks_go_unless_somebody_holds_them(store: Store) -> None:
    write(root(store) / "_locks" / f"detect-{KEY}.lock", data=b"")
    write(root(store) / "_locks" / f"align-{KEY}.lock", data=b"")
    code = (
        "import sys, time\nfrom faceline.store import Store\n"
        "with Store(sys.argv[1]).lock('align', sys.argv[2]):\n    print('held', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, store.root, KEY]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert clean(store) == {"locks that nobody holds": 1}
        process.kill()
    assert clean(store) == {"locks that nobody holds": 1}


def test_damaged_artifacts_logs_and_half_written_files_go_when_they_are_old(store: Store) -> None:
    for number, age_s in enumerate((1 * DAY_S, 40 * DAY_S)):
        note = json.dumps({"stage": "detect", "key": KEY, "reason": "torn", "at_s": time.time() - age_s}).encode()
        write(root(store) / "_damaged" / f"detect-{KEY}-{number}" / "damage.json", data=note)
        write(root(store) / "_logs" / f"{number}-analyze-clip-1.log", age_s)
        write(root(store) / "_latest" / KEY / f".{number}.tmp", age_s + 3600)
        write(root(store) / "_pins" / f".p.json.{number}.tmp", age_s - 3600)
    write(root(store) / "_logs" / "notes of mine", 400 * DAY_S)
    kinds = {"damaged artifacts set aside": 1, "files half written": 3}
    assert clean(store) == kinds
    assert clean(store, Ages(damaged_s=DAY_S / 2, logs_s=30 * DAY_S)) == {"damaged artifacts set aside": 1, "logs": 1}
    assert sorted(path.name for path in (root(store) / "_logs").iterdir()) == ["0-analyze-clip-1.log", "notes of mine"]


def test_a_pointer_at_nothing_goes_after_a_day(store: Store) -> None:
    made = plant(store, "align", {})
    store.remove("align", made.key)
    place = Place("align", KEY, segment=1)
    remember(store.folder, place, made.parts, time.time() - 3600)
    assert clean(store) == Counter()
    remember(store.folder, place, made.parts, time.time() - 2 * DAY_S)
    assert clean(store) == {"pointers at nothing": 1}
    assert store.folder.names(f"_latest/{KEY}") == ["detect.json"]


def test_links_are_not_followed(store: Store, tmp_path: Path) -> None:
    precious = write(tmp_path / "precious" / "file", 400 * DAY_S)
    (root(store) / "_damaged").mkdir()
    (root(store) / "_damaged" / f"detect-{KEY}-1").symlink_to(precious.parent)
    (root(store) / "_logs").mkdir()
    (root(store) / "_logs" / "x.log").symlink_to(precious)
    (root(store) / "align").mkdir()
    (root(store) / "align" / KEY).symlink_to(precious.parent)
    (root(store) / "align" / draft_name(KEY, dead_owner())).symlink_to(precious.parent)
    collect(store, plan_collection(store, Rules(older_than_s=0, ages=Ages(0.0, 0.0)), time.time() + 30 * DAY_S))
    assert precious.read_bytes() == b"12345"


def test_on_an_object_store_uploads_that_nobody_finished_go_after_a_day(tmp_path: Path) -> None:
    store = Store(f"memory://{tmp_path.name}")
    made = plant(store, "detect", {})
    store.folder.put(f"detect/{made.key}/earlier/out/a", b"12345")
    store.folder.put(f"detect/{KEY}/never/out/a", b"12345")
    assert plan_collection(store, Rules()).leftovers == []
    tomorrow_s = time.time() + 1.5 * DAY_S
    plan = plan_collection(store, Rules(older_than_s=30 * DAY_S), tomorrow_s)
    assert sorted(left.name for left in plan.leftovers) == sorted([f"detect/{made.key}/earlier", f"detect/{KEY}/never"])
    with contextlib.ExitStack() as run:
        run.enter_context(running(store.root, "analyze"))
        collect(store, plan)
        assert store.folder.bytes_below("detect") == sum(e.size_bytes for e in plan.entries) + 5
    collect(store, plan)
    assert [finding.state for finding in store.verify()] == ["ok"]
    assert store.folder.bytes_below(f"detect/{KEY}") == 0


@pytest.mark.parametrize("format", [1000, None])
def test_payloads_beside_a_manifest_of_another_version_stay(tmp_path: Path, format: int | None) -> None:
    store = Store(f"memory://{tmp_path.name}")
    body = {"format": format, "payloads": {"faces": {"path": "named-otherwise/faces"}}}
    store.folder.put(f"detect/{KEY}/manifest.json", json.dumps(body).encode())
    store.folder.put(f"detect/{KEY}/attempt/out/a", b"12345")
    assert plan_collection(store, Rules(), time.time() + 30 * DAY_S).leftovers == []


def test_what_a_cleaner_left_that_was_killed_goes(store: Store) -> None:
    folder = store.folder
    folder.put("_runs/cleaner-x.json", json.dumps({"beat_s": time.time() - 3600}).encode())
    folder.put("_runs/cleaner-y.json", json.dumps({"beat_s": time.time()}).encode())
    with cleaning(folder):
        assert clean(store) == {"records of dead runs": 1}
    assert "cleaner-y.json" in folder.names("_runs")
