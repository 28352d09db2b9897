"""What a worker of a cluster makes of a request: its own paths of the weights, its own view of the footage."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from faceline.errors import FacelineError, FootageError, ModelError
from faceline.made.render import render
from faceline.made.script import short_test_script
from faceline.stage import Runtime
from faceline.video import Footage, open_footage
from faceline.weights import resolve
from tasks.remote import anywhere, check_server_is_reachable
from tasks.remote_worker import (
    Line,
    Sent,
    WorkerDiffersError,
    at_home,
    check_introductions,
    introduce,
)
from tasks.runner import StageRequest, key_parts
from tasks.worker_process import Interrupted
from tests.tasks.worker_stages import WORK, WorkParams


@dataclass
class Heard:
    """An address and a line in one, within this process."""

    said: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    error: BaseException | None = None

    def open(self) -> Line:
        return self

    def tell(self, call: str, kind: str, content: Any) -> None:
        assert call == "a call"
        self.said.append((kind, dict(content)))

    def stopped(self, call: str) -> BaseException | None:
        return self.error


def request(folder: Path, **params: Any) -> StageRequest:
    return StageRequest(WORK, WorkParams(**params), str(folder / "store"))


def sent(asked: StageRequest, line: Heard, key: str = "") -> Sent:
    return Sent("a call", asked, key or key_parts(asked).key, line, "the sender")


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Footage:
    path = tmp_path_factory.mktemp("far") / "made.mp4"
    render(short_test_script(), path)
    return open_footage(path)


def of_footage(footage: Any) -> StageRequest:
    reading = replace(WORK, reads_footage=True)
    return StageRequest(reading, WorkParams(), "store", footage=footage)


def test_progress_and_log_records_are_told(tmp_path: Path) -> None:
    line = Heard()
    outcome = sent(request(tmp_path, do="log"), line).run()
    assert outcome.state == "run"
    assert line.said[0][0] == "begun"
    assert "stage 0 speaks" in [content["msg"] for kind, content in line.said if kind == "log"]
    line = Heard()
    sent(request(tmp_path, do="progress"), line).run()
    told = [content for kind, content in line.said if kind == "progress"]
    assert told[-1] == {"done": 4, "total": 4}
    assert len(told) < 5, "not every step is worth a message"


def test_a_stage_ends_with_what_it_is_told(tmp_path: Path) -> None:
    for error, expected in ((FacelineError("enough"), FacelineError), (Interrupted(), Interrupted)):
        with pytest.raises(expected):
            sent(request(tmp_path, do="endless"), Heard(error=error)).run()


def test_errors_travel(tmp_path: Path) -> None:
    for what, words in (("known error", "the mesh is torn"), ("strange error", "Unpicklable: ")):
        with pytest.raises(Exception, match=words) as caught:
            sent(request(tmp_path, do=what), Heard()).run()
        assert words in str(pickle.loads(pickle.dumps(caught.value)))  # noqa: S301


def test_another_key_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(WorkerDiffersError, match="its code of stage work is not that of the sender"):
        sent(request(tmp_path), Heard(), key="0" * 64).run()
    assert not (tmp_path / "store" / "work").exists()


def test_weights_are_found_where_this_machine_has_them() -> None:
    model = resolve("detector", "mtcnn")
    elsewhere = replace(model, path=Path("/not/on/this/machine"))
    stage = replace(WORK, roles=lambda params: ("detector",))
    asked = StageRequest(stage, WorkParams(), "store", models={"detector": elsewhere})
    assert at_home(asked, "the sender").models["detector"] == model
    other = replace(elsewhere, sha256="0" * 64)
    with pytest.raises(ModelError, match=r"its weights of mtcnn \(.*\) are not those of the sender \(000000000000…\)"):
        at_home(replace(asked, models={"detector": other}), "the sender")
    # Of a role that the stage does not use, nothing is asked.
    unused = StageRequest(WORK, WorkParams(), "store", models={"detector": other})
    assert at_home(unused, "the sender").models == unused.models


def test_footage_is_told_by_content_and_hashed_once(footage: Footage, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = replace(footage, changed_ns=1, mtime_ns=2)
    here = at_home(of_footage(copied), "the sender").footage
    assert here == footage, "its times are this machine's"
    monkeypatch.setattr("faceline.video._sha256", lambda path: pytest.fail("hashed again"))
    at_home(of_footage(copied), "the sender")
    here.check_unchanged()


def test_missing_and_other_footage_are_one_line(footage: Footage, tmp_path: Path) -> None:
    with pytest.raises(FootageError, match=r"cannot be read there.*at the same path"):
        at_home(of_footage(replace(footage, path=tmp_path / "none.mp4")), "the sender")
    other = tmp_path / "other.mp4"
    other.write_bytes(footage.path.read_bytes() + b"x")
    with pytest.raises(FootageError, match="is not there the footage that the sender opened"):
        at_home(of_footage(replace(footage, path=other)), "the sender")


def test_a_machine_without_the_gpu_uses_its_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    from faceline.devices import Device

    monkeypatch.setattr("tasks.remote_worker.find_device", lambda wanted: Device("cpu", missing="torch finds none"))
    monkeypatch.setattr("tasks.remote_worker._devices", {})
    asked = StageRequest(WORK, WorkParams(), "store", runtime=Runtime(device="cuda", batch_size=128))
    runtime = at_home(asked, "the sender").runtime
    assert (runtime.device, runtime.batch_size) == ("cpu", 32)


def test_paths_do_not_depend_on_a_working_folder(footage: Footage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(footage.path.parent)
    asked = anywhere(replace(of_footage(replace(footage, path=Path("made.mp4"))), store="artifacts"))
    assert asked.footage.path == footage.path
    assert asked.store == os.path.join(footage.path.parent, "artifacts")  # noqa: PTH118
    assert anywhere(replace(asked, store="s3://bucket/faceline")).store == "s3://bucket/faceline"


def test_other_versions_and_unreachable_servers_are_refused() -> None:
    own = introduce()
    check_introductions([own])
    with pytest.raises(WorkerDiffersError, match=r"it runs python 3\.10\.2, and this machine 3\."):
        check_introductions([own, own | {"python": "3.10.2", "worker": "other:1"}])
    with pytest.raises(WorkerDiffersError, match=r"worker other:1: it runs faceline 0.0.1"):
        check_introductions([own | {"faceline": "0.0.1", "worker": "other:1"}])
    check_server_is_reachable([own["host"]], "http://127.0.0.1:4200/api")
    check_server_is_reachable(["elsewhere"], "http://prefect.example:4200/api")
    with pytest.raises(FacelineError, match=r"elsewhere cannot reach.*PREFECT_API_URL"):
        check_server_is_reachable([own["host"], "elsewhere"], "http://127.0.0.1:4200/api")
