"""The command line from outside: what is printed where, exit codes, what is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import faceline
from flows import usage
from flows.cli import _ROOMS, main
from flows.console import Lines, describe, table
from tests.flows.conftest import Line

ROOT = Path(__file__).resolve().parents[2]


def command(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def imported(statement: str, folder: Path) -> set[str]:
    """Top-level packages in memory after a statement, in a fresh process."""
    code = (
        f"import sys\n{statement}\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return set(done.stderr.split())


HEAVY = {"torch", "mediapipe", "keras", "prefect", "cv2", "sklearn", "umap", "matplotlib", "plotly", "pandas", "dlib"}


def test_help_imports_nothing(tmp_path: Path) -> None:
    """Which is why it takes a tenth of a second."""
    loaded = imported("from flows.cli import main; main(['--help'])", tmp_path)
    assert not loaded & (HEAVY | {"hydra", "omegaconf", "pyarrow", "numpy", "pydantic"})


def test_planning_imports_no_network_and_no_prefect(tmp_path: Path) -> None:
    """`plan` up to the point where it opens the footage."""
    statement = "from flows.cli import main; main(['plan', 'footage=nowhere.mp4'])"
    assert not imported(statement, tmp_path) & (HEAVY - {"cv2"})


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_the_overview_names_verbs_codes_and_limit(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert all(verb in out for verb in usage.VERBS)
    assert "130" in out
    assert "a lead for a human" in out


@pytest.mark.parametrize("verb", list(_ROOMS))
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    first = capsys.readouterr().out
    assert f"faceline {verb}" in first
    assert main(["help", verb]) == 0
    assert capsys.readouterr().out == first


def test_verbs_of_the_help_are_those_that_exist() -> None:
    assert set(usage.VERBS) == set(_ROOMS)


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"faceline {faceline.__version__}\n"


def test_help_lines_fit_a_terminal() -> None:
    assert max(map(len, usage.overview().splitlines())) <= 120


def test_wrong_use_is_one_line_and_2(tmp_path: Path) -> None:
    """In a process of its own, since what counts is the descriptor."""
    done = command("analyze", "smaple.fps=5", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "faceline: there is no option 'smaple.fps'; did you mean 'sample.fps'?\n"
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == [], "wrong use leaves nothing behind"


@pytest.mark.parametrize("arguments", [["anlyze"], ["analyze"], ["archive", "footage=nowhere"], ["plan", "x.mp4"]])
def test_every_wrong_use_is_2(arguments: list[str], line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("faceline: ")
    assert printed.err.count("\n") == 1
    assert printed.out == ""


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [
        (["analyze", "--output", "x"], "options are written option=value: output=x"),
        (["analyze", "--output=x"], "options are written option=value: output=x"),
        (["analyze", "-output", "footage=x.mp4"], "options are written option=value: output=VALUE"),
        (["analyze", "--"], "options are written option=value"),
        (["footage=x.mp4", "analyze"], "the verb comes first: faceline analyze option=value …"),
        (["--output", "x"], "the verb comes first: faceline VERB option=value …"),
    ],
)
def test_other_programs_ways_get_a_cure(arguments: list[str], cure: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert f"; {cure}" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"this is no video\n" * 100])
def test_a_file_that_is_no_video_is_one_line_and_1(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.mp4").write_bytes(content)
    done = command("analyze", "footage=broken.mp4", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "broken.mp4" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["broken.mp4"], "nothing is left half-made"


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "config"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout is not None
    assert writer.stderr is not None
    writer.stdout.close()
    assert writer.stderr.read() == ""
    writer.stderr.close()
    assert writer.wait(timeout=300) == 1


# ------------------------------------------------------------------------------------------ verbs, in this process


def test_interruption_is_130_and_one_line(
    line: Line, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("flows.analyze.run_job", interrupted)
    assert main(["analyze", *line.arguments()]) == 130
    assert capsys.readouterr().err.count("\n") == 1


def test_config_prints_yaml_that_says_what_differs(line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    import yaml

    assert main(["config", "report.top_events=3", "gridsearch=small", "footage=a, b=c.mp4"]) == 0
    out = capsys.readouterr().out
    assert "top_events: 3  # default: 10" in out
    tree = yaml.safe_load(out)
    assert tree["footage"] == "a, b=c.mp4"
    assert tree["gridsearch"]["space"][0] == "anomaly=iforest,ocsvm,lof"


def test_the_printed_configuration_can_be_read_back(
    line: Line, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from flows import show
    from flows.config import load_config

    given = ["report.top_events=3", "sample.fps=2.5", "embedder=dlib", "footage=x.mp4", "anomaly=lof,iforest"]
    assert main(["config", *given]) == 0
    (tmp_path / "own.yaml").write_text(capsys.readouterr().out)
    again = load_config([f"config={tmp_path / 'own.yaml'}"], show.STAGES)
    once = load_config(given, show.STAGES)
    assert again.params == once.params
    assert again.options == once.options
    assert [t.params for t in again.trials] == [t.params for t in once.trials]


def test_verify_finds_damage_and_sets_it_aside(line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    from flows.config import load_config
    from flows.job import prepare
    from flows.verify import STAGES
    from flows.walk import start_here

    store = line.folder / "artifacts"
    prepare(load_config(line.arguments(), STAGES), STAGES).walk(start_here, Lines()).run()
    assert main(["verify", f"store.root={store}"]) == 0
    assert "11 artifacts sound, 0 damaged" in capsys.readouterr().out
    payload = next((store / "detect").glob("*/out.parquet"))
    payload.chmod(0o600)
    content = bytearray(payload.read_bytes())
    content[len(content) // 2] ^= 1
    payload.write_bytes(content)
    assert main(["verify", "repair=false", f"store.root={store}"]) == 1
    assert "damaged: detect/" in capsys.readouterr().out
    assert payload.exists()
    assert main(["verify", f"store.root={store}"]) == 1
    assert "; set aside" in capsys.readouterr().out
    assert main(["verify", f"store.root={store}"]) == 0
    walk = prepare(load_config(line.arguments(), STAGES), STAGES).walk(start_here, Lines())
    walk.run()
    (outcome,) = [done for name, done in walk.outcomes.items() if name.startswith("detect")]
    assert outcome.state == "run"
    assert "damaged" in outcome.reason
    assert main(["verify", "repair=perhaps"]) == 2


def test_models_lists_what_is_here(line: Line, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", f"models.folder={tmp_path}"]) == 0
    out = capsys.readouterr().out
    assert "mtcnn" in out
    assert "face_landmarker: optional, without it no blendshapes; run 'faceline models fetch face_landmarker'" in out
    assert main(["models", "fetch", "vgface2"]) == 2
    assert "did you mean 'vggface2'" in capsys.readouterr().err
    assert main(["models", "fetch"]) == 2
    assert main(["models", "fetch", "mtcnn"]) == 0


@pytest.mark.parametrize("name", ["models.folder", "FACELINE_MODELS"])
def test_a_model_folder_that_is_named_has_to_exist(
    name: str, line: Line, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = line.arguments()
    if name.isupper():
        monkeypatch.setenv(name, "/nosuch")
    else:
        given.append(f"{name}=/nosuch")
    said = f"faceline: {name}=/nosuch: there is no such folder; make it, or correct {name}\n"
    for arguments in (["plan", *given], ["analyze", *given], ["models", *given[len(line.arguments()) :]]):
        assert main(arguments) == 2
        assert capsys.readouterr().err == said
    assert line.calls.computed == []


# ------------------------------------------------------------------------------------------ small things


def test_lines_say_state_reason_and_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    Lines().finished("detect · segment 0", "run", "params.fps 10 → 5", 12.34)
    out = capsys.readouterr().out
    assert out.split() == ["detect", "·", "segment", "0", "done", "12.3", "s", "params.fps", "10", "→", "5"]


def test_tables_line_up(capsys: pytest.CaptureFixture[str]) -> None:
    table(("a", "number"), [("long name", 5), ("b", 12)], right=("number",))
    assert capsys.readouterr().out.splitlines() == ["a          number", "long name       5", "b              12"]


def test_one_very_long_name_pushes_no_other_row_away(capsys: pytest.CaptureFixture[str]) -> None:
    table(("a", "b"), [("x" * 240, "first"), ("short", "second")])
    assert capsys.readouterr().out.splitlines() == ["a      b", f"{'x' * 240}  first", "short  second"]


def test_values_are_described_as_they_are_written() -> None:
    assert describe([1, None, True, "x"]) == "[1,null,true,x]"
