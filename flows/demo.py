"""``python -m flows.demo``: make footage with known moments, analyse it, and count how many were found."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from faceline.errors import FacelineError
from faceline.made.evaluate import Outcome, evaluate, read_results
from faceline.made.render import render_once
from faceline.made.script import default_demo_script
from faceline.made.truth import Truth
from faceline.timeline import timecode
from flows import cli, console

MIN_FOUND = 0.8
MAX_FALSE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo.

    Returns:
        0 when at least 80 % of the true moments were found with at most 2 false events, else 1; the analysis' own
        exit code when that failed.
    """
    parser = argparse.ArgumentParser(prog="python -m flows.demo", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("demo"), help="where footage, artifacts and results go")
    parser.add_argument("--seconds", type=float, default=75.0, help="length of the footage, at least 40")
    parser.add_argument("overrides", nargs="*", help="further options of the analysis, such as embedder=dlib")
    options = parser.parse_args(arguments)
    try:
        script = default_demo_script(options.seconds)
    except ValueError as error:
        parser.error(str(error))
    footage: Path = options.folder / "demo.mp4"
    results: Path = options.folder / "results"
    try:
        truth, new = render_once(script, footage, progress=_told_by_quarters(footage))
        if not new:
            console.say(f"{footage} is there already, made from the same script")
        code = cli.main(
            [
                "analyze",
                f"footage={footage}",
                f"output={results}",
                f"store.root={options.folder / 'artifacts'}",
                "sample.fps=10",
                *options.overrides,
            ]
        )
        if code != 0:
            return code
        outcome = evaluate(read_results(results, truth), truth)
    except FacelineError as error:
        console.error(str(error))
        return error.exit_code
    _tell(outcome, truth)
    return 0 if outcome.recall >= MIN_FOUND and len(outcome.false) <= MAX_FALSE else 1


def _told_by_quarters(footage: Path) -> Callable[[int, int], None]:
    told: set[int] = set()

    def progress(done: int, total: int) -> None:
        quarter = 4 * done // total
        if quarter not in told:
            told.add(quarter)
            console.say(f"making {footage}: {25 * quarter} %")

    return progress


def _tell(outcome: Outcome, truth: Truth) -> None:
    console.say()
    console.say("The moments that were put into this footage, and the rank of the event on each:")
    console.table(
        ["person", "kind", "strength", "start", "end", "event"],
        [
            [
                f"{burst.person} ({truth.persons[burst.person - 1].portrait})",
                burst.kind,
                f"{burst.strength:.1f}",
                timecode(burst.start_s),
                timecode(burst.end_s),
                "missed" if rank is None else f"rank {rank}",
            ]
            for burst, rank in zip(outcome.bursts, outcome.ranks, strict=True)
        ],
        right=["strength"],
    )
    for event in outcome.false:
        console.say(f"false event: rank {event.rank} at {timecode(event.peak_s)}")
    false = f"{len(outcome.false)} false event{'' if len(outcome.false) == 1 else 's'}"
    console.say(f"{outcome.found} of {len(outcome.bursts)} true moments found, {false}")


if __name__ == "__main__":
    raise SystemExit(main())
