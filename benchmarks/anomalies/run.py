"""``make bench-anomalies``: faceline and other methods on footage with known events, in one run.

Footage is rendered where it is missing, every recording is analysed (without Prefect, in a store of its own, so that a
rerun redoes what changed and nothing else), and every method's scores and faceline's events are held against the
truth. Made footage needs nothing; spliced footage, its controls and natural clips need the real clips. The ablations
and the growth of time with the length of footage are measured when they are asked for. The last line is one JSON
object.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from benchmarks.anomalies import metrics, tables
from benchmarks.anomalies.ablations import ABLATIONS
from benchmarks.anomalies.judging import (
    Figure,
    Item,
    compare,
    differences,
    focus,
    reported_figures,
)
from benchmarks.anomalies.made import PERSONS
from benchmarks.anomalies.methods import ANCESTOR, BEST_TRIAL, FACELINE, RANDOM_TRIAL, Picker
from benchmarks.anomalies.recordings import FOLDER, KINDS, REAL, Kind, all_recordings, one_thread
from benchmarks.anomalies.reported import (
    CALIBRATION,
    ConfoundCount,
    DriverCount,
    as_reports,
    calibrated,
    count_confounds,
    count_drivers,
    standing,
)
from benchmarks.anomalies.scale import SIZES, measure
from benchmarks.anomalies.sources import clips_folder
from benchmarks.anomalies.working import AncestorMode, Outcome, Task, work_all

CONTROLS_OF: dict[Kind, Kind] = {"made": "quiet", "spliced": "controls", "natural": "controls"}
"""Kind with events → the kind without any that goes with it."""

DIFFICULTIES = ("strong", "short", "subtle", "long", "natural")

SPLIT_SHARE = 0.1
"""A second person with so large a share of the first one's faces is worth a line: recordings show one."""

PORTRAITS = len({person.portrait for person in PERSONS.values()})

