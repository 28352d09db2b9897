"""The verb ``verify`` on a results folder: every link from the footage to the rows checked again, each in a line.

Needs the folder alone. The footage is looked at where it can be found, the store where it is named.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from faceline import signing
from faceline.custody import Link, Run, check_chain
from faceline.errors import FacelineError, UsageError
from faceline.names import printable
from faceline.report.checking import (
    RUN,
    SIGNATURE,
    Kept,
    check_pictures,
    check_plain,
    check_rows,
    read_plain,
    read_results,
)
from faceline.timeline import timecode
from faceline.writable import check_writable, write_errors
from flows import console
from flows.files import replace_bytes, valid_text

FRAME_LIMIT_S = 120.0
"""Seconds that decoding one frame may take."""

_FRAME = "frame=FILE.png"
_MARKS = {"holds": "ok", "open": "--", "broken": "BAD"}


@dataclass(frozen=True)
class Request:
    """What is asked of a results folder.

    Attributes:
        results: the folder.
        footage: the source file, or None for where ``run.json`` says that it lay.
        event: rank of an event whose source frame is to be shown, or None.
        frame: where to write that frame, or None.
        public_key: file with the signer's public key, or None.
        sha256: digest of ``run.json`` that was noted elsewhere, or None.
        store: root of the store with the artifacts, or None.
    """

    results: Path
    footage: str | None = None
    event: int | None = None
    frame: str | None = None
    public_key: str | None = None
    sha256: str | None = None
    store: str | None = None


def _say(text: str) -> None:
    # Names in a folder that somebody else made may hold anything.
    console.say(printable(text))


def verify_results(request: Request) -> int:
    """Run the verb; exit code 1 when something does not hold."""
    target = Path(request.frame) if request.frame is not None else None
    if target is not None:
        _check_target(target)
    public = signing.load_public_key(request.public_key, "public_key") if request.public_key else None
    kept = read_results(request.results)
    problems = open_links = 0
    for link in _links(kept, request, public):
        _say(f"{_MARKS[link.state]:<4}{link.name:<11}{link.text if not link.problems else ''}".rstrip())
        for problem in link.problems:
            _say(f"    {problem}")
        problems += len(link.problems)
        open_links += link.state == "open"
    if problems:
        _say(f"{request.results}: {problems} problem{'' if problems == 1 else 's'}")
    else:
        unchecked = f"; {open_links} could not be checked here (--)" if open_links else ""
        _say(f"{request.results}: everything that was checked holds{unchecked}")
    if request.event is not None and kept.run is not None:
        if problems:
            raise FacelineError(f"the frame of event {request.event} is not shown while something does not hold")
        _show_event(kept, kept.run, request, target)
    return 1 if problems else 0


def _links(kept: Kept, request: Request, public: signing.PublicKey | None) -> Iterator[Link]:
    run = kept.run
    yield from kept.links[:1]
    if request.sha256 is not None:
        yield _noted(kept, request.sha256)
    if run is None:
        return
    yield _signature(kept, run, public)
    yield _footage(run, request)
    yield from kept.links[1:]
    if kept.entries:
        yield from check_chain(run, kept.entries)
    yield check_pictures(run)
    yield check_rows(kept.folder, run)
    if request.store is not None and kept.entries:
        from faceline.report.stored import check_store

        yield from check_store(request.store, run, kept.entries)


def _noted(kept: Kept, noted: str) -> Link:
    actual = hashlib.sha256(kept.content).hexdigest()
    same = actual == noted.strip().lower()
    return Link(
        "noted",
        "run.json is the one whose digest was given",
        () if same else (f"{RUN}: is another one: its SHA-256 is {actual}",),
    )


def _signature(kept: Kept, run: Run, public: signing.PublicKey | None) -> Link:
    try:
        signature = read_plain(kept.folder / SIGNATURE)
    except FileNotFoundError:
        signature = None
    except OSError as error:
        return Link("signature", "", (f"{SIGNATURE}: cannot be read: {error.strerror}",))
    if run.signature is None and signature is None:
        if public is not None:
            return Link("signature", "", (f"{RUN}: is not signed",))
        return Link("signature", "not signed: a folder that was rewritten as a whole would not show", open=True)
    if run.signature is None:
        return Link("signature", "", (f"{SIGNATURE}: was added: {RUN} does not say that it is signed",))
    if signature is None:
        return Link("signature", "", (f"{SIGNATURE}: is missing: {RUN} says that it is signed",))
    stated = signing.public_key_of(run.signature.public_key)
    if stated is None or run.signature.algorithm != signing.ALGORITHM:
        return Link("signature", "", (f"{RUN}: states no Ed25519 public key",))
    if public is not None and public.text != stated.text:
        return Link("signature", "", (f"{RUN}: was signed with another key, {stated.fingerprint}",))
    if not stated.verifies(kept.content, signature):
        return Link("signature", "", (f"{SIGNATURE}: was not made for this {RUN} with the key {stated.fingerprint}",))
    if public is None:
        text = f"made with the key {stated.fingerprint}; whose that is, only public_key=FILE can tell"
        return Link("signature", text, open=True)
    return Link("signature", f"Ed25519, made with the key {stated.fingerprint}")


def _footage(run: Run, request: Request) -> Link:
    asked = request.footage is not None or request.event is not None
    path = Path(request.footage or run.footage.path)
    try:
        check_plain(path)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        problem = f"{path}: the footage cannot be read: {error.strerror}"
        if asked:
            return Link("footage", "", (problem,))
        return Link("footage", f"{problem}; name it with footage=FILE", open=True)
    if sha256 != run.footage.sha256:
        stated = f"its SHA-256 is {sha256}, {RUN} states {run.footage.sha256}"
        return Link("footage", "", (f"{path}: is not the footage that was analysed, or was altered: {stated}",))
    return Link("footage", f"{path}: SHA-256 {sha256}")


def _check_target(target: Path) -> None:
    if target.suffix.lower() != ".png":
        raise UsageError("must end in .png", where=f"frame={target}")
    if target.exists():
        raise UsageError(
            "is there already, and is not written over", where=f"frame={target}", cure="choose another name"
        )
    if not target.parent.is_dir():
        raise UsageError("there is no such folder", where=str(target.parent))
    check_writable(target.parent, _FRAME)


def _show_event(kept: Kept, run: Run, request: Request, target: Path | None) -> None:
    from faceline.report.exhibit import find_event, marked_png, source_frame
    from faceline.video import open_footage

    assert request.event is not None
    place = find_event(kept.folder, request.event)
    path = Path(request.footage or run.footage.path)
    footage = open_footage(path)
    if footage.sha256 != run.footage.sha256:
        raise FacelineError("the footage changed a moment ago", where=str(path), cure="wait until nothing writes to it")
    frame = source_frame(footage, place, FRAME_LIMIT_S)
    x, y, w, h = place.box_px
    values = place.event.values
    told = {
        "file": str(path),
        "SHA-256": footage.sha256,
        "timecode": f"{timecode(frame.time_s)} ({float(frame.time_s):.6f} s; pts {frame.pts} × {frame.time_base} s)",
        "frame": f"{frame.index}, counted from 0",
        "row": f"{place.face.number} of {place.face.table}",
        "face": f"x {x:g}, y {y:g}, {w:g} × {h:g} px of {footage.width_px} × {footage.height_px}",
        "event": f"{request.event} in events.csv: person {values.get('person')}, {values.get('top_features', '')}",
    }
    if values.get("thumbnail"):
        told["picture"] = values["thumbnail"]
    if target is not None:
        png = marked_png(frame.rgb(), place.box_px, _words(told))
        with write_errors(target, _FRAME, "cannot be written"):
            replace_bytes(target, png)
        told["written"] = f"{target}, SHA-256 {hashlib.sha256(png).hexdigest()}"
    console.say()
    for name, text in told.items():
        _say(f"{name:<10}{text}")


def _words(told: Mapping[str, str]) -> dict[str, str]:
    """What a picture says of itself; its footage by digest and name, without the folders above it."""
    return {name: valid_text(Path(text).name if name == "file" else text) for name, text in told.items()}
