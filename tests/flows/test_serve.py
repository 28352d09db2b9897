"""An archive by schedule: what is refused at the start, what is run and why, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from faceline.errors import FacelineError
from faceline.nightly.nights import Journal, Night, night_names, read_night
from flows import serve as module
from flows.archive import archive, open_archive
from flows.cli import main
from flows.config import load_config
from flows.serve import missed_reason, place_of, plan_of, served_once, serving_since, tell_not_begun
from tests.conftest import ROOT
from tests.flows.conftest import Line

pytestmark = pytest.mark.long

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)


@pytest.fixture
def served(line: Line, monkeypatch: pytest.MonkeyPatch) -> Line:
    """An archive with two footages; `serve` gets as far as its server and no further."""
    monkeypatch.setattr(module, "STAGES", module.STAGES)
    for name in "ab":
        line.footage(f"archive/{name}", f"footage {name}")

    class Server:
        def __init__(self, *arguments: Any) -> None:
            raise AssertionError("everything was found in order")

    monkeypatch.setattr(module, "PrefectServer", Server)
    return line


def arguments(line: Line, *overrides: str) -> list[str]:
    return line.arguments("schedule.timezone=UTC", *overrides, footage=line.folder / "archive")


# ---------------------------------------------------------------------------------------------- the beginning


@pytest.mark.parametrize(
    ("overrides", "code", "said"),
    [
        (["schedule.cron=at two"], 2, "schedule.cron=at two: must be a cron expression"),
        (["schedule.timezone=Mars/Olympus"], 2, "schedule.timezone=Mars/Olympus: must be the name of a time zone"),
        (["schedule.concurrency=0"], 2, "schedule.concurrency=0: must be a whole number at least 1"),
        (["schedule=daily"], 2, "schedule has no choice 'daily'"),
        (["schedule.crn=x"], 2, "there is no option 'schedule.crn'; did you mean 'schedule.cron'?"),
        (["archive.webhook=example.org"], 2, "archive.webhook=example.org: must be an address"),
        (["until=cluster"], 2, "until= is for one footage"),
        (["sample.fps=5,10"], 2, "names several values"),
        (["custody.sign_key=/nowhere.pem"], None, "/nowhere.pem"),
        (["embedder=vggface2", "models.folder=/nowhere"], 2, "models.folder=/nowhere: there is no such folder"),
    ],
)
def test_a_configuration_is_refused_at_the_start(
    served: Line, capsys: pytest.CaptureFixture[str], overrides: list[str], code: int | None, said: str
) -> None:
    found = main(["serve", *arguments(served, *overrides)])
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert found == code if code is not None else found in (1, 2)


def test_no_folder_is_refused(served: Line, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["serve"]) == 2
    assert main(["serve", f"footage={tmp_path / 'none'}"]) == 2
    (tmp_path / "file").touch()
    assert main(["serve", f"footage={served.folder / 'archive'}", f"output={tmp_path / 'file' / 'results'}"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(": ")[2].split(";")[0] for line in lines[:1]] == ["no folder is named"]
    assert "is no folder" in lines[1]
    assert "is a file, not a folder); choose another place with output=DIR" in lines[2]


def test_an_archive_is_served_once(served: Line) -> None:
    work = open_archive(load_config(arguments(served), module.STAGES))
    with served_once(work), pytest.raises(FacelineError, match="served already"), served_once(work):
        pass


def test_runs_get_absolute_paths_and_no_schedule(served: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(served.folder)
    given = ["footage=archive", "schedule.cron=0 2,14 * * *", "schedule=weekly", "sample.fps=5", "schedule.port=0"]
    plan = plan_of(open_archive(load_config(given, module.STAGES)))
    here = served.folder
    assert plan.folder == here / "archive"
    assert plan.archive == (f"output={here / 'results'}", f"store.root={here / 'artifacts'}", "sample.fps=5")
    assert plan.single == plan.archive[1:], "a single footage has results of its own"
    assert plan.cron == "0 2,14 * * *"
    assert plan.next_time(NOW) == datetime(2026, 11, 23, 14, 0, tzinfo=UTC) or plan.zone != "UTC"
    again = load_config([f"footage={plan.folder}", *plan.archive], module.STAGES)
    assert again.params["sample"].fps == 5  # type: ignore[attr-defined]


def test_archives_with_other_results_have_other_names(served: Line) -> None:
    one = open_archive(load_config(arguments(served), module.STAGES))
    other = open_archive(load_config([f"footage={served.folder / 'archive'}", "output=elsewhere"], module.STAGES))
    assert place_of(one).startswith("archive-")
    assert place_of(one) != place_of(other)


def test_machines_with_the_same_paths_share_no_deployment(served: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """On one server, each would end the other's runs."""
    work = open_archive(load_config(arguments(served), module.STAGES))

    def place(host: str) -> str:
        monkeypatch.setattr("socket.gethostname", lambda: host)
        return plan_of(work).place

    assert place("Cam-1.example") != place("cam-2")
    assert place("Cam-1.example").startswith("archive-cam-1-example-")
    assert place("cam-2") == place("cam-2")
    assert place("ein.host") != place("ein-host"), "what is not shown of a name counts as well"


