"""``faceline verify RESULTS``: what is printed, what counts as a failure, and what the command line refuses."""

from __future__ import annotations

import json
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from PIL import Image

from faceline.report.results import run_bytes
from faceline.signing import ALGORITHM, PrivateKey
from flows.cli import main
from tests.faceline.conftest import number_in
from tests.faceline.report import chain

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="session")
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


@pytest.fixture(scope="session")
def made_chain(tmp_path_factory: pytest.TempPathFactory) -> chain.Chain:
    return chain.make(tmp_path_factory.mktemp("unsigned"))


@pytest.fixture(scope="session")
def made_signed(tmp_path_factory: pytest.TempPathFactory, key: Ed25519PrivateKey) -> chain.Chain:
    private = PrivateKey(key)
    stated = {"algorithm": ALGORITHM, "public_key": private.public.text}
    return chain.make(tmp_path_factory.mktemp("signed"), private.sign, stated)


@pytest.fixture
def signed(made_signed: chain.Chain, tmp_path: Path) -> chain.Chain:
    shutil.copytree(made_signed.folder, tmp_path / "clip")
    return replace(made_signed, folder=tmp_path / "clip")


@pytest.fixture
def public(tmp_path: Path, key: Ed25519PrivateKey) -> Path:
    path = tmp_path / "public.pem"
    path.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return path


