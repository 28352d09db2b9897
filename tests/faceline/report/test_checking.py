"""A results folder that was tampered with: whatever was touched is named, also where the digests were made to fit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from faceline.custody import Link, check_chain
from faceline.errors import UsageError
from faceline.keys import digest_of
from faceline.report.checking import Kept, check_pictures, check_rows, read_results
from faceline.report.results import run_bytes
from faceline.report.stored import check_store
from tests.faceline.report.chain import Chain

PERSON = "anomaly_detection_results_person_1.csv"


def links(folder: Path) -> dict[str, Link]:
    kept = read_results(folder)
    found = list(kept.links)
    if kept.run is not None:
        found += [*check_chain(kept.run, kept.entries), check_pictures(kept.run), check_rows(folder, kept.run)]
    return {link.name: link for link in found}


def problems(folder: Path) -> list[str]:
    return [problem for link in links(folder).values() for problem in link.problems]


def flip(path: Path, at: int | None = None) -> None:
    """Change one bit in the middle, or at a place."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if at is None else at] ^= 1
    path.unlink()  # Pictures have two names.
    path.write_bytes(content)


def rewrite(folder: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    """Change run.json and custody.json as somebody who makes all digests of files fit."""
    run = json.loads((folder / "run.json").read_text())
    custody = json.loads((folder / "custody.json").read_text())
    change(run, custody)
    data = json.dumps(custody).encode()
    (folder / "custody.json").write_bytes(data)
    for name in run["outputs"]:
        if (folder / name).is_file():
            run["outputs"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / "run.json").write_bytes(run_bytes(run))


def sealed(body: dict[str, Any]) -> None:
    """Make the digests within a manifest fit its content."""
    body["key"] = digest_of(body["parts"])
    body["digest"] = digest_of({name: [p["kind"], p["sha256"]] for name, p in body["payloads"].items()})
    body.pop("check", None)
    body["check"] = digest_of(body)


def test_an_untouched_folder_holds(kept: Chain) -> None:
    found = links(kept.folder)
    assert [name for name, link in found.items() if link.problems] == []
    assert "107 rows of 2 persons" in found["rows"].text
    assert kept.folder.joinpath("custody.json").name in read_results(kept.folder).run.outputs  # type: ignore[union-attr]


def test_every_single_file_is_covered(kept: Chain) -> None:
    files = sorted(path for path in kept.folder.rglob("*") if path.is_file())
    pictures = [path for path in files if path.suffix == ".jpg"]
    # Of the many pictures some of each folder; of everything else all.
    for path in [path for path in files if path not in pictures] + pictures[::23]:
        name = path.relative_to(kept.folder).as_posix()
        before = path.read_bytes()
        flip(path)
        found = problems(kept.folder)
        assert any(name in problem for problem in found), name
        path.write_bytes(before)
        if name != "run.json":
            path.rename(kept.folder.parent / "aside")
            assert any(name in problem for problem in problems(kept.folder)), f"{name} removed"
            (kept.folder.parent / "aside").rename(path)
    assert problems(kept.folder) == []


def test_every_byte_of_run_json_counts(kept: Chain) -> None:
    path = kept.folder / "run.json"
    content = path.read_bytes()
    for at in range(0, len(content), 409):
        path.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        assert any("run.json" in problem for problem in links_of_run(kept.folder)), at
    for other in (content.replace(b"\n", b"\r\n"), content + b" ", json.dumps(json.loads(content)).encode()):
        path.write_bytes(other)
        assert links_of_run(kept.folder)


def links_of_run(folder: Path) -> list[str]:
    return list(read_results(folder).links[0].problems)


@pytest.mark.parametrize(
    "name",
    [
        "aligned_faces/f00000001_00-00-00.033_track0000.jpg",
        "organized_faces/person_1/f00000001_00-00-00.033_track0000.jpg",
        "anomaly_detection_results_person_3.csv",
        "plots/more.png",
    ],
)
def test_what_was_added_among_the_results_is_named(kept: Chain, name: str) -> None:
    (kept.folder / name).parent.mkdir(exist_ok=True)
    (kept.folder / name).write_bytes(b"x")
    assert [problem for problem in problems(kept.folder) if name in problem and "was added" in problem]


def test_notes_beside_the_results_are_said_and_no_problem(kept: Chain) -> None:
    (kept.folder / "notes.txt").write_text("mine")
    (kept.folder / "more").mkdir()
    found = links(kept.folder)["files"]
    assert not found.problems
    assert found.text.endswith("not part of the results: more, notes.txt")


@pytest.mark.parametrize("name", ["events.csv", "run.json", "run.json.sig", "custody.json"])
def test_a_link_in_place_of_a_file_is_no_file(kept: Chain, tmp_path: Path, name: str) -> None:
    path = kept.folder / name
    if path.exists():
        path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert f"{name}: is no plain file" in problems(kept.folder)


def test_a_swapped_row_is_named_even_with_fitting_digests(kept: Chain) -> None:
    path = kept.folder / PERSON
    lines = path.read_text().splitlines()
    lines[5], lines[20] = lines[20], lines[5]
    path.write_text("\n".join(lines) + "\n")
    assert any(problem.startswith(f"{PERSON}: was altered") for problem in problems(kept.folder))
    rewrite(kept.folder, lambda run, custody: None)
    found = links(kept.folder)
    assert found["report"].problems == (f"{PERSON}: run.json states another digest than the stage report",)
    assert f"{PERSON}, row 6: is not in the order of time" in found["rows"].problems


@pytest.mark.parametrize("name", ["plots/more.png", "more.html", "anomaly_detection_results_person_3.csv"])
def test_a_file_that_the_report_did_not_make_is_named_even_with_a_fitting_digest(kept: Chain, name: str) -> None:
    path = kept.folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes((kept.folder / PERSON).read_bytes())
    rewrite(kept.folder, lambda run, custody: run["outputs"].update({name: ""}))
    assert links(kept.folder)["report"].problems == (f"{name}: run.json states it, the stage report did not make it",)


def test_an_event_that_was_moved_to_another_frame_is_named(kept: Chain) -> None:
    path = kept.folder / "events.csv"
    path.write_text(path.read_text().replace(",108,", ",111,"))
    rewrite(kept.folder, lambda run, custody: None)
    found = links(kept.folder)["rows"].problems
    assert any("its peak, frame 111, is not one row of" in problem for problem in found)


def test_a_picture_of_somebody_else_is_named(kept: Chain) -> None:
    source = next((kept.folder / "organized_faces" / "person_2").iterdir())
    moved = kept.folder / "organized_faces" / "person_1" / source.name
    source.rename(moved)
    name = f"organized_faces/person_1/{source.name}"

    def restate(run: dict[str, Any], custody: dict[str, Any]) -> None:
        run["outputs"][name] = run["outputs"].pop(f"organized_faces/person_2/{source.name}")

    rewrite(kept.folder, restate)
    assert links(kept.folder)["rows"].problems == (f"{name}: shows no face of {PERSON}",)


def test_a_picture_that_was_replaced_everywhere_is_found_by_the_store(kept: Chain) -> None:
    (one, other) = sorted((kept.folder / "aligned_faces").iterdir())[:2]
    content = other.read_bytes()
    for path in kept.folder.rglob(one.name):
        path.unlink()
        path.write_bytes(content + b"x")
    rewrite(kept.folder, lambda run, custody: None)
    assert problems(kept.folder) == []
    kept_now = read_results(kept.folder)
    assert kept_now.run is not None
    store, crops = check_store(str(kept.store), kept_now.run, kept_now.entries)
    assert not store.problems
    assert any(f"aligned_faces/{one.name}: is not the crop" in problem for problem in crops.problems)


def test_a_store_that_was_swept_is_no_problem(kept: Chain, tmp_path: Path) -> None:
    read = read_results(kept.folder)
    assert read.run is not None
    store, crops = check_store(str(tmp_path / "empty"), read.run, read.entries)
    assert (store.state, crops.state) == ("open", "open")


# ------------------------------------------------------------------------ the chain itself


def manifest(custody: dict[str, Any], stage: str, number: int = 0) -> dict[str, Any]:
    return [body for body in custody["artifacts"] if body["stage"] == stage][number]


def restated(run: dict[str, Any], custody: dict[str, Any]) -> None:
    """Make run.json state keys and digests as custody.json has them."""
    for record, body in zip(run["stages"], custody["artifacts"], strict=True):
        record["key"], record["digest"] = body["key"], body["digest"]


Change = Callable[[dict[str, Any], dict[str, Any]], None]


def _param(run: dict[str, Any], custody: dict[str, Any]) -> None:
    manifest(custody, "sample")["parts"]["params"]["fps"] = 5.0


def _host(run: dict[str, Any], custody: dict[str, Any]) -> None:
    manifest(custody, "embed")["host"] = "another"


def _payload(run: dict[str, Any], custody: dict[str, Any]) -> None:
    manifest(custody, "cluster")["payloads"]["people"]["sha256"] = "ee" * 32


def _resealed_payload(run: dict[str, Any], custody: dict[str, Any]) -> None:
    body = manifest(custody, "cluster")
    body["payloads"]["people"]["sha256"] = "ee" * 32
    sealed(body)
    restated(run, custody)


def _resealed_param(run: dict[str, Any], custody: dict[str, Any]) -> None:
    body = manifest(custody, "sample")
    body["parts"]["params"]["fps"] = 5.0
    sealed(body)
    restated(run, custody)


def _other_footage(run: dict[str, Any], custody: dict[str, Any]) -> None:
    run["footage"]["sha256"] = "ee" * 32


def _other_weights(run: dict[str, Any], custody: dict[str, Any]) -> None:
    run["models"]["detector"]["sha256"] = "ee" * 32


def _other_code(run: dict[str, Any], custody: dict[str, Any]) -> None:
    body = manifest(custody, "embed", 1)
    body["parts"]["code"]["faceline.timeline"] = "ee" * 32
    sealed(body)
    restated(run, custody)


def _removed(run: dict[str, Any], custody: dict[str, Any]) -> None:
    gone = manifest(custody, "align", 1)
    custody["artifacts"].remove(gone)
    run["stages"] = [record for record in run["stages"] if record["key"] != gone["key"]]


def _swapped(run: dict[str, Any], custody: dict[str, Any]) -> None:
    artifacts = custody["artifacts"]
    artifacts[0], artifacts[1] = artifacts[1], artifacts[0]
    run["stages"][0], run["stages"][1] = run["stages"][1], run["stages"][0]


def _gap(run: dict[str, Any], custody: dict[str, Any]) -> None:
    body = manifest(custody, "sample", 1)
    body["parts"]["scope"]["start_s"] = {"$fraction": "5/1"}
    sealed(body)
    restated(run, custody)


def _listing(run: dict[str, Any], custody: dict[str, Any]) -> None:
    body = manifest(custody, "report")
    body["payloads"]["files"]["files"]["events.csv"]["sha256"] = "ee" * 32
    sealed(body)
    restated(run, custody)


def _record(run: dict[str, Any], custody: dict[str, Any]) -> None:
    run["stages"][3]["digest"] = "ee" * 32


def _unstated(run: dict[str, Any], custody: dict[str, Any]) -> None:
    del run["outputs"]["events.csv"]


def _counts(run: dict[str, Any], custody: dict[str, Any]) -> None:
    run["counts"]["persons"] = 3


@pytest.mark.parametrize(
    ("change", "link", "said"),
    [
        (_param, "artifacts", "sample, segment 0: the key does not follow from its parts"),
        (_host, "artifacts", "embed, segment 0: the manifest was altered"),
        (_payload, "artifacts", "cluster: the digest does not follow from the payloads'"),
        (_resealed_payload, "inputs", "report: its input cluster is not what cluster before it gave"),
        (_resealed_param, "settings", "run.json: states another sample.fps than the key of sample, segment 0 holds"),
        (_resealed_param, "settings", "the report: states another sample.fps"),
        (_other_footage, "source", "sample, segment 0: was read from other footage"),
        (_other_footage, "source", "report: was made for other footage"),
        (_other_weights, "weights", "its detector weights are not those that run.json states"),
        (_other_code, "code", "embed, segment 1: the code of faceline.timeline is not that of the stages before"),
        (_removed, "inputs", "embed, segment 1: its input align is not what align before it gave"),
        (_swapped, "inputs", "sample, segment 0: does not begin where the segment before it ends"),
        (_gap, "inputs", "sample, segment 1: does not begin where the segment before it ends"),
        (_listing, "artifacts", "report: the listing of files does not match its digest"),
        (_listing, "report", "events.csv: run.json states another digest than the stage report"),
        (_record, "artifacts", "run.json: align, segment 1: key and digest are not those in custody.json"),
        (_unstated, "report", "events.csv: the stage report made it, run.json does not state it"),
        (_unstated, "files", "events.csv: was added"),
        (_counts, "rows", "run.json: counts 3 persons, the tables 2"),
    ],
)
def test_a_forgery_that_makes_files_fit_breaks_a_link(kept: Chain, change: Change, link: str, said: str) -> None:
    rewrite(kept.folder, change)
    found = links(kept.folder)
    assert any(said in problem for problem in found[link].problems), found


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: text.replace('"format":1', '"format":2'),
        lambda text: text.replace('"payloads"', '"payload"'),
        lambda text: '{"format":1,"artifacts":[7]}',
        lambda text: '{"format":1,"artifacts":[]}',
        lambda text: "[" * 100_000,
    ],
)
def test_a_chain_that_cannot_be_read_is_told(kept: Chain, spoil: Callable[[str], str]) -> None:
    path = kept.folder / "custody.json"
    path.write_text(spoil(path.read_text()))
    found = problems(kept.folder)
    assert any(problem.startswith("custody.json: was altered") for problem in found)
    assert any("custody.json" in problem and "was altered" not in problem for problem in found)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "is torn or was altered"),
        (b"[]", "was altered"),
        (b'{"faceline": "0.0.9", "outputs": {}}', "was made before a chain of custody was kept"),
        (run_bytes({"faceline": "0.1.0", "outputs": {}}), "is not whole: footage"),
        (b"\xff\xfe", "is torn"),
    ],
)
def test_a_run_json_that_says_nothing_is_told(kept: Chain, content: bytes, said: str) -> None:
    (kept.folder / "run.json").write_bytes(content)
    read: Kept = read_results(kept.folder)
    assert read.run is None
    assert any(said in problem for problem in read.links[0].problems)


def test_what_is_no_results_folder_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        read_results(tmp_path / "none")
    with pytest.raises(UsageError, match="holds no run"):
        read_results(tmp_path)
