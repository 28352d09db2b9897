"""``plan`` says beforehand what a run then does: the same stages, for the same reasons. Runs of this module need no
Prefect: they walk the pipeline in this thread, as a fully cached run does."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from faceline.errors import UsageError
from faceline.stages import STAGES
from flows import analyze, plan
from flows.cli import main
from flows.config import Config, load_config
from flows.console import Lines
from flows.job import Job, prepare
from flows.options import StoreOptions
from flows.walk import Planned, Stopped, Walk, start_here
from flows.walk import plan as planned_of
from tests.flows.conftest import Line


@functools.cache
def composed(overrides: tuple[str, ...]) -> Config:
    """Composing costs half a second, and most tests want the same few configurations."""
    return load_config(["gridsearch=small", *overrides], STAGES)


def make(line: Line, *overrides: str, footage: Path | None = None) -> Job:
    config = composed(overrides).for_footage(str(footage or line.footage()), str(line.folder / "results"))
    store = StoreOptions(root=str(line.folder / "artifacts"))
    return prepare(replace(config, options={**config.options, "store": store}), analyze.STAGES)


def run(line: Line, *overrides: str, footage: Path | None = None) -> dict[str, tuple[str, str]]:
    """What was done: node → (state, reason)."""
    walk = make(line, *overrides, footage=footage).walk(start_here, Lines())
    walk.run()
    return {name: (outcome.state, outcome.reason) for name, outcome in walk.outcomes.items()}


def planned(line: Line, *overrides: str, footage: Path | None = None) -> dict[str, tuple[str, str]]:
    found: list[Planned] = list(planned_of(make(line, *overrides, footage=footage).pipeline))
    return {item.node.name: (item.explanation.state, item.explanation.reason) for item in found}


def nothing(line: Line) -> None:
    del line


def change_footage(line: Line) -> None:
    line.footage("clip", "other pictures")


def change_code(stage: str) -> Callable[[Line], None]:
    def change(line: Line) -> None:
        line.calls.code[stage] = "another constant"

    return change


def damage(line: Line) -> None:
    payload = next((line.folder / "artifacts" / "cluster").glob("*/out.parquet"))
    payload.chmod(0o600)
    payload.write_bytes(payload.read_bytes()[:-20])


ALL = {"sample", "detect", "align", "embed", "emote", "cluster", "trial", "gridsearch", "report"}
AFTER_CLUSTER = {"trial", "gridsearch", "report"}

SCENARIOS: list[Any] = [
    pytest.param(nothing, [], set(), {}, id="nothing changed"),
    pytest.param(
        nothing, ["report.top_events=3"], {"report"}, {"report": "params.top_events 10 → 3"}, id="a report option"
    ),
    pytest.param(
        nothing,
        ["anomaly.window_s=1,4"],
        AFTER_CLUSTER,
        {},
        id="a wider space",
    ),
    pytest.param(nothing, ["sample.fps=5"], ALL, {"sample · segment 0": "params.fps 10 → 5"}, id="another rate"),
    pytest.param(
        nothing,
        ["align.min_visible=0.5"],
        ALL - {"sample", "detect"},
        {"align · segment 1": "params.min_visible 0.4 → 0.5"},
        id="a parameter of align",
    ),
    pytest.param(change_footage, [], ALL, {"sample · segment 0": "footage changed"}, id="other footage"),
    pytest.param(
        change_code("emote"), [], {"emote", *AFTER_CLUSTER}, {"emote · segment 1": "code of emote changed"}, id="code"
    ),
    pytest.param(change_code("report"), [], {"report"}, {"report": "code of report changed"}, id="code of report"),
    pytest.param(damage, [], {"cluster"}, {}, id="a damaged artifact"),
]


@pytest.mark.parametrize(("change", "overrides", "rerun", "reasons"), SCENARIOS)
def test_plan_and_run_agree(
    line: Line, change: Callable[[Line], None], overrides: list[str], rerun: set[str], reasons: dict[str, str]
) -> None:
    line.calls.echo_params = True
    first = run(line, "sample.segment_s=10")
    assert {state for state, _ in first.values()} == {"run"}
    assert set(line.calls.names()) == ALL
    change(line)

    said = planned(line, "sample.segment_s=10", *overrides)
    assert line.calls.names() == [], "planning ran something"
    done = run(line, "sample.segment_s=10", *overrides)

    assert set(line.calls.names()) == rerun
    assert list(said) == list(done)
    for name, (state, reason) in said.items():
        if state == "depends":
            # Only the bytes of a stage before it can tell; the fake stages' bytes follow from their parameters.
            continue
        assert done[name][0] == state, name
        # Where an input has still to run, its own difference is not known yet; all that is known must come true.
        assert set(reason.split("; ")) <= set(done[name][1].split("; ")), name
    for name, reason in reasons.items():
        assert reason in done[name][1]
        assert reason in said[name][1]
    assert {state for state, _ in planned(line, "sample.segment_s=10", *overrides).values()} == {"cached"}


def test_only_new_trials_run_when_the_space_grows(line: Line) -> None:
    run(line, "anomaly.window_s=1,2")
    line.calls.names()
    run(line, "anomaly.window_s=1,2,4")
    assert line.calls.computed.count("trial") == 3, "three models at the one new length"


def test_a_rerun_with_the_same_bytes_leaves_what_follows_cached(line: Line) -> None:
    """The other outcome of *depends*: a stage ran for another reason and gave what it gave before."""
    line.calls.echo_params = False
    run(line)
    line.calls.names()
    line.calls.code["detect"] = "tidied up"
    said = planned(line)
    done = run(line)
    assert line.calls.names() == ["detect"]
    assert said["align · segment 0"] == ("depends", "runs unless detect gives the same bytes")
    assert done["align · segment 0"] == ("cached", "unchanged")


def test_the_verb_prints_state_and_reason_and_touches_nothing(line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    footage = line.footage()
    before = sorted(line.folder.rglob("*"))
    assert plan.show_plan(line.arguments(footage=footage)) == 0
    assert sorted(line.folder.rglob("*")) == before
    out = capsys.readouterr().out
    assert "cluster" in out
    assert "first run" in out
    assert out.splitlines()[-1] == "11 run"


def test_a_fully_cached_run_asks_for_no_server(line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    run(line)
    line.calls.names()
    assert analyze.analyze(line.arguments()) == 0
    assert line.servers == 0
    assert line.calls.names() == []
    states = json.loads((line.folder / "results" / "run.json").read_text())["stages"]
    assert [stage["state"] for stage in states] == ["cached"] * 11
    assert set(states[0]) == {"stage", "segment", "trial", "key", "state", "reason", "seconds", "digest"}
    assert "0 stages run, 11 cached" in capsys.readouterr().out


def test_work_goes_on_when_nobody_reads_of_it_any_more(
    line: Line, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``faceline analyze … | head -1``: what it is for lies in files, and it is told once."""
    run(line)
    reader, writer = os.pipe()
    os.close(reader)
    unread = os.fdopen(writer, "w")
    monkeypatch.setattr(sys, "stdout", unread)
    assert main(["analyze", *line.arguments()]) == 0
    assert (line.folder / "results" / "run.json").is_file()
    told = capsys.readouterr().err
    assert told == "faceline: warning: nobody reads the output any more; the run goes on\n"
    with contextlib.suppress(BrokenPipeError):
        unread.close()


