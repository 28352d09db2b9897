"""Errors that a person can act on: what happened, where, and the cure, in one line."""

from __future__ import annotations

from faceline.names import printable


class FacelineError(Exception):
    """A failure whose cause lies outside the code and whose cure is known.

    Args:
        what: what went wrong, in words of the user's world, without a full stop.
        where: the file, option or stage it concerns; empty when ``what`` says it.
        cure: what to do about it; empty when there is nothing to do.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", cure: str = "") -> None:
        self.what = what
        self.where = where
        self.cure = cure
        super().__init__(what, where, cure)

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        if self.cure:
            text = f"{text}; {self.cure}"
        # Names in it are others' choice, and where this is printed may be a terminal.
        return printable(" ".join(text.split()))

    def __reduce__(self) -> tuple[object, ...]:
        # The third part carries what was noted on the way, such as the traceback in another process.
        return _rebuild, (type(self), self.what, self.where, self.cure), vars(self)


def _rebuild(cls: type[FacelineError], what: str, where: str, cure: str) -> FacelineError:
    # Keyword-only arguments do not survive Exception's default pickling between worker processes.
    return cls(what, where=where, cure=cure)


class UsageError(FacelineError):
    """The command line or the configuration is wrong."""

    exit_code = 2


class FootageError(FacelineError):
    """A file cannot be read as video at all."""


class FootageUnreadableError(FootageError):
    """The file could not be read: it is not there, may not be opened, or its disk does not answer. That says nothing
    about what it holds, and may pass.

    Attributes:
        can_pass: whether trying again at once may help.
    """

    can_pass: bool = False


class FootageChangedError(FootageError):
    """The footage changed while it was being read; no result of that reading may be kept."""


class TimeLimitError(FacelineError):
    """The work took longer than it was allowed to."""


class ArtifactError(FacelineError):
    """A stored artifact is missing, torn or altered."""


class StoreError(FacelineError):
    """The store itself cannot be used: no access, no answer, no bucket. It says nothing about any artifact.

    Attributes:
        can_pass: whether trying again may help.
    """

    can_pass: bool = False


class ModelError(FacelineError):
    """Model weights are missing or not what they should be."""
