"""Names that others gave, made fit for a terminal, a log, and a file system.

A file name may hold any byte but ``/`` and NUL: line feeds that forge a second line, sequences that a terminal obeys,
marks that turn the direction of writing, bytes that are no text.
"""

from __future__ import annotations

import hashlib
import re

#: Control characters (C0, DEL, C1), separators of lines and paragraphs, marks that turn the direction of writing
#: (Unicode Bidirectional Algorithm, UAX #9), and bytes that are no text (as Python's surrogates).
_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

#: Most bytes of a results folder's name: what is put around it (a leading dot, ``-sweep``, a random part) has room in
#: the 255 that file systems allow.
_MOST_NAME_BYTES = 180


def printable(text: str, keep: str = "") -> str:
    r"""The text with everything written out that is not to be obeyed; ``keep``: characters that stay as they are.

    >>> printable("a\x1b[2Jb\n")
    'a\\x1b[2Jb\\n'
    """
    return _HIDDEN.sub(lambda found: found[0] if found[0] in keep else _escaped(found[0]), text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def folder_name(text: str) -> str:
    """A name for a folder that people look at: printable, and short enough; long ones end in a digest of the whole."""
    shown = printable(text)
    if len(shown.encode()) <= _MOST_NAME_BYTES:
        return shown
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{cut(shown, _MOST_NAME_BYTES - 12)}…-{digest}"


def cut(text: str, most_bytes: int) -> str:
    """The beginning of a text, at most so many bytes of UTF-8 and no half characters."""
    return text.encode("utf-8", "backslashreplace")[:most_bytes].decode("utf-8", "ignore")