def test_run_json_says_what_was_run_on_what(line: Line) -> None:
    run(line, "sample.fps=5")
    analyze.analyze(line.arguments("sample.fps=5"))
    said = json.loads((line.folder / "results" / "run.json").read_text())
    assert said["footage"]["path"] == str(line.footage())
    assert said["config"]["sample"]["fps"] == 5
    assert said["overrides"][-2:] == ["runner.retry_delay_s=0", "sample.fps=5"]
    first = said["stages"][0]
    assert (first["stage"], first["segment"], first["trial"]) == ("sample", 0, None)
    assert (first["state"], first["reason"]) == ("cached", "unchanged")
    assert len(first["key"]) == 64


def test_neither_the_key_nor_its_place_stands_in_run_json_or_the_log(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    key = line.folder / "secret place" / "key.pem"
    key.parent.mkdir()
    private = Ed25519PrivateKey.generate()
    content = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    key.write_bytes(content)
    run(line)
    keys = {stage["key"] for stage in said_stages(line)}
    assert analyze.analyze(line.arguments(f"custody.sign_key={key}")) == 0
    run_json = line.folder / "results" / "run.json"
    assert {stage["key"] for stage in json.loads(run_json.read_text())["stages"]} == keys
    told = run_json.read_text() + capsys.readouterr().out
    told += "".join(path.read_text() for path in (line.folder / "artifacts" / "_logs").glob("*.log"))
    assert "secret place" not in told
    assert content.decode().splitlines()[1] not in told


def said_stages(line: Line) -> list[dict[str, str]]:
    assert analyze.analyze(line.arguments()) == 0
    return json.loads((line.folder / "results" / "run.json").read_text())["stages"]


def test_a_moved_file_is_not_worked_on_again(line: Line) -> None:
    run(line, footage=line.footage("one"))
    line.calls.names()
    moved = line.footage("elsewhere/one")
    assert {state for state, _ in run(line, footage=moved).values()} == {"cached"}
    renamed = run(line, footage=line.footage("two"))
    assert line.calls.names() == ["report"], "the report states the name, everything else goes by content"
    assert renamed["report"][1].startswith("facts.footage.name one → two")


# ------------------------------------------------------------------------------------------ the walk itself


class Quiet(Lines):
    def finished(self, name: str, state: str, reason: str, seconds: float) -> None:
        pass


def test_every_node_comes_after_what_it_reads(line: Line) -> None:
    order: list[str] = []
    job = make(line, "sample.segment_s=5")

    def start(node: Any, request: Any, done: Any) -> None:
        assert set(node.before) <= set(order), "begun before its inputs were there"
        order.append(node.name)
        start_here(node, request, done)

    job.walk(start, Quiet(), at_once=4).run()
    assert sorted(order) == sorted(job.pipeline.nodes)


def test_all_code_is_read_before_anything_runs(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code edited while an early stage runs must not be taken for the code that a later one imported."""
    read: list[str] = []
    monkeypatch.setattr("tasks.runner.code_digests", lambda stage: read.append(stage.name) or {})
    make(line)
    assert set(read) == {stage.name for stage in STAGES}


def test_after_a_failure_what_is_under_way_is_finished_and_nothing_new_begun(line: Line) -> None:
    job = make(line, "sample.segment_s=5")
    begun: list[Any] = []

    def start(node: Any, request: Any, done: Any) -> None:
        begun.append((node, request, done))
        if len(begun) == 3:
            for position, (other, its, end) in enumerate(begun):
                if position == 0:
                    end(lambda: (_ for _ in ()).throw(ValueError("the first of three")))
                else:
                    start_here(other, its, end)

    walk = job.walk(start, Quiet(), at_once=3)
    with pytest.raises(ValueError, match="the first of three"):
        walk.run()
    assert len(begun) == 3
    assert len(walk.outcomes) == 2


def test_an_interrupted_run_asks_stages_to_stop_and_waits_for_them(line: Line) -> None:
    import threading

    job = make(line, "sample.segment_s=5")
    stopped: list[str] = []
    threads: list[threading.Thread] = []

    def start(node: Any, request: Any, done: Any) -> None:
        def work() -> None:
            try:
                while True:
                    request.runtime.progress(0, 1)
            except Stopped:
                stopped.append(node.name)
                done(lambda: (_ for _ in ()).throw(RuntimeError))

        threads.append(threading.Thread(target=work))
        threads[-1].start()

    def ctrl_c() -> None:
        raise KeyboardInterrupt

    walk: Walk = job.walk(start, Quiet(), at_once=2)
    with pytest.raises(KeyboardInterrupt):
        walk.run(tick=ctrl_c)
    assert len(stopped) == 2
    for thread in threads:
        thread.join(timeout=10)
        assert not thread.is_alive()


def test_progress_counts_stages_under_way_in_part(line: Line) -> None:
    job = make(line)
    shares: list[float] = []
    walk = job.walk(start_here, Quiet())
    walk.run(tick=lambda: shares.append(walk.share_done))
    assert shares == sorted(shares)
    assert walk.share_done == 1


def test_threads_are_shared_among_what_runs_side_by_side(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.job.cores", lambda: 8)
    assert make(line).runtime.threads == 8, "one segment may use the whole machine"
    assert make(line, "sample.segment_s=5").runtime.threads == 2, "four workers share eight cores"
    assert make(line, "runtime.threads=3").runtime.threads == 3
    assert make(line).workers == 4
    assert make(line, "runtime.workers=1").workers == 1


def test_a_walk_ends_when_it_is_told_to_stop(line: Line) -> None:
    stopping = threading.Event()
    begun: list[str] = []

    def start(node: Any, request: Any, done: Any) -> None:
        begun.append(node.name)
        start_here(node, request, done)
        stopping.set()

    walk = make(line).walk(start, Quiet(), stopping=stopping)
    with pytest.raises(Stopped):
        walk.run()
    assert len(begun) == 1


def test_a_walk_that_is_left_begins_nothing_more_and_leaves_alone_what_is_under_way(line: Line) -> None:
    begun: list[str] = []
    first = threading.Event()

    def start(node: Any, request: Any, done: Any) -> None:
        begun.append(node.name)  # and never ends
        first.set()

    walk = make(line, "sample.segment_s=5").walk(start, Quiet(), at_once=2)
    thread = threading.Thread(target=walk.run)
    thread.start()
    assert first.wait(10)
    walk.leave()
    thread.join(10)
    assert not thread.is_alive()
    assert 1 <= len(begun) <= 2
    assert not walk.outcomes


# ------------------------------------------------------------------------------------------ single stages


def test_rerun_computes_a_stage_and_what_follows_anew(line: Line) -> None:
    run(line)
    line.calls.names()
    done = run(line, "rerun=cluster")
    assert line.calls.names() == ["cluster", "trial", "gridsearch", "report"]
    assert done["cluster"] == ("run", "forced")
    assert {state for name, (state, _) in done.items() if name.startswith(("sample", "embed"))} == {"cached"}
    # The same bytes again: what is stored stays as it is, and the next run has nothing to do.
    run(line)
    assert line.calls.names() == []


def test_until_ends_with_a_stage(line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    from flows.results import finish

    job = make(line, "until=embed")
    assert {node.stage.name for node in job.pipeline.nodes.values()} == {"sample", "detect", "align", "embed"}
    walk = job.walk(start_here, Quiet())
    records = walk.run()
    finished = finish(job, walk.outcomes, records, 1.0)
    assert line.calls.names() == ["sample", "detect", "align", "embed"]
    assert finished.until == "embed" and finished.found == "ended after embed"
    assert "Ended after embed, as until=embed says; no results folder was made." in finished.summary
    assert "embed · segment 0: 1 out, in " in finished.summary
    assert not job.output.exists()
    assert len(make(line, "until=report").pipeline.nodes) == len(make(line).pipeline.nodes)


@pytest.mark.parametrize("option", ["rerun", "until"])
def test_a_stage_that_is_none_is_refused(line: Line, option: str) -> None:
    with pytest.raises(UsageError, match=f"{option}=clutser: must be one of sample, .*report; did you mean 'cluster'"):
        make(line, f"{option}=clutser")
