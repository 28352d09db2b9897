"""The command line: ``faceline VERB option=value …``. Everything after the verb is Hydra overrides.

Verbs are imported when they are called, so that help, version and usage errors cost a fraction of a second.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from faceline.errors import FacelineError, UsageError
from flows import console, usage
from tasks.importing import spare_pandas, without_collecting

log = logging.getLogger(__name__)

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as shells have it."""

_ROOMS = {
    "analyze": "flows.analyze:analyze",
    "archive": "flows.archive:archive",
    "plan": "flows.plan:show_plan",
    "serve": "flows.serve:serve",
    "sweep": "flows.sweep:sweep",
    "verify": "flows.verify:verify",
    "gc": "flows.gc:gc",
    "pin": "flows.pin:pin",
    "unpin": "flows.pin:unpin",
    "models": "flows.models:models",
    "config": "flows.show:show_config",
}
"""Verb → ``module:function``; the function takes the arguments and gives the exit code."""

_WORKING = ("analyze", "archive", "serve", "sweep")
"""Verbs whose work counts, not what they print: they go on when nobody reads that any more."""

_EXPECTING = ("analyze",)
"""Verbs that nearly always run stages in the end: a worker gets ready while it is found out which."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code; no exception leaves this function."""
    console.forgive_strange_names()
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _dispatch(given, own_process=arguments is None)
    except UsageError as error:
        console.error(str(error))
        return error.exit_code
    except FacelineError as error:
        _note(error)
        console.error(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        console.error("interrupted; what was finished is kept, and the same command goes on from there")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone (`faceline plan … | head`); nothing more can be said to them.
        console.hush()
        return 1
    except Exception as error:
        place = _note(error)
        console.error(f"unexpected {type(error).__name__}: {error}; the traceback is in {place}")
        return 1


def _dispatch(given: list[str], *, own_process: bool) -> int:
    if not given or given[0] in ("-h", "--help", "help"):
        verb = given[1] if len(given) > 1 else ""
        console.say(usage.of_verb(verb) if verb in usage.VERBS else usage.overview())
        return 0
    if given[0] in ("-V", "--version", "version"):
        import faceline

        console.say(f"faceline {faceline.__version__}")
        return 0
    verb, arguments = given[0], given[1:]
    if verb not in _ROOMS:
        from flows.arguments import did_you_mean

        hint = did_you_mean(verb, _ROOMS).lstrip("; ")
        if "=" in verb or verb.startswith("-"):
            found = next((argument for argument in arguments if argument in _ROOMS), "VERB")
            hint = f"the verb comes first: faceline {found} option=value …"
        raise UsageError(f"there is no verb {verb!r}", cure=hint or "see `faceline --help`")
    if any(argument in ("-h", "--help") for argument in arguments):
        console.say(usage.of_verb(verb))
        return 0
    if own_process and verb in _EXPECTING:
        from tasks.worker_births import expect

        expect()
    module, _, name = _ROOMS[verb].partition(":")
    with without_collecting():
        run: Callable[[Sequence[str]], int] = getattr(importlib.import_module(module), name)
    if own_process:
        spare_pandas()
    with console.going_on() if verb in _WORKING else contextlib.nullcontext():
        return run(arguments)


def _note(error: Exception) -> Path | str:
    """Write the traceback to the log of the run, or of faceline when it failed outside a run; where it went."""
    from flows.logfile import append_traceback

    try:
        return append_traceback(error)
    except OSError as failure:
        return f"no file ({failure.strerror})"


def run() -> NoReturn:
    """The process of a command: its exit code, and no farewell.

    Prefect's and the networks' object graphs take the interpreter one to two seconds to tear down. By now all files,
    servers and workers are closed, and everything printed has been flushed.
    """
    code = main()
    if "tasks.worker_births" in sys.modules:
        from tasks.worker_births import expect_none

        # It would hold what this process writes to open for a moment longer.
        expect_none()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    logging.shutdown()
    os._exit(code)


if __name__ == "__main__":
    run()
