"""What is published, without a server; and what a run logs where."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.console import Lines
from flows.logfile import append_traceback, log_path, session
from flows.results import Finished

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def publish() -> Any:
    from flows import publish as module

    return module


@given(st.text(), st.text())
def test_artifact_keys_are_what_prefect_accepts(name: str, path: str) -> None:
    from flows.publish import artifact_place

    place = artifact_place(name, path.encode("utf-8", "replace").decode())
    assert place
    assert set(place) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert len(place) <= 60


def test_keys_tell_files_apart_and_stay(publish: Any) -> None:
    place = publish.artifact_place("Clip One", "/a/Clip One.mp4")
    assert place == publish.artifact_place("Clip One", "/a/Clip One.mp4")
    assert place != publish.artifact_place("Clip One", "/b/Clip One.mp4")
    assert place.startswith("clip-one-")


def test_events_without_numbers_are_still_json(publish: Any) -> None:
    event = {
        "rank": 1, "person": 1, "start_s": 0.0, "peak_s": 1.0, "end_s": 2.0, "score": float("nan"), "p_value": None,
        "quality": float("inf"), "top_features": None, "expected_false": None, "survival": float("nan"), "flags": None,
        "explained": False,
    }  # fmt: skip
    rows = publish.events_table([event] * 300)
    assert len(rows) == publish.MOST_ROWS
    assert json.loads(json.dumps(rows[0], allow_nan=False))["score"] is None


def test_explained_events_stand_last_and_say_so(publish: Any) -> None:
    event = {
        "rank": 1, "person": 1, "start_s": 0.0, "peak_s": 1.0, "end_s": 2.0, "score": 5.0, "p_value": 0.01,
        "quality": 0.9, "top_features": "smile +5.2", "expected_false": 0.0214, "survival": 0.755,
        "flags": "light changed", "explained": True,
    }  # fmt: skip
    found = {**event, "rank": 2, "explained": False, "flags": "", "drivers": "smile +5.2 (without it −62 %)"}
    rows = publish.events_table([event, found])
    assert [row["rank"] for row in rows] == [2, 1]
    assert [row["explained"] for row in rows] == ["", "explained, not counted"]
    assert [row["what"] for row in rows] == ["smile +5.2 (without it −62 %)", "smile +5.2"]
    assert rows[0]["expected_false"] == 0.0214 and rows[0]["survival"] == 0.76
    assert rows[1]["also changed"] == "light changed"


def test_the_leaderboard_is_published_beside_events_and_summary(
    publish: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}
    for name in ("create_table_artifact", "create_markdown_artifact"):
        monkeypatch.setattr(publish, name, lambda **given: seen.update({given["key"]: given}))
    run = {
        "footage": {"path": "a.mp4", "sha256": "0" * 64, "duration_s": 3.0},
        "counts": {"persons": 1, "events": 0}, "models": {}, "stages": [],
    }  # fmt: skip
    footage = SimpleNamespace(name="a", path=Path("a.mp4"))
    publisher = publish.Publisher(SimpleNamespace(footage=footage, output=tmp_path))
    publisher.finished(Finished(run, "the end", [], "### Person 1"))
    kinds = {key.rsplit("-", 2)[0] for key in seen}
    assert kinds == {"top-events", "leaderboard", "summary"}
    board = next(given for key, given in seen.items() if key.startswith("leaderboard"))
    assert board["markdown"] == "### Person 1"


def test_the_summary_cannot_be_broken_by_a_name(publish: Any, tmp_path: Path) -> None:
    run = {
        "footage": {"path": "a|b`c\nd.mp4", "sha256": "0" * 64, "duration_s": 3.0, "damaged_at_s": 2.5},
        "counts": {"faces": 1234},
        "models": {"identity": {"name": "dlib"}},
        "stages": [{"state": "run"}, {"state": "cached"}],
    }
    job = SimpleNamespace(output=tmp_path / "results")
    text = publish.summary_markdown(job, Finished(run, "``` no fence", []))
    assert "`a\\|b'c d.mp4`" in text
    assert "from 00:00:02.500" in text
    assert "1,234" in text
    assert text.count("```") == 2
    assert "a lead for a human" in text


def test_a_server_that_is_gone_fails_nothing(publish: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "_server", publish._Server())

    def gone(**_: object) -> None:
        raise ConnectionError("refused")

    assert publish.unless_it_fails(gone, key="x") is None


def test_a_server_that_is_gone_is_not_asked_at_every_stage(publish: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time would hold up the run by all that Prefect's client waits between its tries."""
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES

    monkeypatch.setattr(publish, "_server", publish._Server())
    asked: list[int] = []

    def ask(error: Exception | None) -> str:
        asked.append(PREFECT_CLIENT_MAX_RETRIES.value())
        if error is not None:
            raise error
        return "published"

    assert publish.unless_it_fails(ask, error=ValueError("refused by the server")) is None
    assert publish.unless_it_fails(ask, error=None) == "published"
    assert publish.unless_it_fails(ask, retries=1, error=httpx.ConnectError("nobody there")) is None
    assert publish.unless_it_fails(ask, error=None) is None
    assert asked == [3, 3, 1], "tries are few, and none follows one that met nobody"
    monkeypatch.setattr(publish._server, "away_until_s", time.monotonic())
    assert publish.unless_it_fails(ask, error=None) == "published"


# ------------------------------------------------------------------------------------------ logs


def test_log_paths_are_new_and_safe(tmp_path: Path) -> None:
    path = log_path(tmp_path, "analyze", "../a b\n" + "x" * 200)
    assert path.parent == tmp_path
    assert path.name.endswith(f"-{os.getpid()}.log")
    assert len(path.name) < 150


def test_records_go_to_the_log_and_warnings_to_people_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "logs" / "run.log"
    with session(path) as reporter:
        assert isinstance(reporter, Lines)
        logging.getLogger("faceline.store").info("for the log")
        logging.getLogger("tasks.runner").warning("for\nboth")
        logging.getLogger("flows.walk").error("an error is told once, at the end")
        logging.getLogger("elsewhere").warning("not ours")
    assert capsys.readouterr().err == "faceline: warning: for both\n"
    text = path.read_text()
    assert "INFO faceline.store: for the log" in text
    assert "an error is told once" in text
    assert "not ours" not in text
    assert logging.getLogger("faceline").handlers == []


def test_the_traceback_goes_to_the_log_of_its_run(tmp_path: Path) -> None:
    path = tmp_path / "run.log"
    with pytest.raises(ZeroDivisionError) as caught, session(path):
        raise ZeroDivisionError
    assert append_traceback(caught.value) == path
    assert "ZeroDivisionError" in path.read_text()
    outside = append_traceback(ValueError("before any run"))
    assert outside.name == "faceline.log"


def test_what_libraries_print_goes_to_the_log(tmp_path: Path) -> None:
    """MediaPipe and FFmpeg write to descriptor 2 from C; only a process of its own has one to move."""
    script = textwrap.dedent(
        """
        import os, sys
        from pathlib import Path
        from flows.logfile import session
        from flows import console
        with session(Path("run.log")) as reporter:
            os.write(2, b"chatter from C\\n")
            print("chatter from Python", file=sys.stderr)
            reporter.warned("for people")
        console.error("the end")
        with session(Path("quiet.log")):
            pass
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert done.stderr == "faceline: warning: for people\nfaceline: the end\n"
    assert (tmp_path / "run.log").read_text() == "chatter from C\nchatter from Python\n"
    assert not (tmp_path / "quiet.log").exists(), "a run with nothing to say leaves no log"
