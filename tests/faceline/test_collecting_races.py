"""Cleaners beside runs, readers, other cleaners, and their own sudden end: real processes, over one local store."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from faceline import collecting, pins, runs
from faceline.artifacts import MANIFEST
from faceline.collecting import Rules, collect, plan_collection
from faceline.keys import KeyParts
from faceline.latest import Place, remember
from faceline.reach import scan
from faceline.runs import dead_runs, live_runs, running
from faceline.stage import Payload
from faceline.store import Store
from faceline.uses import Uses, gate
from tests.faceline.planted import forked, plant
from tests.faceline.test_store import _commit, _parts

# Forked: a hundred megabytes of libraries need not be imported by each of them.
FORK = multiprocessing.get_context("fork")

PARTS = [KeyParts("detect", 1, {"number": number}, {}, None, {}, {}, {}, {}) for number in range(8)]
SECONDS = 4.0
LONG_AGO_S = 1.0e9


@contextlib.contextmanager
def processes(*functions: Callable[[], None]) -> Iterator[Sequence[BaseProcess]]:
    """Run functions in processes of their own; those that still run at the end of the block are killed."""
    made = [FORK.Process(target=forked, args=(function,)) for function in functions]
    for process in made:
        process.start()
    try:
        yield made
    finally:
        for process in made:
            process.kill()
            process.join()


def commit(store: Store, parts: KeyParts) -> None:
    """What a stage does that finds nothing."""
    with store.lock("detect", parts.key):
        if store.inspect("detect", parts.key).state == "ok" and store.use("detect", parts.key):
            return
        with store.draft("detect", parts.key, [Payload("out", "files")]) as draft:
            draft.append({"out": {f"{n}.bin": b"x" * 999 for n in range(3)}})
            store.commit(draft, parts, runtime={}, timings={})


def clean(root: Path, until_s: float) -> None:
    # Files here have their times to a few milliseconds: without this guard there is a race to be lost.
    collecting.CLOCK_S = 0.02
    store = Store(root)
    while time.monotonic() < until_s:
        collect(store, plan_collection(store, Rules(older_than_s=0.0)))


def test_what_a_run_has_found_or_made_can_be_read_however_many_clean(tmp_path: Path) -> None:
    root, until_s = tmp_path / "store", time.monotonic() + SECONDS
    found, made = FORK.Value("i", 0), FORK.Value("i", 0)

    def work() -> None:
        store, chance = Store(root), random.Random(os.getpid())
        while time.monotonic() < until_s:
            with running(root, "analyze"):
                refs = []
                for parts in chance.sample(PARTS, 3):
                    finding = store.inspect("detect", parts.key)
                    if finding.state == "ok" and store.use("detect", parts.key):
                        found.value += 1
                    else:
                        commit(store, parts)
                        finding = store.inspect("detect", parts.key)
                        assert finding.state == "ok", "what a run has just made is there"
                        made.value += 1
                    refs.append(store.ref(finding))
                time.sleep(chance.random() * 0.1)
                for ref in refs:
                    assert len(list(store.read(ref).files("out"))) == 3
            time.sleep(chance.random() * 0.1)

    workers = [work] * 2
    with processes(*workers, lambda: clean(root, until_s), lambda: clean(root, until_s)) as started:
        for process in started:
            process.join(SECONDS * 10)
        assert [process.exitcode for process in started] == [0, 0, 0, 0]
    assert found.value, "runs have found something"
    assert made.value > len(PARTS), "cleaners have taken something"
    assert {finding.state for finding in Store(root).verify()} <= {"ok"}
    assert not any((root / "_damaged").glob("*"))


def test_a_reader_sees_an_artifact_whole_or_not_at_all(tmp_path: Path) -> None:
    # On a busy machine a reader may need longer until it sees anything at all.
    began_s, root = time.monotonic(), tmp_path / "store"
    until_s, latest_s = began_s + SECONDS / 2, began_s + SECONDS * 10
    store = Store(root)
    seen = FORK.Value("i", 0)

    def under_way() -> bool:
        now_s = time.monotonic()
        return now_s < until_s or (not seen.value and now_s < latest_s)

    def read() -> None:
        while under_way():
            for finding in Store(root).verify():
                assert finding.state == "ok", finding.problems
                seen.value += 1

    with processes(read, lambda: clean(root, until_s)) as started:
        while under_way():
            for parts in PARTS:
                commit(store, parts)
            time.sleep(0.05)
        for process in started:
            process.join(SECONDS * 10)
        assert [process.exitcode for process in started] == [0, 0]
    assert seen.value > 0


def test_what_a_living_run_has_used_stays_until_it_is_killed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    used = plant(store, "detect", {"number": 1}, used_s=LONG_AGO_S)
    plant(store, "detect", {"number": 2}, used_s=LONG_AGO_S)
    is_used = FORK.Event()

    def run() -> None:
        with running(tmp_path, "analyze", "clip"):
            assert store.use(*used.place)
            is_used.set()
            time.sleep(600)

    with processes(run) as (process,):
        assert is_used.wait(60)
        # Long after, as the plan has it: nothing is young.
        plan = plan_collection(store, Rules(), time.time() + 7 * 86400)
        assert sorted(plan.reasons) == ["in use", "removable"]
        assert [(each.verb, each.what, each.pid) for each in plan.runs] == [("analyze", "clip", process.pid)]
        collect(store, plan)
        assert list(store.artifacts()) == [used.place]
        process.kill()
        process.join()
        assert live_runs(store.folder) == []
        assert len(dead_runs(store.folder)) == 1
        collect(store, plan_collection(store, Rules(), time.time() + 7 * 86400))
    assert list(store.artifacts()) == []
    assert dead_runs(store.folder) == []


def test_a_cleaner_that_is_killed_leaves_a_sound_store(tmp_path: Path) -> None:
    store = Store(tmp_path)
    kept = plant(store, "detect", {"kept": True}, used_s=LONG_AGO_S)
    remember(store.folder, Place("detect", "ab" * 32), kept.parts, LONG_AGO_S)
    stopped_halfway = 0
    for attempt in range(4):
        for number in range(100):
            plant(store, "detect", {"number": number}, used_s=LONG_AGO_S)

        def run() -> None:
            collect(store, plan_collection(store, Rules()))

        with processes(run) as (process,):
            # At another point each time: while artifacts are renamed, or while their files are deleted.
            while process.is_alive() and sum(1 for _ in store.artifacts()) > 90 - 25 * attempt:
                time.sleep(0.001)
            time.sleep(0.002 * attempt)
            process.kill()
            process.join()
        left = set(store.artifacts())
        stopped_halfway += 1 < len(left) < 101
        assert kept.place in left
        assert {finding.state for finding in store.verify()} == {"ok"}
    assert stopped_halfway
    collect(store, plan_collection(store, Rules()))
    assert list(store.artifacts()) == [kept.place]
    assert [path.name for path in (tmp_path / "detect").iterdir()] == [kept.key], "nor is anything half there"
    assert list((tmp_path / "_locks").iterdir()) == []


def test_two_cleaners_take_everything_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for number in range(150):
        plant(store, "detect", {"number": number}, used_s=LONG_AGO_S)
    taken = FORK.Value("i", 0)
    together = FORK.Barrier(2)

    def run() -> None:
        plan = plan_collection(store, Rules())
        together.wait(60)
        done = collect(store, plan)
        assert done.artifacts + done.kept == 150
        with taken.get_lock():
            taken.value += done.artifacts

    with processes(run, run) as started:
        for process in started:
            process.join(60)
        assert [process.exitcode for process in started] == [0, 0]
    assert taken.value == 150
    assert list(store.artifacts()) == []


def test_a_pin_holds_from_the_moment_it_is_told(tmp_path: Path) -> None:
    until_s = time.monotonic() + SECONDS
    store = Store(tmp_path)

    def result(number: int) -> dict[str, object]:
        stages = [{"stage": "detect", "key": PARTS[number].key}]
        return {"footage": {"path": "clip.mp4", "sha256": "ab" * 32}, "stages": stages}

    with processes(lambda: clean(tmp_path, until_s)) as (cleaner,):
        held: dict[str, pins.Pin] = {}
        while time.monotonic() < until_s:
            for number, parts in enumerate(PARTS):
                if f"p{number}" in held:
                    continue
                commit(store, parts)
                time.sleep(0.03)  # Old enough to go, so that it is a race.
                with contextlib.suppress(pins.UsageError), running(tmp_path, "pin"):
                    made = pins.pin(store, Path("results"), f"p{number}", result(number))
                    if not made.gone(store):
                        held[made.name] = made
            for made in held.values():
                assert made.gone(store) == []
            if len(held) == len(PARTS):
                for name in held:
                    pins.unpin(store.folder, name)
                held = {}
                time.sleep(0.1)
        cleaner.join(60)
        assert cleaner.exitcode == 0


def test_on_an_object_store_a_run_that_begins_waits_and_the_cleaner_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "WAIT_S", 0.01)
    store = Store(f"memory://{tmp_path.name}")
    for number in range(200):
        plant(store, "detect", {"number": number}, used_s=LONG_AGO_S)
    plan = plan_collection(store, Rules())
    at_its_beginning: list[set[tuple[str, str]]] = []
    may_end = threading.Event()

    def run() -> None:
        with running(store.root, "analyze"):
            at_its_beginning.append(set(store.artifacts()))
            may_end.wait(60)

    beginner = threading.Thread(target=run)

    def progress(done: int, total: int) -> None:
        beginner.start()
        while not live_runs(store.folder):
            time.sleep(0.001)
        time.sleep(0.05)
        assert at_its_beginning == [], "the run waits as long as the cleaner has its turn"

    done = collect(store, plan, progress)
    assert (done.is_stopped, done.artifacts) == (True, 64)
    assert [each.verb for each in done.stopped_by] == ["analyze"]
    may_end.set()
    beginner.join(60)
    assert at_its_beginning == [set(store.artifacts())]
    assert len(at_its_beginning[0]) == 136
    assert {finding.state for finding in store.verify()} == {"ok"}
    assert store.folder.names("_runs") == []


def test_a_cleaner_that_slept_before_its_last_step_takes_nothing_that_was_made_meanwhile(tmp_path: Path) -> None:
    store = Store(f"memory://{tmp_path.name}")
    parts = _parts()
    _commit(store, parts)
    uses = Uses(store.folder)
    used_s = uses.last_s(parts.stage, parts.key)
    assert used_s is not None
    condemned = store.condemn(parts.stage, parts.key, used_s, uses)
    assert condemned is not None
    assert list(scan(store, uses)) == []
    # It sleeps here for so long that runs no longer wait for it.
    again = _commit(store, parts)
    store.clear([condemned])
    assert store.inspect(again.stage, again.key, deep=True).state == "ok"
    (left,) = (name for name in store.folder.names(again.folder) if name != MANIFEST)
    assert f"{again.folder}/{left}" != condemned


def test_a_use_and_a_removal_keep_out_of_each_others_way(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made = plant(store, "detect", {}, used_s=LONG_AGO_S)
    plan = plan_collection(store, Rules())

    def begun(function: Callable[[], object]) -> threading.Thread:
        thread = threading.Thread(target=function)
        thread.start()
        thread.join(0.3)
        return thread

    with gate(store.folder, alone=True):
        use = begun(lambda: store.use(*made.place))
        assert use.is_alive(), "between a cleaner's look and its rename there is no use"
    use.join(60)
    with gate(store.folder, alone=False):
        assert not begun(lambda: store.use(*made.place)).is_alive(), "users do not wait for each other"
        removal = begun(lambda: collect(store, plan))
        assert removal.is_alive(), "between a user's look and its sign there is no removal"
    removal.join(60)
    assert list(store.artifacts()) == [made.place]