# ------------------------------------------------------------------------------------------------ catching up


def a_night(folder: Path, began: datetime, *, reason: str = "schedule", ended: bool = True) -> None:
    journal = Journal(folder, began)
    journal.begin({"began": began.isoformat(timespec="seconds"), "reason": reason})
    if ended:
        journal.end({"ended": began.isoformat(timespec="seconds"), "state": "done", "seconds": 1})


def test_missed_nights_are_one_run(served: Line) -> None:
    def reason(*overrides: str) -> str:
        work = open_archive(load_config(arguments(served, *overrides), module.STAGES))
        return missed_reason(work, plan_of(work), NOW)

    journals = served.folder / "results" / "_archive" / "nights"
    assert reason() == "", "never ran, and never was to run"
    a_night(journals, NOW + timedelta(days=400))
    a_night(journals, datetime(2026, 11, 20, 2, 0, 3, tzinfo=UTC))
    assert reason() == "catching up: 3 scheduled runs missed since the whole run of Fri 20 Nov 2026, 02:00 UTC"
    assert reason("schedule.catch_up=false") == ""
    assert reason("schedule=by_hand") == ""
    assert reason("schedule=weekly").startswith("catching up: 1 scheduled run ")
    a_night(journals, datetime(2026, 11, 23, 2, 0, 3, tzinfo=UTC), ended=False)
    assert "the run of Mon 23 Nov 2026, 02:00 UTC did not come to its end" in reason()
    a_night(journals, datetime(2026, 11, 23, 7, 0, 3, tzinfo=UTC), reason="by hand")
    assert reason() == ""


def test_a_night_that_failed_is_tried_again_while_the_archive_is_served(served: Line) -> None:
    work = open_archive(load_config(arguments(served), module.STAGES))
    a_night(work.journals, datetime(2026, 11, 22, 2, 0, 3, tzinfo=UTC))
    a_night(work.journals, datetime(2026, 11, 23, 2, 0, 3, tzinfo=UTC), ended=False)

    def reason(now: datetime, tried_at: datetime | None = None) -> str:
        return missed_reason(work, plan_of(work), now, meanwhile=True, tried_at=tried_at)

    assert reason(datetime(2026, 11, 23, 2, 30, tzinfo=UTC)) == "", "not at once"
    assert "did not come to its end" in reason(NOW)
    assert reason(NOW, NOW - timedelta(hours=1)) == "", "once a day"


def test_nothing_is_caught_up_on_while_a_run_by_hand_works(served: Line) -> None:
    work = open_archive(load_config(arguments(served), module.STAGES))
    a_night(work.journals, datetime(2026, 11, 20, 2, 0, 3, tzinfo=UTC))
    for meanwhile in (False, True):
        with open_archive(load_config(arguments(served), module.STAGES)).alone():
            assert missed_reason(work, plan_of(work), NOW, meanwhile=meanwhile) == ""
        assert "3 scheduled runs missed" in missed_reason(work, plan_of(work), NOW, meanwhile=meanwhile)


