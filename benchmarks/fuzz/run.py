"""Fuzzing: mutated media files and mutated texts through everything that reads what others wrote.

    make fuzz                                        # 2000 media files, 1000 texts
    make fuzz ARGS="--media 20000 --texts 0 --seed 7"
    make fuzz ARGS="--only media:3006"               # one case again, with its traceback

Every case runs in a guarded process. It has to end well, or with one line of a `FacelineError`; a crash, a hang, memory
beyond the bound, or any other exception is a finding, and is kept. Cases follow from ``--seed`` and their number alone
(those on real clips, every fifth, also from the clips).
"""

from __future__ import annotations

import argparse
import os
import queue
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.fuzz.media import GOOD, MediaCase, Outcome, make_case, read_all
from benchmarks.fuzz.seeds import made_seeds, real_seeds
from benchmarks.fuzz.texts import make_store, read_text
from faceline.errors import FacelineError
from faceline.folders import create_private, make_private_dirs
from tasks.guarded import Guard, GuardError

#: Seconds of wall time for one case, address space for it, and resident memory above which it is a finding.
LIMIT_S = 60.0
ADDRESS_SPACE = 3 * 2**30
MOST_RESIDENT_MIB = 768

_MEDIA_MODULES = ("av", "cv2", "faceline.reading", "benchmarks.fuzz.media")
_TEXT_MODULES = ("faceline.stages", "flows.config", "flows.composition", "pyarrow.parquet", "benchmarks.fuzz.texts")

COLUMNS = (*GOOD, "time", "memory", "crash", "error")


@dataclass
class Tally:
    """What came of the cases.

    Attributes:
        counts: (group, kind of outcome) → number; groups are containers of media and kinds of texts.
        findings: name → what happened.
        peak_mib: largest resident memory of a case, and which.
        slowest_s: longest case, and which.
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    findings: dict[str, str] = field(default_factory=dict)
    peak_mib: tuple[int, str] = (0, "")
    slowest_s: tuple[float, str] = (0.0, "")
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, name: str, group: str, outcome: Outcome, seconds: float, note: str = "") -> None:
        """Take in the outcome of one case."""
        with self.lock:
            self.counts[group, outcome.kind] += 1
            self.peak_mib = max(self.peak_mib, (outcome.peak_mib, name))
            self.slowest_s = max(self.slowest_s, (round(seconds, 2), name))
            if outcome.kind not in GOOD:
                self.findings[name] = "\n".join(part for part in (f"{outcome.kind}: {outcome.text}", note) if part)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 1 where there are findings."""
    options = _options(arguments)
    out = Path(options.out)
    print("making the files to mutate …", flush=True)
    tally = run(
        seed=options.seed,
        media=options.media,
        texts=options.texts,
        jobs=options.jobs,
        out=out,
        only=options.only,
        data=None if options.made_only else _testdata(),
    )
    print_table(tally)
    if tally.peak_mib[1]:
        print(f"\nlargest memory of a file: {tally.peak_mib[0]} MiB ({tally.peak_mib[1]})")
    if tally.slowest_s[1]:
        print(f"longest case: {tally.slowest_s[0]} s ({tally.slowest_s[1]})")
    for name, text in sorted(tally.findings.items()):
        print(f"\nFINDING {name}, again with --seed {options.seed} --only {name}\n{text}")
    print(f"\n{len(tally.findings)} findings" + (f", kept in {out}" if tally.findings else ""))
    return 1 if tally.findings else 0


def run(
    *,
    seed: int = 0,
    media: int = 2000,
    texts: int = 1000,
    jobs: int = 1,
    out: Path,
    only: str = "",
    data: Path | None = None,
) -> Tally:
    """Run the cases; what comes of them.

    Args:
        seed: decides the mutations.
        media, texts: how many cases.
        jobs: guarded processes at the same time.
        out: folder for findings, made when there is one.
        only: one case, ``media:17`` or ``text:17``, instead of all.
        data: folder with real clips; None for made files alone.
    """
    kind, _, number = only.partition(":")
    media_numbers = [int(number)] if kind == "media" else [] if only else list(range(media))
    text_numbers = [int(number)] if kind == "text" else [] if only else list(range(texts))
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="faceline-fuzz-") as folder:
        if media_numbers:
            made, real = list(made_seeds()), list(real_seeds(data)) if data else []
            _spread(media_numbers, jobs, lambda: _Media(seed, made, real, Path(folder), out, tally))
        if text_numbers:
            _spread(text_numbers, jobs, lambda: _Texts(seed, Path(folder), out, tally))
    return tally


