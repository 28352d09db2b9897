"""Nights made for tests: a rich one with everything on it, an empty one, a failed one, and one of any size."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from faceline.nightly.figures import Figures
from faceline.nightly.moments import Difference, Moment
from faceline.nightly.nights import Delta, Entry, Night
from faceline.nightly.records import Record

HOSTILE = [
    "new\nline.mp4",
    "quo'\"te & <b>bold</b>.mp4",
    "<script>alert(1)</script>.mp4",
    "=cmd|' /C calc'!A0.mp4",
    "-rf.mp4",
    "../../outside.mp4",
    os.fsdecode(b"not \xff text.mp4"),
    "esc\x1b[2J\x1b]0;title\x07.mp4",
    "turned\u202e4pm.gpj",
    "pipe|back`tick`[link](http://x.example) www.example.com.mp4",
    "x" * 246 + ".mp4",
    "{{ 7 * 7 }}{% raw %}.mp4",
    "javascript:alert(1).mp4",
    "100%25 #1?.mp4",
    "שלום العالم 日本.mp4",
]
"""Names that a file may have, and that a page, a table or a terminal must not stumble over."""

BEGAN = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)


def digest(number: int) -> str:
    return f"{number:064x}"


def moment(peak_s: float = 10.0, person: int = 1, **changes: Any) -> Moment:
    values: dict[str, Any] = {"score": 7.5, "p_value": 0.002, "what": "mouth opening +5.2, fear +3.1", **changes}
    return Moment(person, round(peak_s - 0.5, 3), peak_s, round(peak_s + 0.7, 3), **values)


def new(*args: Any, **changes: Any) -> Difference:
    return Difference("new", None, moment(*args, **changes))


def vanished(*args: Any, **changes: Any) -> Difference:
    return Difference("vanished", moment(*args, **changes), None)


def changed(peak_s: float = 10.0, **changes: Any) -> Difference:
    return Difference("changed", moment(peak_s), moment(peak_s, **(changes or {"score": 9.0, "p_value": 0.0001})))


def night(
    entries: list[Entry] | None = None,
    deltas: tuple[Delta, ...] = (),
    end: dict[str, Any] | None = None,
    began: datetime = BEGAN,
    *,
    ended: bool = True,
    **begin: Any,
) -> Night:
    """A run that took 100 minutes unless ``end`` says otherwise; without an end where it is not ``ended``."""
    facts = {
        "began": began.isoformat(timespec="seconds"),
        "archive": "/archive",
        "output": "/results",
        "faceline": "0.1.0",
        "overrides": ["archive.schedule=02:00"],
        "host": "watch",
        "reason": "schedule",
        **begin,
    }
    closing = {
        "ended": (began + timedelta(seconds=6000)).isoformat(timespec="seconds"),
        "seconds": 6000.0,
        "state": "done",
        **(end or {}),
    }
    name = began.strftime("%Y%m%dT%H%M%SZ")
    return Night(name, facts, {e.file: e for e in entries or []}, deltas, closing if ended else None)


def done(file: str, number: int, **changes: Any) -> Entry:
    """A file that was analysed; its results lie in a folder of its name."""
    values: dict[str, Any] = {
        "sha256": digest(number),
        "results": file.rpartition(".")[0] or file,
        "persons": 2,
        "events": 3,
        "stages_run": 12,
        "seconds": 90.5 + number,
        "duration_s": 600.0 + 10 * number,
        **changes,
    }
    return Entry(file, "done", **values)


def rich() -> dict[str, Any]:
    """The arguments of `summarize` for a night with all there is on it, every hostile name among its files."""
    entries = [done(f"2026/interviews/room {n}/take {n:02d}.mp4", n) for n in range(1, 9)]
    entries += [
        Entry(f"2025/old {n}.mov", "unchanged", digest(100 + n), results=f"2025/old {n}", persons=1, events=2)
        for n in range(30)
    ]
    entries += [done(name, 200 + n, results=name.rpartition(".")[0]) for n, name in enumerate(HOSTILE)]
    entries += [
        Entry("2026/torn.mp4", "quarantined", digest(300), "the index (moov) is missing or torn, so nothing in the file"
              " can be found", tries=3, since="2026-11-20T02:10:00+00:00",
              cure="copy it again from its source; a recording that was cut off needs a repair tool"),
        Entry("2026/notes.mp4", "quarantined", digest(301), "this is a text, not a video", tries=1,
              since="2026-11-23T02:10:00+00:00"),
        Entry("2026/slow disk.mp4", "failed", digest(302), "unexpected OSError: [Errno 5] Input/output error", tries=4,
              since="2026-11-19T02:10:00+00:00"),
        Entry("2026/<b>evil</b>\n.mp4", "failed", "", "Permission denied: '/archive/2026/<b>evil</b>\n.mp4'", tries=1,
              since="2026-11-23T02:11:00+00:00"),
        Entry("incoming/camera 3.mp4", "left", reason="it grew by 12.4 MB while it was looked at"),
        Entry("2025/gone.mp4", "gone", digest(303)),
        Entry("2026/kept/moved.mp4", "unchanged", digest(304), results="2026/kept/moved", persons=1, events=0,
              moved_from="incoming/moved.mp4"),
        Entry("2026/again.mp4", "unchanged", digest(1), same_as="2026/interviews/room 1/take 01.mp4"),
    ]  # fmt: skip
    deltas = [
        Delta(
            e.file,
            ("new footage",),
            (),
            (new(12.3 + n, 1, p_value=0.0002 * (n + 1)), new(200.5, 2), new(300.25, 1, explained=True)),
        )
        for n, e in enumerate(entries[:5])
    ]
    deltas += [
        Delta("2025/old 1.mov", ("parameter", "code"),
              ("sample: params.fps 5 → 10", "detect: code of faceline.tracking changed"),
              (new(4.0), changed(50.0), changed(60.0, person=2), vanished(70.0))),
        Delta("2025/old 2.mov", ("model",), ("embed: model identity: dlib → vggface2",),
              (vanished(7.0), vanished(9.0, 2))),
        Delta("2025/gone.mp4", ("removed footage",), (), (vanished(1.5),)),
        Delta(HOSTILE[0], ("new footage",), (), (new(3.0, what="<i>mouth</i> opening"),)),
        Delta(HOSTILE[10], ("new footage",), (), (new(5.0, score=None, p_value=None, what=""),)),
    ]  # fmt: skip
    disk = {"store": 412_000_000_000, "results": 3_100_000_000, "free": 21_000_000_000}
    this = night(entries, tuple(deltas), {"disk": disk})
    before_entries = [e for e in entries if e.state == "unchanged"]
    before_entries += [
        Entry("2026/torn.mp4", "quarantined", digest(300), entries[-8].reason, tries=2),
        Entry("2026/interviews/room 2/take 02.mp4", "failed", digest(2), "no space left on device", tries=1),
    ]
    before = night(
        before_entries,
        end={"disk": {"store": 405_000_000_000, "results": 3_000_000_000, "free": 30_000_000_000}},
        began=BEGAN - timedelta(days=2),
    )
    cut = night(
        [done("2025/old 3.mov", 103)],
        (Delta("2025/old 3.mov", ("new footage",), (), (new(33.0, p_value=0.0001),)),),
        began=BEGAN - timedelta(days=1),
        ended=False,
    )
    stages = {"detect": 812.5, "align": 330.2, "embed": 95.0, "emote": 60.1, "gridsearch": 210.0, "report": 44.4}
    records = {
        e.sha256: Record(e.sha256, "done", "r", "2026-11-23T02:30:00+00:00", e.file, stages=stages) for e in entries[:8]
    }
    return {
        "night": this,
        "before": before,
        "cut_off": [cut],
        "records": records,
        "past": past(28),
        "next_at": BEGAN + timedelta(days=1),
    }


def past(number: int) -> tuple[Figures, ...]:
    """So many earlier runs, some of them with failures, one cut off."""
    found = []
    for n in range(number, 0, -1):
        began = BEGAN - timedelta(days=n)
        state = "cut off" if n == 1 else "done with files set aside" if n % 5 == 0 else "done"
        found.append(
            Figures(
                began.strftime("%Y%m%dT%H%M%SZ"),
                began.isoformat(),
                state,  # type: ignore[arg-type]
                300 + n,
                (n * 7) % 13,
                2 if n % 5 == 0 else 0,
                (n * 5) % 17,
                n % 3,
                n % 2,
                None if n == 1 else 3000.0 + 400 * (n % 6),
            )
        )
    return tuple(found)


def large(files: int = 3000, events: int = 4) -> dict[str, Any]:
    """A night of so many files, each with so many new events."""
    entries = [done(f"camera {n % 40}/2026-11-{n % 28 + 1:02d}/clip {n:05d}.mp4", n) for n in range(files)]
    entries += [
        Entry(f"broken/{n:04d}.mp4", "quarantined", digest(10**6 + n), "no video stream", tries=1)
        for n in range(files // 20)
    ]
    deltas = tuple(
        Delta(
            e.file,
            ("new footage",),
            (),
            tuple(new(5.0 + 20 * k, 1 + k % 3, p_value=(n * 7 + k) % 997 / 1000) for k in range(events)),
        )
        for n, e in enumerate(entries[:files])
    )
    return {"night": night(entries, deltas), "past": past(29)}


def empty() -> dict[str, Any]:
    """The first night over an archive that holds nothing."""
    return {"night": night(end={"seconds": 0.4})}


def failed() -> dict[str, Any]:
    """A night that could not go on, after one that could."""
    this = night(
        [
            done("a.mp4", 1),
            Entry("b.mp4", "failed", digest(2), "No space left on device", tries=1, since=BEGAN.isoformat()),
        ],
        end={"state": "failed", "reason": "the store cannot be written: No space left on device", "remaining": 211,
             "seconds": 1234.5, "disk": {"store": 95_000_000_000, "results": None, "free": 0}},
    )  # fmt: skip
    earlier = [done("a.mp4", 1), done("b.mp4", 2)]
    before = night(earlier, end={"disk": {"store": 90_000_000_000}}, began=BEGAN - timedelta(days=1))
    return {"night": this, "before": before, "past": past(10)}
