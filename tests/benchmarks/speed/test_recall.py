"""Faces found by several sources."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.speed import recall

ONE, TWO, FAR = [0, 0, 10, 10], [20, 0, 30, 10], [60, 60, 70, 70]


def on(*frames: list) -> dict[int, np.ndarray]:
    return {number: np.array(boxes, float).reshape(-1, 4) for number, boxes in enumerate(frames)}


def test_recall_by_hand() -> None:
    found = recall.count(
        {
            "script": on([ONE], [], []),
            "faceline": on([ONE, TWO], [TWO], []),
            "YuNet": on([ONE, TWO], [], [FAR]),
        }
    )
    # Faces: ONE and TWO in the first frame, TWO in the second, FAR in the third; the first two are agreed on.
    assert (found["frames"], found["union"], found["agreed"]) == (3, 4, 2)
    seen = found["sources"]
    assert [seen[n]["faces"] for n in seen] == [1, 3, 3]
    assert [seen[n]["recall"] for n in seen] == [1 / 4, 3 / 4, 3 / 4]
    assert [seen[n]["agreed_recall"] for n in seen] == [1 / 2, 1, 1]
    assert [seen[n]["frames_with_face"] for n in seen] == pytest.approx([1 / 3, 2 / 3, 2 / 3])


def test_two_sources_cannot_agree_against_one_of_them() -> None:
    found = recall.count({"script": on([ONE]), "faceline": on([ONE, TWO])})
    assert found["sources"]["script"] == {
        "faces": 1, "frames_with_face": 1.0, "recall": 0.5, "agreed_recall": None,
    }  # fmt: skip


def test_without_faces_there_is_no_recall() -> None:
    found = recall.count({"script": on([]), "faceline": on([]), "YuNet": on([])})
    assert found["sources"]["faceline"]["recall"] is None
    assert found["sources"]["faceline"]["agreed_recall"] is None
    lines = recall.told({"clips": {"empty room": {**found, "reference": None}}})
    assert "–" in lines[1] and "Without a third opinion" in lines[-1]


def test_sources_that_looked_at_different_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="different frames"):
        recall.count({"script": on([ONE]), "faceline": on([ONE], [])})


class Run:
    """An analysis with these rows of align."""

    def table(self, stage: str, payload: str, columns: list[str]) -> pa.Table:
        assert (stage, payload) == ("align", "faces")
        rows = [(3, "ok", 1), (3, "no_face", 2), (3, "too_small", 3), (4, "ok", 4), (9, "ok", 5)]
        return pa.Table.from_pylist(
            [dict(zip(columns, (f, state, x, 10, 20, 30), strict=True)) for f, state, x in rows]
        )


def test_faces_of_a_run_without_boxes_that_show_none() -> None:
    found = recall.by_faceline(Run(), [3, 4, 5])  # type: ignore[arg-type]
    assert found[3].tolist() == [[1, 10, 21, 40], [3, 10, 23, 40]]
    assert found[4].tolist() == [[4, 10, 24, 40]]
    assert found[5].shape == (0, 4)


def test_the_scripts_boxes_are_scaled_to_the_upright_picture() -> None:
    answer = {"size_px": [100, 50], "boxes": [[[10, 10, 20, 20]], []]}
    found = recall.by_script(answer, [7, 8], (200, 50))
    assert found[7].tolist() == [[20, 10, 40, 20]] and found[8].shape == (0, 4)


@pytest.mark.real
def test_the_third_opinion_sees_the_woman(testdata: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACELINE_MODELS", str(testdata / "models"))
    weights = recall.find_yunet()
    assert weights is not None
    found = recall.by_yunet(testdata / "clips" / "lp_d18.mp4", [0, 30], weights)
    assert sorted(found) == [0, 30]
    for boxes in found.values():
        ((x1, y1, x2, y2),) = boxes
        assert 0 < x1 < 240 < x2 < 480 and 0 <= y1 < y2 < 480


def test_without_weights_there_is_no_third_opinion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACELINE_MODELS", str(tmp_path))
    monkeypatch.setenv("FACELINE_TESTDATA", str(tmp_path))
    assert recall.find_yunet() is None
