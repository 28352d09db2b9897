"""What a cleaner keeps and what it takes, on a local folder and on an object store."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faceline import pins
from faceline.collecting import Plan, Rules, collect, plan_collection
from faceline.errors import ArtifactError
from faceline.forgetting import forgotten
from faceline.latest import Place, remember
from faceline.runs import running
from faceline.store import Store
from faceline.uses import USED
from tests.faceline.planted import DAY_S, Planted, plant

LONG_AGO_S = time.time() - 100 * DAY_S
SHA = "ab" * 32


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "local":
        yield Store(tmp_path / "store")
        return
    import fsspec

    yield Store(f"memory://{tmp_path.name}")
    fsspec.filesystem("memory").store.clear()


def old(store: Store, stage: str, number: int, *made_from: Planted, content: bytes | None = None) -> Planted:
    inputs: dict[str, list[str]] = {}
    for each in made_from:
        inputs.setdefault(each.stage, []).append(each.digest)
    content = f"{stage} {number}".encode() if content is None else content
    return plant(store, stage, {"number": number}, inputs=inputs, content=content, used_s=LONG_AGO_S)


def point(store: Store, made: Planted, footage: str = SHA, path: str | None = None, at_s: float = LONG_AGO_S) -> None:
    remember(store.folder, Place(made.stage, footage, path), made.parts, at_s)


def stored(store: Store) -> set[tuple[str, str]]:
    return set(store.artifacts())


def places(made: Iterable[Planted]) -> set[tuple[str, str]]:
    return {each.place for each in made}


def reasons(plan: Plan) -> dict[tuple[str, str], str]:
    return {(entry.stage, entry.key): why for entry, why in zip(plan.entries, plan.reasons, strict=True)}


# ------------------------------------------------------------------------------------------------ what is reached


def test_a_chain_is_kept_whole_and_the_rest_goes(store: Store) -> None:
    first, lonely = old(store, "detect", 1), old(store, "detect", 2)
    middle = old(store, "align", 1, first)
    last = old(store, "cluster", 1, middle)
    point(store, last)
    plan = plan_collection(store, Rules())
    assert [entry.key for entry in plan.removable] == [lonely.key]
    assert len(stored(store)) == 4, "planning removes nothing"
    done = collect(store, plan)
    assert (done.artifacts, done.kept) == (1, 0)
    assert stored(store) == places([first, middle, last])
    assert {finding.state for finding in store.verify()} == {"ok"}


def test_of_copies_that_differ_in_parameters_alone_the_last_used_stays(store: Store) -> None:
    kept = plant(store, "detect", {"fps": 5}, content=b"same", used_s=LONG_AGO_S + 5 * DAY_S)
    copy = plant(store, "detect", {"fps": 5.0}, content=b"same", used_s=LONG_AGO_S)
    other = plant(store, "detect", {"fps": 5}, content=b"same", footage=SHA, used_s=LONG_AGO_S)
    point(store, old(store, "align", 1, kept))
    collect(store, plan_collection(store, Rules()))
    assert copy.place not in stored(store)
    assert places([kept, other]) <= stored(store), "the same bytes of other footage come from elsewhere"


def test_an_artifact_with_a_torn_manifest_is_kept_while_it_is_current(store: Store) -> None:
    first = old(store, "detect", 1)
    current, lonely = old(store, "align", 1, first), old(store, "align", 2)
    point(store, current)
    for each in (current, lonely):
        store.folder.put(f"align/{each.key}/manifest.json", b"{torn")
    plan = plan_collection(store, Rules(), time.time() + 30 * DAY_S)
    collect(store, plan)
    assert stored(store) == places([first, current])


def test_what_another_version_wrote_stays(store: Store) -> None:
    made = old(store, "detect", 1)
    name = f"detect/{made.key}/manifest.json"
    with store.folder.open(name) as file:
        data = file.read()
    store.folder.put(name, data.replace(b'"format": 1', b'"format": 2'))
    assert set(plan_collection(store, Rules(), time.time() + 30 * DAY_S).reasons) == {"foreign"}


def test_what_cannot_be_read_stays(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made = old(store, "detect", 1)
    manifest = tmp_path / "detect" / made.key / "manifest.json"
    manifest.unlink()
    manifest.mkdir()  # Reading it is an OSError, for root as well.
    assert set(plan_collection(store, Rules(), time.time() + 30 * DAY_S).reasons) == {"foreign"}


# --------------------------------------------------------------------------------------------- what is used


def test_what_is_young_stays(store: Store) -> None:
    plant(store, "detect", {}, used_s=time.time() - 3600)
    assert plan_collection(store, Rules()).reasons == ["young"]
    assert plan_collection(store, Rules(), time.time() + 3 * DAY_S).reasons == ["removable"]


def test_a_use_of_this_very_moment_is_young_whatever_is_asked(tmp_path: Path) -> None:
    store = Store(tmp_path)
    plant(store, "detect", {})
    assert plan_collection(store, Rules(older_than_s=0)).reasons == ["young"]


def test_what_was_used_since_the_plan_stays(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made = old(store, "detect", 1)
    plan = plan_collection(store, Rules())
    assert store.use(*made.place)
    assert (collect(store, plan).kept, len(stored(store))) == (1, 1)


def test_a_use_by_a_clock_that_was_set_back_counts(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made = old(store, "detect", 1)
    plan = plan_collection(store, Rules())
    manifest = tmp_path / "detect" / made.key / "manifest.json"
    os.utime(manifest, (LONG_AGO_S - DAY_S, LONG_AGO_S - DAY_S))
    assert (collect(store, plan).kept, len(stored(store))) == (1, 1)


def test_a_run_that_began_while_the_plan_was_made_keeps_what_it_used(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made = old(store, "detect", 1)
    with running(store.root, "analyze"):
        assert store.use(*made.place)
        later = time.time() + 60
        plan = plan_collection(store, Rules(older_than_s=0), later)
        assert plan.reasons == ["in use"]
        # As if the run had begun after the plan had looked for runs, and before it came to the artifact.
        plan = Plan(plan.entries, ["removable"], [], 0, [])
        assert (collect(store, plan).kept, len(stored(store))) == (1, 1)
    assert collect(store, plan).artifacts == 1


def test_on_an_object_store_nothing_goes_while_a_run_lives(tmp_path: Path) -> None:
    store = Store(f"memory://{tmp_path.name}")
    old(store, "detect", 1)
    plan = plan_collection(store, Rules())
    with running(store.root, "analyze"):
        assert collect(store, plan).is_stopped
        assert len(stored(store)) == 1
    assert collect(store, plan).artifacts == 1
    assert stored(store) == set()
    assert store.folder.names(USED) in ([], [time.strftime("%Y-%m-%d", time.gmtime(LONG_AGO_S))])
    assert [name for day in store.folder.names(USED) for name in store.folder.names(f"{USED}/{day}")] == []


def test_a_use_on_an_object_store_is_one_small_object_a_day(tmp_path: Path) -> None:
    store = Store(f"memory://{tmp_path.name}")
    made = old(store, "detect", 1)
    for _ in range(3):
        store.use(*made.place)
    plan = plan_collection(store, Rules())
    assert plan.reasons == ["young"]
    assert [left.kind for left in plan.leftovers] == ["earlier signs of use"]
    collect(store, plan)
    today = time.strftime("%Y-%m-%d", time.gmtime())
    assert store.folder.names(f"{USED}/{today}") == [f"detect-{made.key}"]


# ----------------------------------------------------------------------------------------------- forgetting


def test_contents_that_another_path_holds_stay_current(store: Store) -> None:
    made = old(store, "detect", 1)
    moved = plant(store, "detect", {"number": 1}, content=b"x", footage=SHA, used_s=LONG_AGO_S)
    point(store, moved, path="/a")
    point(store, moved, path="/b")
    found = forgotten(store.folder, ["/a"])
    assert SHA not in found.groups
    assert "another path holds it" in found.notes[0]
    collect(store, plan_collection(store, Rules(forget=("/a",))))
    assert stored(store) == {moved.place}
    assert made.place not in stored(store)
    collect(store, plan_collection(store, Rules(forget=("/b",))))
    assert stored(store) == set()
    assert [name for group in store.folder.names("_latest") for name in store.folder.names(f"_latest/{group}")] == []


def test_footage_that_nobody_used_for_long_is_forgotten_when_told_so(store: Store) -> None:
    stale, fresh = old(store, "detect", 1), plant(store, "detect", {"number": 2}, used_s=time.time() - 40 * DAY_S)
    point(store, stale, "aa" * 32)
    point(store, fresh, "bb" * 32)
    assert plan_collection(store, Rules()).removable == []
    plan = plan_collection(store, Rules(forget_after_s=60 * DAY_S))
    assert [entry.key for entry in plan.removable] == [stale.key]
    collect(store, plan)
    assert stored(store) == {fresh.place}
    assert [group for group in store.folder.names("_latest") if store.folder.names(f"_latest/{group}")] == ["bb" * 32]


def test_what_cannot_be_removed_is_said_and_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)
    stuck, fixed, goes = (old(store, "detect", number) for number in (1, 2, 3))
    store.folder.put("_damaged/detect-1/damage.json", b'{"at_s": 0}')
    store.folder.put("_logs/a.log", b"1")
    os.utime(tmp_path / "_logs" / "a.log", (LONG_AGO_S, LONG_AGO_S))
    unlink, rename = os.unlink, Path.rename

    def refuse_inside(path: object, *, dir_fd: int | None = None) -> None:
        where = str(Path(f"/proc/self/fd/{dir_fd}").readlink()) if dir_fd is not None else ""
        if path == "damage.json" or (path == "a" and stuck.key in where):
            raise PermissionError(1, "Operation not permitted", str(path))
        unlink(path, dir_fd=dir_fd)  # type: ignore[arg-type]

    def refuse_to_rename(path: Path, target: Path) -> Path:
        if path.name == fixed.key:
            raise OSError(30, "Read-only file system", str(path))
        return rename(path, target)

    plan = plan_collection(store, Rules())
    monkeypatch.setattr(os, "unlink", refuse_inside)
    monkeypatch.setattr(Path, "rename", refuse_to_rename)
    done = collect(store, plan)
    monkeypatch.undo()
    assert (done.artifacts, dict(done.leftovers)) == (1, {"logs": 1})
    (entry,) = (entry for entry in plan.entries if entry.key == goes.key)
    assert done.bytes == entry.size_bytes + 1
    assert sorted(done.failed.values()) == ["Operation not permitted"] * 2 + ["Read-only file system"]
    assert any(stuck.key in name for name in done.failed)
    assert "_damaged/detect-1 could not be removed: Operation not permitted" in caplog.text
    assert stored(store) == {fixed.place}


def test_how_long_a_store_was_idle_is_told_by_runs_as_well(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert plan_collection(store, Rules()).idle_s == 0, "nothing tells it"
    point(store, old(store, "detect", 1))
    assert plan_collection(store, Rules()).idle_s == pytest.approx(100 * DAY_S, rel=0.01)
    with running(store.root, "archive"):
        pass
    assert plan_collection(store, Rules()).idle_s < 60


def test_a_pointer_that_was_written_anew_stays(store: Store) -> None:
    stale, fresh = old(store, "detect", 1), plant(store, "detect", {"number": 2})
    point(store, stale)
    plan = plan_collection(store, Rules(forget=(SHA,)))
    point(store, fresh, at_s=time.time())
    collect(store, plan)
    assert plan_collection(store, Rules()).reasons == ["current"]
    assert stored(store) == {fresh.place}


def test_a_torn_pointer_stops_the_cleaner_and_goes_with_its_footage(store: Store) -> None:
    made = old(store, "detect", 1)
    point(store, made)
    for footage in (SHA, "cd" * 32):
        store.folder.put(f"_met/12-ab-{footage}", b"")
    store.folder.put(f"_latest/{SHA}/align.json", b"{}")
    with pytest.raises(ArtifactError, match="pointer is torn"):
        plan_collection(store, Rules())
    collect(store, plan_collection(store, Rules(forget=(SHA,))))
    assert stored(store) == set()
    assert store.folder.names("_met") == [f"12-ab-{'cd' * 32}"]


# ----------------------------------------------------------------------------------- properties, of any store at all

STAGES = ("sample", "detect", "align", "cluster")


@dataclass(frozen=True)
class Seed:
    """One artifact of a drawn store: its inputs are positions among those of the stage before."""

    stage: int
    content: int
    params: int
    footage: str | None
    inputs: tuple[int, ...]
    age_days: int
    is_current: bool
    is_pinned: bool


SEEDS = st.lists(
    st.builds(
        Seed,
        stage=st.integers(0, len(STAGES) - 1),
        content=st.integers(0, 2),
        params=st.integers(0, 3),
        footage=st.sampled_from([None, "aa" * 32, "bb" * 32]),
        inputs=st.lists(st.integers(0, 5), max_size=3).map(tuple),
        age_days=st.integers(0, 12),
        is_current=st.booleans(),
        is_pinned=st.booleans(),
    ),
    max_size=14,
)


def grow(
    store: Store, seeds: Sequence[Seed], now_s: float
) -> tuple[dict[tuple[str, str], Planted], set[tuple[str, str]]]:
    """Plant what was drawn; everything that lies there, and the keys that pointers and pins name."""
    there: dict[str, list[Planted]] = {stage: [] for stage in STAGES}
    roots: dict[tuple[str, str], None] = {}
    pinned: list[tuple[str, str]] = []
    for number, seed in enumerate(sorted(seeds, key=lambda seed: seed.stage)):
        stage = STAGES[seed.stage]
        before = there[STAGES[seed.stage - 1]] if seed.stage else []
        inputs = {before[0].stage: [before[each % len(before)].digest for each in seed.inputs]} if before else {}
        made = plant(
            store,
            stage,
            {"params": seed.params},
            inputs=inputs,
            content=b"%d" % seed.content,
            footage=seed.footage,
            # Noon, so that days are days wherever the sign of a use is a day.
            used_s=now_s - seed.age_days * DAY_S,
        )
        there[stage].append(made)
        if seed.is_current:
            remember(store.folder, Place(stage, seed.footage, segment=None, trial=str(number)), made.parts, now_s)
            roots[made.place] = None
        if seed.is_pinned:
            pinned.append(made.place)
    if pinned:
        stages = [{"stage": stage, "key": key} for stage, key in pinned]
        pins.pin(store, Path("results"), "kept", {"footage": {"path": "a", "sha256": SHA}, "stages": stages})
    return {made.place: made for all_of in there.values() for made in all_of}, {*roots, *pinned}


def chain_of(made: Mapping[tuple[str, str], Planted], roots: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Everything that roots may have been made from, whichever of several equal contents it was."""
    reached, waiting = set(roots), list(roots)
    while waiting:
        for stage, digests in made[waiting.pop()].parts.inputs.items():
            for digest in digests or ():
                fitting = {each.place for each in made.values() if (each.stage, each.digest) == (stage, digest)}
                waiting.extend(fitting - reached)
                reached |= fitting
    return reached


