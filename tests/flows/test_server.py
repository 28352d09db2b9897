"""The temporary Prefect server: found, started, private, and gone with its run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from faceline.errors import FacelineError
from flows.server import PrefectServer, named_api_url, prefect_server, state_folder
from flows.server_thread import MAX_SLOTS, take_slot

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def no_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("PREFECT_API_URL", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    return tmp_path


def test_a_server_is_named_by_the_environment_or_the_profile(no_names: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert named_api_url() is None
    (no_names / "profiles.toml").write_text(
        'active = "here"\n[profiles.here]\nPREFECT_API_URL = "http://profile/api"\n[profiles.there]\n'
    )
    assert named_api_url() == "http://profile/api"
    monkeypatch.setenv("PREFECT_PROFILE", "there")
    assert named_api_url() is None
    monkeypatch.setenv("PREFECT_API_URL", "http://environment/api")
    assert named_api_url() == "http://environment/api"


@pytest.mark.parametrize("content", ["not = [toml", "active = 5\nprofiles = 3\n", ""])
def test_a_profile_that_cannot_be_read_names_nothing(no_names: Path, content: str) -> None:
    (no_names / "profiles.toml").write_text(content)
    assert named_api_url() is None


def test_a_named_server_that_does_not_answer_is_one_line(no_names: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    monkeypatch.setattr("flows.server.NAMED_LIMIT_S", 0.2)
    with prefect_server() as server, pytest.raises(FacelineError, match=r"no Prefect server answers at http://127"):
        server.ready()
    assert not server.temporary


def test_the_state_folder_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FACELINE_STATE", str(tmp_path))
    assert state_folder() == tmp_path / "prefect"


def test_slots_keep_servers_apart(tmp_path: Path) -> None:
    first, one = take_slot(tmp_path)
    second, two = take_slot(tmp_path)
    assert [one.name, two.name] == ["slot-0", "slot-1"]
    first.close()
    third, three = take_slot(tmp_path)
    assert three.name == "slot-0", "a slot is free again when its holder is gone"
    second.close()
    third.close()


@pytest.mark.prefect
def test_a_temporary_server_answers_and_goes_with_a_killed_run(no_names: Path, tmp_path: Path) -> None:
    """The run is killed hard, so that nothing of it could clean up."""
    script = textwrap.dedent(
        """
        import sys, time
        from flows.server import prefect_server
        with prefect_server() as server:
            server.ready()
            print(server.url, flush=True)
            time.sleep(600)
        """
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FACELINE_STATE": str(tmp_path / "state")}
    run = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment)
    assert run.stdout is not None
    url = run.stdout.readline().strip()
    assert url.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(f"{url}/admin/settings", timeout=30) as answer:
        settings = answer.read().decode()
    assert '"analytics_enabled":false' in settings, "no telemetry"
    for origin, allowed in (("https://example.org", None), (url.removesuffix("/api"), url.removesuffix("/api"))):
        asked = urllib.request.Request(f"{url}/health", headers={"Origin": origin})
        with urllib.request.urlopen(asked, timeout=30) as answer:
            assert answer.headers["Access-Control-Allow-Origin"] == allowed, "no page of another site reads it"
    named_by_another = urllib.request.Request(f"{url}/health", headers={"Host": "rebound.example.org"})
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(named_by_another, timeout=30)
    assert (tmp_path / "state" / "prefect" / "slot-0" / "prefect.db").is_file()
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{url}/collections/views/aggregate-worker-metadata", timeout=30)
    run.send_signal(signal.SIGKILL)
    run.wait()
    run.stdout.close()
    for _ in range(600):
        try:
            urllib.request.urlopen(f"{url}/health", timeout=5).close()
        except urllib.error.URLError:
            return
        time.sleep(0.1)
    pytest.fail("the server outlived its run")


def _in_a_process_of_its_own(script: str, state: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FACELINE_STATE": str(state)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=300, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.prefect
def test_a_temporary_server_leaves_the_environment_as_it_was_and_its_slot_free(
    no_names: Path, private_state: Path
) -> None:
    said = _in_a_process_of_its_own(
        """
        import os, sys
        os.environ["PREFECT_API_KEY"] = "of another server"
        os.environ["PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED"] = "true"
        before = dict(os.environ)
        from flows.server import prefect_server, state_folder
        from flows.server_thread import take_slot
        with prefect_server() as server:
            server.ready()
            assert "flows.flow_many" in sys.modules, "the main thread has nothing of Prefect left to import"
            from prefect.settings import get_current_settings
            settings = get_current_settings()
            assert settings.api.url == server.url and settings.api.key is None
            assert settings.home.parent == state_folder()
            assert settings.server.services.event_persister.enabled, "what is set already stays"
            assert take_slot(state_folder())[1].name == "slot-1"
        assert dict(os.environ) == before
        assert take_slot(state_folder())[1].name == "slot-0"
        from faceline.errors import FacelineError
        try:
            with prefect_server():
                pass
        except FacelineError as error:
            print(error)
        """,
        private_state,
    )
    assert "has imported Prefect already" in said, "Prefect reads its settings once"


def test_a_server_that_is_stopped_while_it_is_imported_is_left_behind(no_names: Path, tmp_path: Path) -> None:
    said = _in_a_process_of_its_own(
        """
        import os, time
        from flows.server import prefect_server
        began_s = time.monotonic()
        try:
            with prefect_server() as server:
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            print("PREFECT_API_URL" in os.environ, time.monotonic() - began_s < 2, flush=True)
        os._exit(0)
        """,
        tmp_path / "state",
    )
    assert said.split() == ["False", "True"]


@pytest.mark.prefect
def test_why_a_server_cannot_start_is_told(no_names: Path, tmp_path: Path) -> None:
    (tmp_path / "state" / "prefect" / "slot-0").mkdir(parents=True)
    (tmp_path / "state" / "prefect" / "slot-0" / "prefect.db").write_text("no database, whatever its name says" * 9)
    said = _in_a_process_of_its_own(
        """
        import logging, sys
        logging.getLogger("flows").setLevel(logging.INFO)
        logging.getLogger("flows").addHandler(logging.StreamHandler(sys.stdout))
        from faceline.errors import FacelineError
        from flows.server import prefect_server
        with prefect_server() as server:
            try:
                server.ready()
            except FacelineError as error:
                print(error)
        """,
        tmp_path / "state",
    )
    assert "the temporary Prefect server did not start" in said
    assert "file is not a database" in said, "in the log"


def test_no_more_servers_than_slots(no_names: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.server_thread.MAX_SLOTS", 1)
    lock, _ = take_slot(tmp_path)
    with lock, pytest.raises(OSError, match="in use"):
        take_slot(tmp_path)
    assert MAX_SLOTS > 1


def test_a_server_that_cannot_start_is_one_line(
    no_names: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FACELINE_STATE", str(tmp_path / "file"))
    monkeypatch.setattr("sys.modules", {name: module for name, module in sys.modules.items() if name != "prefect"})
    with pytest.raises(FacelineError, match="temporary Prefect server did not start"):
        PrefectServer().start()