def test_a_whole_folder_holds_link_by_link(signed: chain.Chain, public: Path, capsys: Captured) -> None:
    assert main(["verify", str(signed.folder), f"public_key={public}", f"store.root={signed.store}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = ["run.json", "signature", "footage", "files", "artifacts", "inputs", "source", "weights", "code"]
    names += ["settings", "report", "pictures", "rows", "store", "crops"]
    assert [line.split()[:2] for line in lines[:-1]] == [["ok", name] for name in names]
    assert lines[-1].endswith("everything that was checked holds")


def test_the_folder_alone_is_enough_and_says_what_was_not_checked(signed: chain.Chain, capsys: Captured) -> None:
    away = signed.footage.with_suffix(".away")
    signed.footage.rename(away)
    try:
        assert main(["verify", f"results={signed.folder}"]) == 0
        out = capsys.readouterr().out
        assert "--  footage" in out
        assert "No such file or directory; name it with footage=FILE" in out
        assert "2 could not be checked here (--)" in out
        # Asked for, it has to be there.
        assert main(["verify", str(signed.folder), f"footage={signed.footage}"]) == 1
        assert main(["verify", str(signed.folder), f"footage={away}"]) == 0
        assert main(["verify", str(signed.folder), "event=1"]) == 1
    finally:
        away.rename(signed.footage)


def test_one_byte_of_the_footage(signed: chain.Chain, tmp_path: Path, capsys: Captured) -> None:
    content = bytearray(signed.footage.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "copy.mp4").write_bytes(content)
    picture = tmp_path / "out.png"
    given = ["verify", str(signed.folder), f"footage={tmp_path / 'copy.mp4'}"]
    assert main(given) == 1
    out = capsys.readouterr().out
    assert "BAD footage" in out
    assert "is not the footage that was analysed, or was altered" in out
    assert main([*given, "event=1", f"frame={picture}"]) == 1
    assert "is not shown while something does not hold" in capsys.readouterr().err
    assert not picture.exists()


def test_a_signature_that_is_missing_altered_or_anothers(
    signed: chain.Chain, public: Path, tmp_path: Path, capsys: Captured
) -> None:
    path = signed.folder / "run.json.sig"
    whole = path.read_bytes()
    other = tmp_path / "other.pub"
    other.write_bytes(Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))
    for content, keyword, said in [
        (whole[:-1] + bytes([whole[-1] ^ 1]), public, "was not made for this run.json"),
        (whole + b"\n", public, "was not made for this run.json"),
        (b"", public, "was not made for this run.json"),
        (None, public, "run.json.sig: is missing"),
        (whole, other, "was signed with another key"),
    ]:
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        assert main(["verify", str(signed.folder), f"public_key={keyword}"]) == 1
        assert said in capsys.readouterr().out


def test_a_run_json_that_was_made_anew_does_not_fit_the_signature(signed: chain.Chain, capsys: Captured) -> None:
    run = json.loads((signed.folder / "run.json").read_text())
    run["counts"]["sampled"] += 1
    (signed.folder / "run.json").write_bytes(run_bytes(run))
    assert main(["verify", str(signed.folder)]) == 1
    assert "was not made for this run.json" in capsys.readouterr().out


def test_the_digest_that_was_noted(signed: chain.Chain, capsys: Captured) -> None:
    assert main(["verify", str(signed.folder), f"sha256={'ab' * 32}"]) == 1
    actual = capsys.readouterr().out.split("its SHA-256 is ")[1].split()[0]
    assert main(["verify", str(signed.folder), f"sha256={actual}"]) == 0
    assert main(["verify", str(signed.folder), "sha256=12"]) == 2


def test_unsigned_results_fail_only_where_a_signature_is_asked_for(
    made_chain: chain.Chain, public: Path, capsys: Captured
) -> None:
    assert main(["verify", str(made_chain.folder)]) == 0
    assert "not signed: a folder that was rewritten as a whole would not show" in capsys.readouterr().out
    assert main(["verify", str(made_chain.folder), f"public_key={public}"]) == 1
    assert "run.json: is not signed" in capsys.readouterr().out


def test_the_frame_of_an_event(signed: chain.Chain, tmp_path: Path, capsys: Captured) -> None:
    picture = tmp_path / "out.png"
    assert main(["verify", str(signed.folder), "event=1", f"frame={picture}"]) == 0
    out = capsys.readouterr().out
    assert "timecode  00:00:03.600 (3.600000 s; pts " in out
    assert "frame     108, counted from 0" in out
    assert "row       33 of anomaly_detection_results_person_1.csv" in out
    assert f"file      {signed.footage}" in out
    with Image.open(picture) as image:
        assert number_in(np.asarray(image)) == 108
        assert image.text["file"] == signed.footage.name  # type: ignore[attr-defined]
        assert str(signed.footage.parent) not in str(image.text)  # type: ignore[attr-defined]
    assert stat.S_IMODE(picture.stat().st_mode) == 0o600
    assert main(["verify", str(signed.folder), "event=1", f"frame={picture}"]) == 2
    assert "is not written over" in capsys.readouterr().err


def test_a_frame_that_cannot_be_written_is_told_before_anything_is_checked(
    signed: chain.Chain, capsys: Captured
) -> None:
    assert main(["verify", str(signed.folder), "event=1", "frame=/proc/e.png"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("faceline: /proc: cannot be written (")
    assert said.err.endswith("choose another place with frame=FILE.png\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["footage=x.mp4"], "footage= concerns a results folder, and none is named"),
        (["event=1"], "event= concerns a results folder"),
        (["RESULTS", "event=first"], "must be a rank"),
        (["RESULTS", "event=0"], "must be a rank"),
        (["RESULTS", "frame=x.png"], "none is named; add event=RANK"),
        (["RESULTS", "event=1", "frame=x.jpg"], "must end in .png"),
        (["RESULTS", "event=1", "frame=/nowhere/at/all/x.png"], "no such folder"),
        (["RESULTS", "event=1", "event=2"], "event= is given twice"),
        (["RESULTS", "RESULTS"], "several results folders"),
        (["RESULTS", "sample.fps=5"], "verify takes no sample.fps="),
        (["RESULTS", "evnt=5"], "did you mean 'event'"),
        (["RESULTS", "repair=false"], "concerns the store"),
        (["RESULTS", "public_key="], "public_key= is empty"),
        (["RESULTS", "public_key=/nowhere.pem"], "no such file"),
        (["sample.fps=5"], "verify takes no sample.fps="),
        (["nowhere/at/all"], "there is no such folder"),
        (["--deep"], "is no option=value"),
    ],
)
def test_wrong_use_is_one_line(made_chain: chain.Chain, arguments: list[str], said: str, capsys: Captured) -> None:
    given = [text.replace("RESULTS", str(made_chain.folder)) for text in arguments]
    assert main(["verify", *given]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.count("\n") == 1


def test_a_folder_of_any_name(signed: chain.Chain, capsys: Captured) -> None:
    for name in ("a=b, 'c'", "store", "x\x1b[2J"):
        folder = signed.folder.rename(signed.folder.parent / name)
        assert main(["verify", str(folder)]) == 0
        assert "\x1b" not in capsys.readouterr().out
        signed = replace(signed, folder=folder)


def test_a_source_that_would_be_read_for_ever_is_not_read(signed: chain.Chain, capsys: Captured) -> None:
    assert main(["verify", str(signed.folder), "footage=/dev/zero"]) == 1
    assert "it is no plain file" in capsys.readouterr().out