def test_a_night_that_is_not_begun_is_told(
    served: Line, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bodies: list[Any] = []

    def send(address: str, body: Any, **named: Any) -> str:
        bodies.append(body)
        return ""

    monkeypatch.setattr("faceline.nightly.notification.send", send)
    monkeypatch.setenv("FACELINE_WEBHOOK", "http://127.0.0.1:9/hook")
    work = open_archive(load_config(arguments(served), module.STAGES))
    with work.alone():
        tell_not_begun(work, "the run was not begun, since another is still under way")
    assert [(body["state"], body["title"]) for body in bodies] == [("not begun", "Not begun")]
    said = f"another is still under way (process {os.getpid()} on "
    assert said in bodies[0]["text"]
    assert said in caplog.text


def test_a_footage_that_never_ends_holds_no_night_for_ever(served: Line) -> None:
    assert load_config(arguments(served), module.STAGES).archive.time_limit_s == 24 * 3600
    assert load_config(arguments(served, "archive.time_limit_s=null"), module.STAGES).archive.time_limit_s is None


def test_since_when_an_archive_is_served_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "serving.json"
    assert serving_since(file, NOW) == NOW
    assert serving_since(file, NOW + timedelta(days=3)) == NOW
    file.write_text("no JSON")
    assert serving_since(file, NOW + timedelta(days=4)) == NOW + timedelta(days=4)
    assert serving_since(file, NOW) == NOW, "noted while the clock was ahead"


# --------------------------------------------------------------------------------------------- runs of Prefect's


@pytest.mark.prefect
def test_a_run_that_prefect_starts_says_why_and_what_came_of_it(
    prefect_line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    from flows.flow_many import archive as flow

    prefect_line.footage("archive/a", "footage a")
    prefect_line.footage("archive/bad", "broken")
    home, *overrides = prefect_line.arguments(footage=prefect_line.folder / "archive")
    folder = home.removeprefix("footage=")
    state: Any = flow(folder, overrides, reason="catching up: 2 scheduled runs missed", return_state=True)
    assert (state.type.value, state.name, state.message) == ("COMPLETED", "SetAside", "1 done, 1 quarantined")
    said = capsys.readouterr().out
    assert "\nDone, 1 file set aside. " in said, "the console of `serve` says how it ended, and where the page lies"
    assert "\n- bad.mp4: " in said
    assert said.endswith(f", page: {prefect_line.folder / 'results' / 'archive.html'}\n")
    page = json.loads((prefect_line.folder / "results" / "archive.json").read_text())
    assert page["why"] == "catching up: 2 scheduled runs missed"
    assert page["next_at"] == "", "nobody has planned anything"
    assert run_of(state).name == "archive"
    assert set(run_of(state).tags) == {"set aside", "new moments"}

    work = open_archive(load_config([home, *overrides], module.STAGES))
    with work.alone():
        state = flow(folder, overrides, return_state=True)
    assert (state.type.value, state.name) == ("CANCELLED", "Skipped")
    assert "another run works on this archive" in state.message
    assert "faceline: not begun: " in capsys.readouterr().err

    state = flow(folder, [*overrides, "sample.fsp=5"], return_state=True)
    assert state.is_failed()
    assert "did you mean 'sample.fps'" in state.message
    assert "did you mean 'sample.fps'" in capsys.readouterr().err


@pytest.mark.prefect
def test_a_run_that_is_told_to_stop_ends_in_order(prefect_line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.exceptions import TerminationSignal

    from flows.flow_many import archive as flow

    prefect_line.footage("archive/a", "footage a")
    home, *overrides = prefect_line.arguments(footage=prefect_line.folder / "archive")

    def stop(night: Any) -> None:
        raise TerminationSignal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr("flows.night.Night.note_what_is_gone", stop)
        state: Any = flow(home.removeprefix("footage="), overrides, return_state=True)
    assert (state.type.value, state.name) == ("CANCELLED", "Interrupted")
    results = prefect_line.folder / "results"
    assert json.loads((results / "archive.json").read_text())["state"] == "interrupted", "the page says so too"
    assert archive([home, *overrides]) == 0
    assert prefect_line.calls.computed.count("sample") == 1


def run_of(state: Any) -> Any:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return client.read_flow_run(state.state_details.flow_run_id)


# ------------------------------------------------------------------------------------------------ notification


@pytest.fixture
def heard() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    got: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(404 if "closed" in self.path else 204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", got
    server.shutdown()
    server.server_close()


@pytest.mark.prefect
def test_who_wants_to_know_is_told(
    prefect_line: Line, heard: tuple[str, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, got = heard
    prefect_line.footage("archive/a", "footage a")
    home = prefect_line.folder / "archive"
    page = prefect_line.folder / "results" / "archive.json"
    assert archive(prefect_line.arguments(f"archive.webhook={address}/hook?a=1,2", footage=home)) == 0
    assert got[0]["state"] == "done"
    assert got[0]["top"][0]["file"] == "a.mp4"
    assert json.loads(page.read_text())["notification"] == "sent"

    # A secret address is in the environment, and nowhere else; that nobody listens there is no failure of the night.
    monkeypatch.setenv("FACELINE_WEBHOOK", f"{address}/closed?key=secret")
    assert archive(prefect_line.arguments(footage=home)) == 0
    assert len(got) == 2
    assert json.loads(page.read_text())["notification"] == "not sent to 127.0.0.1: it answered 404"
    assert "not sent to" in page.with_suffix(".html").read_text()
    told = [path for path in prefect_line.folder.rglob("*") if path.is_file() and b"secret" in path.read_bytes()]
    assert not told

    # What is no longer mounted has no page, but somebody should hear of it.
    (home / "a.mp4").unlink()
    with pytest.raises(FacelineError, match="no footage is there"):
        archive(prefect_line.arguments(footage=home))
    assert got[2]["state"] == "failed"
    assert "no footage is there" in got[2]["text"]


def test_nobody_is_told_unless_somebody_asks(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.notify import tell_address

    monkeypatch.setattr("faceline.nightly.notification.send", pytest.fail)
    options = load_config(arguments(line), module.STAGES).archive
    assert tell_address(options, lambda: pytest.fail("made")) == ""


# ------------------------------------------------------------------------------------------------------- all of it


@pytest.mark.prefect
@pytest.mark.timeout(900)
def test_an_archive_runs_by_schedule(tmp_path: Path) -> None:
    """A server, a runner, and runs in processes of their own; the schedule is due every minute."""
    home, results = tmp_path / "archive", tmp_path / "results"
    home.mkdir()
    for name, content in (("a.mp4", "footage a"), ("bad.mp4", "broken")):
        (home / name).write_text(content)
    journals = results / "_archive" / "nights"
    a_night(journals, datetime.now(UTC) - timedelta(days=3))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= {
        "PYTHONPATH": os.pathsep.join((str(ROOT / "tests" / "flows" / "served"), str(ROOT), *filter(None, sys.path))),
        "FACELINE_STATE": str(tmp_path / "state"),
        "PREFECT_PROFILES_PATH": str(tmp_path / "profiles.toml"),
    }
    command = [
        *(sys.executable, "-m", "flows.cli", "serve", f"footage={home}", f"output={results}"),
        *(f"store.root={tmp_path / 'store'}", "schedule.cron=* * * * *", "schedule.timezone=UTC", "schedule.port=0"),
        *("archive.quiet_s=0", "runner=threads", "gridsearch=small"),
    ]
    with (tmp_path / "said").open("w+b") as said:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=said, stderr=subprocess.STDOUT)
        try:
            nights = wait_for(lambda: ended_nights(journals, 3), process, tmp_path / "said")
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                code = process.wait(120)
            finally:
                process.kill()
    text = (tmp_path / "said").read_text()
    assert code == 0, text
    assert text.splitlines()[-1] == "ended"
    assert "catching up: " in text
    assert "next run: " in text
    assert "UI: http://127.0.0.1:" in text
    _, first, second = nights[:3]
    assert str(first.begin["reason"]).startswith("catching up: "), "once, whatever was missed"
    assert second.begin["reason"] == "schedule"
    assert {entry.file: entry.state for entry in first.entries.values()} == {"a.mp4": "done", "bad.mp4": "quarantined"}
    assert {entry.state for entry in second.entries.values()} == {"unchanged", "quarantined"}
    page = json.loads((results / "_archive" / "nights" / f"{second.name}.json").read_text())
    assert page["next_at"] > second.begin["began"][:16], "the page says when the next run is due"


def ended_nights(journals: Path, number: int) -> list[Night]:
    nights = [read_night(journals, name) for name in night_names(journals)]
    return nights if sum(night.end is not None for night in nights) >= number else []


def wait_for(found: Callable[[], list[Night]], process: subprocess.Popen[bytes], said: Path) -> list[Night]:
    until_s = time.monotonic() + 600
    while time.monotonic() < until_s:
        if nights := found():
            return nights
        assert process.poll() is None, said.read_text()
        time.sleep(0.5)
    raise AssertionError(f"nothing more happened:\n{said.read_text()}")
