"""Pins: what they say, what they refuse, and what they do when something is gone."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceline import pins
from faceline.errors import ArtifactError, FacelineError, UsageError
from faceline.store import Store
from tests.faceline.planted import plant

FOOTAGE = {"path": "/home/interview.mp4", "sha256": "ab" * 32}


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "local":
        yield Store(tmp_path / "store")
        return
    import fsspec

    yield Store(f"memory://{tmp_path.name}")
    fsspec.filesystem("memory").store.clear()


def result(*made: Any) -> dict[str, Any]:
    return {"footage": FOOTAGE, "stages": [{"stage": each.stage, "key": each.key} for each in made]}


def test_a_pin_is_read_back_as_it_was_made(store: Store, tmp_path: Path) -> None:
    first, second = plant(store, "detect", {"n": 1}, content=b"123"), plant(store, "align", {"n": 1}, content=b"45")
    made = pins.pin(store, tmp_path / "results", "mine", result(first, second, first))
    assert pins.read_pin(store.folder, "mine") == made
    assert pins.read_pins(store.folder) == [made]
    assert made.artifacts == (first.place, second.place), "each once"
    assert (made.footage, made.sha256) == (FOOTAGE["path"], FOOTAGE["sha256"])
    manifests = sum(store.folder.size(f"{stage}/{key}/manifest.json") or 0 for stage, key in made.artifacts)
    assert made.bytes == manifests + 5
    assert made.gone(store) == []
    store.remove(*second.place)
    assert made.gone(store) == [second.place]
    pins.unpin(store.folder, "mine")
    assert pins.read_pins(store.folder) == []
    with pytest.raises(FacelineError, match=r"there is no pin mine.*pins here: none"):
        pins.unpin(store.folder, "mine")


def test_a_name_holds_one_result(store: Store, tmp_path: Path) -> None:
    first, second = plant(store, "detect", {"n": 1}), plant(store, "detect", {"n": 2})
    pins.pin(store, tmp_path, "mine", result(first))
    pins.pin(store, tmp_path, "mine", result(first))
    with pytest.raises(UsageError, match="a pin mine already, of another result"):
        pins.pin(store, tmp_path, "mine", result(second))


@pytest.mark.parametrize(
    "change",
    [lambda t: t[:-9], lambda t: t.replace("detect", "dutect"), lambda t: "[]", lambda t: t.replace("1,", "2,")],
)
def test_an_altered_pin_is_an_error_that_says_what_to_do(store: Store, tmp_path: Path, change: Any) -> None:
    pins.pin(store, tmp_path, "mine", result(plant(store, "detect", {"n": 1})))
    with store.folder.open("_pins/mine.json") as file:
        text = file.read().decode()
    store.folder.put("_pins/mine.json", change(text).encode())
    with pytest.raises(ArtifactError, match=r"the pin cannot be read.*unpin mine"):
        pins.read_pins(store.folder)
    pins.unpin(store.folder, "mine")
    assert pins.read_pins(store.folder) == []


@given(st.text(max_size=120))
def test_a_results_folder_of_any_name_suggests_a_good_one(name: str) -> None:
    pins.check_name(pins.name_for(Path("/results") / name.replace("/", "").replace("\0", "")))


@given(
    st.recursive(
        st.none() | st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_whatever_stands_in_run_json_is_no_crash(tmp_path_factory: pytest.TempPathFactory, body: Any) -> None:
    folder = tmp_path_factory.mktemp("results")
    for text in (json.dumps(body), json.dumps({"footage": FOOTAGE, "stages": body})):
        (folder / "run.json").write_text(text)
        with pytest.raises(UsageError, match=r"run\.json cannot be read"):
            pins.read_result(folder)


def test_keys_cannot_lead_out_of_the_store() -> None:
    for stage, key in (("../detect", "ab" * 32), ("detect", "../" * 20), ("", "ab" * 32), ("_pins", "ab" * 32)):
        with pytest.raises(ValueError, match="lists no artifacts"):
            pins.artifacts_of({"stages": [{"stage": stage, "key": key}]})


def test_results_behind_a_link_are_found_and_a_circle_ends(tmp_path: Path) -> None:
    elsewhere, results = tmp_path / "elsewhere" / "case", tmp_path / "results"
    for folder in (elsewhere, results / "here"):
        folder.mkdir(parents=True)
        (folder / "run.json").write_text("{}")
    (results / "there").symlink_to(elsewhere, target_is_directory=True)
    (elsewhere / "back").symlink_to(results, target_is_directory=True)
    assert pins.results_below(results) == [results / "here", results / "there"]


def test_a_folder_that_cannot_be_read_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("open", "shut"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text("{}")
    scandir = os.scandir

    def strict(path: str) -> Any:
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", strict)
    with pytest.raises(UsageError, match=r"shut: cannot be read: Permission denied"):
        pins.results_below(tmp_path)
