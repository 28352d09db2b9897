"""From runs to figures: shares of frames, medians, growth, overhead, and a clock around the store."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from benchmarks.speed import direct, floor, lengths, overhead, profile, ratio, storeclock, tables
from benchmarks.speed.running import Analysis, Cost
from flows.console import stage_line


def test_shares_are_different_and_evenly_spread() -> None:
    found = ratio.shares(range(100, 400), 3, 25)
    flat = sorted(frame for part in found for frame in part)
    assert len(set(flat)) == 75 and [len(part) for part in found] == [25, 25, 25]
    assert all(3 <= b - a <= 5 for a, b in pairwise(flat))
    for part in found:  # each round goes through the whole clip
        assert part[0] < 115 and part[-1] > 385 and part == sorted(part)
    assert ratio.shares([5, 6, 7, 8, 9], 2, 25) == [[5, 8], [6, 9]]
    with pytest.raises(ValueError, match="too few"):
        ratio.shares([1, 2], 3, 5)


def analysis(wall_s: float, *, frames: int = 100, cpu_s: float = 10.0) -> Analysis:
    run = {
        "counts": {"sampled": frames, "faces": 90, "frames_with_face": 80, "persons": 1, "events": 0},
        "footage": {"duration_s": 20.0},
        "config": {"sample": {"fps": 5.0}},
        "models": {"identity": {"name": "dlib"}},
        "stages": [
            {"stage": "detect", "segment": 0, "key": "a", "seconds": 1.0},
            {"stage": "detect", "segment": 1, "key": "b", "seconds": wall_s / 10},
            {"stage": "report", "segment": None, "key": "c", "seconds": None},
        ],
    }
    lines = ((3.0, stage_line("detect · segment 0", "run", "", 2.0)),)
    return Analysis(Cost(wall_s, cpu_s, 500.0 + wall_s, None, lines), run, Path("nowhere"))


def test_ratio_is_the_median_of_the_rounds_and_not_of_either_side() -> None:
    answers = [{"frames": 10, "seconds": s, "cpu_s": 2 * s, "frames_with_face": 8, "faces": 8} for s in (1.0, 2.0, 5.0)]
    found = ratio.figures([analysis(10.0), analysis(5.0), analysis(20.0)], answers, 15.0)
    # 10, 20 and 5 frames/s against 10, 5 and 2.
    assert found["ratios"] == pytest.approx([1.0, 4.0, 2.5]) and found["ratio"] == pytest.approx(2.5)
    assert found["fps"] == 10 and found["script_fps"] == 5
    # The script's 15 s until its models are loaded, and 100 frames, against 10, 5 and 20 s.
    assert found["whole_ratio"] == pytest.approx(3.25)
    assert found["cpu_ratio"] == pytest.approx(4.0)  # 0.4 s against 0.1 s a frame
    assert found["real_time"] == 2.0 and found["rss_mb"] == 520
    assert found["stages"]["detect"] == {"seconds": 2.0, "fps": 50.0, "real_time": 10.0}
    assert found["stages"]["report"]["fps"] is None
    assert found["outside_stages_s"] == pytest.approx(8.0)
    assert found["frames_with_face"] == 0.8 and found["script_frames_with_face"] == 0.8
    text = "\n".join(ratio.told({"items": [{"label": "clip", "embedder": "dlib", **found}]}))
    assert "2.5×" in text and "identity dlib" in text


def test_growth_is_one_when_linear_and_four_when_quadratic() -> None:
    def runs(cost: Any) -> list[dict[str, float]]:
        return [{"duration_s": t, "wall_s": cost(t)} for t in (16.0, 1.0, 4.0)]

    assert lengths.growth(runs(lambda t: 12 + 3 * t), "wall_s") == pytest.approx(1)
    assert lengths.growth(runs(lambda t: 12 + t * t), "wall_s") == pytest.approx(4)
    assert lengths.growth(runs(lambda t: 12.0), "wall_s") is None
    assert lengths.growth(runs(lambda t: t)[:2], "wall_s") is None


def test_size_per_hour_of_a_face(tmp_path: Path) -> None:
    one = analysis(10.0)
    for stage, key in (("detect", "a"), ("detect", "b"), ("report", "c"), ("detect", "of another run")):
        (tmp_path / stage / key).mkdir(parents=True)
        (tmp_path / stage / key / "faces.parquet").write_bytes(b"x" * 1000)
    found = lengths.figures(Analysis(one.cost, one.run, tmp_path))
    assert found["artifact_bytes"] == 3000
    assert found["face_hours"] == pytest.approx(90 / 5 / 3600)  # 90 faces at 5 frames/s: 18 s
    assert found["bytes_per_face_hour"] == pytest.approx(3000 * 200)
    header, row = lengths.told({"runs": [{**found, "label": "crowd", "bytes_per_face_hour": 250e6}]})[:2]
    assert row.startswith("crowd (20 s)")
    assert row[: header.index("MB per face-hour") + 16].split()[-1] == "250"


def test_overhead_is_the_difference_and_the_store_a_part_of_the_whole() -> None:
    store = {"writing": {"wall_s": 4.0, "cpu_s": 2.0}, "reading": {"wall_s": 1.0, "cpu_s": 1.0}}
    found = overhead.figures([(100.0, 150.0)], [(80.0, 120.0, store)])
    assert found["prefect_wall_share"] == pytest.approx(0.2)
    assert found["prefect_cpu_share"] == pytest.approx(0.2)
    assert found["store_wall_share"] == pytest.approx(0.05)
    assert found["store_cpu_share"] == pytest.approx(0.02)
    text = "\n".join(overhead.told({"clip": "c.mp4", "duration_s": 600.0, **found}))
    assert "20.0 %" in text and "2.0 %" in text


def test_calls_within_calls_count_once_and_every_thread_counts() -> None:
    clock = storeclock.StoreClock()

    def inner() -> None:
        time.sleep(0.05)

    timed_inner = clock._clocked("reading", inner)
    timed_outer = clock._clocked("writing", lambda: (time.sleep(0.05), timed_inner()))
    threads = [threading.Thread(target=timed_outer) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock.spent["reading"].calls == 0 and clock.spent["writing"].calls == 2
    assert clock.spent["writing"].wall_s >= 0.2
    timed_inner()
    assert clock.spent["reading"].calls == 1


def test_of_a_generator_only_its_own_work_counts() -> None:
    clock = storeclock.StoreClock()

    def items() -> Iterator[int]:
        for number in range(3):
            time.sleep(0.02)
            yield number

    found = []
    began = time.perf_counter()
    for number in clock._clocked("reading", items)():
        time.sleep(0.1)  # whoever uses it
        found.append(number)
    assert found == [0, 1, 2]
    assert 0.06 <= clock.spent["reading"].wall_s <= time.perf_counter() - began - 0.3


def test_a_run_without_prefect_gives_results_and_clocks_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import json
    import sys

    import av
    import numpy as np

    from faceline.store import Store

    clip = tmp_path / "gray.mp4"
    with av.open(str(clip), "w") as output:
        stream = output.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for _ in range(10):
            gray = np.full((64, 96, 3), 90, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(gray, format="rgb24")):
                output.mux(packet)
        for packet in stream.encode():
            output.mux(packet)
    before, imported = Store.commit, "prefect" in sys.modules
    arguments = [f"footage={clip}", f"output={tmp_path / 'results'}", f"store.root={tmp_path / 'store'}"]
    assert (
        direct.main(["--clock", *arguments, "gridsearch=small", "report.plots=false", "models.blendshapes=none"]) == 0
    )
    spent = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(spent) == set(storeclock.CLOCKED)
    assert all(kind["calls"] > 0 and kind["wall_s"] > 0 for kind in spent.values())
    run = json.loads((tmp_path / "results" / "run.json").read_text())
    assert run["counts"]["sampled"] == 10 and {s["state"] for s in run["stages"]} == {"run"}
    assert Store.commit is before, "the clock has to be taken off again"
    assert ("prefect" in sys.modules) == imported


def test_stretches_of_a_run_and_what_ran_meanwhile() -> None:
    lines = (
        (4.0, stage_line("detect · segment 0", "run", "", 2.0)),
        (6.0, stage_line("detect · segment 1", "run", "", 3.0)),
        (7.0, stage_line("report", "run", "", 1.0)),
    )
    cpu_at = tuple((float(t), {"main": 1.0 * t, "server": 0.5 * t}) for t in range(1, 9))
    found = profile.timeline(Cost(8.0, 12.0, 1.0, None, lines, cpu_at))
    assert [(p["name"], p["start_s"], p["end_s"], p["seconds"]) for p in found] == [
        ("(before the first stage)", 0.0, 2.0, 2.0), ("detect", 2.0, 6.0, 5.0), ("report", 6.0, 7.0, 1.0),
        ("(after the last stage)", 7.0, 8.0, 1.0),
    ]  # fmt: skip
    assert found[0]["cpu_s"] == {"main": 2.0, "server": 1.0}
    assert found[1]["cpu_s"] == {"main": 4.0, "server": 2.0}


def test_a_profile_is_told_beside_its_floor() -> None:
    part = {"name": "detect", "start_s": 2.0, "end_s": 6.0, "seconds": 5.0, "cpu_s": {"main": 4.0, "server": 2.0}}
    result = {
        "footage": "clip.mp4", "frames": 100, "wall_s": 8.0, "cpu_s": 12.0, "timeline": [part],
        "floor": {
            "decoding": {"cpu_ms": 2.0, "batch": 1, "units": 500},
            "detector": {"cpu_ms": 20.0, "batch": 8, "by_batch": {"8": 20.0}, "units": 50},
            "blendshapes": {"failed": "ValueError: there are no weights for them", "units": 0},
        },
    }  # fmt: skip
    lines = profile.told(result)
    rows = {line.split("  ")[0]: line.split() for line in lines}
    assert rows["detect"][1:] == ["2.0", "6.0", "5.0", "6.0", "4.0", "2.0"]
    assert rows["decoding"][1:] == ["2.00", "500", "1.0"]
    assert rows["detector"][1:] == ["20.00", "at", "8", "50", "1.0"]
    assert rows["blendshapes"][-3:] == ["weights", "for", "them"]
    assert rows["together"][-1] == "2.0" and rows["the run"][-1] == "12.0"


def test_the_cheapest_batch_counts_and_every_input_is_worked_on() -> None:
    import numpy as np

    sizes: list[int] = []

    def call(batch: np.ndarray) -> None:
        sizes.append(len(batch))
        until = time.process_time() + 0.004 * (1 if len(batch) == 8 else len(batch))
        while time.process_time() < until:
            pass

    found = floor.per_batch(call, np.zeros((16, 2)))
    assert found["batch"] == 8 and found["cpu_ms"] == found["by_batch"][8] == min(found["by_batch"].values())
    assert found["by_batch"][1] == pytest.approx(4, rel=0.5)
    assert sum(sizes) == 16 * 3 * len(floor.BATCHES)


def test_tables_line_up_and_keep_every_cell() -> None:
    lines = tables.table(["clip", "fps", "word"], [["a", "1.5", "yes"], ["longer name", tables.NOTHING, "no"]])
    assert lines == ["clip         fps  word", "a            1.5  yes", "longer name    –  no"]
    assert tables.table(["only", "heads"], []) == ["only  heads"]
    assert (tables.number(None), tables.number(1.26), tables.share(0.123), tables.times(2.0)) == (
        "–", "1.3", "12.3 %", "2.0×",
    )  # fmt: skip