def origin(made: Planted) -> object:
    inputs = sorted((stage, tuple(digests or ())) for stage, digests in made.parts.inputs.items())
    return made.stage, made.digest, made.parts.footage, tuple(inputs)


@pytest.mark.parametrize("kind", ["local", "memory"])
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seeds=SEEDS, older_than_days=st.integers(1, 8))
def test_what_is_reached_stays_whole_and_all_else_goes(
    kind: str, seeds: list[Seed], older_than_days: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("store")
    store = Store(folder / "s" if kind == "local" else f"memory://{folder.name}")
    now_s = time.time() // DAY_S * DAY_S + DAY_S / 2
    made, roots = grow(store, seeds, now_s)
    before = stored(store)
    assert before == set(made)
    rules = Rules(older_than_s=(older_than_days + 0.25) * DAY_S)
    # Pins mark what they hold as used now; a month on, nothing is young but by its own age.
    plan = plan_collection(store, rules, now_s)
    assert stored(store) == before, "planning changes nothing"
    done = collect(store, plan)
    after = stored(store)
    assert before - after == {(entry.stage, entry.key) for entry in plan.removable}, "what was said is what was done"
    assert done.artifacts == len(before - after)
    assert done.artifact_bytes == sum(entry.size_bytes for entry in plan.removable)

    young = {place for place, why in reasons(plan).items() if why == "young"}
    chain = chain_of(made, roots)
    assert roots <= after, "what is current or pinned stays"
    kept_origins = {origin(made[place]) for place in after}
    assert {origin(made[place]) for place in chain} <= kept_origins, "chains stay whole"
    assert after <= chain | young, "nothing else stays"
    assert {finding.state for finding in store.verify()} <= {"ok"}
    again = plan_collection(store, rules, now_s)
    assert again.removable == [], "the second time there is nothing left to do"
    assert again.leftovers == []


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seeds=SEEDS, share=st.floats(0, 1.2))
def test_a_size_takes_the_oldest_and_no_more_than_it_must(
    seeds: list[Seed], share: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = Store(tmp_path_factory.mktemp("store") / "s")
    now_s = time.time() // DAY_S * DAY_S + DAY_S / 2
    grow(store, seeds, now_s)
    all_of_it = plan_collection(store, Rules(older_than_s=DAY_S / 2), now_s)
    size_bytes = store.folder.bytes_below("")
    assert all_of_it.total_bytes == size_bytes
    goal = int(size_bytes * share)
    plan = plan_collection(store, Rules(older_than_s=DAY_S / 2, max_bytes=goal), now_s)
    assert [entry.key for entry in plan.removable] == [e.key for e in all_of_it.removable][: len(plan.removable)]
    collect(store, plan)
    left = store.folder.bytes_below("")
    if plan.missed_bytes:
        assert len(plan.removable) == len(all_of_it.removable)
        assert left == goal + plan.missed_bytes
    else:
        assert left <= goal
        if plan.removable:
            assert left + plan.removable[-1].size_bytes > goal