class _Media:
    """Media cases, one after the other."""

    def __init__(
        self,
        seed: int,
        made: Sequence[tuple[str, bytes]],
        real: Sequence[tuple[str, bytes]],
        folder: Path,
        out: Path,
        tally: Tally,
    ) -> None:
        self._seed, self._made, self._real, self._out, self._tally = seed, made, real, out, tally
        self._folder = Path(tempfile.mkdtemp(dir=folder))
        self.guard = Guard(read_all, LIMIT_S, ADDRESS_SPACE, _MEDIA_MODULES)

    def one(self, number: int) -> None:
        case = make_case(number, self._seed, self._made, self._real)
        path = self._folder / f"case{Path(case.seed).suffix}"
        path.write_bytes(case.content)
        outcome, note, seconds = _guarded(self.guard, path)
        if outcome.kind in GOOD and outcome.peak_mib > MOST_RESIDENT_MIB:
            outcome = Outcome("memory", f"{outcome.peak_mib} MiB of resident memory; {outcome.text}", outcome.peak_mib)
        name = f"media:{number}"
        self._tally.add(name, Path(case.seed).suffix.lstrip("."), outcome, seconds, note)
        if outcome.kind not in GOOD:
            _keep(self._out, f"media-{self._seed}-{number}", path.suffix, case, f"{self._tally.findings[name]}\n")
        path.unlink()


class _Texts:
    """Text cases, one after the other."""

    def __init__(self, seed: int, folder: Path, out: Path, tally: Tally) -> None:
        self._seed, self._out, self._tally = seed, out, tally
        self._folder = Path(tempfile.mkdtemp(dir=folder))
        make_store(self._folder / "store")
        self.guard = Guard(read_text, LIMIT_S, ADDRESS_SPACE, _TEXT_MODULES)

    def one(self, number: int) -> None:
        outcome, note, seconds = _guarded(self.guard, number, self._seed, str(self._folder))
        group = outcome.text.partition(":")[0] if outcome.kind in GOOD else "text"
        self._tally.add(f"text:{number}", group, outcome, seconds, note)
        if outcome.kind not in GOOD:
            _keep(self._out, f"text-{self._seed}-{number}", "", None, f"{self._tally.findings[f'text:{number}']}\n")


def _guarded(guard: Guard, *arguments: object) -> tuple[Outcome, str, float]:
    began_s = time.perf_counter()
    note = ""
    try:
        outcome: Outcome = guard.call(*arguments)
    except GuardError as error:
        outcome, note = Outcome(error.cause, error.what), "\n".join(getattr(error, "__notes__", ()))
    except FacelineError as error:
        outcome = Outcome("error", f"{type(error).__name__} where none is expected: {error}")
    return outcome, note, time.perf_counter() - began_s


def _spread(numbers: Sequence[int], jobs: int, make: Callable[[], _Media | _Texts]) -> None:
    """Work through the numbers with so many guarded processes."""
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in numbers:
        waiting.put(number)
    failed: list[BaseException] = []

    def work() -> None:
        try:
            worker = make()
            with worker.guard:
                while not failed:
                    worker.one(waiting.get_nowait())
        except queue.Empty:
            return
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(max(1, min(jobs, len(numbers))))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def _keep(out: Path, name: str, suffix: str, case: MediaCase | None, text: str) -> None:
    """Keep a finding for its owner: it may hold somebody's footage."""
    make_private_dirs(out)
    whole = text if case is None else f"{case.seed}: {', '.join(case.mutations)}\n{text}"
    contents = {f"{name}.txt": whole.encode("utf-8", "backslashreplace")}
    if case is not None:
        contents[f"{name}{suffix}"] = case.content
    for file_name, content in contents.items():
        (out / file_name).unlink(missing_ok=True)
        with create_private(out / file_name) as file:
            file.write(content)


def print_table(tally: Tally) -> None:
    """Print how often what came of which kind of file."""
    groups: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for (group, kind), count in tally.counts.items():
        groups[group][kind] = count
        groups["all"][kind] = groups["all"].get(kind, 0) + count
    print("".join([f"{'':14}", *(f"{name:>9}" for name in ("cases", *COLUMNS))]))
    for group in [*sorted(name for name in groups if name != "all"), "all"]:
        counts = [sum(groups[group].values()), *(groups[group].get(kind, 0) for kind in COLUMNS)]
        print("".join([f"{group:14}", *(f"{count:9}" for count in counts)]))


def _testdata() -> Path | None:
    named = os.environ.get("FACELINE_TESTDATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[3] / "shared" / "data"
    return folder if (folder / "clips").is_dir() else None


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz.run", description="Fuzz what reads foreign files.")
    parser.add_argument("--seed", type=int, default=0, help="decides the mutations")
    parser.add_argument("--media", type=int, default=2000, metavar="N", help="mutated media files")
    parser.add_argument("--texts", type=int, default=1000, metavar="N", help="mutated configurations, manifests, …")
    parser.add_argument("--only", default="", metavar="KIND:N", help="one case again, as in media:17 or text:17")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="guarded processes at the same time")
    parser.add_argument("--made-only", action="store_true", help="no real clips, even where they are")
    parser.add_argument("--out", default="artifacts/_fuzz", metavar="DIR", help="where findings are kept")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
