"""What an operator can do about a file that came to nothing, where the error itself does not say."""

from __future__ import annotations

import re

from faceline.nightly.nights import Entry

MANY_TRIES = 3
"""A file that failed this often in a row is no accident."""

_KNOWN = (
    (r"no space left|disk quota", "Free disk space."),
    (r"permission denied|not permitted", "Let the account that runs faceline read it."),
    (r"input/output error|stale file handle|transport endpoint", "Check the disk or the network drive that holds it."),
    (r"changed while|vanished while|still being written", "It was being written to: nothing needs to be done."),
    (r"file is empty|\bmoov\b", "Copy it again from its source."),
    (r"frames per second, fewer", "Lower require.native_fps, or leave it out of this archive."),
    (r"weights? .*(missing|changed)", "Put the weights in place: `faceline models` says which and where."),
    (r"out of memory|cannot allocate|memoryerror", "Let fewer files be worked on at once (runtime.workers)."),
    (r"holds other files|is a file, not a folder|mount point", "Move away what lies where its results belong."),
    (
        r"no video stream|not a video|no decoder|no pictures?\b|can be decoded|damaged",
        "See whether it plays elsewhere; replace it by a whole copy, or move it out of the archive.",
    ),
)


def advice(entry: Entry) -> str:
    """What to do about a file that was set aside, in a sentence or two; empty for other files.

    What the error itself advises goes before what the wording of its reason suggests.
    """
    if entry.state not in ("quarantined", "failed"):
        return ""
    what = _sentence(entry.cure) or next(
        (words for pattern, words in _KNOWN if re.search(pattern, entry.reason, re.I)), ""
    )
    if entry.state == "quarantined":
        what = what or "See whether it plays elsewhere; replace it by a whole copy, or move it out of the archive."
        return f"{what} It is tried again when the file or the configuration changes."
    if entry.tries >= MANY_TRIES:
        return f"{what} It has failed {entry.tries} times in a row: the run's log says more.".strip()
    return f"{what} The next run tries it again.".strip()


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""