LEGEND = f"""\
Figures, with 95 % intervals over persons where there are several. Intervals over fewer than about ten persons are too
narrow; tables say how many there are. The "persons" of made footage (made, quiet, confounds) are {len(PERSONS)}
behaviours of {PORTRAITS} portraits: intervals over them say nothing of how persons differ. event AP, P@N (N: true
events of the recording) and VUS-PR: mean over persons of each recording's own. pooled AP, recall at one false alarm in
ten minutes, and false alarms per hour on controls at the threshold that finds half of the events: by one threshold for
all recordings. Reports on events of another difficulty count neither way. Every method's score becomes a robust z
within its recording, and its peaks become reports by the same rule. {ANCESTOR}: identity embeddings and six
emotions, and only the highest peaks of a recording, as it had it; all other methods report without limit. Plain methods
look at measures, the logarithms of emotions and, where there are any, blendshapes, face by face. {RANDOM_TRIAL}: mean
over the trials of the grid search.
{BEST_TRIAL}: chosen for each recording by its truth."""


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.anomalies.run", description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="footage, artifacts and scores kept between runs")
    parser.add_argument("--kinds", default=",".join(KINDS), help=f"of {', '.join(KINDS)}")
    parser.add_argument(
        "--split", choices=("tuning", "reporting", "all"), default="all", help="which real persons; made ones always"
    )
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="TEXT", help="recordings with one of these in the name"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of made and spliced footage")
    parser.add_argument("--fps", default="native", help="frames per second that are looked at, or 'native'")
    parser.add_argument("--picker", choices=get_args(Picker), default="prominent", help="how scores become reports")
    parser.add_argument(
        "--ancestor",
        choices=get_args(AncestorMode),
        default="kept",
        help="its embeddings: of all faces, those that faceline keeps anyway, or no ancestor",
    )
    parser.add_argument("--ablations", default="", help=f"names, or all: {', '.join(ABLATIONS)}")
    parser.add_argument("--scale", action="store_true", help="also measure time and memory against length")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="rows for --scale")
    parser.add_argument("--processes", type=int, default=2, help="recordings worked on at the same time")
    parser.add_argument("--draws", type=int, default=1000, help="of the bootstrap over persons")
    parser.add_argument("overrides", nargs="*", help="further faceline overrides, such as gridsearch=small")
    args = parser.parse_intermixed_args(argv)
    args.kinds = tuple(args.kinds.split(","))
    if strange := set(args.kinds) - set(KINDS):
        parser.error(f"no such kind: {', '.join(sorted(strange))}")
    named = list(ABLATIONS) if args.ablations == "all" else [n for n in args.ablations.split(",") if n]
    if strange := set(named) - set(ABLATIONS):
        parser.error(f"no such ablation: {', '.join(sorted(strange))}")
    args.ablations = named
    args.overrides = [f"sample.fps={args.fps}", *args.overrides]
    args.folder = args.folder.resolve()
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; 1 when a recording failed."""
    args = arguments(argv)
    one_thread()
    if clips_folder() is None and REAL & set(args.kinds):
        print("The real clips are not here (FACELINE_TESTDATA names their folder): made footage only.", flush=True)
    recordings = [
        r
        for r in all_recordings(args.folder, args.kinds, args.split, args.seeds)
        if not args.only or any(text in r.name for text in args.only)
    ]
    if not recordings:
        print("no recording fits", file=sys.stderr)
        return 2
    print(LEGEND)
    base = Task(
        recordings[0], args.folder, tuple(args.overrides), args.picker, ancestor=args.ancestor, calibration=CALIBRATION
    )
    failed: list[str] = []
    # Of footage with confounds alone only faceline's own events are looked at.
    tasks = [replace(base, recording=r) for r in recordings]
    tasks = [replace(t, others=False, ancestor="off") if t.recording.kind == "confounds" else t for t in tasks]
    outcomes = run(tasks, args.processes, failed)
    result: dict[str, Any] = {
        "settings": {
            "kinds": args.kinds, "split": args.split, "seeds": args.seeds, "overrides": args.overrides,
            "picker": args.picker, "ancestor": args.ancestor, "draws": args.draws,
        },
        "recordings": {o.recording.name: described(o) for o in outcomes},
        "groups": groups(outcomes, args.draws),
        "reported": reported(outcomes, args.draws),
        **events(outcomes, args.draws),
    }  # fmt: skip
    if args.ablations:
        ablated = {}
        for name in args.ablations:
            print(f"ablation: {name}", file=sys.stderr)
            overrides = (*args.overrides, *ABLATIONS[name])
            plain = replace(base, overrides=overrides, others=False, ancestor="off", calibration=())
            ablated[name] = run([replace(plain, recording=r) for r in recordings], args.processes, failed)
        result["ablations"] = ablations(outcomes, ablated, args.draws)
    if args.scale and outcomes:
        result["scale"] = scale(outcomes, args)
    result["failed"] = failed
    print(json.dumps(tables.plain(result), ensure_ascii=False))
    return 1 if failed else 0


def run(tasks: Sequence[Task], processes: int, failed: list[str]) -> list[Outcome]:
    """Outcomes in the order of the tasks; names of recordings that failed are added to a list."""
    found: dict[str, Outcome] = {}
    for done, (task, outcome) in enumerate(work_all(tasks, processes), start=1):
        name = task.recording.name
        if isinstance(outcome, Exception):
            failed.append(name)
            print(f"{done}/{len(tasks)} {name}: FAILED: {type(outcome).__name__}: {outcome}", file=sys.stderr)
            continue
        found[name] = outcome
        said = f"{done}/{len(tasks)} {name}: {outcome.seconds:.0f} s, {outcome.states.get('run', 0)} stages run"
        if not outcome.people:
            said += "; nobody was found: left out of the comparison"
        elif len(outcome.people) > 1 and outcome.people[1] > SPLIT_SHARE * outcome.people[0]:
            said += f"; told apart {len(outcome.people)} persons with {outcome.people} faces"
        print(said, file=sys.stderr)
    return [found[task.recording.name] for task in tasks if task.recording.name in found]


def described(outcome: Outcome) -> dict[str, Any]:
    """A recording in the JSON object."""
    return {
        "kind": outcome.recording.kind,
        "split": outcome.recording.split,
        "unit": outcome.recording.unit,
        "duration_s": outcome.duration_s,
        "true_events": len(outcome.truth.events),
        "reported": len(standing(outcome.events)),
        "explained": len(outcome.events) - len(standing(outcome.events)),
        "faces": outcome.people,
        "seconds": outcome.seconds,
    }


def group_names(outcomes: Sequence[Outcome]) -> dict[str, tuple[Kind, str]]:
    """Name of each group → kind and difficulty, in the orders of `KINDS` and `DIFFICULTIES`."""
    there = {(o.recording.kind, difficulty) for o in outcomes for difficulty in o.truth.difficulties}
    return {
        kind if kind == difficulty else f"{kind} {difficulty}": (kind, difficulty)
        for kind in KINDS
        for difficulty in DIFFICULTIES
        if (kind, difficulty) in there
    }


def items_of(outcomes: Sequence[Outcome], kind: Kind, difficulty: str) -> list[Item]:
    """Recordings of a kind as far as one difficulty is concerned; those without a person are left out."""
    return [
        Item(o.recording.unit, o.methods[difficulty], o.trials[difficulty])
        for o in outcomes
        if o.recording.kind == kind and o.methods.get(difficulty)
    ]


def groups(outcomes: Sequence[Outcome], draws: int) -> dict[str, Any]:
    """Print and give the figures of all methods, group by group."""
    found: dict[str, Any] = {}
    for name, (kind, difficulty) in group_names(outcomes).items():
        items = items_of(outcomes, kind, difficulty)
        controls = items_of(outcomes, CONTROLS_OF[kind], "")
        if not items:
            continue
        figures = compare(items, controls, draws=draws)
        apart = differences(figures)
        events = sum(len(o.truth.spans(difficulty)) for o in outcomes if o.recording.kind == kind)
        persons, of_controls = _persons(items), _persons(controls)
        title = (
            f"{name}: {events} events in {len(items)} recordings of {persons} persons,"
            f" {len(controls)} controls of {of_controls} persons"
        )
        print(tables.methods_table(title, figures))
        title = f"{name}, {persons} persons: {FACELINE} minus each (of false alarms, less is better)"
        print(tables.differences_table(title, apart), flush=True)
        found[name] = {
            "recordings": len(items), "persons": persons, "events": events, "controls": len(controls),
            "control_persons": of_controls, "methods": figures, "differences": apart,
        }  # fmt: skip
    return found


def _persons(items: Sequence[Item]) -> int:
    """Whom intervals draw."""
    return len({item.unit for item in items})


def reported(outcomes: Sequence[Outcome], draws: int) -> dict[str, Any]:
    """Print and give recall and false alarms of the events that faceline reports by itself."""
    rows: list[tuple[str, int, int, int, Figure | None, Figure | None]] = []
    for name, (kind, difficulty) in group_names(outcomes).items():
        mine = [o for o in outcomes if o.recording.kind == kind and difficulty in o.truth.difficulties]
        focused = [
            (o.recording.unit, focus(as_reports(o.events, o.truth, o.duration_s), o.truth, difficulty)) for o in mine
        ]
        events = sum(len(reports.true_s) for _, reports in focused)
        recall = reported_figures(focused, metrics.event_recall, draws=draws)
        rows.append((name, len(mine), len({o.recording.unit for o in mine}), events, recall, None))
    for kind in KINDS:
        mine = [o for o in outcomes if o.recording.kind == kind]
        if mine:
            all_of = [(o.recording.unit, as_reports(o.events, o.truth, o.duration_s)) for o in mine]
            events = sum(len(reports.true_s) for _, reports in all_of)
            recall = reported_figures(all_of, metrics.event_recall, draws=draws) if events else None
            alarms = reported_figures(all_of, metrics.false_alarms_per_hour, draws=draws)
            rows.append((f"all {kind}", len(mine), len({o.recording.unit for o in mine}), events, recall, alarms))
    print(tables.reported_table(rows), flush=True)
    return {
        name: {
            "recordings": count, "persons": persons, "events": events, "recall": recall,
            "false_alarms_per_hour": alarms,
        }
        for name, count, persons, events, recall, alarms in rows
    }  # fmt: skip


def events(outcomes: Sequence[Outcome], draws: int) -> dict[str, Any]:
    """Print and give what faceline's events say of causes and drivers, their calibration, and natural moments."""
    confounds: dict[str, ConfoundCount] = {}
    drivers: dict[str, DriverCount] = {}
    for outcome in outcomes:
        if outcome.truth.confounds:
            kind = outcome.truth.confounds[0].kind
            one = count_confounds(outcome.events, outcome.truth.confounds)
            confounds[kind] = confounds.get(kind, ConfoundCount()) + one
        if outcome.recording.kind == "made":
            for kind, count in count_drivers(outcome.events, outcome.truth.events).items():
                drivers[kind] = drivers.get(kind, DriverCount()) + count
    if drivers:
        drivers["all"] = sum(drivers.values(), DriverCount())
    calibration = []
    for kind in ("quiet", "controls"):
        for nominal in CALIBRATION:
            mine = [o for o in outcomes if o.recording.kind == kind and nominal.name in o.calibration]
            if mine:
                came = [(o.recording.unit, *o.calibration[nominal.name]) for o in mine]
                calibration.append((kind, calibrated(nominal, came, draws=draws)))
    natural = [moment for outcome in outcomes for moment in outcome.natural]
    if confounds:
        print(tables.confounds_table(confounds))
    if drivers:
        print(tables.drivers_table(drivers))
    if calibration:
        print(tables.calibration_table(calibration))
    if natural:
        print(tables.natural_table(natural), flush=True)
    return {
        "confounds": {kind: vars(count) | {"share_right": count.share_right} for kind, count in confounds.items()},
        "drivers": {kind: vars(count) | {"share_right": count.share_right} for kind, count in drivers.items()},
        "calibration": [
            {
                "footage": kind, "block": c.nominal.block, "per_hour": c.nominal.per_hour, "recordings": c.recordings,
                "persons": c.units, "judged_s": c.judged_s, "expected": c.expected, "events": c.events,
                "interval": c.interval, "events_per_hour": c.by_person, "recordings_with_events": c.footages,
                "holds": c.holds,
            }
            for kind, c in calibration
        ],
        "natural": [
            {
                "clip": m.clip, "kind": m.moment.kind, "start_s": m.moment.start_s, "end_s": m.moment.end_s,
                "rank": m.rank, "peak_rank": m.peak_rank,
            }
            for m in natural
        ],
    }  # fmt: skip


