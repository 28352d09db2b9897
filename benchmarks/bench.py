"""``make bench``: the straightforward script and faceline on the same clip in the same run.

The rounds alternate: a share of the sampled frames by the straightforward script (its models already loaded, which is
in its favour), then a whole ``faceline analyze`` from an empty store (imports, model loading, Prefect and report
included). Quoted are medians of the rounds. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from fractions import Fraction
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]


def default_footage() -> Path:
    """The interview clip where the real clips are, otherwise the demo's made footage."""
    data = Path(os.environ.get("FACELINE_TESTDATA", ROOT.parent / "shared" / "data"))
    clip = data / "clips" / "jiho_foreigner_interview.mp4"
    if clip.is_file():
        return clip
    from flows.demo import demo_footage

    return demo_footage(ROOT / "demo")


class PeakMemory:
    """Largest sum of resident memory over a process and all its descendants, sampled every 0.2 s.

    Pages that processes share count once for each of them, so the figure errs upwards.
    """

    def __init__(self, pid: int) -> None:
        self.peak_mb = 0.0
        self._root = psutil.Process(pid)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._done.wait(0.2):
            total = 0
            try:
                for process in [self._root, *self._root.children(recursive=True)]:
                    try:
                        total += process.memory_info().rss
                    except psutil.Error:
                        continue
            except psutil.Error:
                return
            self.peak_mb = max(self.peak_mb, total / 2**20)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def analyze(footage: Path, folder: Path, fps: float, embedder: str, more: list[str]) -> tuple[float, float, dict]:
    """One ``faceline analyze``; returns wall seconds, peak MB of the process tree, and run.json."""
    command = [
        sys.executable, "-m", "flows.cli", "analyze", f"footage={footage}", f"output={folder / 'results'}",
        f"store.root={folder / 'store'}", f"sample.fps={fps}", f"embedder={embedder}", *more,
    ]  # fmt: skip
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    with PeakMemory(process.pid) as memory:
        _, errors = process.communicate()
    seconds = time.perf_counter() - began
    if process.returncode != 0:
        raise SystemExit(f"faceline failed with exit code {process.returncode}:\n{errors}")
    return seconds, memory.peak_mb, json.loads((folder / "results" / "run.json").read_text())


def sampled_frames(folder: Path) -> list[int]:
    """Frame indices that faceline sampled, so that both sides work on the same frames."""
    import pyarrow.parquet as pq

    indices: list[int] = []
    for path in sorted((folder / "store" / "sample").glob("*/frames.parquet")):
        indices += pq.read_table(path, columns=["frame"])["frame"].to_pylist()
    return sorted(indices)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--footage", type=Path)
    parser.add_argument("--fps", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--every", type=int, help="the straightforward script takes one frame in so many a round; as many as rounds"
    )
    parser.add_argument("--embedder", default="auto", choices=("auto", "vggface2", "dlib"))
    parser.add_argument("--no-seek", action="store_true", help="let the straightforward script decode forward")
    parser.add_argument("overrides", nargs="*", help="further faceline overrides, such as detect.interval_s=0")
    args = parser.parse_args(argv)
    from faceline.weights import resolve

    footage = (args.footage or default_footage()).resolve()
    identity = resolve("identity", args.embedder)
    scratch = Path(tempfile.mkdtemp(prefix="faceline-bench-"))
    try:
        # A round that is not counted fills the disk caches (bytecode, numba) and says which frames are sampled.
        analyze(footage, scratch / "warmup", args.fps, identity.name, args.overrides)
        indices = sampled_frames(scratch / "warmup")
        command = [sys.executable, "-m", "benchmarks.naive", str(footage), "--embedder", identity.name]
        if identity.name == "vggface2":
            command += ["--weights", str(identity.path)]
        if args.no_seek:
            command += ["--no-seek"]
        naive = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert naive.stdin and naive.stdout

        def ask_naive(share: list[int]) -> dict:
            naive.stdin.write(json.dumps({"indices": share}) + "\n")
            naive.stdin.flush()
            return json.loads(naive.stdout.readline())

        json.loads(naive.stdout.readline())
        ask_naive(indices[:3])  # the first calls of every network are slow
        rounds = []
        for number in range(args.rounds):
            slow = ask_naive(indices[number :: args.every or args.rounds])
            seconds, peak_mb, run = analyze(
                footage, scratch / f"round{number}", args.fps, identity.name, args.overrides
            )
            warm_s, _, warm = analyze(footage, scratch / f"round{number}", args.fps, identity.name, args.overrides)
            assert all(stage["state"] == "cached" for stage in warm["stages"]), "the rerun was not fully cached"
            rounds.append({"slow": slow, "seconds": seconds, "peak_mb": peak_mb, "run": run, "warm_s": warm_s})
            slow_fps = slow["frames"] / slow["seconds"]
            print(
                f"round {number + 1}: straightforward {slow_fps:.2f} frames/s, faceline {len(indices) / seconds:.2f}, "
                f"rerun {warm_s:.1f} s",
                file=sys.stderr,
            )
        naive.stdin.close()
        naive.wait()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)

    naive_fps = [r["slow"]["frames"] / r["slow"]["seconds"] for r in rounds]
    fast_fps = [len(indices) / r["seconds"] for r in rounds]
    counts = rounds[0]["run"]["counts"]
    naive_frames = sum(r["slow"]["frames"] for r in rounds)
    naive_with_face = sum(r["slow"]["frames_with_face"] for r in rounds)
    duration_s = float(Fraction(rounds[0]["run"]["footage"]["duration_s"]))
    figures = {
        "footage": footage.name,
        "embedder": identity.name,
        "frames": len(indices),
        "naive_fps": round(statistics.median(naive_fps), 3),
        "faceline_fps": round(statistics.median(fast_fps), 3),
        "ratio": round(statistics.median(f / n for f, n in zip(fast_fps, naive_fps, strict=True)), 3),
        "faces_naive": sum(r["slow"]["faces"] for r in rounds),
        "faces_faceline": counts["faces"],
        "share_naive": round(naive_with_face / naive_frames, 4),
        "share_faceline": round(counts["frames_with_face"] / counts["sampled"], 4),
        "peak_rss_mb": round(max(r["peak_mb"] for r in rounds)),
        "warm_s": round(statistics.median(r["warm_s"] for r in rounds), 2),
        "real_time_factor": round(duration_s / statistics.median(r["seconds"] for r in rounds), 3),
        "naive_seeks": not args.no_seek,
    }
    stages: dict[str, list[float]] = {}
    for entry in (s for r in rounds for s in r["run"]["stages"]):
        stages.setdefault(entry["stage"], []).append(entry["seconds"] or 0.0)
    print(f"{'':24}{'straightforward':>18}{'faceline':>12}")
    for label, left, right in (
        ("sampled frames/s", "naive_fps", "faceline_fps"),
        ("faces", "faces_naive", "faces_faceline"),
        ("share with a face", "share_naive", "share_faceline"),
    ):
        print(f"{label:24}{figures[left]:>18}{figures[right]:>12}")
    each = ", ".join(f"{f / n:.2f}" for f, n in zip(fast_fps, naive_fps, strict=True))
    print(f"ratio {figures['ratio']} (rounds: {each})")
    print(f"peak memory of the process tree {figures['peak_rss_mb']} MB, rerun {figures['warm_s']} s")
    print("seconds per stage: " + ", ".join(f"{name} {sum(s) / len(rounds):.1f}" for name, s in stages.items()))
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
