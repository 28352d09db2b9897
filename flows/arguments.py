"""What stands after the verb: paths taken as they are, and overrides in Hydra's grammar.

A path may hold anything (``=``, spaces, commas, quotes, brackets), all of which mean something in Hydra's grammar. So
the options in `VERBATIM` never go through it: everything after their first ``=`` is the value. Quoting such a value as
Hydra wants it (``footage='a,b.mp4'`` after the shell's own quotes) works as well.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, cast

from faceline.errors import UsageError
from flows.options import VIDEO_EXTENSIONS

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

MOST_VALUES = 100_000
"""Values of one range; more are taken for a slip of the keyboard."""

_MOST_CHARACTERS = 20_000

VERBATIM = (
    *("footage", "output", "config", "store.root", "models.folder", "custody.sign_key"),
    *("schedule.cron", "archive.webhook"),
)
"""Options whose value is taken literally: paths, and texts full of characters that mean something in the grammar."""


@dataclass(frozen=True)
class Arguments:
    """Arguments of a verb, sorted.

    Attributes:
        paths: literal values of the options in `VERBATIM`.
        overrides: everything else, untouched, in order.
    """

    paths: dict[str, str] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()


def split_arguments(arguments: Sequence[str]) -> Arguments:
    """Sort the arguments of a verb.

    Raises:
        UsageError: an argument is no ``option=value``, or a path is empty or given twice.
    """
    paths: dict[str, str] = {}
    overrides: list[str] = []
    for argument, following in zip_longest(arguments, arguments[1:], fillvalue=""):
        name, equals, value = argument.partition("=")
        if argument.startswith("-") or (not equals and not argument.startswith("~")):
            cure = _what_was_meant(argument, following)
            raise UsageError(f"{_short(argument)!r} is no option=value", cure=cure)
        if name not in VERBATIM:
            overrides.append(argument)
            continue
        if name in paths:
            cure = "one at a time, or a whole folder with `faceline archive`" if name == "footage" else ""
            raise UsageError(f"{name}= is given twice", cure=cure)
        if not value:
            raise UsageError(f"{name}= is empty", cure=f"write {name}=VALUE")
        paths[name] = _literal(value)
    return Arguments(paths, tuple(overrides))


def _what_was_meant(argument: str, following: str) -> str:
    if argument.startswith("-"):
        name, _, value = argument.lstrip("-").partition("=")
        value = value or ("VALUE" if not following or "=" in following or following.startswith("-") else following)
        if re.fullmatch(r"[a-z][\w.]*", name):
            return f"options are written option=value: {name}={_short(value)}"
        return "options are written option=value; see `faceline --help`"
    if _exists(argument) or Path(argument).suffix.lower().lstrip(".") in VIDEO_EXTENSIONS:
        return f"did you mean footage={argument}?"
    return f"write {_short(argument)}=VALUE"


def _exists(text: str) -> bool:
    try:
        return Path(text).exists()
    except OSError:
        # Too long for a name, or in a folder that is closed to us.
        return False


def _literal(value: str) -> str:
    if value == "null":
        return value
    quoted = len(value) >= 2 and value[0] == value[-1] and value[0] in "'\""
    if quoted and not _exists(value):
        mark = value[0]
        value = value[1:-1].replace(f"\\{mark}", mark)
    # The shell leaves the tilde alone after "footage=".
    if value.startswith("~/") and not _exists(value):
        return str(Path(value).expanduser())
    return value


def parse_override(text: str) -> Override:
    """One override read by Hydra's own parser.

    Raises:
        UsageError: it does not follow the grammar, or adds to or takes from the configuration.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    if len(text) > _MOST_CHARACTERS:
        raise UsageError(f"{_short(text)!r} is too long for an option", cure="write it into a file: config=FILE")
    try:
        override = OverridesParser.create().parse_overrides([text])[0]
    except HydraException as error:
        lines = [line for line in str(error).splitlines() if not line.startswith(("See ", "Error parsing override"))]
        why = " ".join(" ".join(lines).split()).partition(" expecting {")[0].rstrip(" ^")
        raise UsageError(
            f"cannot read {_short(text)!r}: {why or 'not in the override grammar'}",
            cure="put values with special characters in quotes, as in \"key='a b'\"",
        ) from error
    except (RecursionError, ValueError, OverflowError, ArithmeticError) as error:
        # What the grammar lets pass and Python's own numbers and stack do not.
        why = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UsageError(f"cannot read {_short(text)!r}: {why}") from error
    _check_range(override, text)
    if override.is_add() or override.is_force_add() or override.is_delete():
        raise UsageError(f"{text!r}: options cannot be added or taken away", cure=f"write {text.lstrip('+~')}")
    return override


def _check_range(override: Override, text: str) -> None:
    """Refuse a range of too many values, or without end, before anybody goes through it."""
    from hydra.core.override_parser.types import RangeSweep

    if not override.is_range_sweep():
        return
    sweep = cast(RangeSweep, override.value())
    start, stop, step = (float(part if part is not None else 0.0) for part in (sweep.start, sweep.stop, sweep.step))
    values = (stop - start) / step if step else math.inf
    # Not "greater than": NaN is no number of values either.
    if not values <= MOST_VALUES:
        raise UsageError(f"{_short(text)!r}: a range of more than {MOST_VALUES} values", cure="name fewer values")


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}…"


def option_name(override: Override) -> str:
    """The option or group that an override sets."""
    return str(override.key_or_group)


def unknown_option(name: str, known: Iterable[str]) -> str:
    """One line for an option that does not exist, with the nearest that do."""
    return f"there is no option {name!r}{did_you_mean(name, known)}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'sample.fps'?`` or nothing. A last part that fits (``fps``) counts as near."""
    names = sorted(set(known))
    same_leaf = [other for other in names if other.rpartition(".")[2] == name.rpartition(".")[2]]
    near = difflib.get_close_matches(name, same_leaf, n=3, cutoff=0.0) if same_leaf else []
    near = near or difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if not near:
        leaves = {other.rpartition(".")[2]: other for other in reversed(names)}
        near = [leaves[leaf] for leaf in difflib.get_close_matches(name.rpartition(".")[2], leaves, n=1, cutoff=0.7)]
    if not near:
        return ""
    return f"; did you mean {' or '.join(repr(other) for other in near)}?"