def ablations(outcomes: Sequence[Outcome], ablated: dict[str, list[Outcome]], draws: int) -> dict[str, Any]:
    """Print and give faceline's figures under every ablation beside its own, and the paired differences."""
    found: dict[str, Any] = {}
    runs = {FACELINE: outcomes, **ablated}
    by_name = {name: {o.recording.name: o for o in run} for name, run in runs.items()}
    shared = [o for o in outcomes if all(o.recording.name in run for run in by_name.values())]
    for name, (kind, difficulty) in group_names(shared).items():

        def merged(kind: Kind, difficulty: str) -> list[Item]:
            found = []
            for o in shared:
                same = {run: by_name[run][o.recording.name].methods.get(difficulty) or {} for run in by_name}
                if o.recording.kind == kind and all(FACELINE in methods for methods in same.values()):
                    found.append(Item(o.recording.unit, {run: same[run][FACELINE] for run in same}))
            return found

        items = merged(kind, difficulty)
        if not items:
            continue
        figures = compare(items, merged(CONTROLS_OF[kind], ""), draws=draws)
        apart = differences(figures)
        title = f"ablations, {name}, {_persons(items)} persons"
        print(tables.methods_table(title, figures))
        print(tables.differences_table(f"{title}: {FACELINE} minus each", apart))
        found[name] = {"methods": figures, "differences": apart}
    for name, run_of in ablated.items():
        print(f"\nablation: {name}", end="")
        found[f"reported, {name}"] = reported(run_of, draws)
    return found


def scale(outcomes: Sequence[Outcome], args: argparse.Namespace) -> dict[str, Any]:
    """Print and give time and memory on many rows, made from those of the recording with most faces."""
    longest = max(outcomes, key=lambda o: (max(o.people, default=0), o.recording.name)).recording
    measured = measure(longest.video, args.folder / "store", args.overrides, args.sizes)
    print(tables.scale_table(measured), flush=True)
    return {"from": longest.name, "sizes": [vars(m) for m in measured], "exponent": tables.exponent_of(measured)}


if __name__ == "__main__":
    raise SystemExit(main())
