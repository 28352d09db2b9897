"""The verbs gc, pin and unpin over runs as they are: what a rerun needs stays, what it does not need goes."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from faceline.errors import ArtifactError, FacelineError, UsageError
from faceline.latest import Place, remember
from faceline.pins import pin_names
from faceline.runs import live_runs
from faceline.store import Store
from flows import analyze as analyze_module
from flows import flow_many, pipeline
from flows import sweep as sweep_module
from flows.analyze import analyze
from flows.archive import archive
from flows.gc import age, gc, shown, size
from flows.pin import pin, unpin
from flows.sweep import sweep
from tests.faceline.planted import DAY_S, plant
from tests.flows.conftest import Line

pytestmark = [pytest.mark.prefect, pytest.mark.long]


def root(line: Line) -> Path:
    return line.folder / "artifacts"


def stored(line: Line) -> set[tuple[str, str]]:
    return set(Store(root(line)).artifacts())


def let_time_pass(line: Line, seconds: float = 10.0) -> None:
    """As if the last use of everything were so long ago."""
    for stage, key in stored(line):
        manifest = root(line) / stage / key / "manifest.json"
        used_s = manifest.stat().st_mtime - seconds
        os.utime(manifest, (used_s, used_s))


def clean(line: Line, *arguments: str) -> int:
    let_time_pass(line)
    return gc([f"store.root={root(line)}", "older_than=0", "apply=true", *arguments])


def ran(line: Line) -> list[str]:
    return line.calls.names()


def test_an_archive_runs_no_stage_after_everything_else_has_gone(prefect_line: Line) -> None:
    line, home = prefect_line, prefect_line.folder / "home"
    for name in ("a", "b"):
        file = line.footage(f"home/{name}", f"pictures of {name}")
        os.utime(file, (1e9, 1e9))
    assert archive(line.arguments("cluster.person_min_faces=3", footage=home)) == 0
    earlier = stored(line)
    assert archive(line.arguments("cluster.person_min_faces=4", footage=home)) == 0
    needed = stored(line) - earlier
    ran(line)
    assert clean(line) == 0
    assert needed <= stored(line) < earlier | needed

    assert archive(line.arguments("cluster.person_min_faces=4", footage=home)) == 0
    assert ran(line) == [], "what is unchanged is not even looked up"
    shutil.rmtree(line.folder / "results")
    assert archive(line.arguments("cluster.person_min_faces=4", footage=home)) == 0
    assert ran(line) == [], "results that were removed are made anew from what was kept"
    (home / "a.mp4").rename(home / "c.mp4")
    assert archive(line.arguments("cluster.person_min_faces=4", footage=home)) == 0
    assert ran(line) == ["report"]
    assert {finding.state for finding in Store(root(line)).verify()} == {"ok"}


def test_only_the_last_configuration_stays_and_what_both_share(prefect_line: Line) -> None:
    line = prefect_line
    analyze(line.arguments("cluster.person_min_faces=3"))
    first = stored(line)
    analyze(line.arguments("cluster.person_min_faces=4"))
    second = stored(line) - first
    assert clean(line) == 0
    gone = first - stored(line)
    assert second <= stored(line)
    assert {stage for stage, _ in gone} == {"cluster", "trial", "gridsearch", "report"}
    ran(line)
    analyze(line.arguments("cluster.person_min_faces=4"))
    assert ran(line) == []
    analyze(line.arguments("cluster.person_min_faces=3"))
    assert ran(line) == ["cluster", "trial", "gridsearch", "report"]


def test_nothing_goes_without_apply_and_as_much_is_said(prefect_line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    line = prefect_line
    for faces in (3, 4):
        analyze(line.arguments(f"cluster.person_min_faces={faces}"))
    let_time_pass(line)
    before = stored(line)
    capsys.readouterr()
    gc([f"store.root={root(line)}", "older_than=0"])
    dry = capsys.readouterr().out
    assert stored(line) == before
    gc([f"store.root={root(line)}", "older_than=0", "apply=true"])
    wet = capsys.readouterr().out
    said = re.search(r"(\d+) artifacts and (\d+) leftovers can go, (.*); apply=true removes them", dry)
    assert said is not None
    assert f"removed {said[1]} artifacts and {said[2]} leftovers, {said[3]}" in wet
    assert len(before) - len(stored(line)) == int(said[1]) > 0
    assert next(line for line in dry.splitlines() if line.startswith("total")).split()[1] == str(len(before))


def test_a_day_goes_by_first(prefect_line: Line) -> None:
    line = prefect_line
    for faces in (3, 4):
        analyze(line.arguments(f"cluster.person_min_faces={faces}"))
    before = stored(line)
    let_time_pass(line, 23 * 3600)
    gc([f"store.root={root(line)}", "apply=true"])
    assert stored(line) == before
    let_time_pass(line, 2 * 3600)
    gc([f"store.root={root(line)}", "apply=true"])
    assert stored(line) < before


def test_a_pinned_result_outlives_its_configuration(prefect_line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    line = prefect_line
    store = f"store.root={root(line)}"
    analyze(line.arguments("cluster.person_min_faces=3"))
    results = line.folder / "results"
    assert pin([str(results), "name=first", store]) == 0
    first = stored(line)
    analyze(line.arguments("cluster.person_min_faces=4"))
    second = stored(line) - first
    clean(line)
    assert stored(line) == first | second

    capsys.readouterr()
    assert pin([store]) == 0
    said = capsys.readouterr().out
    assert "first" in said and str(line.footage()) in said
    assert unpin(["first", store]) == 0
    clean(line)
    assert stored(line) < first | second
    assert second <= stored(line)


def test_results_that_are_named_are_kept(prefect_line: Line) -> None:
    line = prefect_line
    analyze(line.arguments("cluster.person_min_faces=3"))
    (line.folder / "results").rename(line.folder / "kept")
    first = stored(line)
    analyze(line.arguments("cluster.person_min_faces=4"))
    both = stored(line)
    assert clean(line, f"keep={line.folder / 'kept'}", f"keep={line.folder / 'results'}") == 0
    assert stored(line) == both
    clean(line)
    assert not first <= stored(line)


def test_a_pin_says_what_is_gone(prefect_line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    line = prefect_line
    analyze(line.arguments())
    gone = next(key for stage, key in stored(line) if stage == "cluster")
    shutil.rmtree(root(line) / "cluster" / gone)
    assert pin([str(line.folder / "results"), f"store.root={root(line)}"]) == 1
    assert f"gone: cluster/{gone}" in capsys.readouterr().out
    assert pin([f"store.root={root(line)}"]) == 0
    assert f"cluster/{gone[:12]}" in capsys.readouterr().out


def test_what_cannot_be_pinned_is_wrong_use_and_leaves_nothing(prefect_line: Line) -> None:
    line = prefect_line
    results, elsewhere = line.folder / "results", line.folder / "elsewhere"
    analyze(line.arguments())
    with pytest.raises(UsageError, match="no results folder"):
        pin([str(line.folder), f"store.root={root(line)}"])
    with pytest.raises(UsageError, match="there is no store"):
        pin([str(results), f"store.root={elsewhere}"])
    assert not elsewhere.exists()
    elsewhere.mkdir()
    with pytest.raises(UsageError, match="holds nothing of this result"):
        pin([str(results), f"store.root={elsewhere}"])
    for name in ("../x", "", ".hidden", "a b", "ü", "x" * 101):
        with pytest.raises(UsageError, match=r"name of a pin|given twice"):
            pin([str(results), f"name={name}", f"store.root={root(line)}", *(["name=y"] if not name else [])])
    (results / "run.json").write_text(
        json.dumps({"footage": {"path": "", "sha256": ""}, "stages": [{"stage": "../x"}]})
    )
    with pytest.raises(UsageError, match="cannot be read"):
        pin([str(results), f"store.root={root(line)}"])
    assert pin_names(Store(root(line)).folder) == []


def test_a_torn_pin_or_pointer_stops_the_cleaner(prefect_line: Line) -> None:
    line = prefect_line
    analyze(line.arguments("cluster.person_min_faces=3"))
    assert pin([str(line.folder / "results"), "name=first", f"store.root={root(line)}"]) == 0
    analyze(line.arguments("cluster.person_min_faces=4"))
    before = stored(line)
    torn = root(line) / "_pins" / "first.json"
    torn.write_text(torn.read_text().replace('"artifacts"', '"artifact"'))
    with pytest.raises(ArtifactError, match="pin cannot be read"):
        clean(line)
    assert unpin(["first", f"store.root={root(line)}"]) == 0
    pointer = next((root(line) / "_latest").glob("*/cluster.json"))
    pointer.write_bytes(pointer.read_bytes()[:-20])
    with pytest.raises(ArtifactError, match="pointer is torn"):
        clean(line)
    assert stored(line) == before
    analyze(line.arguments("cluster.person_min_faces=4"))
    assert clean(line) == 0
    assert stored(line) < before


def test_a_store_that_has_lost_its_pointers_is_left_alone(
    prefect_line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    line = prefect_line
    analyze(line.arguments())
    before = stored(line)
    shutil.rmtree(root(line) / "_latest")
    with pytest.raises(FacelineError, match="nothing here tells what is needed"):
        clean(line)
    assert gc([f"store.root={root(line)}"]) == 0
    assert "nothing here tells what is needed" in capsys.readouterr().err
    assert clean(line, f"keep={line.folder / 'results'}") == 0
    assert stored(line) == before
    assert clean(line, "all=true") == 0
    assert stored(line) == set()


def test_forgotten_footage_goes_whole(prefect_line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    line = prefect_line
    analyze(line.arguments(footage=line.footage("a", "pictures of a")))
    of_a = stored(line)
    analyze(line.arguments(footage=line.footage("b", "pictures of b")))
    of_b = stored(line) - of_a
    (line.folder / "a.mp4").unlink()
    clean(line)
    assert stored(line) == of_a | of_b, "footage that is not there may only be away"
    clean(line, f"forget={line.folder / 'a.mp4'}")
    assert stored(line) == of_b
    with pytest.raises(UsageError, match="knows no footage"):
        clean(line, f"forget={line.folder / 'a.mp4'}")
    sha256 = json.loads((line.folder / "results" / "run.json").read_text())["footage"]["sha256"]
    clean(line, f"forget={sha256[:12]}")
    assert stored(line) == set()
    assert list((root(line) / "_latest").iterdir()) == []


def test_a_small_enough_store_spares_what_was_used_last(prefect_line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    line = prefect_line
    older: set[tuple[str, str]] = set()
    batches = []
    for faces in (3, 4, 5):
        analyze(line.arguments(f"cluster.person_min_faces={faces}"))
        batches.append(stored(line) - older)
        older |= batches[-1]
        let_time_pass(line)
    folder = Store(root(line)).folder
    whole = folder.bytes_below("")
    assert clean(line, f"max_size={whole}") == 0
    assert stored(line) == older
    assert clean(line, f"max_size={folder.bytes_below('') - 1}") == 0
    gone = older - stored(line)
    assert len(gone) == 1 and gone < batches[0]
    capsys.readouterr()
    assert clean(line, "max_size=1kB") == 1
    assert "larger than max_size" in "".join(capsys.readouterr())
    assert batches[2] <= stored(line)
    assert not (batches[1] - {each for each in batches[1] if each[0] in ("sample", "detect")}) & stored(line)


def test_runs_are_registered_while_they_last_however_they_were_begun(
    prefect_line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = prefect_line
    seen: list[str] = []
    compute = pipeline.StageRequest

    def request(*args: object, **kwargs: object) -> object:
        seen.extend(run.verb for run in live_runs(Store(root(line)).folder)[:1] or ["nobody"])
        return compute(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(pipeline, "StageRequest", request)
    monkeypatch.setattr(sweep_module, "leaderboard", lambda job, outcomes: [])
    home = line.folder / "home"
    os.utime(line.footage("home/a", "pictures of a"), (1e9, 1e9))

    def verbs(run: Callable[[], object]) -> set[str]:
        seen.clear()
        run()
        assert live_runs(Store(root(line)).folder) == []
        return set(seen)

    arguments = line.arguments()
    assert verbs(lambda: analyze(arguments)) == {"analyze"}
    assert verbs(lambda: archive(line.arguments(footage=home))) == {"archive"}
    assert verbs(lambda: sweep(line.arguments("anomaly=iforest"))) == {"sweep"}
    from flows import flow

    overrides = [each for each in arguments if not each.startswith("footage=")]
    assert verbs(lambda: flow.analyze(str(line.footage()), overrides)) == {"analyze"}
    assert verbs(lambda: flow_many.archive(str(home), [*overrides, "cluster.person_min_faces=4"])) == {"archive"}
    assert verbs(lambda: flow_many.sweep(str(line.footage()), [*overrides, "anomaly=lof"])) == {"sweep"}


def test_a_run_that_fails_is_no_longer_registered(prefect_line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    prefect_line.calls.errors["cluster"] = [RuntimeError("no") for _ in range(9)]
    monkeypatch.setattr(analyze_module, "describe_models", lambda models, config: "")
    with pytest.raises(Exception, match="no"):
        analyze(prefect_line.arguments())
    assert live_runs(Store(root(prefect_line)).folder) == []


@pytest.mark.parametrize(
    "arguments",
    [["apply=yes"], ["older_than=1"], ["older_than=-1d"], ["max_size=1.5XB"], ["apply=true", "apply=true"], ["what=1"]],
)
def test_wrong_use(arguments: list[str], tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        gc([*arguments, f"store.root={tmp_path}"])


def _aged(folder: Path, age_s: float) -> Store:
    """A store whose only artifact is current, and was last used so long ago."""
    store, then_s = Store(folder / "store"), time.time() - age_s
    made = plant(store, "detect", {}, used_s=then_s)
    remember(store.folder, Place("detect", "ab" * 32), made.parts, then_s)
    return store


def test_by_a_clock_far_ahead_nothing_is_forgotten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = _aged(tmp_path, 91 * DAY_S)
    named = [f"store.root={store.root}", "forget_after=365d"]
    with pytest.raises(FacelineError, match=r"the clock says 20.*91 days after .*idle=true if it is right"):
        gc([*named, "apply=true"])
    assert gc(named) == 0
    assert "91 days after the last use" in capsys.readouterr().err
    with pytest.raises(FacelineError, match="the clock says"):
        gc([f"store.root={store.root}", "forget_after=60d", "apply=true"])
    assert len(list(store.artifacts())) == 1
    assert gc([f"store.root={store.root}", "forget_after=60d", "apply=true", "idle=true"]) == 0
    assert list(store.artifacts()) == []


def test_a_store_that_was_idle_for_a_while_is_cleaned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = _aged(tmp_path, 80 * DAY_S)
    assert gc([f"store.root={store.root}", "forget_after=365d", "apply=true"]) == 0
    assert "the clock" not in capsys.readouterr().err
    with pytest.raises(FacelineError, match="the clock says"):
        gc([f"store.root={store.root}", "forget_after=60d", "apply=true"])


def test_what_could_not_be_removed_is_one_line_and_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = _aged(tmp_path, 2 * DAY_S)
    for number in range(3):
        plant(store, "align", {"number": number}, used_s=time.time() - 2 * DAY_S)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        assert gc([f"store.root={store.root}", "apply=true"]) == 1
    said = capsys.readouterr()
    assert "removed 0 artifacts and 0 leftovers, 0 B" in said.out + said.err
    assert "could not be removed: Operation not permitted, and 2 more (see the log)" in " ".join(said.err.split())


def test_a_store_that_is_not_there_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no store"):
        gc([f"store.root={tmp_path / 'nowhere'}"])
    assert not (tmp_path / "nowhere").exists()


def test_ages_and_sizes_are_read_as_they_are_written() -> None:
    assert [age("x", text) for text in ("0", "90s", "45min", "1.5h", "30d", "2w")] == [
        0, 90, 2700, 5400, 30 * 86400, 14 * 86400,
    ]  # fmt: skip
    assert [size("x", text) for text in ("1000", "1kB", "50GB", "1.5MiB", "2 TB")] == [
        1000, 1000, 50 * 10**9, 3 * 2**19, 2 * 10**12,
    ]  # fmt: skip
    assert [shown(number) for number in (0, 999, 1000, 1.5e9, 2e15)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "1.5 GB",
        "2000.0 TB",
    ]
